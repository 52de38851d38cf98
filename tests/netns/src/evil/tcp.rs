// SPDX-License-Identifier: Apache-2.0
//! TCP in every disguise: what must not pass in either direction but by the proxy.

use std::net::{IpAddr, Ipv6Addr};

use maille_sys::link::Mac;

use super::{ALL_NODES, Case, Cases, MORE, OTHER_MAC, plain4, plain6, syn4, syn6};
use crate::frames::*;

/// TCP in every disguise, in either direction.
pub fn tcp_in_disguise(ends: &Ends, salt: u8) -> Vec<Case> {
    let mut cases = Cases {
        list: Vec::new(),
        salt,
    };
    flags_and_ports(&mut cases, ends);
    tags(&mut cases, ends);
    tunnels(&mut cases, ends);
    pieces4(&mut cases, ends);
    forms4(&mut cases, ends);
    extensions6(&mut cases, ends);
    pieces6(&mut cases, ends);
    forms6(&mut cases, ends);
    destinations(&mut cases, ends);
    odd_types(&mut cases, ends);
    cases.list
}

fn flags_and_ports(cases: &mut Cases, ends: &Ends) {
    let all = FIN | SYN | RST | PSH | ACK | URG;
    let kinds = [
        ("SYN", SYN),
        ("ACK", ACK),
        ("PSH ACK", PSH | ACK),
        ("RST", RST),
        ("RST ACK", RST | ACK),
        ("FIN ACK", FIN | ACK),
        ("SYN ACK", SYN | ACK),
        ("SYN FIN", SYN | FIN),
        ("SYN RST", SYN | RST),
        ("no flags", 0),
        ("all flags", all),
    ];
    for (name, flags) in kinds {
        let segment = tcp(&pseudo4(ends), (4001, 8080), flags, &cases.token());
        cases.add(
            format!("v4 {name}"),
            vec![ether(ends, 0x0800, &ip4(ends, TCP, &[], 0, &segment))],
        );
        let segment = tcp(&pseudo6(ends), (4001, 8080), flags, &cases.token());
        cases.add(
            format!("v6 {name}"),
            vec![ether(ends, 0x86dd, &ip6(ends, TCP, 64, &segment))],
        );
    }
    for port in [15001, 15006, 15008, 15090, 0, 65535] {
        for flags in [SYN, ACK] {
            let segment = tcp(&pseudo4(ends), (4002, port), flags, &cases.token());
            cases.add(
                format!("v4 to port {port}, flags {flags}"),
                vec![ether(ends, 0x0800, &ip4(ends, TCP, &[], 0, &segment))],
            );
            let segment = tcp(&pseudo6(ends), (4002, port), flags, &cases.token());
            cases.add(
                format!("v6 to port {port}, flags {flags}"),
                vec![ether(ends, 0x86dd, &ip6(ends, TCP, 64, &segment))],
            );
        }
    }
}

fn tags(cases: &mut Cases, ends: &Ends) {
    let stacks: [(&str, &[(u16, u16)]); 6] = [
        ("VLAN 0", &[(0x8100, 0)]),
        ("VLAN 5", &[(0x8100, 5)]),
        ("802.1ad 5", &[(0x88a8, 5)]),
        ("QinQ 0/0", &[(0x88a8, 0), (0x8100, 0)]),
        ("QinQ 5/6", &[(0x88a8, 5), (0x8100, 6)]),
        (
            "VLAN in VLAN in VLAN",
            &[(0x8100, 0), (0x8100, 0), (0x8100, 0)],
        ),
    ];
    for (name, tags) in stacks {
        let tagged = |mut frame: Vec<u8>| {
            for (kind, tag) in tags.iter().rev() {
                frame.splice(12..12, [kind.to_be_bytes(), tag.to_be_bytes()].concat());
            }
            frame
        };
        let frame = tagged(plain4(ends, &cases.token()));
        cases.add(format!("v4 {name}"), vec![frame]);
        let frame = tagged(plain6(ends, &cases.token()));
        cases.add(format!("v6 {name}"), vec![frame]);
    }
}

fn tunnels(cases: &mut Cases, ends: &Ends) {
    // Number, name, and what stands before the inner packet.
    let outer: [(u8, &str, &[u8]); 12] = [
        (4, "IPIP", &[]),
        (41, "6in4", &[]),
        (47, "GRE", &[0, 0, 8, 0]),
        (50, "ESP", &[0, 0, 0, 1, 0, 0, 0, 1]),
        (
            51,
            "AH",
            &[
                6, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            ],
        ),
        (97, "EtherIP", &[0x30, 0]),
        (98, "ENCAP", &[]),
        (108, "IPComp", &[6, 0, 0, 2]),
        (115, "L2TP", &[0, 0, 0, 1]),
        (
            132,
            "SCTP",
            &[0x0f, 0xa0, 0x1f, 0x90, 0, 0, 0, 0, 0, 0, 0, 0],
        ),
        (136, "UDP-Lite", &[0x0f, 0xa0, 0x1f, 0x90, 0, 0, 0, 0]),
        (253, "experiment", &[]),
    ];
    for (number, name, before) in outer {
        let inner = |token: &[u8]| match number {
            41 => ip6(ends, TCP, 64, &syn6(ends, token)),
            51 => syn4(ends, token),
            _ => ip4(ends, TCP, &[], 0, &syn4(ends, token)),
        };
        let payload = [before, &inner(&cases.token())].concat();
        cases.add(
            format!("{name} over v4"),
            vec![ether(ends, 0x0800, &ip4(ends, number, &[], 0, &payload))],
        );
        let payload = [before, &inner(&cases.token())].concat();
        cases.add(
            format!("{name} over v6"),
            vec![ether(ends, 0x86dd, &ip6(ends, number, 64, &payload))],
        );
    }
}

fn pieces4(cases: &mut Cases, ends: &Ends) {
    let piece = |fragment: u16, payload: &[u8]| {
        ether(ends, 0x0800, &ip4(ends, TCP, &[], fragment, payload))
    };
    let segment = tcp(
        &pseudo4(ends),
        (4003, 8080),
        SYN,
        &[&[0; 4][..], &cases.token()].concat(),
    );
    cases.add(
        "v4 SYN in two fragments",
        vec![piece(MORE, &segment[..24]), piece(3, &segment[24..])],
    );
    let segment = tcp(
        &pseudo4(ends),
        (4004, 8080),
        SYN,
        &[&[0; 4][..], &cases.token()].concat(),
    );
    cases.add(
        "v4 tiny first fragment",
        vec![piece(MORE, &segment[..8]), piece(1, &segment[8..])],
    );
    let segment = tcp(
        &pseudo4(ends),
        (4005, 8080),
        SYN,
        &[&[0; 4][..], &cases.token()].concat(),
    );
    cases.add(
        "v4 fragments in reverse",
        vec![piece(3, &segment[24..]), piece(MORE, &segment[..24])],
    );
    let harmless = tcp(&pseudo4(ends), (4006, 8080), ACK, &[0; 4]);
    let segment = tcp(
        &pseudo4(ends),
        (4006, 8080),
        SYN,
        &[&[0; 4][..], &cases.token()].concat(),
    );
    cases.add(
        "v4 overlapping fragments",
        vec![piece(MORE, &harmless), piece(1, &segment[8..])],
    );
    let segment = syn4(ends, &cases.token());
    cases.add("v4 only a last fragment", vec![piece(100, &segment)]);
    let segment = syn4(ends, &cases.token());
    cases.add(
        "v4 first fragment alone, with all of it",
        vec![piece(MORE, &segment)],
    );
    // Said to be UDP in the first piece.
    let first = ether(
        ends,
        0x0800,
        &ip4(ends, UDP, &[], MORE, &[0x0f, 0xa4, 0x1f, 0x90, 0, 40, 0, 0]),
    );
    let segment = tcp(&pseudo4(ends), (4007, 8080), SYN, &cases.token());
    cases.add("v4 UDP first, TCP second", vec![first, piece(1, &segment)]);
}

fn forms4(cases: &mut Cases, ends: &Ends) {
    let [a, b, c, d] = ends.to_v4.octets();
    let options: [(&str, Vec<u8>); 5] = [
        ("loose source route", vec![131, 7, 4, a, b, c, d, 0]),
        ("strict source route", vec![137, 7, 4, a, b, c, d, 0]),
        ("record route", vec![7, 7, 4, 0, 0, 0, 0, 0]),
        ("router alert", vec![148, 4, 0, 0]),
        ("no operation", vec![1, 1, 1, 1]),
    ];
    for (name, options) in options {
        let segment = syn4(ends, &cases.token());
        cases.add(
            format!("v4 {name}"),
            vec![ether(ends, 0x0800, &ip4(ends, TCP, &options, 0, &segment))],
        );
    }
    let bent = |cases: &Cases, at: usize, value: u8| {
        let mut frame = plain4(ends, &cases.token());
        frame[14 + at] = value;
        frame
    };
    let frame = bent(cases, 10, 0xbd);
    cases.add("v4 bad header checksum", vec![frame]);
    let frame = bent(cases, 36, 0xbd);
    cases.add("v4 bad TCP checksum", vec![frame]);
    let frame = bent(cases, 0, 0x55);
    cases.add("v4 version 5", vec![frame]);
    let frame = bent(cases, 0, 0x4f);
    cases.add("v4 header said to be 60 bytes", vec![frame]);
    let frame = bent(cases, 0, 0x44);
    cases.add("v4 header said to be 16 bytes", vec![frame]);
    let frame = bent(cases, 3, 30);
    cases.add("v4 length said to be 30", vec![frame]);
    let frame = bent(cases, 2, 0x0f);
    cases.add("v4 length beyond the frame", vec![frame]);
    let frame = bent(cases, 32, 0x10);
    cases.add("v4 TCP header said to be 4 bytes", vec![frame]);
    let frame = bent(cases, 8, 1);
    cases.add("v4 TTL 1", vec![frame]);
    let packet = ip6(ends, TCP, 64, &syn6(ends, &cases.token()));
    cases.add("v6 said to be v4", vec![ether(ends, 0x0800, &packet)]);
    let packet = ip4(ends, TCP, &[], 0, &syn4(ends, &cases.token()));
    cases.add("v4 said to be v6", vec![ether(ends, 0x86dd, &packet)]);
    // The frame is longer than the datagram: what follows must not be taken for anything.
    let datagram = udp(&pseudo4(ends), (4008, 4008), b"short");
    let mut packet = ip4(ends, 253, &[], 0, &datagram);
    packet.extend(ip4(ends, TCP, &[], 0, &syn4(ends, &cases.token())));
    cases.add(
        "v4 SYN behind the end of a packet",
        vec![ether(ends, 0x0800, &packet)],
    );
}

/// An extension header of eight bytes that means nothing.
fn pad(next: u8) -> Vec<u8> {
    vec![next, 0, 1, 4, 0, 0, 0, 0]
}

fn extensions6(cases: &mut Cases, ends: &Ends) {
    let routing =
        |kind: u8, next: u8| [&[next, 2, kind, 0, 0, 0, 0, 0][..], &ends.to_v6.octets()].concat();
    let chains: Vec<(&str, u8, Vec<u8>)> = vec![
        ("hop-by-hop", 0, pad(TCP)),
        ("destination options", 60, pad(TCP)),
        (
            "three destination options",
            60,
            [pad(60), pad(60), pad(TCP)].concat(),
        ),
        (
            "hop-by-hop, then destination options",
            0,
            [pad(60), pad(TCP)].concat(),
        ),
        ("routing type 0", 43, routing(0, TCP)),
        ("routing type 4", 43, routing(4, TCP)),
        ("mobility", 135, pad(TCP)),
        ("HIP", 139, pad(TCP)),
        ("shim6", 140, pad(TCP)),
        ("no next header", 59, Vec::new()),
        ("atomic fragment", 44, fragment6(TCP, 0, false)),
        (
            "atomic fragment, then destination options",
            44,
            [fragment6(60, 0, false), pad(TCP)].concat(),
        ),
        (
            "destination options, then fragment",
            60,
            [pad(44), fragment6(TCP, 0, false)].concat(),
        ),
        ("first fragment with all of it", 44, fragment6(TCP, 0, true)),
        ("last fragment alone", 44, fragment6(TCP, 800, false)),
        (
            "atomic fragment said to be ICMPv6, then hop-by-hop",
            44,
            [fragment6(0, 0, false), pad(TCP)].concat(),
        ),
    ];
    for (name, next, chain) in chains {
        let payload = [chain, syn6(ends, &cases.token())].concat();
        cases.add(
            format!("v6 {name}"),
            vec![ether(ends, 0x86dd, &ip6(ends, next, 64, &payload))],
        );
    }
}

fn pieces6(cases: &mut Cases, ends: &Ends) {
    let piece = |header: Vec<u8>, payload: &[u8]| {
        ether(
            ends,
            0x86dd,
            &ip6(ends, 44, 64, &[header, payload.to_vec()].concat()),
        )
    };
    let segment = tcp(
        &pseudo6(ends),
        (4003, 8080),
        SYN,
        &[&[0; 4][..], &cases.token()].concat(),
    );
    cases.add(
        "v6 SYN in two fragments",
        vec![
            piece(fragment6(TCP, 0, true), &segment[..24]),
            piece(fragment6(TCP, 24, false), &segment[24..]),
        ],
    );
    // The header that says TCP is only in the second piece.
    let hidden = [
        pad(TCP),
        tcp(&pseudo6(ends), (4009, 8080), SYN, &cases.token()),
    ]
    .concat();
    cases.add(
        "v6 header hidden in the second fragment",
        vec![
            piece(fragment6(60, 0, true), &hidden[..8]),
            piece(fragment6(60, 8, false), &hidden[8..]),
        ],
    );
}

fn forms6(cases: &mut Cases, ends: &Ends) {
    let mut frame = plain6(ends, &cases.token());
    frame[14] = 0x50;
    cases.add("v6 version 5", vec![frame]);
    let mut frame = plain6(ends, &cases.token());
    frame[18] = 0x0f;
    cases.add("v6 length beyond the frame", vec![frame]);
    let mut frame = plain6(ends, &cases.token());
    frame[14 + 40 + 16] ^= 0xff;
    cases.add("v6 bad TCP checksum", vec![frame]);
}

fn destinations(cases: &mut Cases, ends: &Ends) {
    let to4 = |ip: [u8; 4], mac: Mac| Ends {
        to_v4: ip.into(),
        to_mac: mac,
        ..*ends
    };
    let all = [0xff; 6];
    for (name, other) in [
        (
            "all hosts",
            to4([224, 0, 0, 1], group_mac(IpAddr::from([224, 0, 0, 1]))),
        ),
        ("broadcast", to4([255; 4], all)),
        ("broadcast of the subnet", to4([10, 9, 0, 255], all)),
        (
            "unicast by broadcast",
            Ends {
                to_mac: all,
                ..*ends
            },
        ),
        ("loopback", to4([127, 0, 0, 1], ends.to_mac)),
        ("this host", to4([0; 4], ends.to_mac)),
        ("reserved", to4([240, 0, 0, 1], ends.to_mac)),
        (
            "somebody else by this way",
            to4([198, 51, 100, 1], ends.to_mac),
        ),
        (
            "somebody else's hardware address",
            Ends {
                to_mac: OTHER_MAC,
                ..*ends
            },
        ),
        ("its own address", to4(ends.v4.octets(), ends.to_mac)),
    ] {
        let frame = plain4(&other, &cases.token());
        cases.add(format!("v4 to {name}"), vec![frame]);
    }
    let to6 = |ip: Ipv6Addr, mac: Mac| Ends {
        to_v6: ip,
        to_mac: mac,
        ..*ends
    };
    for (name, other) in [
        ("all nodes", to6(ALL_NODES, group_mac(ALL_NODES.into()))),
        ("loopback", to6(Ipv6Addr::LOCALHOST, ends.to_mac)),
        ("nobody", to6(Ipv6Addr::UNSPECIFIED, ends.to_mac)),
        ("mapped", to6(ends.to_v4.to_ipv6_mapped(), ends.to_mac)),
        (
            "somebody else by this way",
            to6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), ends.to_mac),
        ),
        (
            "somebody else's hardware address",
            Ends {
                to_mac: OTHER_MAC,
                ..*ends
            },
        ),
        ("its own address", to6(ends.v6, ends.to_mac)),
    ] {
        let frame = plain6(&other, &cases.token());
        cases.add(format!("v6 to {name}"), vec![frame]);
    }
}

fn odd_types(cases: &mut Cases, ends: &Ends) {
    for (kind, before) in [
        (0x8847, &[0, 0, 0x11, 0x40][..]),
        (0x8864, &[0x11, 0, 0, 1, 0, 60, 0, 0x21]),
        (0x88cc, &[]),
        (0x888e, &[]),
        (0x88e5, &[0; 6]),
        (0x9000, &[]),
        (0x6558, &[]),
        (0x0801, &[]),
        (0x22f0, &[]),
        // A length in place of a type: 802.3 with SNAP.
        (0x0050, &[0xaa, 0xaa, 3, 0, 0, 0, 8, 0]),
    ] {
        let packet = [before, &ip4(ends, TCP, &[], 0, &syn4(ends, &cases.token()))].concat();
        cases.add(
            format!("type {kind:#06x}"),
            vec![ether(ends, kind, &packet)],
        );
    }
}
