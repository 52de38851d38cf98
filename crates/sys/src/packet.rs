// SPDX-License-Identifier: Apache-2.0
//! Frames as they pass an interface (`packet(7)`): a [`Ring`] shared with the kernel that sees every interface of a
//! namespace, and a [`Port`] that sends and receives single frames on one.
//!
//! Needs CAP_NET_RAW in the namespace. Read `packet/ring.rs` for the layout of the shared memory.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::netns::NetNs;

mod ring;

pub use ring::{Ring, RingSize};

/// Which way a frame went, seen from the namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// Into it.
    In,
    /// Out of it.
    Out,
}

/// A captured frame.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The interface's number in the namespace.
    pub interface: u32,
    /// Which way.
    pub direction: Direction,
    /// From the Ethernet header on, without a VLAN tag that the kernel took out.
    pub bytes: &'a [u8],
    /// How long it was; more than `bytes` if it was cut.
    pub wire_len: usize,
    /// VLAN tag (TCI) that the kernel took out of the frame.
    pub vlan: Option<u16>,
    /// When, since 1970.
    pub at: Duration,
}

/// One interface, frame by frame: for tools and tests.
#[derive(Debug)]
pub struct Port {
    socket: OwnedFd,
}

impl Port {
    /// Opens `interface` of `namespace`. It receives from now on; its own frames are not received.
    pub fn open(namespace: &NetNs, interface: &str) -> io::Result<Self> {
        namespace.run(|| {
            let index = nix::net::if_::if_nametoindex(interface)?;
            let socket = socket()?;
            set(&socket, libc::PACKET_IGNORE_OUTGOING, &1_i32)?;
            // Large bursts in tests; without the privilege the default has to do.
            let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20);
            bind(&socket, index)?;
            Ok(Self { socket })
        })?
    }

    /// Sends one frame, Ethernet header included.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        let sent = nix::unistd::write(&self.socket, frame)?;
        if sent == frame.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::WriteZero.into())
        }
    }

    /// The next frame, if one comes within `patience`.
    pub fn receive(&self, patience: Duration) -> io::Result<Option<Vec<u8>>> {
        if !readable(&self.socket, patience)? {
            return Ok(None);
        }
        let mut frame = vec![0; 1 << 16];
        let length = nix::unistd::read(&self.socket, &mut frame)?;
        frame.truncate(length);
        Ok(Some(frame))
    }
}

/// A packet socket that receives nothing yet.
fn socket() -> io::Result<OwnedFd> {
    // SAFETY: no pointers; protocol 0 receives nothing until bound.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Begins to receive every protocol on interface number `index`; 0 is all of them.
fn bind(socket: &OwnedFd, index: u32) -> io::Result<()> {
    // SAFETY: all-zero is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).unwrap_or(0);
    address.sll_protocol = u16::try_from(libc::ETH_P_ALL).unwrap_or(0).to_be();
    address.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
    let size = libc::socklen_t::try_from(size_of_val(&address)).unwrap_or(0);
    // SAFETY: a live address and its size.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size) };
    if bound < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Sets an option of level SOL_PACKET.
fn set<T: Copy>(socket: &OwnedFd, option: libc::c_int, value: &T) -> io::Result<()> {
    let size = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: a live plain value and its size.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            std::ptr::from_ref(value).cast(),
            size,
        )
    };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Waits until there is something to read.
fn readable(socket: &OwnedFd, patience: Duration) -> io::Result<bool> {
    let millis = u16::try_from(patience.as_millis()).unwrap_or(u16::MAX);
    let mut wanted = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    match poll(&mut wanted, PollTimeout::from(millis)) {
        Ok(ready) => Ok(ready > 0),
        Err(nix::errno::Errno::EINTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
