// SPDX-License-Identifier: Apache-2.0
use proptest::prelude::*;

use super::*;

/// Feeds segments (sequence number, payload); gives the bytes that came out and the gaps.
fn put(order: &mut Reassembly, segments: &[(u32, &[u8])]) -> (Vec<u8>, u32) {
    let (mut out, mut gaps) = (Vec::new(), 0);
    for (sequence, bytes) in segments {
        gaps += order.data(*sequence, bytes, &mut |bytes| out.extend_from_slice(bytes));
    }
    (out, gaps)
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
    let mut out = Vec::new();
    assert_eq!(order.finish(&mut |bytes| out.extend_from_slice(bytes)), 2);
    assert_eq!(out, b"efij");
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
    assert_eq!(order.finish(&mut |_| ()), 1);
}

#[test]
fn what_waits_is_bounded() {
    let mut order = begun(0);
    let piece = vec![b'x'; 60_000];
    let mut gaps = 0;
    for number in 0..1000_u32 {
        // Every second piece is missing.
        let sequence = 2 + number * 120_000;
        gaps += order.data(sequence, &piece, &mut |_| ());
        assert!(order.held_bytes() <= HELD_BYTES);
    }
    assert!(gaps > 500, "{gaps}");
    let mut order = begun(0);
    let mut gaps = 0;
    for number in 0..20_000_u32 {
        gaps += order.data(2 + 2 * number, b"x", &mut |_| ());
        assert!(order.held.len() <= HELD_PIECES);
    }
    assert_eq!(gaps as usize, 20_000 - HELD_PIECES);
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
        let mut out = Vec::new();
        let mut gaps = 0;
        for (start, length) in segments {
            let part = &bytes[start..(start + length).min(bytes.len())];
            let at = sequence.wrapping_add(1).wrapping_add(u32::try_from(start).unwrap());
            gaps += order.data(at, part, &mut |bytes| out.extend_from_slice(bytes));
        }
        order.fin(sequence.wrapping_add(1).wrapping_add(u32::try_from(bytes.len()).unwrap()));
        prop_assert_eq!(order.finish(&mut |_| ()) + gaps, 0);
        prop_assert_eq!(out, bytes);
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
        order.finish(&mut |_| ());
        prop_assert_eq!(order.held_bytes(), 0);
    }
}
