// SPDX-License-Identifier: Apache-2.0
use proptest::prelude::*;

use super::*;

/// What came out: bytes and holes.
#[derive(Default)]
struct Out {
    bytes: Vec<u8>,
    holes: usize,
}

impl Out {
    fn take(&mut self) -> impl FnMut(Part<'_>) {
        |part| match part {
            Part::Bytes(bytes) => self.bytes.extend_from_slice(bytes),
            Part::Hole => self.holes += 1,
        }
    }
}

/// Feeds segments (sequence number, payload); gives the bytes that came out and the holes.
fn put(order: &mut Reassembly, segments: &[(u32, &[u8])]) -> (Vec<u8>, usize) {
    let mut out = Out::default();
    for (sequence, bytes) in segments {
        order.data(*sequence, bytes, &mut out.take());
    }
    (out.bytes, out.holes)
}

fn finish(order: &mut Reassembly) -> (Vec<u8>, usize) {
    let mut out = Out::default();
    order.finish(&mut out.take());
    (out.bytes, out.holes)
}

fn begun(sequence: u32) -> Reassembly {
    let mut order = Reassembly::default();
    order.syn(sequence);
    order
}

#[test]
fn order_overlap_and_repetition() {
    let mut order = begun(u32::MAX - 3);
    let first = u32::MAX - 2;
    let at = |offset: u32| first.wrapping_add(offset);
    let segments: [(u32, &[u8]); 6] = [
        (at(4), b"efg"),
        (at(0), b"abcd"),
        (at(0), b"abcd"),
        (at(2), b"cdefghi"),
        (at(9), b"j"),
        (at(0), b"XXXXXXXXXXk"),
    ];
    let (out, gaps) = put(&mut order, &segments);
    assert_eq!((&out[..], gaps), (&b"abcdefghijk"[..], 0));
    assert!(!order.has_hole());
}

#[test]
fn a_late_beginning_begins_at_the_first_data() {
    let mut order = Reassembly::default();
    let (out, _) = put(&mut order, &[(100, b"cd"), (98, b"ab"), (98, b"abcdef")]);
    assert_eq!(out, b"cdef");
}

#[test]
fn holes_are_told_at_the_end() {
    let mut order = begun(0);
    put(&mut order, &[(1, b"ab"), (5, b"ef"), (9, b"ij")]);
    assert!(order.has_hole());
    assert_eq!(finish(&mut order), (b"efij".to_vec(), 2));
    assert_eq!(order.held_bytes(), 0);
}

#[test]
fn what_waits_twice_is_held_once_and_the_longer_wins() {
    let mut order = begun(0);
    put(
        &mut order,
        &[(5, b"ef"), (5, b"ef"), (5, b"efgh"), (5, b"e")],
    );
    assert_eq!(order.held_bytes(), 4);
    assert_eq!(put(&mut order, &[(1, b"abcd")]), (b"abcdefgh".to_vec(), 0));
    assert_eq!(order.held_bytes(), 0);
}

#[test]
fn an_end_beyond_what_was_seen_is_a_hole() {
    let mut order = begun(0);
    put(&mut order, &[(1, b"ab")]);
    order.fin(3);
    assert!(!order.has_hole());
    let mut order = begun(0);
    put(&mut order, &[(1, b"ab")]);
    order.fin(4);
    assert_eq!(finish(&mut order).1, 1);
}

#[test]
fn what_waits_is_bounded() {
    let mut order = begun(0);
    let piece = vec![b'x'; 60_000];
    let mut gaps = 0;
    for number in 0..1000_u32 {
        // Every second piece is missing.
        let sequence = 2 + number * 120_000;
        gaps += put(&mut order, &[(sequence, &piece)]).1;
        assert!(order.held_bytes() <= HELD_BYTES);
    }
    assert!(gaps > 500, "{gaps}");
    let mut order = begun(0);
    let mut gaps = 0;
    for number in 0..20_000_u32 {
        gaps += put(&mut order, &[(2 + 2 * number, b"x")]).1;
        assert!(order.held.len() <= HELD_PIECES);
    }
    assert_eq!(gaps, 20_000 - HELD_PIECES);
}

/// A stream, and segments that cover it: in any order, overlapping, some twice.
fn segmented() -> impl Strategy<Value = (Vec<u8>, u32, Vec<(usize, usize)>)> {
    let bytes = proptest::collection::vec(any::<u8>(), 1..400);
    (bytes, any::<u32>()).prop_flat_map(|(bytes, sequence)| {
        let length = bytes.len();
        let extra = proptest::collection::vec((0..length, 1..80_usize), 0..20);
        let cuts = proptest::collection::vec(0..length, 0..20);
        let segments = (extra, cuts)
            .prop_map(move |(mut segments, mut cuts)| {
                cuts.extend([0, length]);
                cuts.sort_unstable();
                segments.extend(cuts.windows(2).map(|pair| (pair[0], pair[1] - pair[0])));
                segments
            })
            .prop_shuffle();
        (Just(bytes), Just(sequence), segments)
    })
}

proptest! {
    #[test]
    fn every_segmentation_gives_the_same_stream((bytes, sequence, segments) in segmented()) {
        let mut order = begun(sequence);
        let mut out = Out::default();
        for (start, length) in segments {
            let part = &bytes[start..(start + length).min(bytes.len())];
            let at = sequence.wrapping_add(1).wrapping_add(u32::try_from(start).unwrap());
            order.data(at, part, &mut out.take());
        }
        order.fin(sequence.wrapping_add(1).wrapping_add(u32::try_from(bytes.len()).unwrap()));
        prop_assert_eq!(finish(&mut order), (Vec::new(), 0));
        prop_assert_eq!((out.bytes, out.holes), (bytes, 0));
    }

    #[test]
    fn no_segment_is_too_strange(
        segments in proptest::collection::vec((any::<u32>(), 0..2000_usize, any::<bool>()), 0..60),
    ) {
        let mut order = Reassembly::default();
        for (sequence, length, end) in segments {
            order.data(sequence, &vec![0; length], &mut |_| ());
            if end {
                order.fin(sequence);
            }
        }
        finish(&mut order);
        prop_assert_eq!(order.held_bytes(), 0);
    }
}
