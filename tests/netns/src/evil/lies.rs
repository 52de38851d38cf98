// SPDX-License-Identifier: Apache-2.0
//! What a pod must not say in somebody else's name, or at all.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    ALL_NODES, Case, Cases, OTHER_LINK_LOCAL, OTHER_MAC, OTHER_V4, OTHER_V6, discovery, option,
    plain4, plain6, udp4, udp6,
};
use crate::frames::*;

/// What a pod must not say in somebody else's name, or to whom it must not say it.
pub fn lies_of_a_pod(ends: &Ends, salt: u8) -> Vec<Case> {
    let mut cases = Cases {
        list: Vec::new(),
        salt,
    };
    false_sources(&mut cases, ends);
    false_sources6(&mut cases, ends);
    false_ways(&mut cases, ends);
    false_arp(&mut cases, ends);
    false_advertisements(&mut cases, ends);
    false_questions(&mut cases, ends);
    hidden_advertisements(&mut cases, ends);
    false_messages(&mut cases, ends);
    cases.list
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
}

fn false_sources6(cases: &mut Cases, ends: &Ends) {
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
}

fn false_ways(cases: &mut Cases, ends: &Ends) {
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

fn false_advertisements(cases: &mut Cases, ends: &Ends) {
    let own = option(2, ends.mac);
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
    ];
    for (name, frame) in list {
        cases.whole(&format!("ND {name}"), frame);
    }
}

fn false_questions(cases: &mut Cases, ends: &Ends) {
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
}

fn hidden_advertisements(cases: &mut Cases, ends: &Ends) {
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
