// SPDX-License-Identifier: Apache-2.0
//! Frames that end a connection, frames that end a stream, frames that are too many.

use super::*;
use crate::http2::budget::{MOST_OF_MESH, MOST_WINDOWS_OF_MESH};

/// A frame.
fn raw(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::header(&mut out, payload.len(), Kind(kind), flags, stream);
    out.extend_from_slice(payload);
    out
}

/// A pair that knows of stream 1, open, and of stream 3, closed.
fn two() -> (Side, Side) {
    let (mut client, mut server) = pair();
    client.open(1, &GET, false);
    let closed = client.open(3, &GET, false);
    client.link.reset(closed, Code::CANCEL, &mut client.out);
    exchange(&mut client, &mut server);
    client.told();
    server.told();
    (client, server)
}

fn server() -> Side {
    two().1
}

fn client() -> Side {
    two().0
}

const WINDOW_OF_ONE: &[u8] = &[0, 0, 0, 1];
const WINDOW_OF_ALL: &[u8] = &[0x7f, 0xff, 0xff, 0xff];

/// Type, flags, stream, payload.
type Raw = (u8, u8, u32, &'static [u8]);

const FAULTS: &[(&str, Raw, Code)] = &[
    ("PRIORITY", (2, 0, 1, &[0; 5]), Code::PROTOCOL_ERROR),
    ("PUSH_PROMISE", (5, 4, 1, &[0; 4]), Code::PROTOCOL_ERROR),
    ("CONTINUATION", (9, 4, 1, b""), Code::PROTOCOL_ERROR),
    ("padded DATA", (0, 8, 1, &[0]), Code::PROTOCOL_ERROR),
    ("padded HEADERS", (1, 0xc, 1, &[0]), Code::PROTOCOL_ERROR),
    (
        "HEADERS with priority",
        (1, 0x24, 1, &[0; 5]),
        Code::PROTOCOL_ERROR,
    ),
    ("a divided block", (1, 0, 1, b""), Code::PROTOCOL_ERROR),
    (
        "a block that is none",
        (1, 4, 5, &[0x80]),
        Code::COMPRESSION_ERROR,
    ),
    (
        "a late block that is none",
        (1, 4, 3, &[0x80]),
        Code::COMPRESSION_ERROR,
    ),
    ("DATA on no stream", (0, 0, 0, b"x"), Code::PROTOCOL_ERROR),
    ("HEADERS on no stream", (1, 4, 0, b""), Code::PROTOCOL_ERROR),
    (
        "RST_STREAM on no stream",
        (3, 0, 0, &[0; 4]),
        Code::PROTOCOL_ERROR,
    ),
    (
        "DATA on an idle stream",
        (0, 0, 5, b"x"),
        Code::PROTOCOL_ERROR,
    ),
    (
        "empty DATA on an idle stream",
        (0, 0, 5, b""),
        Code::PROTOCOL_ERROR,
    ),
    (
        "DATA on an even stream",
        (0, 0, 2, b"x"),
        Code::PROTOCOL_ERROR,
    ),
    (
        "RST_STREAM on an idle stream",
        (3, 0, 5, &[0; 4]),
        Code::PROTOCOL_ERROR,
    ),
    (
        "WINDOW_UPDATE on an idle stream",
        (8, 0, 5, WINDOW_OF_ONE),
        Code::PROTOCOL_ERROR,
    ),
    (
        "WINDOW_UPDATE of nothing",
        (8, 0, 0, &[0; 4]),
        Code::PROTOCOL_ERROR,
    ),
    (
        "WINDOW_UPDATE of too much",
        (8, 0, 0, WINDOW_OF_ALL),
        Code::FLOW_CONTROL_ERROR,
    ),
    (
        "a short WINDOW_UPDATE",
        (8, 0, 0, &[0; 3]),
        Code::FRAME_SIZE_ERROR,
    ),
    (
        "a long RST_STREAM",
        (3, 0, 1, &[0; 5]),
        Code::FRAME_SIZE_ERROR,
    ),
    ("a short PING", (6, 0, 0, &[0; 7]), Code::FRAME_SIZE_ERROR),
    ("a short GOAWAY", (7, 0, 0, &[0; 7]), Code::FRAME_SIZE_ERROR),
    ("PING on a stream", (6, 0, 1, &[0; 8]), Code::PROTOCOL_ERROR),
    (
        "GOAWAY on a stream",
        (7, 0, 1, &[0; 8]),
        Code::PROTOCOL_ERROR,
    ),
    ("SETTINGS on a stream", (4, 0, 1, &[]), Code::PROTOCOL_ERROR),
    ("half a setting", (4, 0, 0, &[0; 7]), Code::FRAME_SIZE_ERROR),
    (
        "an acknowledgement with settings",
        (4, 1, 0, &[0; 6]),
        Code::FRAME_SIZE_ERROR,
    ),
    (
        "ENABLE_PUSH of 2",
        (4, 0, 0, &[0, 2, 0, 0, 0, 2]),
        Code::PROTOCOL_ERROR,
    ),
    (
        "a window of 2^31",
        (4, 0, 0, &[0, 4, 0x80, 0, 0, 0]),
        Code::FLOW_CONTROL_ERROR,
    ),
    (
        "a frame size of 16,383",
        (4, 0, 0, &[0, 5, 0, 0, 0x3f, 0xff]),
        Code::PROTOCOL_ERROR,
    ),
    (
        "a frame size of 2^24",
        (4, 0, 0, &[0, 5, 1, 0, 0, 0]),
        Code::PROTOCOL_ERROR,
    ),
];

#[test]
fn faults_of_the_connection() {
    let too_long = vec![0; 131_073];
    let frames = FAULTS
        .iter()
        .map(|&(what, (kind, flags, stream, payload), code)| {
            (what, raw(kind, flags, stream, payload), code)
        });
    let long = [Kind::HEADERS.0, 0x30].map(|kind| {
        let frame = raw(kind, frame::END_HEADERS, 5, &too_long);
        ("a frame that is too long", frame, Code::FRAME_SIZE_ERROR)
    });
    for (what, input, code) in frames.chain(long) {
        for make in [server as fn() -> Side, client] {
            for size in [1, 7, usize::MAX] {
                let mut side = make();
                let error = side.take_by(&input, size).unwrap_err();
                assert_eq!(error.code, code, "{what}: {error}");
                assert_eq!(side.told(), Vec::<String>::new());
                // GOAWAY with that code is the last word.
                assert!(side.out.ends_with(&code.0.to_be_bytes()), "{what}");
                assert_eq!(side.out[side.out.len() - 14], Kind::GOAWAY.0);
                let refused = side.link.open_stream(0, bytes(&GET), true, &mut Vec::new());
                assert_eq!(refused, Err(OpenError::Leaving));
            }
        }
    }
}

#[test]
fn faults_of_one_side() {
    for (mut side, input, code) in [
        (server(), raw(1, 4, 4, b""), Code::PROTOCOL_ERROR),
        (client(), raw(1, 4, 5, &[0x88]), Code::PROTOCOL_ERROR),
        (client(), raw(1, 4, 2, &[0x88]), Code::PROTOCOL_ERROR),
        (
            client(),
            raw(4, 0, 0, &[0, 2, 0, 0, 0, 1]),
            Code::PROTOCOL_ERROR,
        ),
    ] {
        assert_eq!(side.take(&input).unwrap_err().code, code);
    }
}

#[test]
fn the_beginning_must_be_right() {
    for input in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\0",
    ] {
        for size in [1, 100] {
            let mut server = Side::server(Settings::mesh());
            let error = server.take_by(input, size).unwrap_err();
            assert_eq!(error.code, Code::PROTOCOL_ERROR);
        }
    }
    for first in [
        raw(6, 0, 0, &[0; 8]),
        raw(4, 1, 0, &[]),
        raw(0x20, 0, 0, &[]),
    ] {
        let mut client = Side::client(Settings::mesh());
        assert_eq!(client.take(&first).unwrap_err().code, Code::PROTOCOL_ERROR);
        let mut server = Side::server(Settings::mesh());
        server.take(frame::PREFACE).unwrap();
        assert_eq!(server.take(&first).unwrap_err().code, Code::PROTOCOL_ERROR);
    }
}

#[test]
fn faults_of_one_stream() {
    let block = raw(1, 4, 1, &[0x82]);
    let ended = [raw(0, 1, 1, b""), raw(0, 0, 1, b"x")].concat();
    let ended_head = [raw(0, 1, 1, b""), block.clone()].concat();
    let nothing = raw(8, 0, 1, &[0; 4]);
    let too_much = raw(8, 0, 1, WINDOW_OF_ALL);
    for (input, told) in [
        (&block, vec!["1 (0): PROTOCOL_ERROR"]),
        (&ended, vec!["1 (0): \"\" end", "1 (0): STREAM_CLOSED"]),
        (&ended_head, vec!["1 (0): \"\" end", "1 (0): STREAM_CLOSED"]),
        (&nothing, vec!["1 (0): PROTOCOL_ERROR"]),
        (&too_much, vec!["1 (0): FLOW_CONTROL_ERROR"]),
    ] {
        let mut side = server();
        side.take(input).unwrap();
        assert_eq!(side.told(), told);
        assert_eq!(side.link.streams_open(), 0);
        // The connection goes on.
        side.take(&raw(1, 5, 5, b"\x82\x84\x01\x0b10.0.0.1:80"))
            .unwrap();
        assert_eq!(side.told(), ["5: GET / to 10.0.0.1:80 end"]);
    }
    let body_first = raw(0, 0, 1, b"x");
    let second_final = [raw(1, 4, 1, &[0x88]), raw(1, 4, 1, &[0x88])].concat();
    let last_interim = raw(1, 5, 1, b"\x08\x03100");
    let after_end = [raw(1, 5, 1, &[0x88]), raw(1, 5, 1, &[0x88])].concat();
    for (input, told) in [
        (&body_first, vec!["1 (1): PROTOCOL_ERROR"]),
        (&second_final, vec!["1 (1): 200", "1 (1): PROTOCOL_ERROR"]),
        (&last_interim, vec!["1 (1): PROTOCOL_ERROR"]),
        (&after_end, vec!["1 (1): 200 end", "1 (1): STREAM_CLOSED"]),
    ] {
        let mut side = client();
        side.take(input).unwrap();
        assert_eq!(side.told(), told);
        assert_eq!(side.link.streams_open(), 0);
    }
}

#[test]
fn what_comes_late_is_nothing() {
    for mut side in [server(), client()] {
        let before = side.link.recv_window;
        side.take(&raw(0, 0, 3, b"late")).unwrap();
        side.take(&raw(0, 1, 3, b"later")).unwrap();
        side.take(&raw(8, 0, 3, WINDOW_OF_ONE)).unwrap();
        side.take(&raw(3, 0, 3, &[0; 4])).unwrap();
        side.take(&raw(1, 4, 3, &[0x82])).unwrap();
        assert_eq!(side.told(), Vec::<String>::new());
        // The bytes count, and are given back.
        assert_eq!(side.link.recv_window, before - 9);
        assert_eq!(side.link.returned, 9);
    }
}

#[test]
fn floods_end_the_connection() {
    for (what, input) in [
        ("SETTINGS", raw(4, 0, 0, &[])),
        ("PING", raw(6, 0, 0, &[0; 8])),
        ("answers to no PING", raw(6, 1, 0, &[0; 8])),
        ("empty DATA", raw(0, 0, 1, b"")),
        ("HEADERS on a closed stream", raw(1, 4, 3, &[0x82])),
        ("unknown frames", raw(0x40, 0, 0, b"")),
        ("GOAWAY", raw(7, 0, 0, &[0; 8])),
        ("refused requests", raw(1, 4, 5, &[0x82])),
    ] {
        let mut side = server();
        let mut input = input;
        let mut count: u32 = 0;
        let error = loop {
            if what == "refused requests" {
                input[5..9].copy_from_slice(&(5 + 2 * count).to_be_bytes());
            }
            if let Err(error) = side.take(&input) {
                break error;
            }
            side.written();
            count += 1;
            assert!(count < 2000, "{what}");
        };
        assert_eq!(error.code, Code::ENHANCE_YOUR_CALM, "{what}");
        assert!(count > 900, "{what}: {count}");
    }
}

/// Nothing was sent that they could be for, however slowly they come one after the other.
#[test]
fn windows_opened_for_nothing_end_the_connection() {
    for stream in [0, 1] {
        let mut side = server();
        let error = (0..=MOST_WINDOWS_OF_MESH).find_map(|_| {
            let taken = side.take(&raw(8, 0, stream, WINDOW_OF_ONE));
            side.written();
            taken.err()
        });
        let code = error.map(|error| error.code);
        assert_eq!(code, Some(Code::ENHANCE_YOUR_CALM));
    }
}

#[test]
fn rapid_resets_end_the_connection_and_ordinary_ones_do_not() {
    let (mut client, mut server) = pair();
    // As many cancelled as done: ordinary life of a client with a short deadline.
    for _ in 0..5000 {
        let done = client.open(0, &GET, true);
        let cancelled = client.open(0, &GET, true);
        client.link.reset(cancelled, Code::CANCEL, &mut client.out);
        exchange(&mut client, &mut server);
        server.answer(done, &OK, true);
        exchange(&mut client, &mut server);
    }
    let error = (0..30_000).find_map(|_| {
        let cancelled = client.open(0, &GET, true);
        client.link.reset(cancelled, Code::CANCEL, &mut client.out);
        let input = client.written();
        server.take(&input).err()
    });
    let code = error.map(|error| error.code);
    assert_eq!(code, Some(Code::ENHANCE_YOUR_CALM));
}

#[test]
fn what_crosses_with_our_resets_is_nobodys_fault() {
    let (mut client, mut server) = pair();
    for _ in 0..5000 {
        let cancelled = client.open(0, &GET, true);
        client.link.reset(cancelled, Code::CANCEL, &mut client.out);
        // The server has answered before it knew.
        client.take(&raw(1, 4, cancelled, &[0x88])).unwrap();
        client.take(&raw(3, 0, cancelled, &[0; 4])).unwrap();
        client.written();
    }
    // But it is not to be had for ever.
    let late = raw(1, 4, 1, &[0x88]);
    let more = (0..30_000).find(|_| client.take(&late).is_err());
    assert!(more.is_some_and(|more| more > 900), "{more:?}");
    server.written();
}

/// Clients leave with what they asked for while it is answered: the connection is that of many others too.
#[test]
fn resets_that_cross_with_answers_are_no_flood() {
    let (mut client, mut server) = pair();
    let left: Vec<u32> = (0..5_000).map(|_| client.open(0, &GET, true)).collect();
    let asked = client.written();
    server.take(&asked).unwrap();
    for stream in left {
        server.answer(stream, &OK, true);
        client.link.reset(stream, Code::CANCEL, &mut client.out);
    }
    exchange(&mut client, &mut server);
    let again = raw(3, 0, 1, &[0, 0, 0, 8]);
    let most = usize::try_from(MOST_OF_MESH).unwrap();
    let more = (0..=most).find(|_| server.take(&again).is_err());
    assert!(more.is_some_and(|more| more > 900), "{more:?}");
}

#[test]
fn time_forgives() {
    let mut side = server();
    for _ in 0..5 {
        for _ in 0..900 {
            side.take(&raw(6, 0, 0, &[0; 8])).unwrap();
        }
        side.now += 10_000;
    }
}
