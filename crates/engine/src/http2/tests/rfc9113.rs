// SPDX-License-Identifier: Apache-2.0
//! The dialect of applications: padding, priorities, divided blocks, trailers, closed streams, and heads by the rules of RFC 9113.

use super::*;

pub(super) const ASK: [Plain<'static>; 4] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":authority", "web:80"),
    (":path", "/"),
];

fn raw(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::header(&mut out, payload.len(), Kind(kind), flags, stream);
    out.extend_from_slice(payload);
    out
}

/// A block without tables: literals only.
fn block(fields: &[Plain<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            assert!(text.len() < 127);
            out.push(u8::try_from(text.len()).unwrap());
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

fn plain_pair() -> (Side, Side) {
    pair_with(Settings::rfc9113())
}

/// A server that has seen stream 1 open.
fn open() -> Side {
    let mut server = plain_pair().1;
    server.take(&raw(1, 4, 1, &block(&ASK))).unwrap();
    server.told();
    server.written();
    server
}

/// What a server says of some frames: events, or the connection's error; and which resets it wrote.
fn said(server: &mut Side, input: &[u8]) -> (Vec<String>, Option<Code>) {
    let result = server.take(input);
    (server.told(), result.err().map(|error| error.code))
}

#[test]
fn whole_exchange_with_trailers() {
    let (mut client, mut server) = plain_pair();
    let stream = client.open(7, &[&ASK[..], &[("te", "trailers")]].concat(), false);
    client.send(stream, b"question", false);
    let ended = client
        .link
        .send_trailers(stream, bytes(&[("sum", "1")]), &mut client.out);
    ended.unwrap();
    exchange(&mut client, &mut server);
    assert_eq!(
        server.told(),
        [
            "1: GET :scheme=http :authority=web:80 :path=/ te=trailers",
            "1 (0): \"question\"",
            "1 (0): trailers sum=1",
        ]
    );
    server.link.release(stream, &mut server.out);
    server.answer(stream, &[(":status", "103"), ("link", "x")], false);
    server.answer(stream, &OK, false);
    server.send(stream, b"answer", false);
    let ended = server
        .link
        .send_trailers(stream, bytes(&[("grpc-status", "0")]), &mut server.out);
    ended.unwrap();
    exchange(&mut client, &mut server);
    assert_eq!(
        client.told(),
        [
            "1 (7): 103 link=x",
            "1 (7): 200",
            "1 (7): \"answer\"",
            "1 (7): trailers grpc-status=0",
        ]
    );
    assert_eq!(server.link.streams_open(), 0);
}

#[test]
fn padding_priorities_and_pieces_mean_nothing() {
    let head = block(&ASK);
    let padded = [&[3, 0, 0, 0, 0, 9][..], &head, &[0; 3]].concat();
    let (first, rest) = head.split_at(5);
    let (second, third) = rest.split_at(1);
    let divided = [
        raw(1, 0, 1, first),
        raw(9, 0, 1, second),
        raw(9, 4, 1, third),
    ]
    .concat();
    for input in [raw(1, 4 | 8 | 0x20, 1, &padded), divided] {
        for size in [1, 3, usize::MAX] {
            let mut server = plain_pair().1;
            server.take_by(&input, size).unwrap();
            let data = [&[2][..], b"body", &[0; 2]].concat();
            server.take_by(&raw(0, 8, 1, &data), size).unwrap();
            server.take_by(&raw(0, 9, 1, &[1, 0]), size).unwrap();
            server
                .take_by(&raw(2, 0, 1, &[0, 0, 0, 9, 1]), size)
                .unwrap();
            let told = server.told().concat();
            let body: String = told.split('"').skip(1).step_by(2).collect();
            assert_eq!(body, "body", "{told}");
            assert!(told.starts_with("1: GET :scheme=http"), "{told}");
            assert!(told.ends_with("\"\" end"), "{told}");
        }
    }
}

#[test]
fn padding_is_given_back() {
    let mut server = open();
    // 256 bytes of padding each: the stream's window would be empty after 1,024 of them.
    let frame = raw(0, 8, 1, &[[255].as_slice(), b"x", &[0; 255]].concat());
    for _ in 0..5_000 {
        server.take(&frame).unwrap();
        server.link.consumed(1, 1, &mut server.out);
    }
}

/// Type, flags, stream, payload.
type Raw = (u8, u8, u32, &'static [u8]);

/// A small head: `a: b`.
const SMALL: &[u8] = b"\0\x01a\x01b";
const RESET: Raw = (3, 0, 1, &[0, 0, 0, 8]);
const END: Raw = (0, 1, 1, b"");
const TRAILERS: Raw = (1, 5, 1, SMALL);

const OF_THE_CONNECTION: &[(&str, &[Raw], Code)] = &[
    ("PUSH_PROMISE", &[(5, 4, 1, &[0; 4])], Code::PROTOCOL_ERROR),
    (
        "stray CONTINUATION",
        &[(9, 4, 1, b"")],
        Code::PROTOCOL_ERROR,
    ),
    (
        "a block that another frame breaks",
        &[(1, 0, 3, SMALL), (6, 0, 0, &[0; 8])],
        Code::PROTOCOL_ERROR,
    ),
    (
        "a block that an unknown frame breaks",
        &[(1, 0, 3, SMALL), (0x20, 0, 0, &[0; 8])],
        Code::PROTOCOL_ERROR,
    ),
    (
        "a block that goes on elsewhere",
        &[(1, 0, 3, SMALL), (9, 4, 5, b"")],
        Code::PROTOCOL_ERROR,
    ),
    (
        "DATA that is all padding length",
        &[(0, 8, 1, &[1])],
        Code::PROTOCOL_ERROR,
    ),
    (
        "DATA without padding length",
        &[(0, 9, 1, &[])],
        Code::FRAME_SIZE_ERROR,
    ),
    (
        "HEADERS of too much padding",
        &[(1, 0xc, 3, &[9, 0])],
        Code::PROTOCOL_ERROR,
    ),
    (
        "HEADERS of a short priority",
        &[(1, 0x24, 3, &[0; 4])],
        Code::FRAME_SIZE_ERROR,
    ),
    (
        "PRIORITY on no stream",
        &[(2, 0, 0, &[0; 5])],
        Code::PROTOCOL_ERROR,
    ),
    (
        "a stream id that does not rise",
        &[(1, 5, 7, SMALL), (1, 5, 5, SMALL)],
        Code::PROTOCOL_ERROR,
    ),
    (
        "HEADERS on a stream that the peer reset",
        &[RESET, TRAILERS],
        Code::STREAM_CLOSED,
    ),
    (
        "ENABLE_CONNECT_PROTOCOL of 2",
        &[(4, 0, 0, &[0, 8, 0, 0, 0, 2])],
        Code::PROTOCOL_ERROR,
    ),
];

const OF_A_STREAM: &[(&str, &[Raw], u32, Code)] = &[
    (
        "a short PRIORITY",
        &[(2, 0, 1, &[0; 4])],
        1,
        Code::FRAME_SIZE_ERROR,
    ),
    (
        "PRIORITY on itself",
        &[(2, 0, 1, &[0, 0, 0, 1, 0])],
        1,
        Code::PROTOCOL_ERROR,
    ),
    (
        "HEADERS on itself",
        &[(1, 0x24, 3, b"\0\0\0\x03\0\0\x01a\x01b")],
        3,
        Code::PROTOCOL_ERROR,
    ),
    (
        "a second head without an end",
        &[(1, 4, 1, SMALL)],
        1,
        Code::PROTOCOL_ERROR,
    ),
    (
        "trailers with a pseudo-field",
        &[(1, 5, 1, b"\0\x07:status\x03200")],
        1,
        Code::PROTOCOL_ERROR,
    ),
    (
        "trailers in capitals",
        &[(1, 5, 1, b"\0\x01A\x01b")],
        1,
        Code::PROTOCOL_ERROR,
    ),
    (
        "DATA on a stream that the peer reset",
        &[RESET, (0, 0, 1, b"late")],
        1,
        Code::STREAM_CLOSED,
    ),
    (
        "DATA behind its end",
        &[END, (0, 0, 1, b"late")],
        1,
        Code::STREAM_CLOSED,
    ),
    (
        "HEADERS behind its end",
        &[END, TRAILERS],
        1,
        Code::STREAM_CLOSED,
    ),
];

fn frames(all: &[Raw]) -> Vec<u8> {
    let frames = all
        .iter()
        .map(|&(kind, flags, stream, payload)| raw(kind, flags, stream, payload));
    frames.collect::<Vec<_>>().concat()
}

#[test]
fn faults_of_the_connection() {
    for (what, input, code) in OF_THE_CONNECTION {
        let mut server = open();
        assert_eq!(said(&mut server, &frames(input)).1, Some(*code), "{what}");
    }
}

#[test]
fn faults_of_a_stream() {
    for (what, input, stream, code) in OF_A_STREAM {
        let mut server = open();
        assert_eq!(said(&mut server, &frames(input)).1, None, "{what}");
        let reset = raw(3, 0, *stream, &code.0.to_be_bytes());
        let found = server.out.windows(reset.len()).any(|bytes| bytes == reset);
        assert!(found, "{what}: {}", text(&server.out));
        // The connection goes on.
        server.take(&raw(1, 5, 99, &block(&ASK))).unwrap();
        assert!(
            server.told().last().unwrap().starts_with("99: GET"),
            "{what}"
        );
    }
}

#[test]
fn what_is_late_is_no_fault() {
    let mut server = open();
    server.link.reset(1, Code::CANCEL, &mut server.out);
    server.written();
    let late = [
        raw(0, 0, 1, b"late"),
        raw(8, 0, 1, &[0, 0, 0, 1]),
        raw(1, 5, 1, &block(&[("a", "b")])),
        raw(3, 0, 1, &[0; 4]),
    ]
    .concat();
    assert_eq!(said(&mut server, &late), (vec![], None));
    assert_eq!(server.written(), b"");
    // The peer has reset it too: now it knows.
    assert_eq!(said(&mut server, &raw(0, 0, 1, b"x")), (vec![], None));
    assert_eq!(server.written(), raw(3, 0, 1, &[0, 0, 0, 5]));
}

#[test]
fn requests_by_the_rules() {
    let with = |more: &[Plain<'static>]| [&ASK[..], more].concat();
    let connect = (":method", "CONNECT");
    let good: Vec<Vec<Plain<'static>>> = vec![
        with(&[("host", "web:80")]),
        with(&[
            ("host", "WEB:80"),
            ("te", "trailers"),
            ("cookie", "a=b"),
            ("cookie", "c"),
        ]),
        vec![ASK[0], ASK[1], ASK[3], ("host", "web")],
        vec![(":method", "OPTIONS"), ASK[1], ASK[2], (":path", "*")],
        vec![connect, ASK[2]],
        vec![connect, (":protocol", "websocket"), ASK[1], ASK[2], ASK[3]],
        vec![ASK[0], (":scheme", "coap"), (":path", "x")],
    ];
    let bad: Vec<Vec<Plain<'static>>> = vec![
        vec![],
        ASK[1..].to_vec(),
        vec![ASK[0], ASK[2], ASK[3]],
        vec![ASK[0], ASK[1], ASK[2]],
        vec![ASK[0], ASK[1], ASK[3]],
        vec![ASK[0], ASK[1], ASK[2], (":path", "")],
        vec![ASK[0], ASK[1], ASK[2], (":path", "x")],
        vec![ASK[0], ASK[1], ASK[2], (":path", "*")],
        vec![ASK[0], ASK[1], ASK[2], (":path", "/a b")],
        vec![("a", "b"), ASK[0], ASK[1], ASK[2], ASK[3]],
        with(&[(":status", "200")]),
        with(&[(":method", "GET")]),
        with(&[(":new", "1")]),
        with(&[(":protocol", "websocket")]),
        with(&[("A", "b")]),
        with(&[("a b", "c")]),
        with(&[("", "c")]),
        with(&[("a", " b")]),
        with(&[("a", "b\t")]),
        with(&[("a", "b\r\nc: d")]),
        with(&[("a", "b\0")]),
        with(&[("connection", "close")]),
        with(&[("keep-alive", "1")]),
        with(&[("proxy-connection", "1")]),
        with(&[("transfer-encoding", "chunked")]),
        with(&[("upgrade", "h2c")]),
        with(&[("te", "gzip")]),
        with(&[("host", "other")]),
        with(&[("host", "web:80"), ("host", "web:80")]),
        vec![connect, ASK[1], ASK[2], ASK[3]],
        vec![connect],
        vec![connect, (":protocol", "web socket"), ASK[1], ASK[2], ASK[3]],
        vec![("a", "b"), (":method", "G T"), ASK[1], ASK[2], ASK[3]],
    ];
    for (fields, taken) in [(good, true), (bad, false)]
        .into_iter()
        .flat_map(|(all, taken)| all.into_iter().map(move |fields| (fields, taken)))
    {
        let mut server = plain_pair().1;
        server.take(&raw(1, 5, 1, &block(&fields))).unwrap();
        assert_eq!(server.told().len(), usize::from(taken), "{fields:?}");
        let reset = raw(3, 0, 1, &Code::PROTOCOL_ERROR.0.to_be_bytes());
        assert_eq!(server.written() == reset, !taken, "{fields:?}");
    }
}

#[test]
fn answers_by_the_rules() {
    let answered = |fields: &[Plain<'_>]| {
        let (mut client, mut server) = plain_pair();
        client.open(5, &ASK, true);
        exchange(&mut client, &mut server);
        client.take(&raw(1, 4, 1, &block(fields))).unwrap();
        client.told().concat()
    };
    assert_eq!(
        answered(&[(":status", "200"), ("a", "b")]),
        "1 (5): 200 a=b"
    );
    for bad in [
        &[][..],
        &[(":status", "101")],
        &[(":status", "20")],
        &[(":status", "200"), (":status", "200")],
        &[(":status", "200"), (":path", "/")],
        &[(":status", "200"), ("Connection", "close")],
        &[(":status", "200"), ("connection", "close")],
    ] {
        assert_eq!(answered(bad), "1 (5): PROTOCOL_ERROR", "{bad:?}");
    }
}

#[test]
fn long_heads_are_divided() {
    let (mut client, mut server) = plain_pair();
    let value = "v".repeat(60_000);
    client.open(5, &[&ASK[..], &[("a", value.as_str())]].concat(), true);
    assert!(client.out.len() > 60_000);
    exchange(&mut client, &mut server);
    assert!(server.told().concat().ends_with(&format!("a={value} end")));
    // What is larger than the list may be is answered.
    let value = "v".repeat(100_000);
    let refused = client.link.open_stream(
        6,
        bytes(&[&ASK[..], &[("a", value.as_str())]].concat()),
        true,
        &mut client.out,
    );
    assert_eq!(refused, Err(OpenError::HeadTooLarge));
}

#[test]
fn a_block_that_does_not_end_is_bounded() {
    let mut server = open();
    server.take(&raw(1, 0, 3, &[0; 16_000])).unwrap();
    let more = raw(9, 0, 3, &[0; 16_000]);
    let error = (0..20).find_map(|_| server.take(&more).err()).unwrap();
    assert_eq!(error.code, Code::ENHANCE_YOUR_CALM);
    let mut server = open();
    server.take(&raw(1, 0, 3, b"")).unwrap();
    let empty = raw(9, 0, 3, b"");
    let error = (0..2_000).find_map(|_| server.take(&empty).err()).unwrap();
    assert_eq!(error.code, Code::ENHANCE_YOUR_CALM);
}

#[test]
fn resets_are_not_paid_for_with_bytes() {
    let mut server = plain_pair().1;
    let head = block(&ASK);
    let error = (0..1_100_u32).find_map(|turn| {
        let stream = 2 * turn + 1;
        let input = [
            raw(1, 4, stream, &head),
            raw(0, 0, stream, b"x"),
            raw(3, 0, stream, &[0, 0, 0, 8]),
        ];
        server.take(&input.concat()).err()
    });
    assert_eq!(error.unwrap().code, Code::ENHANCE_YOUR_CALM);
}

/// A client whose requests end by their deadlines, as all do while a server is slow, is no flood.
#[test]
fn deadlines_do_not_end_the_connection() {
    let mut server = plain_pair().1;
    let head = block(&ASK);
    for turn in 0..5_000_u32 {
        let stream = 2 * turn + 1;
        server.now = u64::from(turn / 900) * 1_000;
        let input = [raw(1, 5, stream, &head), raw(3, 0, stream, &[0, 0, 0, 8])];
        server.take(&input.concat()).unwrap();
        server.told();
        server.written();
    }
}

#[test]
fn pings_are_paid_for_with_bytes() {
    let mut server = open();
    for _ in 0..5_000 {
        server.take(&raw(6, 0, 0, &[0; 8])).unwrap();
        server.take(&raw(0, 0, 1, b"x")).unwrap();
        server.link.consumed(1, 1, &mut server.out);
        server.written();
    }
}

#[test]
fn streams_before_the_settings_are_few() {
    let mut client = Side::client(Settings::rfc9113());
    for token in 0..100 {
        client.open(token, &ASK, true);
    }
    assert!(!client.link.can_open());
    let (mut client, mut server) = (client, Side::server(Settings::rfc9113()));
    exchange(&mut client, &mut server);
    assert!(client.link.can_open());
    assert!(client.link.takes_protocols());
    assert!(!server.link.takes_protocols());
}

#[test]
fn lengths() {
    let length = |values: &[&str]| {
        let fields: Vec<Plain<'_>> = values
            .iter()
            .map(|value| ("content-length", *value))
            .collect();
        content_length(bytes(&fields)).ok()
    };
    assert_eq!(length(&[]), Some(None));
    assert_eq!(length(&["12"]), Some(Some(12)));
    assert_eq!(length(&["12", "12"]), Some(Some(12)));
    for bad in [
        &["12", "13"][..],
        &[""],
        &["+1"],
        &["1, 1"],
        &["99999999999999999999"],
    ] {
        assert_eq!(length(bad), None, "{bad:?}");
    }
}

/// A slow peer is not taken for one that stands still: whatever begins anew has a number of its own, the pieces of one block have one.
#[test]
fn what_is_half_said_is_numbered() {
    let mut server = open();
    assert_eq!(server.link.unfinished(), None);
    let ask = |server: &mut Side, bytes: &[u8]| {
        server.take(bytes).unwrap();
        server.told();
        server.link.unfinished()
    };
    let ping = raw(6, 0, 0, &[0; 8]);
    let half = ask(&mut server, &ping[..12]);
    assert!(half.is_some());
    assert_eq!(ask(&mut server, &ping[12..]), None);
    let fields = block(&ASK);
    let (first, last) = fields.split_at(5);
    let opened = ask(&mut server, &raw(1, 1, 3, first));
    assert!(opened.is_some() && opened != half);
    // Nothing but a part of the same block.
    assert_eq!(ask(&mut server, &raw(9, 0, 3, b"")), opened);
    let part = raw(9, 4, 3, last);
    assert_eq!(ask(&mut server, &part[..11]), opened);
    assert_eq!(ask(&mut server, &part[11..]), None);
    // Content is nobody's head.
    let data = raw(0, 0, 1, b"slowly");
    assert_eq!(ask(&mut server, &data[..10]), None);
    assert_eq!(ask(&mut server, &data[10..]), None);
    assert_eq!(
        ask(&mut server, &raw(1, 1, 5, first)).map(|next| next > opened.unwrap()),
        Some(true)
    );
}

/// A large field in the table may be said again with each request, but not thirty times in one.
#[test]
fn blocks_that_decode_to_much_are_paid_for() {
    let field = [&b"\x40\x01x\x7f\x81\x17"[..], &[b'x'; 3072]].concat();
    let ask = |server: &mut Side, stream: u32, again: &[u8]| {
        let result = server.take(&raw(1, 5, stream, &[&block(&ASK), again].concat()));
        server.link.reset(stream, Code::CANCEL, &mut server.out);
        server.told();
        server.written();
        result
    };
    let mut server = open();
    ask(&mut server, 3, &field).unwrap();
    for n in 0..900 {
        ask(&mut server, 5 + 2 * n, &[0xbe]).unwrap();
    }
    let bombs =
        (0..1_000).find_map(|n| Some((n, ask(&mut server, 3_001 + 2 * n, &[0xbe; 30]).err()?)));
    let (count, error) = bombs.unwrap();
    assert_eq!(error.code, Code::ENHANCE_YOUR_CALM);
    assert!((3..10).contains(&count), "{count}");
}
