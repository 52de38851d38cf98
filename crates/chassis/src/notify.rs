// SPDX-License-Identifier: Apache-2.0
//! Telling a supervisor that the process is ready, or about to end: systemd's protocol (`sd_notify(3)`), a datagram each.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::config::{Setting, SettingError, Source};

/// What [`ready`] reads.
pub const SOCKET: Setting = Setting::new(
    "NOTIFY_SOCKET",
    "the supervisor's datagram socket, a path or @name",
);

/// How long a supervisor may keep its queue full.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why readiness could not be told.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// The setting is unusable.
    #[error("the supervisor's socket is not usable")]
    Setting(#[from] SettingError),
    /// The datagram was not taken.
    #[error("the supervisor's socket {socket:?} takes no message")]
    Send {
        /// The socket.
        socket: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Whoever started this process and wants to hear of it.
#[derive(Clone, Debug)]
pub struct Supervisor(Option<String>);

impl Supervisor {
    /// The one that `source` names; none where it names none.
    pub fn find(source: &dyn Source) -> Result<Self, SettingError> {
        Ok(Self(SOCKET.optional::<String>(source)?))
    }

    /// Says `READY=1`; does nothing where no supervisor asked for it.
    pub fn ready(&self) -> Result<(), NotifyError> {
        self.say(b"READY=1")
    }

    /// Says `STOPPING=1`: no new work is taken from now on, and somebody else may begin with it.
    pub fn stopping(&self) -> Result<(), NotifyError> {
        self.say(b"STOPPING=1")
    }

    fn say(&self, what: &[u8]) -> Result<(), NotifyError> {
        let Some(socket) = &self.0 else {
            return Ok(());
        };
        send(socket, what).map_err(|source| NotifyError::Send {
            socket: socket.clone(),
            source,
        })
    }
}

/// Says `READY=1`; does nothing where no supervisor asked for it.
pub fn ready(source: &dyn Source) -> Result<(), NotifyError> {
    Supervisor::find(source)?.ready()
}

fn send(socket: &str, what: &[u8]) -> io::Result<()> {
    let address = match socket.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let sender = UnixDatagram::unbound()?;
    sender.set_write_timeout(Some(PATIENCE))?;
    sender.send_to_addr(what, &address).map(drop)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_supervisor_hears_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify.sock");
        let supervisor = UnixDatagram::bind(&path).unwrap();
        ready(&HashMap::from([("NOTIFY_SOCKET", path.to_str().unwrap())])).unwrap();
        let mut buffer = [0; 64];
        let n = supervisor.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..n], b"READY=1");
        let map = HashMap::from([("NOTIFY_SOCKET", path.to_str().unwrap())]);
        Supervisor::find(&map).unwrap().stopping().unwrap();
        let n = supervisor.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..n], b"STOPPING=1");
        assert!(ready(&HashMap::from([("NOTIFY_SOCKET", "/nonexistent/x")])).is_err());
        ready(&HashMap::<&str, &str>::new()).unwrap();
    }

    #[test]
    fn an_abstract_socket_will_do() {
        let name = format!("maille-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let supervisor = UnixDatagram::bind_addr(&address).unwrap();
        let socket = format!("@{name}");
        ready(&HashMap::from([("NOTIFY_SOCKET", socket.as_str())])).unwrap();
        let mut buffer = [0; 64];
        let n = supervisor.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..n], b"READY=1");
    }
}
