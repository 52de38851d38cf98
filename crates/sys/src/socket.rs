// SPDX-License-Identifier: Apache-2.0
//! Sockets as a transparent proxy needs them. Every option that matters is read back: some kernels say yes and do nothing.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, SocketAddrV6, TcpListener};
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::time::Duration;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

/// A peer that said nothing for so long is asked,
const ASKED_AFTER: Duration = Duration::from_secs(60);
/// so often,
const ASKED_EVERY: Duration = Duration::from_secs(10);
/// and is gone when so many questions were not answered: after two minutes.
const ASKED: u32 = 6;

/// A connection to be begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectSpec {
    /// Where.
    pub to: SocketAddr,
    /// The address to come from; foreign ones need CAP_NET_RAW or CAP_NET_ADMIN (IP_TRANSPARENT).
    pub source: Option<IpAddr>,
    /// SO_MARK.
    pub mark: Option<u32>,
    /// The other end is on this machine ([`set_near`]).
    pub near: bool,
}

/// A dual-stack listener that takes connections to any address (IP_TRANSPARENT and IPV6_TRANSPARENT), non-blocking.
///
/// `mark` is set before it listens: its connections inherit it, and already their SYN-ACK bears it.
pub fn listen_transparent(
    address: SocketAddr,
    backlog: i32,
    mark: Option<u32>,
) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_only_v6(false)?;
    socket.set_reuse_address(true)?;
    transparent(&socket, Domain::IPV4)?;
    transparent(&socket, Domain::IPV6)?;
    if let Some(mark) = mark {
        socket.set_mark(mark)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

/// The address that the client of an intercepted connection dialled (TPROXY: the socket's own).
pub fn original_destination(socket: &impl AsFd) -> io::Result<SocketAddr> {
    let address = SockRef::from(socket)
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::Error::other("not an internet socket"))?;
    Ok(match address.ip().to_canonical() {
        // What is on one link only is nothing without its link.
        IpAddr::V6(_) => address,
        v4 @ IpAddr::V4(_) => SocketAddr::new(v4, address.port()),
    })
}

/// The address that the client of a redirected connection dialled, as the kernel's connection tracking remembers it
/// (`SO_ORIGINAL_DST`). For a connection that was not redirected it is the socket's own, or an error where nothing is tracked.
///
/// gVisor answers only to a socket of the connection's own family (not to one of both), and with success and nonsense to the other question.
pub fn redirected_destination(socket: &impl AsFd) -> io::Result<SocketAddr> {
    let socket = SockRef::from(socket);
    let own = socket.local_addr()?.as_socket();
    // A socket of both families has connections of IPv4 too, by mapped addresses.
    let dialled = match own.map(|own| own.ip().to_canonical()) {
        Some(IpAddr::V4(_)) => socket.original_dst_v4()?,
        Some(IpAddr::V6(_)) => socket.original_dst_v6()?,
        None => return Err(io::Error::other("not an internet socket")),
    };
    let dialled = dialled.as_socket();
    let same = |dialled: &SocketAddr| {
        own.is_some_and(|own| own.ip().to_canonical().is_ipv4() == dialled.is_ipv4())
    };
    dialled
        .filter(same)
        .ok_or_else(|| io::Error::other("the kernel remembers no address of this family"))
}

/// The same address at the other link of a namespace that has two: where a connection to a link-local address goes on that was taken from
/// one of them. Any other address is the same everywhere.
pub fn across(address: SocketAddr) -> io::Result<SocketAddr> {
    let SocketAddr::V6(mut v6) = address else {
        return Ok(address);
    };
    if !v6.ip().is_unicast_link_local() || v6.scope_id() == 0 {
        return Ok(address);
    }
    let links = nix::net::if_::if_nameindex()?;
    let mut others = links
        .iter()
        .filter(|link| link.name() != c"lo" && link.index() != v6.scope_id());
    match (others.next(), others.next()) {
        (Some(other), None) => v6.set_scope_id(other.index()),
        _ => return Err(io::Error::other("not between two links")),
    }
    Ok(v6.into())
}

/// Begins a non-blocking connect; the socket becomes writable when it is decided.
pub fn connect(spec: &ConnectSpec) -> io::Result<Socket> {
    let domain = Domain::for_address(spec.to);
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    set_keep_alive(&socket)?;
    if let Some(mark) = spec.mark {
        socket.set_mark(mark)?;
    }
    if spec.near {
        set_near(&socket);
    }
    if let Some(source) = spec.source {
        transparent(&socket, domain)?;
        // The port is chosen at connect time, per destination: 28,000 connections to each one instead of in all.
        bind_address_no_port(&socket)?;
        socket.bind(&beside(source, spec.to).into())?;
    }
    match socket.connect(&spec.to.into()) {
        Ok(()) => Ok(socket),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

/// `source`, on the link of `to` where it is on one link only.
fn beside(source: IpAddr, to: SocketAddr) -> SocketAddr {
    match (source, to) {
        (IpAddr::V6(source), SocketAddr::V6(to)) if source.is_unicast_link_local() => {
            SocketAddrV6::new(source, 0, 0, to.scope_id()).into()
        }
        _ => SocketAddr::new(source, 0),
    }
}

/// Has the kernel ask a silent peer whether it is still there, so that a connection may be idle for ever, but not with nobody.
pub fn set_keep_alive(socket: &impl AsFd) -> io::Result<()> {
    let asking = TcpKeepalive::new()
        .with_time(ASKED_AFTER)
        .with_interval(ASKED_EVERY)
        .with_retries(ASKED);
    SockRef::from(socket).set_tcp_keepalive(&asking)
}

/// Closing `socket` sends RST instead of FIN.
pub fn set_linger_zero(socket: &impl AsFd) -> io::Result<()> {
    SockRef::from(socket).set_linger(Some(Duration::ZERO))
}

/// Has the socket, and what it accepts when it listens, send by the congestion control that is in every kernel and allowed to everybody
/// (net/ipv4/tcp_cong.c): for hops that never leave the machine, where nothing is to be found out about a path, and pacing (bbr) costs
/// a timer for each burst.
pub fn set_near(socket: &impl AsFd) {
    // Another kernel may have none to choose from: a matter of speed only.
    let _ = SockRef::from(socket).set_tcp_congestion(b"reno");
}

/// Reads from a unix socket, with the descriptor that may come with it; of several all but one are closed.
pub fn receive(socket: &impl AsFd, into: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = nix::cmsg_space!([RawFd; 4]);
    let mut slices = [IoSliceMut::new(into)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(
        socket.as_fd().as_raw_fd(),
        &mut slices,
        Some(&mut space),
        flags,
    )?;
    let mut found = None;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control {
            for fd in fds {
                // SAFETY: the kernel has just made it for this process, and nobody else knows it.
                found = Some(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
    Ok((message.bytes, found))
}

/// Takes over a descriptor that a supervisor passed to this process, and marks it close-on-exec. Each number once: the
/// caller answers for nobody else owning it.
pub fn adopt(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD only reads the flags of a number; it fails with EBADF where nothing is open.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the number is open (just asked) and, by this function's contract, owned by nobody else in this process.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: sets a flag of a descriptor that we own.
    if unsafe { libc::fcntl(owned.as_raw_fd(), libc::F_SETFD, flags | libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(owned)
}

/// Sets a transparency option and reads it back.
fn transparent(socket: &Socket, domain: Domain) -> io::Result<()> {
    let (level, option) = if domain == Domain::IPV4 {
        (libc::SOL_IP, libc::IP_TRANSPARENT)
    } else {
        (libc::SOL_IPV6, libc::IPV6_TRANSPARENT)
    };
    set(socket, level, option, 1)?;
    if get(socket, level, option)? == 1 {
        Ok(())
    } else {
        Err(io::Error::other(
            "the kernel accepted IP_TRANSPARENT without setting it",
        ))
    }
}

fn bind_address_no_port(socket: &Socket) -> io::Result<()> {
    set(socket, libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)
}

fn set(socket: &Socket, level: i32, option: i32, value: i32) -> io::Result<()> {
    let size = libc::socklen_t::try_from(size_of::<i32>()).unwrap_or(4);
    // SAFETY: the kernel reads `size` bytes from a live i32.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn get(socket: &Socket, level: i32, option: i32) -> io::Result<i32> {
    let mut value = 0_i32;
    let mut size = libc::socklen_t::try_from(size_of::<i32>()).unwrap_or(4);
    // SAFETY: the kernel writes at most `size` bytes into a live i32 and the real size into a live socklen_t.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw mut value).cast(),
            &raw mut size,
        )
    };
    if result == 0 {
        Ok(value)
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests;
