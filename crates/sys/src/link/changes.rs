// SPDX-License-Identifier: Apache-2.0
//! Whether anything of a namespace's network was changed at all, for whoever looks often: the kernel tells of every change, and to hear
//! that there was none is one call. Read `facts.rs` for what may have changed.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};

use crate::netns::NetNs;

/// Links, neighbours, addresses, routes and policy rules of both families (`RTMGRP_*`; the last has no such name).
const GROUPS: u32 = 0x1 | 0x4 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 0x4_0000;

/// What the kernel tells of one namespace's network.
#[derive(Debug)]
pub struct Changes {
    told: OwnedFd,
}

// === impl Changes ===

impl Changes {
    /// Those of `namespace`, from now on.
    pub fn of(namespace: &NetNs) -> io::Result<Self> {
        let told = namespace.run(|| {
            let told = socket(
                AddressFamily::Netlink,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::NetlinkRoute,
            )?;
            bind(told.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
            Ok::<_, io::Error>(told)
        })??;
        Ok(Self { told })
    }

    /// Whether there was one since the last call.
    pub fn any(&self) -> io::Result<bool> {
        let (mut part, mut any) = ([0; 4096], false);
        loop {
            match recv(self.told.as_raw_fd(), &mut part, MsgFlags::MSG_DONTWAIT) {
                // More than it keeps for us: something was.
                Ok(_) | Err(Errno::ENOBUFS) => any = true,
                Err(Errno::EAGAIN) => return Ok(any),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
