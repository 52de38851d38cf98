// SPDX-License-Identifier: Apache-2.0
//! Listening sockets: those that a supervisor passed on, else bound here. Read `listeners.rs` next.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::RawFd;
use std::os::unix::net::UnixListener;

use maille_sys::socket;
use socket2::{Domain, Socket, Type};

use crate::config::{Capture, Config, Door, SourceAddress};
use crate::forward::Settings;
use crate::listeners::Listener;
use crate::original_dst::{OriginalDst, OwnPorts};
use crate::route::Dress;

/// Connections that may wait to be accepted: also while the proxy restarts. The kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4_096;
/// EAFNOSUPPORT.
const NO_FAMILY: i32 = 97;

/// Everything that connections come through.
#[derive(Debug)]
pub struct Doors {
    /// For the data plane.
    pub listeners: Vec<Listener>,
    /// For people, if it was passed on.
    pub admin: Option<UnixListener>,
    /// For questions to the proxy itself.
    pub metrics: Option<TcpListener>,
}

/// Why there is no socket to listen on.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// A passed descriptor is not a listening socket of ours.
    #[error("descriptor {fd}, passed as {name:?}, cannot be used")]
    Passed {
        /// What it was passed as.
        name: String,
        /// Its number.
        fd: RawFd,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A descriptor was passed under a name that means nothing here.
    #[error("nothing is called {0:?}: outbound, inbound, mesh, metrics and admin are known")]
    Name(String),
    /// An address cannot be bound.
    #[error("{0} cannot be bound")]
    Bind(SocketAddr, #[source] io::Error),
    /// Nothing to do.
    #[error(
        "no socket was passed, and neither MAILLE_OUTBOUND, MAILLE_INBOUND nor MAILLE_MESH is set"
    )]
    None,
}

/// Takes over what was passed, and binds what was not.
pub fn open(config: &Config) -> Result<Doors, DoorError> {
    let mut doors = Doors {
        listeners: Vec::new(),
        admin: None,
        metrics: None,
    };
    let mut passed = Vec::new();
    for inherited in &config.inherited {
        let name = inherited.name.as_str();
        let failed = |source| DoorError::Passed {
            name: name.to_owned(),
            fd: inherited.fd,
            source,
        };
        let fd = socket::adopt(inherited.fd).map_err(failed)?;
        if name == "admin" {
            let socket = UnixListener::from(fd);
            socket.set_nonblocking(true).map_err(failed)?;
            doors.admin = Some(socket);
            continue;
        }
        let socket = TcpListener::from(fd);
        socket.set_nonblocking(true).map_err(failed)?;
        if name == "metrics" {
            doors.metrics = Some(socket);
            continue;
        }
        // Whoever passes sockets on keeps their connections' addresses.
        let original = |door: Door| door.to.map_or(OriginalDst::Socket, OriginalDst::Fixed);
        doors.listeners.push(match name {
            "outbound" => Listener::outbound(socket, original(config.outbound)),
            "inbound" => Listener::inbound(socket, original(config.inbound)),
            "mesh" => Listener::mesh(socket),
            other => return Err(DoorError::Name(other.to_owned())),
        });
        passed.push(name);
    }
    // What goes back to the application bears the mark, as what is dialled there does.
    let mark = |name: &str| config.mark.filter(|_| name == "outbound");
    let bind = |name: &str, door: Door| {
        let Some(address) = door.bind.filter(|_| !passed.contains(&name)) else {
            return Ok(Vec::new());
        };
        let intercepts = door.to.is_none() && name != "mesh";
        let sockets = match config.capture {
            Capture::Tproxy if intercepts => {
                socket::listen_transparent(address, BACKLOG, mark(name)).map(|one| vec![one])
            }
            Capture::Redirect if intercepts => listen_each(address),
            _ => listen(address).map(|one| vec![one]),
        };
        sockets.map_err(|error| DoorError::Bind(address, error))
    };
    let outbound = bind("outbound", config.outbound)?;
    let inbound = bind("inbound", config.inbound)?;
    let mesh = bind("mesh", config.mesh)?;
    if let (None, Some(address)) = (&doors.metrics, config.metrics) {
        let socket = listen(address).map_err(|error| DoorError::Bind(address, error))?;
        doors.metrics = Some(socket);
    }
    let own = own_ports([&outbound, &inbound]);
    let original = |door: Door| match (door.to, config.capture) {
        (Some(to), _) => OriginalDst::Fixed(to),
        (None, Capture::Tproxy | Capture::None) => OriginalDst::Socket,
        (None, Capture::Redirect) => OriginalDst::Redirect(own),
    };
    let all = &mut doors.listeners;
    let outbound = outbound.into_iter();
    all.extend(outbound.map(|socket| Listener::outbound(socket, original(config.outbound))));
    let inbound = inbound.into_iter();
    all.extend(inbound.map(|socket| Listener::inbound(socket, original(config.inbound))));
    all.extend(mesh.into_iter().map(Listener::mesh));
    if doors.listeners.is_empty() {
        Err(DoorError::None)
    } else {
        Ok(doors)
    }
}

/// An ordinary listener: for explicit ports, and for the mesh port, which is nobody else's. `[::]` takes both families, or IPv4 alone
/// where the kernel knows no other.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    match bound(address, false) {
        Err(error) if is_every(address) && error.raw_os_error() == Some(NO_FAMILY) => {
            bound((Ipv4Addr::UNSPECIFIED, address.port()).into(), false)
        }
        socket => socket,
    }
}

/// The same for redirected connections, where `[::]` is a listener for each family that the kernel knows: gVisor's tells where a
/// connection was going only to a socket of the connection's own family.
pub(crate) fn listen_each(address: SocketAddr) -> io::Result<Vec<TcpListener>> {
    if !is_every(address) {
        return listen(address).map(|one| vec![one]);
    }
    let v6 = match bound(address, true) {
        Err(error) if error.raw_os_error() == Some(NO_FAMILY) => None,
        socket => Some(socket?),
    };
    let port = match &v6 {
        Some(socket) => socket.local_addr()?.port(),
        None => address.port(),
    };
    let v4 = bound((Ipv4Addr::UNSPECIFIED, port).into(), false)?;
    Ok(v6.into_iter().chain([v4]).collect())
}

fn is_every(address: SocketAddr) -> bool {
    address.ip() == IpAddr::from(Ipv6Addr::UNSPECIFIED)
}

fn bound(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if is_every(address) {
        socket.set_only_v6(only_v6)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// The ports of these two. Where one is missing there is none to be met: 0 is nobody's.
fn own_ports(sockets: [&[TcpListener]; 2]) -> OwnPorts {
    // Those of both families have the same.
    let port = |sockets: &[TcpListener]| {
        let address = sockets.first()?.local_addr().ok()?;
        Some(address.port())
    };
    OwnPorts(sockets.map(|sockets| port(sockets).unwrap_or(0)))
}

/// Where the proxy's own port is reached from inside.
fn metrics(listener: &TcpListener) -> Option<SocketAddr> {
    let mut at = listener.local_addr().ok()?;
    if at.ip().is_unspecified() {
        // An IPv6 socket takes both.
        at.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    Some(at)
}

/// What the data plane needs of the configuration.
pub fn settings(config: &Config, doors: &Doors) -> Settings {
    Settings {
        access: config.access,
        seed: fastrand::u64(..),
        impatient: config.without.patience,
        dress: Dress {
            keep_source: config.source == SourceAddress::Keep,
            mark: config.mark,
            metrics: doors.metrics.as_ref().and_then(metrics),
            front: config.front,
        },
        ..Settings::default()
    }
}

#[cfg(test)]
mod tests;
