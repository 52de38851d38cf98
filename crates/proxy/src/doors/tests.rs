// SPDX-License-Identifier: Apache-2.0
//! Sockets that are bound here, and descriptors that were passed on.

use std::collections::HashMap;
use std::os::fd::IntoRawFd as _;

use maille_chassis::listen::Inherited;

use super::*;

fn config(more: &[(&'static str, &'static str)]) -> Config {
    let mut settings = HashMap::from([("MAILLE_WORKLOAD", "uid-1"), ("MAILLE_AGENT", "/x")]);
    settings.extend(more.iter().copied());
    Config::read(&settings).unwrap()
}

#[test]
fn explicit_ports_are_bound() {
    let config = config(&[
        ("MAILLE_OUTBOUND", "127.0.0.1:0"),
        ("MAILLE_OUTBOUND_TO", "10.96.0.1:80"),
        ("MAILLE_MESH", "[::1]:0"),
    ]);
    let doors = open(&config).unwrap();
    let [outbound, mesh] = &doors.listeners[..] else {
        panic!("{doors:?}")
    };
    assert_eq!(
        outbound.original,
        OriginalDst::Fixed("10.96.0.1:80".parse().unwrap())
    );
    assert!(mesh.socket.local_addr().unwrap().is_ipv6());
    let taken = outbound.socket.local_addr().unwrap();
    assert!(matches!(listen(taken), Err(error) if error.kind() == io::ErrorKind::AddrInUse));
}

#[test]
fn redirected_connections_need_no_right_and_never_mean_the_proxy() {
    let config = config(&[
        ("MAILLE_CAPTURE", "redirect"),
        ("MAILLE_OUTBOUND", "[::]:0"),
        ("MAILLE_INBOUND", "127.0.0.1:0"),
        ("MAILLE_MESH", "[::]:0"),
    ]);
    let doors = open(&config).unwrap();
    // One for each family: some kernels answer to a socket of the connection's own family alone.
    let [outbound, by_v4, inbound, mesh] = &doors.listeners[..] else {
        panic!("{doors:?}")
    };
    let port = |listener: &Listener| listener.socket.local_addr().unwrap().port();
    let own = OriginalDst::Redirect(OwnPorts([port(outbound), port(inbound)]));
    assert_eq!((outbound.original, inbound.original), (own, own));
    assert_eq!(mesh.original, OriginalDst::Socket, "nobody redirects there");
    assert_eq!((by_v4.original, port(by_v4)), (own, port(outbound)));
    for (socket, is_v6) in [(outbound, true), (by_v4, false), (mesh, true)] {
        let at = socket.socket.local_addr().unwrap();
        assert_eq!(at.is_ipv6(), is_v6, "{at}");
        let from = (Ipv4Addr::LOCALHOST, at.port());
        std::net::TcpStream::connect(from).unwrap();
    }
    let taken = |listener: &Listener| listener.socket.accept().map(|(_, from)| from.is_ipv4());
    assert_eq!(taken(by_v4).ok(), Some(true));
    assert_eq!(
        taken(by_v4).ok(),
        Some(true),
        "what came to the same port of the other"
    );
    assert!(taken(outbound).is_err(), "nothing of IPv4");
}

#[test]
fn a_proxy_without_a_socket_says_so() {
    assert!(matches!(open(&config(&[])), Err(DoorError::None)));
}

#[test]
fn passed_sockets_are_taken_in_place_of_bound_ones() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    // An address that cannot be bound: nobody must try.
    let mut config = config(&[("MAILLE_MESH", "192.0.2.1:15008")]);
    config.inherited = vec![Inherited {
        name: "mesh".to_owned(),
        fd: socket.into_raw_fd(),
    }];
    let doors = open(&config).unwrap();
    assert_eq!(doors.listeners.len(), 1);
    assert_eq!(doors.listeners[0].socket.local_addr().unwrap(), address);
    let waiting = doors.listeners[0].socket.accept().unwrap_err();
    assert_eq!(
        waiting.kind(),
        io::ErrorKind::WouldBlock,
        "a blocking listener would stop the worker"
    );
}

#[test]
fn what_is_passed_must_be_known() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = config(&[]);
    config.inherited = vec![Inherited {
        name: "dns".to_owned(),
        fd: socket.into_raw_fd(),
    }];
    assert!(matches!(open(&config), Err(DoorError::Name(name)) if name == "dns"));
    // A number that is surely closed.
    config.inherited = vec![Inherited {
        name: "mesh".to_owned(),
        fd: 900_000,
    }];
    assert!(matches!(
        open(&config),
        Err(DoorError::Passed { fd: 900_000, .. })
    ));
}
