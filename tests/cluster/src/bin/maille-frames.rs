// SPDX-License-Identifier: Apache-2.0
//! Sends frames that it is told of, from inside whatever it runs in: `maille-frames PORT`. A datagram is a number of four bytes and a frame for
//! `eth0`; it is answered with that number and what came of it, 0 or the kernel's. Who has not heard the answer says it again, and hears what came of it then.
//!
//! It needs CAP_NET_RAW where it runs. Read `tests/bypass/wire.rs` for who tells it.

#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd as _;

use anyhow::Context as _;
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, LinkAddr, SockFlag, SockType, bind, socket};
use nix::unistd::write;

const LINK: &str = "eth0";
/// Bytes of a number.
const NUMBER: usize = 4;

fn main() -> anyhow::Result<()> {
    let port = std::env::args().nth(1).context("maille-frames PORT")?;
    let told = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port.parse()?))?;
    // It receives nothing.
    let frames = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    bind(frames.as_raw_fd(), &link()?)?;
    let mut datagram = vec![0; 1 << 16];
    let mut last = (Vec::new(), 0);
    loop {
        let (length, from) = told.recv_from(&mut datagram)?;
        let Some((number, frame)) = datagram
            .get(..length)
            .and_then(|all| all.split_at_checked(NUMBER))
        else {
            continue;
        };
        if last.0 != number {
            let outcome = match write(&frames, frame) {
                Ok(sent) if sent == frame.len() => 0,
                Ok(_) => Errno::EIO as i32,
                Err(error) => error as i32,
            };
            last = (number.to_vec(), outcome);
        }
        told.send_to(&[number, &last.1.to_be_bytes()].concat(), from)?;
    }
}

/// Its interface, as a packet socket is bound to it.
fn link() -> anyhow::Result<LinkAddr> {
    let found = getifaddrs()?
        .filter(|one| one.interface_name == LINK)
        .find_map(|one| one.address?.as_link_addr().copied());
    found.with_context(|| format!("no {LINK}"))
}
