// SPDX-License-Identifier: Apache-2.0
//! Frames that must not pass between a pod and its wire, whatever the proxy does; and those that must.
//!
//! Every case says how to know its frame on the other side: a needle that occurs in no other.

use std::net::{Ipv4Addr, Ipv6Addr};

use maille_sys::link::Mac;

use crate::frames::*;

mod lies;
mod tcp;

pub use lies::lies_of_a_pod;
pub use tcp::tcp_in_disguise;

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

/// The `number`-th beginning of a connection that its sender forgets, of both families in turns.
pub fn half_open(ends: &Ends, number: u16) -> Vec<u8> {
    let ports = (1024 + number / 2, 80);
    if number.is_multiple_of(2) {
        let segment = tcp(&pseudo4(ends), ports, SYN, &[]);
        ether(ends, 0x0800, &ip4(ends, TCP, &[], 0, &segment))
    } else {
        let segment = tcp(&pseudo6(ends), ports, SYN, &[]);
        ether(ends, 0x86dd, &ip6(ends, TCP, 64, &segment))
    }
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
    honest_neighbours(&mut cases, ends);
    honest_reports(&mut cases, ends);
    cases.list
}

fn honest_neighbours(cases: &mut Cases, ends: &Ends) {
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
}

fn honest_reports(cases: &mut Cases, ends: &Ends) {
    let anyone = Ends {
        v6: Ipv6Addr::UNSPECIFIED,
        ..*ends
    };
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
