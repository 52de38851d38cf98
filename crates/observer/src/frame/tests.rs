// SPDX-License-Identifier: Apache-2.0
use proptest::prelude::*;

use super::*;
use crate::testing::{ACK, FIN, RST, SYN, Tcp, ethernet};

fn tcp<'a>(from: &str, to: &str, payload: &'a [u8]) -> Tcp<'a> {
    Tcp {
        from: from.parse().unwrap(),
        to: to.parse().unwrap(),
        sequence: 0xdead_beef,
        flags: ACK,
        payload,
    }
}

fn v4(payload: &[u8]) -> Tcp<'_> {
    tcp("10.244.0.2:40000", "10.244.0.3:80", payload)
}

fn v6(payload: &[u8]) -> Tcp<'_> {
    tcp("[fd00:244::2]:40000", "[fd00:244::3]:80", payload)
}

fn expected<'a>(of: &Tcp<'a>) -> Parsed<'a> {
    Parsed::Tcp(Segment {
        from: of.from,
        to: of.to,
        sequence: of.sequence,
        syn: of.flags & SYN != 0,
        fin: of.flags & FIN != 0,
        rst: of.flags & RST != 0,
        payload: of.payload,
    })
}

fn unreadable(of: &Tcp<'_>) -> Parsed<'static> {
    Parsed::Unreadable {
        from: of.from.ip(),
        to: of.to.ip(),
    }
}

#[test]
fn both_families_and_every_flag() {
    for mut tcp in [v4(b"hello"), v6(b"hello"), v4(b""), v6(&[1; 60_000])] {
        for flags in [SYN, FIN, RST, ACK, SYN | ACK, FIN | ACK, 0] {
            tcp.flags = flags;
            assert_eq!(parse(&tcp.frame()), expected(&tcp));
        }
    }
}

#[test]
fn padding_is_no_payload() {
    for tcp in [v4(b"x"), v6(b"x")] {
        let mut frame = tcp.frame();
        frame.extend([0xee; 20]);
        assert_eq!(parse(&frame), expected(&tcp));
    }
}

#[test]
fn one_and_two_tags_are_passed() {
    let tcp = v4(b"tagged");
    let packet = tcp.ipv4(0, &tcp.segment());
    let once = [&[0, 7, 8, 0], &packet[..]].concat();
    assert_eq!(parse(&ethernet(0x8100, &once)), expected(&tcp));
    let twice = [&[0, 8, 0x81, 0], &once[..]].concat();
    assert_eq!(parse(&ethernet(0x88a8, &twice)), expected(&tcp));
}

#[test]
fn extension_headers_are_passed() {
    let tcp = v6(b"behind");
    let body = [
        // Hop-by-hop of 8 bytes, then destination options of 16, then authentication of 12, then a whole "fragment".
        &[60, 0, 1, 1, 1, 1, 1, 1][..],
        &[51, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
        &[44, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[6, 0, 0, 0, 0, 0, 0, 1],
        &tcp.segment(),
    ]
    .concat();
    assert_eq!(
        parse(&ethernet(0x86dd, &tcp.ipv6(0, &body))),
        expected(&tcp)
    );
}

#[test]
fn packets_above_64_kib_say_a_length_of_zero() {
    let long = vec![3; 60_000];
    for tcp in [v4(&long), v6(&long)] {
        let mut frame = tcp.frame();
        let at = if tcp.from.is_ipv4() { 14 + 2 } else { 14 + 4 };
        frame[at..at + 2].fill(0);
        assert_eq!(parse(&frame), expected(&tcp));
    }
}

#[test]
fn fragments_are_named() {
    let tcp = v4(b"in pieces");
    for fragment in [0x2000, 0x0001, 0x2010] {
        let packet = tcp.ipv4(fragment, &tcp.segment());
        assert_eq!(parse(&ethernet(0x0800, &packet)), unreadable(&tcp));
    }
    // Don't fragment is none.
    let packet = tcp.ipv4(0x4000, &tcp.segment());
    assert_eq!(parse(&ethernet(0x0800, &packet)), expected(&tcp));
    let tcp = v6(b"in pieces");
    for offset in [1, 8, 9] {
        let body = [&[6, 0, 0, offset, 0, 0, 0, 1], &tcp.segment()[..]].concat();
        let packet = tcp.ipv6(44, &body);
        assert_eq!(parse(&ethernet(0x86dd, &packet)), unreadable(&tcp));
    }
}

#[test]
fn broken_tcp_headers_are_named() {
    let tcp = v4(b"");
    let mut segment = tcp.segment();
    segment[12] = 4 << 4;
    assert_eq!(
        parse(&ethernet(0x0800, &tcp.ipv4(0, &segment))),
        unreadable(&tcp)
    );
    segment[12] = 15 << 4;
    assert_eq!(
        parse(&ethernet(0x0800, &tcp.ipv4(0, &segment))),
        unreadable(&tcp)
    );
    assert_eq!(
        parse(&ethernet(0x0800, &tcp.ipv4(0, &[0; 3]))),
        unreadable(&tcp)
    );
}

#[test]
fn what_is_not_tcp_is_nothing() {
    let tcp = v4(b"");
    let mut udp = tcp.ipv4(0, &tcp.segment());
    udp[9] = 17;
    assert_eq!(parse(&ethernet(0x0800, &udp)), Parsed::Other);
    assert_eq!(parse(&ethernet(0x0806, &[0; 28])), Parsed::Other);
    assert_eq!(parse(&[]), Parsed::Other);
}

proptest! {
    #[test]
    fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        parse(&bytes);
        parse(&ethernet(0x0800, &bytes));
        parse(&ethernet(0x86dd, &bytes));
    }

    #[test]
    fn no_change_is_too_strange(at in 12_usize..90, to: u8, short in 0_usize..90, six: bool) {
        let tcp = if six { v6(b"payload") } else { v4(b"payload") };
        let mut frame = tcp.frame();
        if let Some(byte) = frame.get_mut(at) {
            *byte = to;
        }
        parse(&frame);
        parse(&frame[..short.min(frame.len())]);
    }
}
