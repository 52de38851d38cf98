// SPDX-License-Identifier: Apache-2.0
use proptest::prelude::*;

use super::*;

fn of(markers: &[&str]) -> Markers {
    Markers::new(markers.iter().map(|text| text.as_bytes().to_vec()))
}

/// Searches a stream that comes in these parts.
fn search(markers: &Markers, parts: &[&[u8]]) -> u64 {
    let mut tail = Tail::default();
    parts
        .iter()
        .map(|part| markers.search(&mut tail, part))
        .sum()
}

#[test]
fn found_once_wherever_it_is_cut() {
    let markers = of(&["s3cret", "x"]);
    let text = b"..s3cret..";
    for at in 0..=text.len() {
        for to in at..=text.len() {
            let parts = [&text[..at], &text[at..to], &text[to..]];
            assert_eq!(search(&markers, &parts), 1, "{at} {to}");
        }
    }
    let bytes: Vec<&[u8]> = text.chunks(1).collect();
    assert_eq!(search(&markers, &bytes), 1);
}

#[test]
fn every_place_counts() {
    let markers = of(&["aa", "ab"]);
    assert_eq!(search(&markers, &[b"aaab", b"", b"aa"]), 4);
}

#[test]
fn nothing_is_found_where_nothing_is_sought() {
    assert_eq!(search(&of(&[]), &[b"abc"]), 0);
    assert_eq!(search(&of(&[""]), &[b"abc"]), 0);
    assert_eq!(search(&of(&["abcd"]), &[b"abc", b"abc"]), 0);
}

proptest! {
    #[test]
    fn as_many_as_a_plain_search_finds(
        text in proptest::collection::vec(b'a'..b'd', 0..200),
        markers in proptest::collection::vec(proptest::collection::vec(b'a'..b'd', 1..6), 0..4),
        size in 1..30_usize,
    ) {
        let expected: usize = markers
            .iter()
            .map(|marker| text.windows(marker.len()).filter(|window| window == marker).count())
            .sum();
        let parts: Vec<&[u8]> = text.chunks(size).collect();
        prop_assert_eq!(search(&Markers::new(markers), &parts), expected as u64);
    }
}
