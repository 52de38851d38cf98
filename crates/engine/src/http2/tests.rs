// SPDX-License-Identifier: Apache-2.0
//! Two of our own sides, and a side against frames written by hand: what is told, what is refused, what the windows do.

use proptest::prelude::*;

use super::frame::{self, Kind};
use super::*;
use crate::hpack::List;

mod faults;
mod heads;
mod rfc9113;
mod run;
mod windows;

/// One side with what it wrote and what it was told.
struct Side {
    link: Connection,
    out: Vec<u8>,
    list: List,
    told: Vec<String>,
    now: u64,
}

type Plain<'a> = (&'a str, &'a str);

const GET: [Plain<'static>; 3] = [
    (":method", "GET"),
    (":path", "/"),
    (":authority", "10.0.0.1:80"),
];
const OK: [Plain<'static>; 1] = [(":status", "200")];

fn bytes<'a>(fields: &'a [Plain<'a>]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    fields
        .iter()
        .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn tell(event: &Event<'_>) -> String {
    let rest = |fields: Fields<'_>| -> String {
        fields
            .iter()
            .map(|(name, value)| format!(" {}={}", text(name), text(value)))
            .collect()
    };
    let fin = |end: &bool| if *end { " end" } else { "" };
    match event {
        Event::Request {
            stream,
            fields,
            end,
        } => {
            let carries = match fields.carries {
                Carried::Http1 { target, .. } => format!(" {}", text(target)),
                Carried::Http2(target) => target
                    .fields()
                    .map(|(name, value)| format!(" {}={}", text(name), text(value)))
                    .collect(),
                Carried::Tcp => String::new(),
            };
            let to = fields
                .hop
                .map_or(String::new(), |hop| format!(" to {}", hop.authority));
            let method = text(fields.method);
            format!(
                "{stream}: {method}{carries}{to}{}{}",
                rest(fields.fields),
                fin(end)
            )
        }
        Event::Response {
            stream,
            token,
            fields,
            end,
        } => {
            format!(
                "{stream} ({token}): {}{}{}",
                fields.status,
                rest(fields.fields),
                fin(end)
            )
        }
        Event::Trailers {
            stream,
            token,
            fields,
        } => format!("{stream} ({token}): trailers{}", rest(*fields)),
        Event::Data {
            stream,
            token,
            bytes,
            end,
        } => {
            format!("{stream} ({token}): \"{}\"{}", text(bytes), fin(end))
        }
        Event::Reset {
            stream,
            token,
            code,
        } => format!("{stream} ({token}): {code:?}"),
        Event::Unprocessed { stream, token } => format!("{stream} ({token}): unprocessed"),
        Event::Writable { stream, token } => format!("{stream} ({token}): writable"),
        Event::Goaway { last, code } => format!("goaway {last} {code:?}"),
        Event::Settings => "settings".to_owned(),
        Event::Pong { payload } => format!("pong {}", text(payload)),
    }
}

impl Side {
    fn new(make: impl Fn(&mut Vec<u8>) -> Connection) -> Self {
        let mut out = Vec::new();
        let link = make(&mut out);
        Self {
            link,
            out,
            list: List::default(),
            told: Vec::new(),
            now: 0,
        }
    }

    fn client(settings: Settings) -> Self {
        Self::new(|out| Connection::client(settings, out))
    }

    fn server(settings: Settings) -> Self {
        Self::new(|out| Connection::server(settings, out))
    }

    /// Takes bytes in pieces of `size`.
    fn take_by(&mut self, bytes: &[u8], size: usize) -> Result<(), ConnectionError> {
        for piece in bytes.to_vec().chunks_mut(size) {
            let mut rest = piece;
            loop {
                let received = self
                    .link
                    .receive(self.now, rest, &mut self.list, &mut self.out)?;
                let taken = received.taken;
                let over = received.event.is_none();
                self.told.extend(received.event.as_ref().map(tell));
                rest = &mut rest[taken..];
                if over {
                    break;
                }
            }
            assert!(rest.is_empty(), "no event, and still bytes");
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), ConnectionError> {
        self.take_by(bytes, usize::MAX)
    }

    fn open(&mut self, token: u64, fields: &[Plain<'_>], end: bool) -> u32 {
        self.link
            .open_stream(token, bytes(fields), end, &mut self.out)
            .unwrap()
    }

    fn answer(&mut self, stream: u32, fields: &[Plain<'_>], end: bool) {
        self.link
            .send_head(stream, bytes(fields), end, &mut self.out)
            .unwrap();
    }

    fn send(&mut self, stream: u32, bytes: &[u8], end: bool) -> usize {
        self.link.send_data(stream, bytes, end, &mut self.out)
    }

    fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }

    fn written(&mut self) -> Vec<u8> {
        self.link.flushed();
        std::mem::take(&mut self.out)
    }
}

/// Passes on what was written until both are silent.
fn exchange(a: &mut Side, b: &mut Side) {
    while !a.out.is_empty() || !b.out.is_empty() {
        let (to_b, to_a) = (a.written(), b.written());
        b.take(&to_b).unwrap();
        a.take(&to_a).unwrap();
    }
}

fn pair_with(settings: Settings) -> (Side, Side) {
    let (mut client, mut server) = (Side::client(settings), Side::server(settings));
    exchange(&mut client, &mut server);
    assert_eq!(
        (client.told(), server.told()),
        (vec!["settings".into()], vec!["settings".into()])
    );
    (client, server)
}

fn pair() -> (Side, Side) {
    pair_with(Settings::mesh())
}

#[test]
fn one_exchange() {
    let (mut client, mut server) = pair();
    let fields = [
        &GET[..],
        &[
            ("Host", "a"),
            ("X-Twice", "1"),
            ("x-twice", ""),
            ("Connection", "close"),
        ],
    ]
    .concat();
    let stream = client.open(7, &fields, false);
    assert_eq!(client.send(stream, b"question", true), 8);
    exchange(&mut client, &mut server);
    assert_eq!(
        server.told(),
        [
            "1: GET / to 10.0.0.1:80 Host=a X-Twice=1 x-twice= Connection=close",
            "1 (0): \"question\" end",
        ]
    );
    server.link.set_token(stream, 9);
    assert_eq!(server.link.token(stream), Some(9));
    server.answer(stream, &[(":status", "103"), ("Link", "x")], false);
    server.answer(stream, &OK, false);
    server.link.consumed(stream, 8, &mut server.out);
    assert_eq!(server.send(stream, b"answer", false), 6);
    assert_eq!(server.send(stream, b"", true), 0);
    exchange(&mut client, &mut server);
    assert_eq!(
        client.told(),
        [
            "1 (7): 103 Link=x",
            "1 (7): 200",
            "1 (7): \"answer\"",
            "1 (7): \"\" end"
        ]
    );
    assert_eq!(server.link.streams_open(), 0);
    // What was not consumed is still held against the peer.
    assert_eq!(client.link.streams_open(), 1);
    client.link.release(stream, &mut client.out);
    assert_eq!(client.link.streams_open(), 0);
}

#[test]
fn a_repeated_exchange_is_a_few_bytes() {
    let (mut client, mut server) = pair();
    let fields = [
        &GET[..],
        &[("Host", "a"), ("User-Agent", "b"), ("Accept", "*/*")],
    ]
    .concat();
    for round in 0..4 {
        let stream = client.open(0, &fields, true);
        assert!(round < 3 || client.out.len() == frame::HEADER + fields.len());
        exchange(&mut client, &mut server);
        server.answer(stream, &OK, true);
        exchange(&mut client, &mut server);
    }
    assert_eq!(client.link.streams_open() + server.link.streams_open(), 0);
}

#[test]
fn resets_go_both_ways() {
    let (mut client, mut server) = pair();
    let (first, second) = (client.open(1, &GET, false), client.open(2, &GET, false));
    exchange(&mut client, &mut server);
    server.told();
    client.link.reset(first, Code::CANCEL, &mut client.out);
    server
        .link
        .reset(second, Code::CONNECT_ERROR, &mut server.out);
    assert!(!client.link.is_open(first) && client.link.is_open(second));
    // What crosses a reset on its way is nothing.
    assert_eq!(client.send(second, b"late", true), 4);
    server.answer(first, &OK, true);
    exchange(&mut client, &mut server);
    assert_eq!(server.told(), ["1 (0): CANCEL"]);
    assert_eq!(client.told(), ["3 (2): CONNECT_ERROR"]);
    assert_eq!(client.send(second, b"swallowed", true), 9);
    client.link.reset(second, Code::CANCEL, &mut client.out);
    assert!(client.out.is_empty());
    assert_eq!(client.link.streams_open() + server.link.streams_open(), 0);
}

#[test]
fn a_leaving_server_finishes_what_it_took() {
    let (mut client, mut server) = pair();
    let first = client.open(1, &GET, true);
    exchange(&mut client, &mut server);
    let late = [client.open(2, &GET, true), client.open(3, &GET, false)];
    server.link.goaway(Code::NO_ERROR, &mut server.out);
    assert!(server.link.is_leaving());
    let to_client = server.written();
    let to_server = client.written();
    client.take(&to_client).unwrap();
    assert_eq!(
        client.told(),
        [
            "goaway 1 NO_ERROR",
            "3 (2): unprocessed",
            "5 (3): unprocessed"
        ]
    );
    assert!(!client.link.can_open());
    let refused = client
        .link
        .open_stream(4, bytes(&GET), true, &mut client.out);
    assert_eq!(refused, Err(OpenError::Leaving));
    server.told();
    server.take(&to_server).unwrap();
    assert_eq!(server.told(), Vec::<String>::new());
    assert!(!client.link.is_open(late[0]) && !server.link.is_open(late[0]));
    server.answer(first, &OK, true);
    exchange(&mut client, &mut server);
    assert_eq!(client.told(), ["1 (1): 200 end"]);
}

#[test]
fn signs_of_life() {
    let (mut client, mut server) = pair();
    client.link.ping(*b"are you?", &mut client.out);
    server.link.ping(*b"and you?", &mut server.out);
    exchange(&mut client, &mut server);
    assert_eq!(client.told(), ["pong are you?"]);
    assert_eq!(server.told(), ["pong and you?"]);
}

#[test]
fn what_is_taken_for_the_peers_limit_holds_until_it_has_spoken() {
    let settings = Settings {
        max_streams: 5,
        ..Settings::rfc9113()
    };
    let (mut client, mut server) = (Side::client(settings), Side::server(settings));
    client.link.assume_streams(1);
    assert_eq!(client.link.most_streams(), 1);
    let get = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "web"),
    ];
    client.open(1, &get, true);
    assert!(!client.link.can_open());
    exchange(&mut client, &mut server);
    assert!(client.link.can_open());
    client.link.assume_streams(1);
    assert_eq!(client.link.most_streams(), 5);
}

#[test]
fn no_more_streams_than_agreed() {
    let settings = Settings {
        max_streams: 2,
        ..Settings::mesh()
    };
    let (mut client, mut server) = pair_with(settings);
    client.open(1, &GET, true);
    client.open(2, &GET, true);
    assert!(!client.link.can_open());
    let refused = client
        .link
        .open_stream(3, bytes(&GET), true, &mut client.out);
    assert_eq!(refused, Err(OpenError::Full));
    // A client that does not keep to it is refused stream by stream.
    client.link.peer.max_streams = 100;
    client.link.settings.max_streams = 100;
    client.open(3, &GET, false);
    exchange(&mut client, &mut server);
    assert_eq!(client.told(), ["5 (3): REFUSED_STREAM"]);
    assert_eq!(server.told().len(), 2);
}

#[test]
fn heads_that_are_too_large() {
    let (mut client, mut server) = pair();
    let large = "x".repeat(200_000);
    let fields = [&GET[..], &[("X", &large)]].concat();
    let refused = client
        .link
        .open_stream(1, bytes(&fields), true, &mut client.out);
    assert_eq!(refused, Err(OpenError::HeadTooLarge));
    assert!(client.out.is_empty());
    // The tables are alike afterwards.
    let stream = client.open(1, &GET, false);
    assert_eq!(stream, 1);
    // Within the frame, and too much for the list: answered as an application would.
    let large = "x".repeat(100_000);
    let stream = client.open(2, &[&GET[..], &[("X", &large)]].concat(), false);
    exchange(&mut client, &mut server);
    assert_eq!(server.told(), ["1: GET / to 10.0.0.1:80"]);
    assert_eq!(
        client.told(),
        [
            format!("{stream} (2): 431 end"),
            format!("{stream} (2): NO_ERROR")
        ]
    );
    assert_eq!(server.link.streams_open(), 1);
}

#[test]
fn any_split_tells_the_same() {
    let (mut client, mut server) = (
        Side::client(Settings::mesh()),
        Side::server(Settings::mesh()),
    );
    let mut to_server = client.written();
    let one = client.open(1, &[&GET[..], &[("A", "b")]].concat(), false);
    client.send(one, b"0123456789", false);
    let two = client.open(2, &GET, true);
    client.link.ping([0; 8], &mut client.out);
    client.send(one, b"", true);
    client.link.reset(two, Code::CANCEL, &mut client.out);
    // A type from the future, and GOAWAY with a reason.
    frame::header(&mut client.out, 5, Kind(0x55), 0xff, 77);
    client.out.extend_from_slice(b"hello");
    frame::header(&mut client.out, 11, Kind::GOAWAY, 0, 0);
    client.out.extend_from_slice(b"\0\0\0\0\0\0\0\0bye");
    to_server.extend(client.written());

    server.take(&to_server).unwrap();
    let told = server.told();
    assert_eq!(told.len(), 7);
    for size in 1..60 {
        let mut server = Side::server(Settings::mesh());
        server.take_by(&to_server, size).unwrap();
        // DATA is told as it comes.
        let mut joined: Vec<String> = Vec::new();
        for line in server.told() {
            match joined.last_mut() {
                Some(last)
                    if last.starts_with("1 (0): \"")
                        && line.starts_with("1 (0): \"")
                        && !line.ends_with("\"\" end") =>
                {
                    let more = line.trim_start_matches("1 (0): \"");
                    *last = format!("{}{more}", last.trim_end_matches('"'));
                }
                _ => joined.push(line),
            }
        }
        assert_eq!(joined, told, "{size}");
        assert_eq!(
            server.out.len(),
            server.out.capacity().min(server.out.len())
        );
    }
}

proptest! {
    /// Any bytes behind a proper beginning: an error or none, never a panic, never a reaction without bound.
    #[test]
    fn any_bytes_are_taken_or_refused(
        frames in prop::collection::vec((0u8..12, any::<u8>(), 0u32..8, prop::collection::vec(any::<u8>(), 0..40)), 0..20),
        size in 1usize..100,
        side in any::<bool>(),
    ) {
        let (mut client, mut server) = pair();
        for token in 0..3 {
            client.open(token, &GET, false);
        }
        exchange(&mut client, &mut server);
        let (side, _) = if side { (&mut client, &mut server) } else { (&mut server, &mut client) };
        let mut input = Vec::new();
        for (kind, flags, stream, payload) in frames {
            frame::header(&mut input, payload.len(), Kind(kind), flags, stream);
            input.extend_from_slice(&payload);
        }
        let outcome = side.take_by(&input, size);
        if let Err(error) = outcome {
            prop_assert_eq!(side.link.failed, Some(error));
            let again = side.take(b"more");
            prop_assert_eq!(again, Err(error));
        }
        prop_assert!(side.out.len() <= 100 * 20);
    }
}
