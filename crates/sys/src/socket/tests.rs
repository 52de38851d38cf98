// SPDX-License-Identifier: Apache-2.0
//! Options that are set, read back from real sockets.

use std::io::Read as _;
use std::net::TcpStream;

use super::*;
use crate::link::inside;
use crate::netns::NetNs;

/// Runs `test` in a network of its own with nothing but `lo`.
fn alone(test: impl FnOnce() + Send) {
    let namespace = NetNs::create().unwrap();
    inside(&namespace, async |net| net.up("lo").await).unwrap();
    namespace.run(test).unwrap();
}

#[test]
fn a_foreign_source_is_seen_by_the_server() {
    alone(foreign_source);
}

fn foreign_source() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let spec = ConnectSpec {
        to: server.local_addr().unwrap(),
        source: Some("127.7.7.7".parse().unwrap()),
        mark: Some(2),
        near: false,
    };
    let client = connect(&spec).unwrap();
    let (mut accepted, peer) = server.accept().unwrap();
    assert_eq!(peer.ip(), spec.source.unwrap());
    set_linger_zero(&client).unwrap();
    drop(client);
    assert_eq!(
        accepted.read(&mut [0]).unwrap_err().kind(),
        io::ErrorKind::ConnectionReset
    );
}

#[test]
fn a_transparent_listener_takes_both_families() {
    alone(both_families);
}

fn both_families() {
    let listener = listen_transparent("[::]:0".parse().unwrap(), 16, None).unwrap();
    let port = listener.local_addr().unwrap().port();
    listener.set_nonblocking(false).unwrap();
    for address in ["127.0.0.1", "::1"] {
        let _client = TcpStream::connect((address, port)).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert_eq!(
            original_destination(&accepted).unwrap().ip(),
            address.parse::<IpAddr>().unwrap()
        );
    }
}

#[test]
fn near_sockets_and_what_they_accept_are_not_paced() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    set_near(&server);
    let spec = ConnectSpec {
        to: server.local_addr().unwrap(),
        source: None,
        mark: None,
        near: true,
    };
    let client = connect(&spec).unwrap();
    let (accepted, _) = server.accept().unwrap();
    for socket in [SockRef::from(&client), SockRef::from(&accepted)] {
        assert!(socket.tcp_congestion().unwrap().starts_with(b"reno"));
    }
}

#[test]
fn connections_ask_whether_the_peer_is_there() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let spec = ConnectSpec {
        to: server.local_addr().unwrap(),
        source: None,
        mark: None,
        near: false,
    };
    let client = connect(&spec).unwrap();
    let (accepted, _) = server.accept().unwrap();
    set_keep_alive(&accepted).unwrap();
    for socket in [SockRef::from(&client), SockRef::from(&accepted)] {
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), ASKED_AFTER);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), ASKED_EVERY);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), ASKED);
    }
}

#[test]
fn descriptors_come_with_bytes() {
    use std::io::{IoSlice, Read as _};

    use nix::sys::socket::{ControlMessage, sendmsg};

    let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
    let file = std::fs::File::open("/proc/self/comm").unwrap();
    let fds = [file.as_raw_fd(), file.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    let text = [IoSlice::new(b"ab")];
    sendmsg::<()>(one.as_raw_fd(), &text, &rights, MsgFlags::empty(), None).unwrap();
    let mut buffer = [0; 8];
    let (length, fd) = receive(&other, &mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"ab");
    let mut said = String::new();
    std::fs::File::from(fd.unwrap())
        .read_to_string(&mut said)
        .unwrap();
    assert!(!said.is_empty());
    drop(one);
    assert_eq!(receive(&other, &mut buffer).unwrap().0, 0);
}

#[test]
fn only_open_descriptors_are_adopted() {
    assert!(adopt(987_654).is_err());
}
