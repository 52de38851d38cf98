// SPDX-License-Identifier: Apache-2.0
//! A connection of either dialect: whatever a peer sends, in whatever pieces, is taken or refused, and what it makes us write or hold is bounded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use maille_engine::hpack::{Limits, List};
use maille_engine::http2::{Code, Connection, Dialect, Event, Settings};

fn settings(role: u8) -> Settings {
    Settings {
        dialect: if role & 2 == 0 { Dialect::Mesh } else { Dialect::Rfc9113 },
        header_table: 4096,
        max_frame: 16_384,
        max_streams: 8,
        stream_window: 4096,
        connection_window: 65_535,
        list: Limits { size: 4096, fields: 300 },
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// One way of looking at an event that does not depend on pieces.
#[derive(Default, PartialEq, Eq, Debug)]
struct Seen {
    events: Vec<String>,
    bytes: Vec<(u32, Vec<u8>)>,
    error: Option<Code>,
}

fuzz_target!(|input: &[u8]| {
    let [role, piece, bytes @ ..] = input else {
        return;
    };
    let whole = run(*role, bytes, usize::MAX);
    let parts = run(*role, bytes, usize::from(*piece) + 1);
    assert_eq!(whole, parts);
});

fn run(role: u8, bytes: &[u8], piece: usize) -> Seen {
    let mut out = Vec::new();
    let mut list = List::default();
    let mut seen = Seen::default();
    let mut link = if role & 1 == 0 {
        let mut link = Connection::client(settings(role), &mut out);
        for token in 0..3 {
            let fields: [(&[u8], &[u8]); 3] = [
                (b":method", b"POST"),
                (b":path", b"/"),
                (b":authority", b"10.0.0.1:80"),
            ];
            let end = token == 2;
            let stream = link.open_stream(token, fields, end, &mut out).expect("room for three");
            link.send_data(stream, &[0; 40_000], true, &mut out);
        }
        take(&mut link, &PREFACE[24..], &mut list, &mut out, &mut seen);
        link
    } else {
        let mut link = Connection::server(settings(role), &mut out);
        take(&mut link, PREFACE, &mut list, &mut out, &mut seen);
        link
    };
    let mut written = 0;
    for piece in bytes.chunks(piece) {
        link.flushed();
        out.clear();
        take(&mut link, piece, &mut list, &mut out, &mut seen);
        written += out.len();
        if seen.error.is_some() {
            break;
        }
    }
    // An answer is never much longer than its question, but for what our own streams had to say.
    assert!(written <= 17 * bytes.len() + 200_000);
    assert!(link.streams_open() <= 8);
    seen
}

fn take(link: &mut Connection, bytes: &[u8], list: &mut List, out: &mut Vec<u8>, seen: &mut Seen) {
    // What is done with may have been moved.
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    loop {
        let received = match link.receive(0, &mut bytes[at..], list, out) {
            Ok(received) => received,
            Err(error) => {
                seen.error = Some(error.code);
                return;
            }
        };
        at += received.taken;
        let Some(event) = received.event else {
            assert_eq!(at, bytes.len());
            return;
        };
        react(link, event, out, seen);
    }
}

fn react(link: &mut Connection, event: Event<'_>, out: &mut Vec<u8>, seen: &mut Seen) {
    if let Event::Data { stream, bytes, end, .. } = event {
        match seen.bytes.iter_mut().find(|(known, _)| *known == stream) {
            Some((_, known)) => known.extend_from_slice(bytes),
            None => seen.bytes.push((stream, bytes.to_vec())),
        }
        // Some sockets are slow.
        if stream % 4 == 1 {
            link.consumed(stream, bytes.len(), out);
        }
        if end {
            seen.events.push(format!("{stream} end"));
        }
        return;
    }
    seen.events.push(format!("{event:?}"));
    match event {
        Event::Request { stream, fields, .. } => {
            link.set_token(stream, u64::from(stream));
            if fields.method == b"RESET" {
                return link.reset(stream, Code::CANCEL, out);
            }
            let status: [(&[u8], &[u8]); 1] = [(b":status", b"200")];
            let rest = fields.fields.iter();
            let _ = link.send_head(stream, status.into_iter().chain(rest), false, out);
            link.send_data(stream, &[0; 3000], stream % 8 == 1, out);
        }
        Event::Writable { stream, .. } => {
            link.send_data(stream, &[0; 1000], true, out);
        }
        _ => {}
    }
}
