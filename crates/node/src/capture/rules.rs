// SPDX-License-Identifier: Apache-2.0
//! What passes between a pod and its wire, as nftables rules. Pure; the golden file beside is what a reviewer reads.
//!
//! Two tables. `netdev` sees every frame first: it knows a frame by an allow-list, or drops and counts it. TCP goes up to
//! `inet`, where only SYNs are looked up: everything else belongs to a connection that the proxy's socket already has, and
//! finds it by itself or dies. No conntrack (`ct`, NAT) anywhere: it costs a tenth of the data path and can be filled.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use maille_sys::link::Mac;

use super::{INBOUND_PORT, MESH_PORT, METRICS_PORT, OUTBOUND_PORT, POD, PodNet, TO_LISTENER, WIRE};

/// The counters of dropped frames, in the order of the rules. `nft list counters` shows them.
const DROPS: [&str; 11] = [
    "pod_mac",
    "pod_other",
    "pod_arp",
    "pod_v4_source",
    "pod_v4_form",
    "pod_v6_source",
    "pod_v6_form",
    "pod_nd",
    "wire_other",
    "wire_v4_form",
    "wire_v6_form",
];

/// The rules for one pod.
pub fn render(pod: &PodNet) -> String {
    let v4: Vec<Ipv4Addr> = pod
        .addresses
        .iter()
        .filter_map(|net| as_v4(net.addr()))
        .collect();
    let mut v6: Vec<Ipv6Addr> = pod
        .addresses
        .iter()
        .filter_map(|net| as_v6(net.addr()))
        .collect();
    v6.push(pod.link_local());
    let names = Names {
        mac: pod.mac,
        v4,
        v6,
    };
    let mut text = String::from("table netdev maille {\n");
    for name in DROPS {
        let _ = writeln!(text, "\tcounter {name} {{\n\t}}");
    }
    for (name, rules) in [
        ("from_pod", from_pod(&names)),
        ("pod_arp", pod_arp(&names)),
        ("pod_v4", pod_v4(&names)),
        ("pod_v6", pod_v6(&names)),
        ("pod_icmp6", pod_icmp6(&names)),
        ("pod_advert", pod_advert(&names)),
        ("pod_unspecified", pod_unspecified(&names)),
        ("from_wire", from_wire()),
        ("wire_v4", wire_v4()),
        ("wire_v6", wire_v6()),
    ] {
        chain(&mut text, name, &rules);
    }
    text.push_str("}\ntable inet maille {\n");
    for name in ["pod_tcp", "wire_tcp", "own_tcp"] {
        let _ = writeln!(text, "\tcounter {name} {{\n\t}}");
    }
    for (name, rules) in [
        ("before", before()),
        ("tcp_from_pod", tcp_from_pod()),
        ("tcp_from_wire", tcp_from_wire(&names)),
        ("own", own()),
    ] {
        chain(&mut text, name, &rules);
    }
    text.push_str("}\n");
    text
}

/// What is the pod's own.
struct Names {
    mac: Mac,
    v4: Vec<Ipv4Addr>,
    /// The link-local one too.
    v6: Vec<Ipv6Addr>,
}

impl Names {
    /// A set for nft; one that nothing matches where the pod has no such address.
    fn v4(&self) -> String {
        let never = [Ipv4Addr::new(255, 255, 255, 255)];
        set(if self.v4.is_empty() { &never } else { &self.v4 })
    }

    fn v6(&self) -> String {
        set(&self.v6)
    }

    fn mac(&self) -> String {
        self.mac.map(|byte| format!("{byte:02x}")).join(":")
    }

    /// A link-layer address option of neighbour discovery (RFC 4861 4.6.1) with the own address.
    fn option(&self, kind: u8) -> String {
        let mac: String = self.mac.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("0x{kind:02x}01{mac}")
    }

    /// The own addresses as a raw match on the target of neighbour discovery.
    fn targets(&self) -> impl Iterator<Item = String> {
        self.v6
            .iter()
            .map(|ip| format!("@nh,384,128 0x{:032x}", ip.to_bits()))
    }
}

fn from_pod(names: &Names) -> Vec<String> {
    vec![
        format!("type filter hook ingress device \"{POD}\" priority 0; policy drop;"),
        format!("ether saddr != {} counter name pod_mac drop", names.mac()),
        // The type as it was on the wire: a tag that the kernel took out still counts here.
        "@ll,96,16 0x0806 goto pod_arp".into(),
        "@ll,96,16 0x0800 goto pod_v4".into(),
        "@ll,96,16 0x86dd goto pod_v6".into(),
        "counter name pod_other drop".into(),
    ]
}

fn pod_arp(names: &Names) -> Vec<String> {
    let mut own: Vec<Ipv4Addr> = names.v4.clone();
    // A probe (RFC 5227) has no sender address, and no neighbour learns from it.
    own.push(Ipv4Addr::UNSPECIFIED);
    vec![
        format!(
            "arp htype 1 arp ptype 0x0800 arp hlen 6 arp plen 4 arp operation {{ 1, 2 }} arp saddr ether {} arp saddr ip {} fwd to \"{WIRE}\"",
            names.mac(),
            set(&own)
        ),
        "counter name pod_arp drop".into(),
    ]
}

fn pod_v4(names: &Names) -> Vec<String> {
    vec![
        format!("ip saddr != {} counter name pod_v4_source drop", names.v4()),
        "ip daddr { 0.0.0.0/8, 127.0.0.0/8 } counter name pod_v4_form drop".into(),
        // Reports of group membership, which carry an option (router alert).
        format!(
            "meta l4proto 2 ip daddr 224.0.0.0/4 @th,0,8 {{ 0x12, 0x16, 0x17, 0x22 }} fwd to \"{WIRE}\""
        ),
        // No options (source routes), and no TCP in pieces: nobody's TCP needs them.
        "ip hdrlength != 5 counter name pod_v4_form drop".into(),
        "meta l4proto 6 ip frag-off & 0x3fff != 0 counter name pod_v4_form drop".into(),
        "meta l4proto 6 ip daddr { 224.0.0.0/4, 240.0.0.0/4 } counter name pod_v4_form drop".into(),
        // Its destination is the next router's hardware address, not ours.
        "meta l4proto 6 meta pkttype set host accept".into(),
        format!("meta l4proto 17 fwd to \"{WIRE}\""),
        format!("meta l4proto 1 ip frag-off & 0x1fff != 0 fwd to \"{WIRE}\""),
        format!("meta l4proto 1 icmp type {{ 0, 3, 8, 11, 12, 13, 14 }} fwd to \"{WIRE}\""),
        "counter name pod_v4_form drop".into(),
    ]
}

fn pod_v6(names: &Names) -> Vec<String> {
    vec![
        "ip6 daddr ::1 counter name pod_v6_form drop".into(),
        "ip6 nexthdr 58 goto pod_icmp6".into(),
        // Reports of group membership: hop-by-hop with 8 bytes, then ICMPv6.
        format!(
            "ip6 nexthdr 0 ip6 saddr {} ip6 daddr ff00::/8 ip6 hoplimit 1 @nh,320,16 0x3a00 @nh,384,8 {{ 131, 132, 143 }} fwd to \"{WIRE}\"",
            set(&names
                .v6
                .iter()
                .copied()
                .chain([Ipv6Addr::UNSPECIFIED])
                .collect::<Vec<_>>())
        ),
        format!(
            "ip6 saddr != {} counter name pod_v6_source drop",
            names.v6()
        ),
        "ip6 nexthdr 6 meta l4proto 6 ip6 daddr != ff00::/8 meta pkttype set host accept".into(),
        format!("ip6 nexthdr 17 meta l4proto 17 fwd to \"{WIRE}\""),
        // Fragments: what they are parts of is said right behind the fragment header, or they are dropped.
        format!("ip6 nexthdr 44 @nh,320,8 17 meta l4proto 17 fwd to \"{WIRE}\""),
        format!(
            "ip6 nexthdr 44 @nh,320,8 58 meta l4proto 58 @nh,336,16 & 0xfff8 != 0 fwd to \"{WIRE}\""
        ),
        format!(
            "ip6 nexthdr 44 @nh,320,8 58 meta l4proto 58 @nh,384,8 {{ 128, 129 }} fwd to \"{WIRE}\""
        ),
        "counter name pod_v6_form drop".into(),
    ]
}

fn pod_icmp6(names: &Names) -> Vec<String> {
    let source = names.option(1);
    vec![
        "ip6 saddr :: goto pod_unspecified".into(),
        format!(
            "ip6 saddr != {} counter name pod_v6_source drop",
            names.v6()
        ),
        format!("icmpv6 type {{ 1, 2, 3, 4, 128, 129 }} fwd to \"{WIRE}\""),
        "ip6 hoplimit != 255 counter name pod_nd drop".into(),
        // Solicitations of a router or a neighbour, with nothing or with the own hardware address as their option.
        format!("icmpv6 type 133 ip6 length 8 fwd to \"{WIRE}\""),
        format!("icmpv6 type 133 ip6 length 16 @nh,384,64 {source} fwd to \"{WIRE}\""),
        format!("icmpv6 type 135 ip6 length 24 fwd to \"{WIRE}\""),
        format!("icmpv6 type 135 ip6 length 32 @nh,512,64 {source} fwd to \"{WIRE}\""),
        "icmpv6 type 136 goto pod_advert".into(),
        "counter name pod_nd drop".into(),
    ]
}

/// Advertisements: for the own addresses, with the own hardware address.
fn pod_advert(names: &Names) -> Vec<String> {
    let option = names.option(2);
    let mut rules: Vec<String> = names
        .targets()
        .flat_map(|target| {
            [
                format!("ip6 length 24 {target} fwd to \"{WIRE}\""),
                format!("ip6 length 32 {target} @nh,512,64 {option} fwd to \"{WIRE}\""),
            ]
        })
        .collect();
    rules.push("counter name pod_nd drop".into());
    rules
}

/// From `::`: duplicate address detection for the own addresses (RFC 4862; with a nonce, RFC 7527), and router solicitation.
fn pod_unspecified(names: &Names) -> Vec<String> {
    let mut rules = vec![
        "ip6 hoplimit != 255 counter name pod_nd drop".to_owned(),
        format!("icmpv6 type 133 ip6 length 8 fwd to \"{WIRE}\""),
    ];
    for target in names.targets() {
        rules.push(format!(
            "icmpv6 type 135 ip6 length 24 {target} fwd to \"{WIRE}\""
        ));
        rules.push(format!(
            "icmpv6 type 135 ip6 length 32 {target} @nh,512,16 0x0e01 fwd to \"{WIRE}\""
        ));
    }
    rules.push("counter name pod_nd drop".into());
    rules
}

fn from_wire() -> Vec<String> {
    vec![
        format!("type filter hook ingress device \"{WIRE}\" priority 0; policy drop;"),
        // Both stacks have the pod's addresses, and both resolve neighbours: both need the answers.
        format!("@ll,96,16 0x0806 arp operation 2 dup to \"{POD}\" accept"),
        format!("@ll,96,16 0x0806 fwd to \"{POD}\""),
        "@ll,96,16 0x0800 goto wire_v4".into(),
        "@ll,96,16 0x86dd goto wire_v6".into(),
        "counter name wire_other drop".into(),
    ]
}

fn wire_v4() -> Vec<String> {
    vec![
        "meta l4proto 6 accept".into(),
        // Errors about the proxy's connections (path MTU), or about the pod's datagrams: who can tell.
        format!("meta l4proto 1 icmp type {{ 3, 11, 12 }} dup to \"{POD}\" accept"),
        format!("ip hdrlength 5 meta l4proto {{ 1, 17 }} fwd to \"{POD}\""),
        format!("meta l4proto 2 ip daddr 224.0.0.0/4 fwd to \"{POD}\""),
        "counter name wire_v4_form drop".into(),
    ]
}

fn wire_v6() -> Vec<String> {
    vec![
        "ip6 nexthdr 6 meta l4proto 6 accept".into(),
        format!("ip6 nexthdr 58 icmpv6 type {{ 1, 2, 3, 4, 136 }} dup to \"{POD}\" accept"),
        format!("ip6 nexthdr {{ 17, 58 }} meta l4proto {{ 17, 58 }} fwd to \"{POD}\""),
        format!("ip6 nexthdr 44 @nh,320,8 {{ 17, 58 }} meta l4proto {{ 17, 58 }} fwd to \"{POD}\""),
        format!(
            "ip6 nexthdr 0 @nh,320,16 0x3a00 @nh,384,8 {{ 130, 131, 132, 143 }} fwd to \"{POD}\""
        ),
        "counter name wire_v6_form drop".into(),
    ]
}

fn before() -> Vec<String> {
    vec![
        "type filter hook prerouting priority mangle; policy accept;".into(),
        format!("iifname \"{POD}\" goto tcp_from_pod"),
        format!("iifname \"{WIRE}\" goto tcp_from_wire"),
    ]
}

/// Whatever its destination, it ends here: the mark leads to a table that delivers locally.
fn tcp_from_pod() -> Vec<String> {
    vec![
        format!("tcp flags & (syn | ack | rst) != syn meta mark set {TO_LISTENER} accept"),
        format!(
            "meta nfproto ipv4 meta l4proto 6 tproxy ip to :{OUTBOUND_PORT} meta mark set {TO_LISTENER} accept"
        ),
        format!(
            "meta nfproto ipv6 meta l4proto 6 tproxy ip6 to :{OUTBOUND_PORT} meta mark set {TO_LISTENER} accept"
        ),
        "counter name pod_tcp drop".into(),
    ]
}

/// To the pod's addresses only: what was sent to its hardware address for somebody else is nobody's.
fn tcp_from_wire(names: &Names) -> Vec<String> {
    let to = format!("tproxy ip to :{INBOUND_PORT} meta mark set {TO_LISTENER} accept");
    let to6 = to.replacen("ip to", "ip6 to", 1);
    let (v4, v6) = (names.v4(), names.v6());
    vec![
        "meta l4proto != 6 accept".into(),
        "tcp flags & (syn | ack | rst) != syn accept".into(),
        format!("ip daddr {v4} tcp dport {{ {METRICS_PORT}, {MESH_PORT} }} accept"),
        format!("ip6 daddr {v6} tcp dport {{ {METRICS_PORT}, {MESH_PORT} }} accept"),
        format!("meta l4proto 6 ip daddr {v4} {to}"),
        format!("meta l4proto 6 ip6 daddr {v6} {to6}"),
        "counter name wire_tcp drop".into(),
    ]
}

/// The proxy must not meet itself: only captured connections reach these listeners.
fn own() -> Vec<String> {
    vec![
        "type filter hook input priority filter; policy accept;".into(),
        format!(
            "iifname \"lo\" tcp dport {{ {OUTBOUND_PORT}, {INBOUND_PORT} }} counter name own_tcp reject with tcp reset"
        ),
    ]
}

fn chain(text: &mut String, name: &str, rules: &[String]) {
    let _ = writeln!(text, "\tchain {name} {{");
    for rule in rules {
        let _ = writeln!(text, "\t\t{rule}");
    }
    text.push_str("\t}\n");
}

fn set<T: ToString>(members: &[T]) -> String {
    let members: Vec<_> = members.iter().map(T::to_string).collect();
    format!("{{ {} }}", members.join(", "))
}

fn as_v4(ip: IpAddr) -> Option<Ipv4Addr> {
    match ip {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    }
}

fn as_v6(ip: IpAddr) -> Option<Ipv6Addr> {
    match ip {
        IpAddr::V6(ip) => Some(ip),
        IpAddr::V4(_) => None,
    }
}

#[cfg(test)]
mod tests;
