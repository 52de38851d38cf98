// SPDX-License-Identifier: Apache-2.0
//! Stage 2: where the client of an intercepted connection wanted to go.
//!
//! With TPROXY the socket's own address is the answer; with REDIRECT the kernel remembers it; with explicit ports it is
//! configured. Must never guess, and never take the proxy for a destination: a connection without an answer is closed. Next: `detect.rs`.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;

/// How the original destination is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginalDst {
    /// The address that the accepted socket is bound to (TPROXY).
    Socket,
    /// What the kernel's connection tracking remembers (REDIRECT).
    Redirect(OwnPorts),
    /// Always this one: explicit ports, for tests and benchmarks.
    Fixed(SocketAddr),
}

/// The ports that redirected connections come to: nobody's destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnPorts(pub [u16; 2]);

/// Why there is no destination.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoDestination {
    /// The kernel does not say: the connection has gone, or it was never redirected.
    #[error("the kernel does not say where the connection was going")]
    Unknown(#[from] io::Error),
    /// It is the proxy's own, where a proxy that dials it would meet itself.
    #[error(
        "{0} is where connections are redirected to, which is nobody's destination: dial the application's own port"
    )]
    Own(SocketAddr),
}

impl OriginalDst {
    /// The destination of a connection.
    pub(crate) fn recover(self, stream: &TcpStream) -> Result<SocketAddr, NoDestination> {
        match self {
            Self::Socket => Ok(stream.local_addr()?),
            Self::Redirect(own) => {
                let destination = maille_sys::socket::redirected_destination(stream)?;
                own.refuse(stream.local_addr()?, destination)
            }
            Self::Fixed(destination) => Ok(destination),
        }
    }
}

impl OwnPorts {
    /// `destination`, unless it is one of these at the address that the connection came to.
    fn refuse(
        self,
        here: SocketAddr,
        destination: SocketAddr,
    ) -> Result<SocketAddr, NoDestination> {
        let same = here.ip().to_canonical() == destination.ip().to_canonical();
        if same && self.0.contains(&destination.port()) {
            return Err(NoDestination::Own(destination));
        }
        Ok(destination)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxy_is_nobody_s_destination() {
        let own = OwnPorts([15001, 15006]);
        for (here, destination, refused) in [
            ("127.0.0.1:15001", "127.0.0.1:15001", true),
            ("[::ffff:10.244.0.9]:15006", "10.244.0.9:15001", true),
            ("[fd00::9]:15006", "[fd00::9]:15006", true),
            ("10.244.0.9:15006", "10.244.0.9:8080", false),
            // Somebody else's port of that number.
            ("127.0.0.1:15001", "10.244.0.8:15001", false),
        ] {
            let destination: SocketAddr = destination.parse().unwrap();
            let said = own.refuse(here.parse().unwrap(), destination);
            assert_eq!(said.is_err(), refused, "{destination}");
        }
    }
}
