// SPDX-License-Identifier: Apache-2.0
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use maille_chassis::clock::Clock;
use maille_model::Protocol;

use crate::http::Pair;
use crate::origin::{Origin, PATIENCE, patterned};

#[test]
fn bytes_both_ways_and_half_closes() {
    for protocol in [Protocol::Tcp, Protocol::Undeclared] {
        let pair = Pair::new(Origin::echo, protocol);
        let mut wire = pair.dial();
        wire.send([0xff, 0, 1, 2]);
        assert_eq!(wire.exactly(4), [0xff, 0, 1, 2]);
        wire.stream.shutdown(Shutdown::Write).unwrap();
        let (rest, end) = wire.rest();
        assert!(rest.is_empty());
        end.unwrap();
        let counted = pair.client.stop();
        let (edge, sum) = counted.only();
        assert!(edge.protected);
        assert_eq!((sum.opened, sum.closed), (1, 1));
        assert_eq!((sum.sent, sum.received), (4, 4));
    }
}

#[test]
fn a_hundred_megabytes_both_ways_at_once() {
    let pair = Pair::new(Origin::echo, Protocol::Tcp);
    let mut wire = pair.dial();
    let block = patterned(1 << 20);
    let mut writer = wire.stream.try_clone().unwrap();
    let sent = block.clone();
    let writing = std::thread::spawn(move || {
        for _ in 0..100 {
            writer.write_all(&sent).unwrap();
        }
        writer.shutdown(Shutdown::Write).unwrap();
    });
    for _ in 0..100 {
        assert!(wire.exactly(block.len()) == block);
    }
    let (rest, end) = wire.rest();
    writing.join().unwrap();
    assert!(rest.is_empty());
    end.unwrap();
}

#[test]
fn a_server_that_speaks_first() {
    let greet = |at| {
        Origin::start(at, |mut stream: TcpStream, _| {
            stream.write_all(b"220 ready\r\n").unwrap();
            let mut got = [0; 4];
            stream.read_exact(&mut got).unwrap();
            stream.write_all(&got).unwrap();
        })
    };
    let pair = Pair::new(greet, Protocol::Undeclared);
    let mut wire = pair.dial();
    assert_eq!(wire.line(), "220 ready");
    wire.send("QUIT");
    assert_eq!(wire.exactly(4), b"QUIT");
}

#[test]
fn a_reset_stays_a_reset() {
    let slam = |at| {
        Origin::start(at, |stream: TcpStream, _| {
            let mut byte = [0];
            (&stream).read_exact(&mut byte).unwrap();
            socket2::SockRef::from(&stream)
                .set_linger(Some(std::time::Duration::ZERO))
                .unwrap();
        })
    };
    let pair = Pair::new(slam, Protocol::Tcp);
    let mut wire = pair.dial();
    wire.send("x");
    let (_, end) = wire.rest();
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn a_client_that_resets_is_seen_by_the_server() {
    let watch = |at| {
        Origin::start(at, |mut stream: TcpStream, report| {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            stream.write_all(&byte).unwrap();
            let error = stream.read(&mut byte).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
            report.send(1).unwrap();
        })
    };
    let pair = Pair::new(watch, Protocol::Tcp);
    let mut wire = pair.dial();
    wire.send("x");
    wire.exactly(1);
    socket2::SockRef::from(&wire.stream)
        .set_linger(Some(std::time::Duration::ZERO))
        .unwrap();
    drop(wire);
    assert_eq!(pair.origin.reports.recv_timeout(PATIENCE).unwrap(), 1);
}

#[test]
fn connections_without_a_byte() {
    for protocol in [Protocol::Tcp, Protocol::Undeclared] {
        let pair = Pair::new(Origin::echo, protocol);
        for _ in 0..20 {
            let mut wire = pair.dial();
            wire.stream.shutdown(Shutdown::Write).unwrap();
            let (rest, end) = wire.rest();
            assert!(rest.is_empty() && end.is_ok(), "{protocol:?}: {end:?}");
        }
        assert_eq!(pair.origin.accepted(), 20);
        let counted = pair.client.stop();
        let (_, sum) = counted.only();
        assert_eq!((sum.opened, sum.closed, sum.sent), (20, 20, 0));
    }
}

#[test]
fn connections_that_send_and_close_at_once() {
    let sink = |at| {
        Origin::start(at, |mut stream: TcpStream, report| {
            let mut got = Vec::new();
            stream.read_to_end(&mut got).unwrap();
            report.send(got.len()).unwrap();
        })
    };
    for protocol in [Protocol::Tcp, Protocol::Undeclared] {
        let pair = Pair::new(sink, protocol);
        for length in [1, 1_000, 100_000] {
            let mut wire = pair.dial();
            wire.send([&[0xff], &patterned(length)[..]].concat());
            drop(wire);
            let reported = pair.origin.reports.recv_timeout(PATIENCE);
            assert_eq!(reported, Ok(length + 1), "{protocol:?}");
        }
    }
}

/// The server ends first, and the client goes on for a while.
#[test]
fn ends_in_the_other_order() {
    let bye_first = |at| {
        Origin::start(at, |mut stream: TcpStream, report| {
            stream.read_exact(&mut [0]).unwrap();
            stream.write_all(b"bye").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut got = Vec::new();
            stream.read_to_end(&mut got).unwrap();
            report.send(got.len()).unwrap();
        })
    };
    let pair = Pair::new(bye_first, Protocol::Tcp);
    let mut wire = pair.dial();
    wire.send([0xff]);
    let (rest, end) = wire.rest();
    assert_eq!(rest, b"bye");
    end.unwrap();
    wire.send(patterned(3_000_000));
    drop(wire);
    assert_eq!(pair.origin.reports.recv_timeout(PATIENCE), Ok(3_000_000));
}

#[test]
fn both_ends_at_once() {
    let bye = |at| {
        Origin::start(at, |mut stream: TcpStream, report| {
            stream.write_all(b"bye").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut got = Vec::new();
            stream.read_to_end(&mut got).unwrap();
            report.send(got.len()).unwrap();
        })
    };
    for protocol in [Protocol::Tcp, Protocol::Undeclared] {
        let pair = Pair::new(bye, protocol);
        for _ in 0..20 {
            let mut wire = pair.dial();
            wire.send([0xff, 1]);
            wire.stream.shutdown(Shutdown::Write).unwrap();
            let (rest, end) = wire.rest();
            assert_eq!(rest, b"bye");
            end.unwrap();
            assert_eq!(pair.origin.reports.recv_timeout(PATIENCE), Ok(2));
        }
    }
}

/// A reset that follows a FIN of the same side, and one that meets a side that is not being read.
#[test]
fn a_reset_after_the_end_stays_a_reset() {
    let wait = |at| {
        Origin::start(at, |mut stream: TcpStream, report| {
            let mut got = Vec::new();
            stream.read_to_end(&mut got).unwrap();
            stream.write_all(b"well").unwrap();
            report.send(got.len()).unwrap();
            // Nothing is left to read; an error comes out of the socket itself.
            let socket = socket2::SockRef::from(&stream);
            let clock = Clock::start();
            while clock.elapsed() < PATIENCE {
                if let Some(error) = socket.take_error().unwrap() {
                    assert!(matches!(
                        error.kind(),
                        std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe
                    ));
                    report.send(1).unwrap();
                    return;
                }
                std::thread::yield_now();
            }
        })
    };
    let pair = Pair::new(wait, Protocol::Tcp);
    let mut wire = pair.dial();
    wire.send("xyz");
    wire.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(pair.origin.reports.recv_timeout(PATIENCE), Ok(3));
    assert_eq!(wire.exactly(4), b"well");
    socket2::SockRef::from(&wire.stream)
        .set_linger(Some(std::time::Duration::ZERO))
        .unwrap();
    drop(wire);
    assert_eq!(pair.origin.reports.recv_timeout(PATIENCE), Ok(1));
}
