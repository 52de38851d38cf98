// SPDX-License-Identifier: Apache-2.0
//! Who is at the other end of a unix socket: what the kernel noted when it connected (`unix(7)`, SO_PEERCRED).

use std::io;
use std::os::fd::AsFd;

use nix::sys::socket::{getsockopt, sockopt};

/// The other end's process when it connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerCred {
    /// Its pid, as seen from the caller's pid namespace; 0: from outside of it.
    pub pid: i32,
    /// Its user, as seen from the caller's user namespace.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// Asks the kernel about the other end of `socket`.
pub fn peer(socket: &impl AsFd) -> io::Result<PeerCred> {
    let cred = getsockopt(socket, sockopt::PeerCredentials)?;
    Ok(PeerCred {
        pid: cred.pid(),
        uid: cred.uid(),
        gid: cred.gid(),
    })
}
