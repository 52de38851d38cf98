// SPDX-License-Identifier: Apache-2.0
//! Frames as they pass an interface (`packet(7)`): a [`Ring`] shared with the kernel that sees every interface of a
//! namespace, and a [`Port`] that sends and receives single frames on one.
//!
//! Needs CAP_NET_RAW in the user namespace that owns the network namespace. Read `packet/ring.rs` for the shared memory.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::ptr;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::netns::NetNs;

mod ring;

pub use ring::{Ring, RingSize};

/// Which way a frame went, seen from the namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    /// From the Ethernet header on.
    pub bytes: &'a [u8],
    /// How long it was on the wire; more than `bytes` if it was cut.
    pub wire_len: usize,
    /// VLAN tag (TCI) that the kernel took out of the frame.
    pub vlan: Option<u16>,
    /// When, since 1970.
    pub at: Duration,
}

#[expect(clippy::cast_possible_truncation, reason = "17 and 3")]
const AF_PACKET: u16 = libc::AF_PACKET as u16;

/// In network byte order as `packet(7)` wants it.
#[expect(clippy::cast_possible_truncation, reason = "17 and 3")]
const EVERY_PROTOCOL: u16 = (libc::ETH_P_ALL as u16).to_be();

/// In place of an interface's number.
const EVERYWHERE: i32 = 0;

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
            let socket = packet_socket()?;
            set(&socket, libc::PACKET_IGNORE_OUTGOING, &1_i32)?;
            // For bursts; more than the machine's limit is cut to it.
            socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20)?;
            bind(&socket, i32::try_from(index).map_err(io::Error::other)?)?;
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
        let mut wanted = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        if poll(&mut wanted, timeout)? == 0 {
            return Ok(None);
        }
        let mut frame = vec![0; 1 << 16];
        let length = nix::unistd::read(&self.socket, &mut frame)?;
        frame.truncate(length);
        Ok(Some(frame))
    }
}

/// A packet socket of the calling thread's namespace that receives nothing yet.
fn packet_socket() -> io::Result<OwnedFd> {
    // SAFETY: makes a descriptor out of three integers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Begins to receive every protocol on the interface with this number, or everywhere, on those that come later too.
fn bind(socket: &OwnedFd, interface: i32) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: AF_PACKET,
        sll_protocol: EVERY_PROTOCOL,
        sll_ifindex: interface,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the kernel reads that many bytes of a live structure.
    let result = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            length_of::<libc::sockaddr_ll>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn set<T>(socket: &OwnedFd, option: i32, value: &T) -> io::Result<()> {
    // SAFETY: the kernel reads that many bytes of a live value.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            ptr::from_ref(value).cast(),
            length_of::<T>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn length_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(libc::socklen_t::MAX)
}

#[cfg(test)]
mod tests;
