// SPDX-License-Identifier: Apache-2.0
//! Frames that must not pass between a pod and its wire, whatever the proxy does; and those that must.
//!
//! Every case says how to know its frame on the other side: a needle that occurs in no other.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use maille_sys::link::Mac;

use crate::frames::*;

/// One attempt.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it is.
    pub name: String,
    /// What is sent, in this order.
    pub frames: Vec<Vec<u8>>,
    /// What would be seen in a frame on the other side.
    pub needle: Vec<u8>,
}

/// Somebody else on the same link.
pub const OTHER_V4: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 77);
/// The same.
pub const OTHER_V6: Ipv6Addr = Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, 0x77);
const OTHER_MAC: Mac = [2, 0, 0, 0, 0, 0x77];
const OTHER_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x77);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const DONT_FRAGMENT: u16 = 0x4000;
const MORE: u16 = 0x2000;

struct Cases {
    list: Vec<Case>,
    salt: u8,
}

impl Cases {
    /// The text that the next case carries.
    fn token(&self) -> Vec<u8> {
        format!("token-{:02x}-{:04}-carried", self.salt, self.list.len()).into_bytes()
    }

    /// Frames that carry the token.
    fn add(&mut self, name: impl Into<String>, frames: Vec<Vec<u8>>) {
        let needle = self.token();
        self.push(name, frames, needle);
    }

    /// A frame that is known by itself, from its payload on.
    fn whole(&mut self, name: &str, frame: Vec<u8>) {
        let needle = frame[14..].to_vec();
        self.push(name, vec![frame], needle);
    }

    fn push(&mut self, name: impl Into<String>, frames: Vec<Vec<u8>>, needle: Vec<u8>) {
        let name = name.into();
        let carried = frames.iter().any(|frame| contains(frame, &needle));
        assert!(carried, "{name} does not carry its needle");
        self.list.push(Case {
            name,
            frames,
            needle,
        });
    }
}

/// Whether `frame` holds `needle`.
pub fn contains(frame: &[u8], needle: &[u8]) -> bool {
    frame.windows(needle.len()).any(|window| window == needle)
}

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
    destinations(&mut cases, ends);
    odd_types(&mut cases, ends);
    cases.list
}

fn syn4(ends: &Ends, data: &[u8]) -> Vec<u8> {
    tcp(&pseudo4(ends), (4000, 8080), SYN, data)
}

fn syn6(ends: &Ends, data: &[u8]) -> Vec<u8> {
    tcp(&pseudo6(ends), (4000, 8080), SYN, data)
}

/// The frame of a SYN with data, IPv4.
fn plain4(ends: &Ends, data: &[u8]) -> Vec<u8> {
    ether(
        ends,
        0x0800,
        &ip4(ends, TCP, &[], DONT_FRAGMENT, &syn4(ends, data)),
    )
}

fn plain6(ends: &Ends, data: &[u8]) -> Vec<u8> {
    ether(ends, 0x86dd, &ip6(ends, TCP, 64, &syn6(ends, data)))
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

fn extensions6(cases: &mut Cases, ends: &Ends) {
    let pad = |next: u8| vec![next, 0, 1, 4, 0, 0, 0, 0];
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

/// What a pod must not say in somebody else's name, or to whom it must not say it.
pub fn lies_of_a_pod(ends: &Ends, salt: u8) -> Vec<Case> {
    let mut cases = Cases {
        list: Vec::new(),
        salt,
    };
    false_sources(&mut cases, ends);
    false_arp(&mut cases, ends);
    false_discovery(&mut cases, ends);
    false_messages(&mut cases, ends);
    cases.list
}

fn udp4(ends: &Ends, data: &[u8]) -> Vec<u8> {
    ether(
        ends,
        0x0800,
        &ip4(ends, UDP, &[], 0, &udp(&pseudo4(ends), (4010, 4010), data)),
    )
}

fn udp6(ends: &Ends, data: &[u8]) -> Vec<u8> {
    ether(
        ends,
        0x86dd,
        &ip6(ends, UDP, 64, &udp(&pseudo6(ends), (4010, 4010), data)),
    )
}

fn false_sources(cases: &mut Cases, ends: &Ends) {
    for (name, v4) in [
        ("another's", OTHER_V4),
        ("nobody's", Ipv4Addr::UNSPECIFIED),
        ("its peer's", ends.to_v4),
        ("a loopback", Ipv4Addr::LOCALHOST),
    ] {
        let liar = Ends { v4, ..*ends };
        let frame = udp4(&liar, &cases.token());
        cases.add(format!("UDP from {name} v4 address"), vec![frame]);
        let echo = icmp(8, 0, &[&[0, 1, 0, 1][..], &cases.token()].concat());
        cases.add(
            format!("ping from {name} v4 address"),
            vec![ether(&liar, 0x0800, &ip4(&liar, ICMP, &[], 0, &echo))],
        );
        let packet = ip4(&liar, UDP, &[], 100, &cases.token());
        cases.add(
            format!("UDP fragment from {name} v4 address"),
            vec![ether(&liar, 0x0800, &packet)],
        );
        let frame = plain4(&liar, &cases.token());
        cases.add(format!("SYN from {name} v4 address"), vec![frame]);
    }
    let mapped = ends.v4.to_ipv6_mapped();
    for (name, v6) in [
        ("another's", OTHER_V6),
        ("nobody's", Ipv6Addr::UNSPECIFIED),
        ("its peer's", ends.to_v6),
        ("a loopback", Ipv6Addr::LOCALHOST),
        ("another's link-local", OTHER_LINK_LOCAL),
        ("its mapped", mapped),
        ("a group's", ALL_NODES),
    ] {
        let liar = Ends { v6, ..*ends };
        let frame = udp6(&liar, &cases.token());
        cases.add(format!("UDP from {name} v6 address"), vec![frame]);
        let echo = icmp6(
            &pseudo6(&liar),
            128,
            &[&[0, 1, 0, 1][..], &cases.token()].concat(),
        );
        cases.add(
            format!("ping from {name} v6 address"),
            vec![ether(&liar, 0x86dd, &ip6(&liar, ICMP6, 64, &echo))],
        );
        let payload = [fragment6(UDP, 800, false), cases.token()].concat();
        cases.add(
            format!("UDP fragment from {name} v6 address"),
            vec![ether(&liar, 0x86dd, &ip6(&liar, 44, 64, &payload))],
        );
        let frame = plain6(&liar, &cases.token());
        cases.add(format!("SYN from {name} v6 address"), vec![frame]);
    }
    let liar = Ends {
        mac: OTHER_MAC,
        ..*ends
    };
    let frame = udp4(&liar, &cases.token());
    cases.add("UDP from another's hardware address", vec![frame]);
    let frame = udp6(&liar, &cases.token());
    cases.add("UDP v6 from another's hardware address", vec![frame]);
    let [a, b, c, d] = ends.to_v4.octets();
    let datagram = udp(&pseudo4(ends), (4011, 4011), &cases.token());
    let packet = ip4(ends, UDP, &[131, 7, 4, a, b, c, d, 0], 0, &datagram);
    cases.add("UDP by a source route", vec![ether(ends, 0x0800, &packet)]);
    let other = Ends {
        to_v4: Ipv4Addr::LOCALHOST,
        ..*ends
    };
    let frame = udp4(&other, &cases.token());
    cases.add("UDP to a loopback address", vec![frame]);
    let other = Ends {
        to_v6: Ipv6Addr::LOCALHOST,
        ..*ends
    };
    let frame = udp6(&other, &cases.token());
    cases.add("UDP to the v6 loopback address", vec![frame]);
}

fn false_arp(cases: &mut Cases, ends: &Ends) {
    let to = Ends {
        to_mac: [0xff; 6],
        ..*ends
    };
    let nobody = [0; 6];
    for (name, operation, sender, target) in [
        (
            "request in another's name",
            1,
            (ends.mac, OTHER_V4),
            (nobody, ends.to_v4),
        ),
        (
            "answer in another's name",
            2,
            (ends.mac, OTHER_V4),
            (ends.to_mac, ends.to_v4),
        ),
        (
            "answer in its peer's name",
            2,
            (ends.mac, ends.to_v4),
            (ends.to_mac, ends.to_v4),
        ),
        (
            "announcement of another's address",
            1,
            (ends.mac, OTHER_V4),
            (nobody, OTHER_V4),
        ),
        (
            "own address at another's hardware address",
            2,
            (OTHER_MAC, ends.v4),
            (ends.to_mac, ends.to_v4),
        ),
        (
            "probe with another's hardware address",
            1,
            (OTHER_MAC, Ipv4Addr::UNSPECIFIED),
            (nobody, ends.to_v4),
        ),
        (
            "reverse request",
            3,
            (ends.mac, ends.v4),
            (nobody, ends.to_v4),
        ),
    ] {
        cases.whole(
            &format!("ARP {name}"),
            ether(&to, 0x0806, &arp(operation, sender, target)),
        );
    }
    let mut short = arp(4, (ends.mac, OTHER_V4), (ends.to_mac, ends.to_v4));
    short.truncate(20);
    cases.whole("ARP cut off", ether(&to, 0x0806, &short));
    let mut odd = arp(2, (ends.mac, OTHER_V4), (ends.to_mac, ends.to_v4));
    odd[4] = 0;
    cases.whole("ARP without hardware addresses", ether(&to, 0x0806, &odd));
}

/// A neighbour discovery message to all nodes: target, then options.
fn discovery(ends: &Ends, kind: u8, hops: u8, target: Ipv6Addr, options: &[u8]) -> Vec<u8> {
    let to = Ends {
        to_v6: ALL_NODES,
        to_mac: group_mac(ALL_NODES.into()),
        ..*ends
    };
    let rest = [&[0x20, 0, 0, 0][..], &target.octets(), options].concat();
    ether(
        &to,
        0x86dd,
        &ip6(&to, ICMP6, hops, &icmp6(&pseudo6(&to), kind, &rest)),
    )
}

fn option(kind: u8, mac: Mac) -> Vec<u8> {
    [&[kind, 1][..], &mac].concat()
}

fn false_discovery(cases: &mut Cases, ends: &Ends) {
    let own = option(2, ends.mac);
    let anyone = Ends {
        v6: Ipv6Addr::UNSPECIFIED,
        ..*ends
    };
    let other = Ends {
        v6: OTHER_V6,
        ..*ends
    };
    let list = [
        (
            "advertisement of another's address",
            discovery(ends, 136, 255, OTHER_V6, &own),
        ),
        (
            "advertisement of its peer's address",
            discovery(ends, 136, 255, ends.to_v6, &own),
        ),
        (
            "advertisement of another's link-local address",
            discovery(ends, 136, 255, OTHER_LINK_LOCAL, &own),
        ),
        (
            "advertisement with another's hardware address",
            discovery(ends, 136, 255, ends.v6, &option(2, OTHER_MAC)),
        ),
        (
            "advertisement with two hardware addresses",
            discovery(
                ends,
                136,
                255,
                ends.v6,
                &[own.clone(), option(2, OTHER_MAC)].concat(),
            ),
        ),
        (
            "advertisement from afar",
            discovery(ends, 136, 64, ends.v6, &own),
        ),
        (
            "advertisement by another",
            discovery(&other, 136, 255, OTHER_V6, &own),
        ),
        (
            "solicitation with another's hardware address",
            discovery(ends, 135, 255, ends.to_v6, &option(1, OTHER_MAC)),
        ),
        (
            "solicitation by another",
            discovery(&other, 135, 255, ends.to_v6, &option(1, ends.mac)),
        ),
        (
            "solicitation with two options",
            discovery(
                ends,
                135,
                255,
                ends.to_v6,
                &[option(1, ends.mac), option(1, OTHER_MAC)].concat(),
            ),
        ),
        (
            "detection of another's address",
            discovery(&anyone, 135, 255, OTHER_V6, &[]),
        ),
        (
            "detection with a hardware address",
            discovery(&anyone, 135, 255, ends.v6, &option(1, OTHER_MAC)),
        ),
        (
            "redirect",
            discovery(
                ends,
                137,
                255,
                OTHER_V6,
                &[&ends.to_v6.octets()[..], &own].concat(),
            ),
        ),
        (
            "router advertisement",
            discovery(ends, 134, 255, Ipv6Addr::UNSPECIFIED, &option(1, ends.mac)),
        ),
        (
            "router solicitation with another's hardware address",
            discovery(ends, 133, 255, OTHER_V6, &[]),
        ),
        ("node information", discovery(ends, 139, 255, OTHER_V6, &[])),
        (
            "certification path",
            discovery(ends, 149, 255, OTHER_V6, &[]),
        ),
    ];
    for (name, frame) in list {
        cases.whole(&format!("ND {name}"), frame);
    }
    let to = Ends {
        to_v6: ALL_NODES,
        to_mac: group_mac(ALL_NODES.into()),
        ..*ends
    };
    let advert = icmp6(&pseudo6(&to), 134, &[64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
    for (name, next, header) in [
        ("hop-by-hop", 0, vec![ICMP6, 0, 1, 4, 0, 0, 0, 0]),
        ("destination options", 60, vec![ICMP6, 0, 1, 4, 0, 0, 0, 0]),
        ("a fragment header", 44, fragment6(ICMP6, 0, false)),
    ] {
        let packet = ip6(&to, next, 255, &[header, advert.clone()].concat());
        cases.whole(
            &format!("ND router advertisement behind {name}"),
            ether(&to, 0x86dd, &packet),
        );
    }
}

fn false_messages(cases: &mut Cases, ends: &Ends) {
    let [a, b, c, d] = OTHER_V4.octets();
    let embedded = ip4(ends, UDP, &[], 0, &[0; 8]);
    let redirect = icmp(5, 1, &[&[a, b, c, d][..], &embedded].concat());
    cases.whole(
        "ICMP redirect",
        ether(ends, 0x0800, &ip4(ends, ICMP, &[], 0, &redirect)),
    );
    let router = icmp(9, 0, &[1, 2, 7, 8, a, b, c, d, 0, 0, 0, 0]);
    cases.whole(
        "ICMP router advertisement",
        ether(ends, 0x0800, &ip4(ends, ICMP, &[], 0, &router)),
    );
    let mask = icmp(18, 0, &[0, 1, 0, 1, 255, 0, 0, 0]);
    cases.whole(
        "ICMP address mask",
        ether(ends, 0x0800, &ip4(ends, ICMP, &[], 0, &mask)),
    );
    let all = Ends {
        to_v4: Ipv4Addr::new(224, 0, 0, 1),
        to_mac: group_mac(IpAddr::from([224, 0, 0, 1])),
        ..*ends
    };
    let query = icmp(0x11, 100, &[0; 4]);
    cases.whole(
        "IGMP query",
        ether(&all, 0x0800, &ip4(&all, 2, &[148, 4, 0, 0], 0, &query)),
    );
    let to = Ends {
        to_v6: ALL_NODES,
        to_mac: group_mac(ALL_NODES.into()),
        ..*ends
    };
    let query = icmp6(&pseudo6(&to), 130, &[0; 20]);
    let packet = ip6(
        &to,
        0,
        1,
        &[vec![ICMP6, 0, 5, 2, 0, 0, 1, 0], query].concat(),
    );
    cases.whole("MLD query", ether(&to, 0x86dd, &packet));
}

/// What has to pass in either direction.
pub fn honest(ends: &Ends, salt: u8) -> Vec<Case> {
    let mut cases = Cases {
        list: Vec::new(),
        salt,
    };
    let frame = udp4(ends, &cases.token());
    cases.add("UDP v4", vec![frame]);
    let frame = udp6(ends, &cases.token());
    cases.add("UDP v6", vec![frame]);
    let echo = icmp(8, 0, &[&[0, 1, 0, 1][..], &cases.token()].concat());
    cases.add(
        "ping v4",
        vec![ether(ends, 0x0800, &ip4(ends, ICMP, &[], 0, &echo))],
    );
    let echo = icmp6(
        &pseudo6(ends),
        128,
        &[&[0, 1, 0, 1][..], &cases.token()].concat(),
    );
    cases.add(
        "ping v6",
        vec![ether(ends, 0x86dd, &ip6(ends, ICMP6, 64, &echo))],
    );
    let packet = ip4(ends, UDP, &[], 100, &cases.token());
    cases.add("UDP fragment v4", vec![ether(ends, 0x0800, &packet)]);
    let packet = ip4(ends, ICMP, &[], 100, &cases.token());
    cases.add("ICMP fragment v4", vec![ether(ends, 0x0800, &packet)]);
    for next in [UDP, ICMP6] {
        let payload = [fragment6(next, 800, false), cases.token()].concat();
        cases.add(
            format!("fragment of {next} v6"),
            vec![ether(ends, 0x86dd, &ip6(ends, 44, 64, &payload))],
        );
    }
    let nobody = [0; 6];
    cases.whole(
        "ARP request",
        ether(
            ends,
            0x0806,
            &arp(1, (ends.mac, ends.v4), (nobody, ends.to_v4)),
        ),
    );
    cases.whole(
        "ARP answer",
        ether(
            ends,
            0x0806,
            &arp(2, (ends.mac, ends.v4), (ends.to_mac, ends.to_v4)),
        ),
    );
    let anyone = Ends {
        v6: Ipv6Addr::UNSPECIFIED,
        ..*ends
    };
    let nonce = [14, 1, 1, 2, 3, 4, 5, 6];
    for (name, frame) in [
        (
            "solicitation",
            discovery(ends, 135, 255, ends.to_v6, &option(1, ends.mac)),
        ),
        (
            "solicitation without option",
            discovery(ends, 135, 255, ends.to_v6, &[]),
        ),
        (
            "advertisement",
            discovery(ends, 136, 255, ends.v6, &option(2, ends.mac)),
        ),
        (
            "detection of the own address",
            discovery(&anyone, 135, 255, ends.v6, &[]),
        ),
        (
            "detection with a nonce",
            discovery(&anyone, 135, 255, ends.v6, &nonce),
        ),
    ] {
        cases.whole(&format!("ND {name}"), frame);
    }
    let routers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
    let to = Ends {
        to_v6: routers,
        to_mac: group_mac(routers.into()),
        ..*ends
    };
    let solicit = icmp6(
        &pseudo6(&to),
        133,
        &[&[0; 4][..], &option(1, ends.mac)].concat(),
    );
    cases.whole(
        "ND router solicitation",
        ether(&to, 0x86dd, &ip6(&to, ICMP6, 255, &solicit)),
    );
    let reports = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
    let to = Ends {
        to_v6: reports,
        to_mac: group_mac(reports.into()),
        ..anyone
    };
    let report = icmp6(
        &pseudo6(&to),
        143,
        &[&[0, 0, 0, 1, 4, 0, 0, 0][..], &ALL_NODES.octets()].concat(),
    );
    let packet = ip6(
        &to,
        0,
        1,
        &[vec![ICMP6, 0, 5, 2, 0, 0, 1, 0], report].concat(),
    );
    cases.whole("MLD report", ether(&to, 0x86dd, &packet));
    let group = Ipv4Addr::new(224, 0, 0, 22);
    let to = Ends {
        to_v4: group,
        to_mac: group_mac(group.into()),
        ..*ends
    };
    let report = icmp(0x22, 0, &[0, 0, 0, 1, 4, 0, 0, 0, 224, 1, 1, 1]);
    cases.whole(
        "IGMP report",
        ether(&to, 0x0800, &ip4(&to, 2, &[148, 4, 0, 0], 0, &report)),
    );
    cases.list
}

/// A datagram that passes in either direction and is known by its number.
pub fn sentinel(ends: &Ends, number: u32) -> Case {
    let needle = format!("sentinel-{number:08}").into_bytes();
    Case {
        name: format!("sentinel {number}"),
        frames: vec![udp4(ends, &needle)],
        needle,
    }
}
