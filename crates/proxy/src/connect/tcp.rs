// SPDX-License-Identifier: Apache-2.0
//! Stage 6, plain TCP: how a socket is dressed before it connects.
//!
//! Must never block: a connect is begun here and finishes on the loop. Next: `connect/mesh.rs`.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::TcpStream;

use crate::failure::Failure;

/// A connection to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectSpec {
    /// Where. A link-local address names the link that its client came from: the connection is made on the other one.
    pub to: SocketAddr,
    /// The foreign address the socket is bound to (`IP_TRANSPARENT`): the client's, towards its own application.
    pub source: Option<IpAddr>,
    /// `SO_MARK`, by which the routing of the mesh namespace tells the way to the application from the way out.
    pub mark: Option<u32>,
    /// The other end is in the own pod: nothing on the way has to be found out.
    pub near: bool,
}

impl ConnectSpec {
    /// To somebody elsewhere.
    pub(crate) fn far(to: SocketAddr) -> Self {
        Self {
            to,
            source: None,
            mark: None,
            near: false,
        }
    }

    /// To somebody in the own pod.
    pub(crate) fn near(to: SocketAddr) -> Self {
        Self {
            near: true,
            ..Self::far(to)
        }
    }
}

/// Begins to connect. The stream becomes writable when it is decided.
pub(crate) fn begin(spec: &ConnectSpec) -> io::Result<TcpStream> {
    let socket = maille_sys::socket::connect(&maille_sys::socket::ConnectSpec {
        to: maille_sys::socket::across(spec.to)?,
        source: spec.source,
        mark: spec.mark,
        near: spec.near,
    })?;
    TcpStream::from_std(socket.into())
}

/// What a failed connect means.
pub(crate) fn failure(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => {
            Failure::ConnectRefused
        }
        io::ErrorKind::TimedOut => Failure::ConnectTimeout,
        // EMFILE and ENFILE, ENOBUFS, EADDRNOTAVAIL: the own machine is full.
        _ if matches!(error.raw_os_error(), Some(24 | 23 | 105 | 99)) => Failure::Overloaded,
        _ => Failure::ConnectUnreachable,
    }
}
