// SPDX-License-Identifier: Apache-2.0
use proptest::prelude::*;

use super::*;
use crate::frame::parse;
use crate::testing::{ACK, FIN, RST, SYN, Tcp, client_stream, ethernet, record, server_hello_of};

const LEFT: Place = (2, Direction::In);
const RIGHT: Place = (3, Direction::Out);
const CLIENT: &str = "10.244.0.2:40000";
const SERVER: &str = "10.244.0.3:80";

/// Streams and a clock.
struct Wire {
    flows: Flows,
    at: Duration,
}

impl Wire {
    fn new() -> Self {
        let flows = Flows::new(Markers::new([b"s3cret".to_vec()]));
        let at = Duration::from_secs(1_000_000);
        Self { flows, at }
    }

    fn frame(&mut self, place: Place, frame: &[u8]) {
        self.flows.take(place, self.at, parse(frame));
    }

    /// One segment from client to server, seen at `places`.
    fn send(&mut self, places: &[Place], sequence: u32, flags: u8, payload: &[u8]) {
        let frame = tcp(sequence, flags, payload).frame();
        for &place in places {
            self.frame(place, &frame);
        }
    }

    /// A whole stream in three segments, seen at `places`.
    fn stream(&mut self, places: &[Place], bytes: &[u8]) {
        let end = 1 + u32::try_from(bytes.len()).unwrap();
        let half = bytes.len() / 2;
        self.send(places, 0, SYN, b"");
        self.send(places, 1, ACK, &bytes[..half]);
        self.send(
            places,
            1 + u32::try_from(half).unwrap(),
            ACK,
            &bytes[half..],
        );
        self.send(places, end, ACK | FIN, b"");
    }

    fn pair(&self) -> &Pair {
        let key = (tcp(0, 0, b"").from.ip(), tcp(0, 0, b"").to.ip());
        &self.flows.pairs[&key]
    }

    fn reasons(&self) -> Vec<Reason> {
        self.pair()
            .findings
            .iter()
            .map(|finding| finding.reason)
            .collect()
    }
}

fn tcp(sequence: u32, flags: u8, payload: &[u8]) -> Tcp<'_> {
    Tcp {
        from: CLIENT.parse().unwrap(),
        to: SERVER.parse().unwrap(),
        sequence,
        flags,
        payload,
    }
}

#[test]
fn two_sights_count_once() {
    let mut wire = Wire::new();
    wire.stream(&[LEFT, RIGHT], b"GET / s3cret");
    wire.flows.finish();
    let counts = wire.pair().counts;
    assert_eq!((counts.plain, counts.tls, counts.markers), (12, 0, 1));
    assert_eq!((wire.pair().streams, wire.pair().gaps), (1, 0));
    assert_eq!(wire.reasons(), [Reason::Plain, Reason::Marker]);
    assert_eq!(
        wire.pair().findings[0].stream,
        format!("{CLIENT} -> {SERVER}")
    );
}

#[test]
fn one_sight_is_enough_to_be_found() {
    let mut wire = Wire::new();
    let tls = client_stream(b"data");
    wire.stream(&[LEFT], &tls);
    wire.stream(&[RIGHT], &[b'x'; 20]);
    wire.flows.finish();
    let counts = wire.pair().counts;
    assert_eq!((counts.tls, counts.plain), (tls.len() as u64, 20));
    assert_eq!(wire.reasons(), [Reason::Plain]);
}

#[test]
fn a_hole_is_a_gap_when_the_stream_ends() {
    let mut wire = Wire::new();
    wire.send(&[LEFT], 0, SYN, b"");
    wire.send(&[LEFT], 5, ACK, b"after");
    assert_eq!(wire.pair().gaps, 0);
    wire.send(&[LEFT], 10, ACK | FIN, b"");
    wire.flows.finish();
    // What follows a hole is not judged: it could be the middle of a record.
    assert_eq!((wire.pair().gaps, wire.pair().counts.plain), (1, 0));
    assert!(wire.reasons().contains(&Reason::Gap));
}

#[test]
fn a_marker_behind_a_hole_is_found() {
    let mut wire = Wire::new();
    wire.send(&[LEFT], 0, SYN, b"");
    wire.send(&[LEFT], 5, ACK | FIN, b"s3cret");
    wire.flows.finish();
    assert_eq!(wire.reasons(), [Reason::Marker, Reason::Gap]);
}

#[test]
fn a_second_place_may_see_only_the_end() {
    // As when an address translation is taken away while a connection is open.
    let mut wire = Wire::new();
    let tls = client_stream(b"data");
    wire.stream(&[LEFT], &tls);
    let end = 1 + u32::try_from(tls.len()).unwrap();
    wire.send(&[RIGHT], end - 3, ACK | FIN, b"ata");
    wire.flows.finish();
    assert_eq!((wire.pair().gaps, wire.pair().counts.plain), (0, 0));
    assert_eq!(wire.reasons(), []);
}

#[test]
fn a_hole_in_a_stream_that_runs_is_none_yet() {
    for (silent, gaps) in [(0, 0), (2, 1)] {
        let mut wire = Wire::new();
        wire.send(&[LEFT], 0, SYN, b"");
        wire.send(&[LEFT], 5, ACK, b"after");
        wire.at += Duration::from_secs(silent);
        let other = Tcp {
            to: "10.244.0.4:80".parse().unwrap(),
            ..tcp(0, SYN, b"")
        };
        wire.frame(LEFT, &other.frame());
        wire.flows.finish();
        assert_eq!(wire.pair().gaps, gaps, "{silent}");
    }
}

#[test]
fn a_port_that_is_used_again_is_another_stream() {
    let mut wire = Wire::new();
    wire.stream(&[LEFT, RIGHT], b"first");
    wire.send(&[LEFT, RIGHT], 0, SYN, b"");
    assert_eq!(wire.pair().streams, 1, "a repeated SYN is no new stream");
    wire.send(&[LEFT, RIGHT], 777, SYN, b"");
    wire.send(&[LEFT, RIGHT], 778, ACK, b"second");
    wire.flows.finish();
    assert_eq!((wire.pair().streams, wire.pair().counts.plain), (2, 11));
    assert_eq!(wire.pair().beginnings_missed, 0);
}

#[test]
fn data_in_a_syn_is_data() {
    let mut wire = Wire::new();
    wire.send(&[LEFT], 9, SYN, b"early");
    wire.send(&[LEFT], 15, ACK, b"late");
    assert_eq!(wire.pair().counts.plain, 9);
}

#[test]
fn a_stream_joined_late_is_counted_as_such() {
    let mut wire = Wire::new();
    wire.send(&[LEFT], 50, ACK, b"");
    wire.send(&[LEFT], 50, RST, b"");
    assert!(wire.flows.pairs.is_empty(), "nothing was sent");
    wire.send(&[LEFT], 50, ACK, b"hello");
    assert_eq!((wire.pair().streams, wire.pair().beginnings_missed), (1, 1));
    assert_eq!(wire.pair().counts.plain, 5);
}

#[test]
fn protected_data_joined_late_is_protected() {
    let mut wire = Wire::new();
    wire.send(&[LEFT], 50, ACK, &record(23, b"data"));
    assert_eq!((wire.pair().counts.tls, wire.reasons()), (9, vec![]));
}

#[test]
fn undecided_bytes_are_plain_in_the_end() {
    let mut wire = Wire::new();
    wire.send(&[LEFT], 0, SYN, b"");
    wire.send(&[LEFT], 1, ACK | FIN, b"\x16\x03");
    assert_eq!(wire.pair().counts, Counts::default());
    wire.flows.finish();
    assert_eq!(
        (wire.pair().counts.plain, wire.reasons()),
        (2, vec![Reason::Plain])
    );
}

#[test]
fn old_tls_is_found() {
    let mut wire = Wire::new();
    let old = server_hello_of([1; 32], &[]);
    wire.stream(&[LEFT], &old);
    assert_eq!(wire.pair().counts.tls, old.len() as u64);
    assert!(matches!(wire.reasons()[..], [Reason::NotTls13(_)]));
}

#[test]
fn fragments_are_found() {
    let mut wire = Wire::new();
    let tcp = tcp(1, ACK, b"piece");
    wire.frame(LEFT, &ethernet(0x0800, &tcp.ipv4(0x2000, &tcp.segment())));
    assert_eq!(wire.reasons(), [Reason::Unreadable]);
}

#[test]
fn findings_are_bounded_and_counted() {
    let mut wire = Wire::new();
    for sequence in 0..50 {
        wire.send(&[LEFT], sequence * 100, SYN, b"plain");
    }
    assert_eq!(
        (wire.pair().findings.len(), wire.pair().found),
        (FINDINGS, 50)
    );
}

#[test]
fn ended_streams_are_forgotten_and_idle_ones_later() {
    let mut wire = Wire::new();
    wire.stream(&[LEFT], b"ended");
    let open = |port: u16| Tcp {
        from: format!("10.244.0.9:{port}").parse().unwrap(),
        ..tcp(0, SYN, b"data")
    };
    wire.frame(LEFT, &open(1).frame());
    assert_eq!(wire.flows.flows.len(), 2);
    wire.at += LINGER + Duration::from_secs(2);
    wire.frame(LEFT, &open(2).frame());
    assert_eq!(wire.flows.flows.len(), 2, "the ended one is gone");
    wire.at += IDLE + Duration::from_secs(2);
    wire.frame(LEFT, &open(3).frame());
    assert_eq!(wire.flows.flows.len(), 1);
    assert_eq!(wire.pair().counts.plain, 5);
}

#[test]
fn a_reset_ends_both_directions() {
    let mut wire = Wire::new();
    wire.send(&[LEFT], 0, SYN, b"data");
    let reset = Tcp {
        from: SERVER.parse().unwrap(),
        to: CLIENT.parse().unwrap(),
        ..tcp(0, RST, b"")
    };
    wire.frame(RIGHT, &reset.frame());
    assert!(wire.flows.flows.values().all(|flow| flow.ended));
}

#[test]
fn streams_and_pairs_are_bounded_and_those_missed_are_counted() {
    let mut wire = Wire::new();
    let many = u32::try_from(STREAMS).unwrap() + 10;
    for number in 0..many {
        let mut tcp = tcp(0, SYN, b"data");
        tcp.from.set_port((number & 0xffff) as u16);
        tcp.to.set_port((number >> 16) as u16);
        wire.frame(LEFT, &tcp.frame());
    }
    assert_eq!((wire.flows.flows.len(), wire.flows.missed), (STREAMS, 10));
    // Those that ended make room when they have been silent for a while.
    for flow in wire.flows.flows.values_mut() {
        flow.ended = true;
    }
    wire.at += SHORT_LINGER + Duration::from_secs(2);
    wire.frame(RIGHT, &tcp(0, SYN, b"new").frame());
    assert_eq!((wire.flows.flows.len(), wire.flows.missed), (1, 10));
    let mut wire = Wire::new();
    for number in 0..u32::try_from(PAIRS).unwrap() + 10 {
        let from = (std::net::Ipv4Addr::from_bits(number), 80).into();
        wire.frame(
            LEFT,
            &Tcp {
                from,
                ..tcp(0, SYN, b"x")
            }
            .frame(),
        );
    }
    assert_eq!((wire.flows.pairs.len(), wire.flows.missed), (PAIRS, 10));
}

#[test]
fn what_waits_in_all_streams_together_is_bounded() {
    let mut wire = Wire::new();
    let payload = vec![b'x'; 60_000];
    for number in 0..60 {
        let sequence = |part: u32| 10 + part * 60_000;
        for part in 0..100 {
            let mut tcp = tcp(sequence(part), ACK, &payload);
            tcp.from.set_port(number);
            if part == 0 {
                tcp = Tcp {
                    sequence: 0,
                    flags: SYN,
                    payload: b"",
                    ..tcp
                };
            }
            wire.frame(LEFT, &tcp.frame());
        }
        let held: usize = wire.flows.flows.values().map(Flow::held).sum();
        assert_eq!(held, wire.flows.held);
        assert!(held <= HELD_BYTES);
    }
    wire.flows.finish();
    assert!(wire.pair().gaps > 0);
    assert_eq!(wire.flows.held, 0);
}

proptest! {
    #[test]
    fn segmentation_does_not_change_the_verdict(
        content in proptest::collection::vec(any::<u8>(), 1..200),
        at in any::<proptest::sample::Index>(),
        protected: bool,
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..15),
        again in proptest::collection::vec(any::<proptest::sample::Index>(), 0..5),
        seed: u64,
    ) {
        let mut content = content;
        let place = at.index(content.len());
        content.splice(place..place, *b"s3cret");
        let stream = if protected { client_stream(&content) } else { content };
        let mut whole = Wire::new();
        whole.stream(&[LEFT], &stream);
        whole.flows.finish();

        let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
        places.extend([0, stream.len()]);
        places.sort_unstable();
        let mut parts: Vec<_> = places.windows(2).map(|pair| (pair[0], pair[1])).collect();
        for index in again {
            let part = parts[index.index(parts.len())];
            parts.push(part);
        }
        // An order that depends on the seed alone.
        parts.sort_by_key(|(start, _)| (*start as u64).wrapping_mul(seed | 1).rotate_left(17) ^ seed);
        let mut cut = Wire::new();
        cut.send(&[LEFT, RIGHT], 0, SYN, b"");
        cut.send(&[RIGHT, LEFT], 1 + u32::try_from(stream.len()).unwrap(), FIN | ACK, b"");
        for (start, end) in parts {
            cut.send(&[RIGHT, LEFT], 1 + u32::try_from(start).unwrap(), ACK, &stream[start..end]);
        }
        cut.flows.finish();
        prop_assert_eq!(cut.pair().counts, whole.pair().counts);
        prop_assert_eq!(cut.pair().gaps, 0);
        prop_assert!(cut.pair().counts.markers >= 1);
        let mut reasons = (cut.reasons(), whole.reasons());
        reasons.0.sort_by_key(|reason| format!("{reason}"));
        reasons.1.sort_by_key(|reason| format!("{reason}"));
        prop_assert_eq!(reasons.0, reasons.1);
    }

    #[test]
    fn no_wire_is_too_strange(
        segments in proptest::collection::vec((any::<u32>(), 0_u8..32, 0..3000_usize, 0_u32..3, 0..400_u64), 0..60),
    ) {
        let mut wire = Wire::new();
        for (sequence, flags, length, interface, seconds) in segments {
            wire.at += Duration::from_secs(seconds);
            wire.send(&[(interface, Direction::In)], sequence, flags, &vec![22; length]);
        }
        wire.flows.finish();
        prop_assert!(wire.flows.flows.is_empty());
    }
}
