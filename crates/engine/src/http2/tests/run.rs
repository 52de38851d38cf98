// SPDX-License-Identifier: Apache-2.0
//! Small DATA frames that follow each other: however they are cut, the same bytes, windows and faults come out.

use super::*;

/// What may stand in a row: DATA of some length on one of two streams, the end of one of them, a PING, padded DATA.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let one = prop_oneof![
        20 => (0..2_u32, 1..700_usize).prop_map(|(which, length)| data(2 * which + 1, 0, length)),
        60 => (0..2_u32).prop_map(|which| data(2 * which + 1, 0, 1)),
        1 => (0..2_u32).prop_map(|which| data(2 * which + 1, frame::END_STREAM, 3)),
        1 => (0..2_u32).prop_map(|which| data(2 * which + 1, 0, 0)),
        1 => (0..2_u32).prop_map(|which| data(2 * which + 1, frame::PADDED, 1)),
        1 => Just(data(0, 0, 1)),
        4 => Just({
            let mut ping = Vec::new();
            frame::header(&mut ping, 8, Kind::PING, 0, 0);
            ping.extend([7; 8]);
            ping
        }),
    ];
    proptest::collection::vec(one, 1..300).prop_map(|all| all.concat())
}

fn data(stream: u32, flags: u8, length: usize) -> Vec<u8> {
    let mut out = Vec::new();
    frame::header(&mut out, length, Kind::DATA, flags, stream);
    out.extend((0..length).map(|n| u8::try_from(n % 100).unwrap()));
    // No padding, where it is to be padded.
    if flags == frame::PADDED {
        out[frame::HEADER] = 0;
    }
    out
}

/// What the server was told and says.
#[derive(Debug, PartialEq)]
struct Heard {
    /// By stream.
    bytes: [(u32, Vec<u8>); 2],
    other: Vec<String>,
    fault: Option<Code>,
    /// Answers, and the windows that are opened when everything was consumed.
    said: Vec<u8>,
}

/// Of `wire` in pieces of `size`.
fn heard(wire: &[u8], size: usize) -> Heard {
    let mut settings = Settings::rfc9113();
    settings.stream_window = 20_000;
    let (mut client, mut server) = pair_with(settings);
    for token in 0..2 {
        client.open(token, &rfc9113::ASK, false);
    }
    exchange(&mut client, &mut server);
    server.told();
    let (mut bytes, mut other) = ([(1, Vec::new()), (3, Vec::new())], Vec::new());
    let mut fault = None;
    for piece in wire.to_vec().chunks_mut(size) {
        let mut at = 0;
        loop {
            let Side {
                link, list, out, ..
            } = &mut server;
            match link.receive(0, &mut piece[at..], list, out) {
                Err(error) => {
                    fault = Some(error.code);
                    break;
                }
                Ok(Received { event: None, .. }) => break,
                Ok(Received {
                    taken,
                    event: Some(event),
                }) => {
                    at += taken;
                    match event {
                        Event::Data {
                            stream,
                            bytes: more,
                            end,
                            ..
                        } => {
                            let of = bytes.iter_mut().find(|of| of.0 == stream).unwrap();
                            of.1.extend(more);
                            other.extend(end.then(|| format!("{stream} ends")));
                        }
                        event => other.push(tell(&event)),
                    }
                }
            }
        }
    }
    for (stream, bytes) in &bytes {
        server.link.consumed(*stream, bytes.len(), &mut server.out);
    }
    Heard {
        bytes,
        other,
        fault,
        said: server.written(),
    }
}

proptest! {
    #[test]
    fn many_small_frames_mean_what_each_of_them_does(wire in frames(), size in 1..9_000_usize) {
        let whole = heard(&wire, usize::MAX);
        // No frame is whole in a single byte.
        prop_assert_eq!(&whole, &heard(&wire, 1));
        prop_assert_eq!(&whole, &heard(&wire, size));
    }
}

#[test]
fn a_row_of_small_frames_is_one_event() {
    let (mut client, mut server) = pair();
    let stream = client.open(4, &GET, false);
    exchange(&mut client, &mut server);
    server.told();
    let row: Vec<u8> = (0..3).flat_map(|_| data(stream, 0, 2)).collect();
    let end = data(stream, frame::END_STREAM, 1);
    server.take(&[row, end].concat()).unwrap();
    let row = r#"1 (0): "\x00\x01\x00\x01\x00\x01""#;
    assert_eq!(server.told(), [row, r#"1 (0): "\x00" end"#]);
}
