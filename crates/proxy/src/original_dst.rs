// SPDX-License-Identifier: Apache-2.0
//! Stage 2: where the client of an intercepted connection wanted to go.
//!
//! With TPROXY the socket's own address is the answer; with REDIRECT the kernel remembers it; with explicit ports it is
//! configured. Must never guess: a connection without an answer is closed. Next: `detect.rs`.

use std::net::SocketAddr;

use tokio::net::TcpStream;

/// How the original destination is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginalDst {
    /// The address that the accepted socket is bound to (TPROXY).
    Socket,
    /// Always this one: explicit ports, for tests and benchmarks.
    Fixed(SocketAddr),
}

impl OriginalDst {
    /// The destination, or `None` when the connection is gone already.
    pub(crate) fn recover(self, stream: &TcpStream) -> Option<SocketAddr> {
        match self {
            Self::Socket => stream.local_addr().ok(),
            Self::Fixed(destination) => Some(destination),
        }
    }
}
