// SPDX-License-Identifier: Apache-2.0
//! Inboard capture: the proxy is a container of the pod, and rules in the pod's own namespace redirect TCP to it. Pure; the golden
//! files beside are what a reviewer reads.
//!
//! One plan, said to nftables as text, and to the legacy packet filter as chains. The proxy is told from everybody else by its user.
//! Must never take what the proxy itself sends, or what stays in the pod. It is no boundary against the pod: whoever may change its
//! rules, or run as the proxy's user, goes round it. An init container of the pod writes them (`init.rs`), or its node's agent
//! (`kubernetes/inside.rs`). Read `inboard/apply.rs` next, and `proxy::preflight`, which tries whether this is in force.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use maille_model::Ports;
use maille_sys::xtables::{Chain, Hook, Look, Rule, Then};

mod apply;

pub use apply::{By, InsideError, Kinds};

use super::{INBOUND_PORT, MESH_PORT, METRICS_PORT, OUTBOUND_PORT};

/// The table; nobody else's rules are touched.
pub const TABLE: &str = "maille_inboard";
/// What the proxy's container is called.
pub const PROXY: &str = "maille-proxy";
/// As whom the proxy runs, unless somebody says otherwise.
pub const PROXY_USER: u32 = 2102;
/// What only the proxy dials, to see itself.
const PROBE_PORT: u16 = maille_model::PROBE_PORT;

/// What may differ from pod to pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inboard {
    /// As whom the proxy runs.
    pub user: u32,
    /// Ports of the pod that are reached past the proxy.
    pub skip_inbound: Ports,
    /// Ports elsewhere that are dialled past the proxy.
    pub skip_outbound: Ports,
}

/// Who answers for ports of the pod at which nobody listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The kernel, as without a mesh: a TCP probe sees whether the application is there. It needs nftables' `socket`.
    Kernel,
    /// The proxy, which takes every connection and finds out.
    Proxy,
}

impl Default for Inboard {
    fn default() -> Self {
        Self {
            user: PROXY_USER,
            skip_inbound: Ports::default(),
            skip_outbound: Ports::default(),
        }
    }
}

// === impl Inboard ===

impl Inboard {
    /// One transaction for nft. It leaves the same behind whether or not it was applied before.
    pub fn render(&self, closed: Closed) -> String {
        // Naming the table first makes the deletion one of something that is there.
        let mut text = format!("table inet {TABLE} {{\n}}\ndelete table inet {TABLE}\n");
        let _ = writeln!(text, "table inet {TABLE} {{");
        for (name, rules) in [
            ("outbound", self.outbound_text()),
            ("inbound", self.inbound_text(closed)),
            ("own", self.own_text(closed)),
        ] {
            let _ = writeln!(text, "\tchain {name} {{");
            for rule in rules {
                let _ = writeln!(text, "\t\t{rule}");
            }
            text.push_str("\t}\n");
        }
        text.push_str("}\n");
        text
    }

    /// The same for the legacy packet filter, where the proxy answers for closed ports.
    pub fn legacy(&self) -> [Chain; 2] {
        [
            Chain {
                name: "MAILLE_OUTBOUND",
                hook: Hook::Leaving,
                rules: self.outbound(),
            },
            Chain {
                name: "MAILLE_INBOUND",
                hook: Hook::Arriving,
                rules: self.inbound(),
            },
        ]
    }

    fn outbound(&self) -> Vec<Rule> {
        let own = Look::User(self.user);
        let probed = |ip: IpNet| {
            let looks = vec![own.clone(), Look::To(ip), Look::Ports(only(PROBE_PORT))];
            redirect(looks, OUTBOUND_PORT)
        };
        let mut rules = vec![
            // The preflight: the proxy meets itself, and sees by that that these rules are in force.
            probed(Ipv4Net::from(Ipv4Addr::LOCALHOST).into()),
            probed(Ipv6Net::from(Ipv6Addr::LOCALHOST).into()),
            pass(vec![own.clone()]),
            // Loopback, and the pod's own addresses: what it says to itself is nobody's business.
            pass(vec![Look::Loopback]),
            // On one link only, and nothing that the mesh carries.
            pass(vec![Look::To(link_local_v6())]),
            pass(vec![Look::To(link_local_v4())]),
        ];
        rules.extend(skip(&self.skip_outbound));
        rules.push(redirect(vec![Look::Tcp], OUTBOUND_PORT));
        rules
    }

    fn inbound(&self) -> Vec<Rule> {
        let mut rules = self.not_taken();
        rules.push(redirect(vec![Look::Tcp], INBOUND_PORT));
        rules
    }

    /// What comes in and is not the proxy's to take.
    fn not_taken(&self) -> Vec<Rule> {
        let mut rules = vec![
            pass(vec![Look::Loopback]),
            pass(vec![Look::To(link_local_v6())]),
            pass(vec![Look::Ports(
                [METRICS_PORT, MESH_PORT].map(|port| port..=port).to_vec(),
            )]),
        ];
        rules.extend(skip(&self.skip_inbound));
        rules
    }

    fn outbound_text(&self) -> Vec<String> {
        // The destination of NAT; output chains do not know it by name.
        let mut lines = vec!["type nat hook output priority -100; policy accept;".to_owned()];
        lines.extend(self.outbound().iter().map(|rule| text(rule, Hook::Leaving)));
        lines
    }

    fn inbound_text(&self, closed: Closed) -> Vec<String> {
        let mut lines = vec!["type nat hook prerouting priority -100; policy accept;".to_owned()];
        let arriving = |rule: &Rule| text(rule, Hook::Arriving);
        match closed {
            Closed::Proxy => lines.extend(self.inbound().iter().map(arriving)),
            Closed::Kernel => {
                lines.extend(self.not_taken().iter().map(arriving));
                // Whatever the answer: where nobody listens there is none, and the rule does not fit.
                let listened = "meta l4proto tcp socket transparent { 0, 1 }";
                lines.push(format!("{listened} redirect to :{INBOUND_PORT}"));
            }
        }
        lines
    }

    /// Only redirected connections belong at the proxy's listeners, and no others come in. Whoever tries is told at once; the proxy
    /// looks again itself.
    fn own_text(&self, closed: Closed) -> Vec<String> {
        let refuse = "counter reject with tcp reset";
        let own = format!("tcp dport {{ {OUTBOUND_PORT}, {INBOUND_PORT} }}");
        let mut lines = vec![
            "type filter hook input priority filter; policy accept;".to_owned(),
            format!("{own} ct status & dnat == 0 {refuse}"),
        ];
        if closed == Closed::Kernel {
            let passing = self.not_taken();
            lines.extend(passing.iter().map(|rule| text(rule, Hook::Arriving)));
            // Nobody listened a moment ago. Somebody may now; but this connection would come to them without their proxy.
            lines.push(format!(
                "meta l4proto tcp ct state new ct status & dnat == 0 {refuse}"
            ));
        }
        lines
    }
}

const fn pass(looks: Vec<Look>) -> Rule {
    Rule {
        looks,
        then: Then::Pass,
    }
}

const fn redirect(looks: Vec<Look>, port: u16) -> Rule {
    Rule {
        looks,
        then: Then::Redirect(port),
    }
}

fn skip(ports: &Ports) -> Option<Rule> {
    let ranges = ports.ranges().to_vec();
    (!ports.is_empty()).then(|| pass(vec![Look::Ports(ranges)]))
}

fn only(port: u16) -> Vec<RangeInclusive<u16>> {
    vec![port..=port]
}

fn link_local_v4() -> IpNet {
    Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16).into()
}

fn link_local_v6() -> IpNet {
    Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10).into()
}

/// A rule in nft's language.
fn text(rule: &Rule, hook: Hook) -> String {
    let looks = rule.looks.iter().map(|look| match look {
        Look::User(user) => format!("meta skuid {user}"),
        Look::To(net) => {
            let family = if net.addr().is_ipv4() { "ip" } else { "ip6" };
            if net.prefix_len() == net.max_prefix_len() {
                format!("{family} daddr {}", net.addr())
            } else {
                format!("{family} daddr {net}")
            }
        }
        Look::Loopback if hook == Hook::Leaving => "oifname \"lo\"".to_owned(),
        Look::Loopback => "iifname \"lo\"".to_owned(),
        Look::Tcp => "meta l4proto tcp".to_owned(),
        Look::Ports(ranges) => {
            let ranges: Vec<_> = ranges.iter().map(range).collect();
            format!("tcp dport {{ {} }}", ranges.join(", "))
        }
    });
    let then = match rule.then {
        Then::Pass => "accept".to_owned(),
        Then::Redirect(port) => format!("redirect to :{port}"),
    };
    let words: Vec<_> = looks.chain([then]).collect();
    words.join(" ")
}

fn range(range: &RangeInclusive<u16>) -> String {
    let (first, last) = (range.start(), range.end());
    if first == last {
        first.to_string()
    } else {
        format!("{first}-{last}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inboard() -> Inboard {
        Inboard {
            skip_inbound: "22,9000-9010".parse().unwrap(),
            skip_outbound: "3306".parse().unwrap(),
            ..Inboard::default()
        }
    }

    #[test]
    fn goldens() {
        for (closed, golden) in [
            (Closed::Kernel, include_str!("inboard/golden.nft")),
            (Closed::Proxy, include_str!("inboard/golden-proxy.nft")),
        ] {
            let text = inboard().render(closed);
            assert_eq!(
                text, golden,
                "if the change is meant, this is the golden file:\n{text}"
            );
        }
    }

    #[test]
    fn nothing_skipped_is_no_rule() {
        let text = Inboard::default().render(Closed::Kernel);
        assert!(!text.contains("{  }") && !text.contains("{ }"), "{text}");
        assert_eq!(text.matches("tcp dport {").count(), 5, "{text}");
    }

    #[test]
    fn both_languages_say_the_same() {
        let text = inboard().render(Closed::Proxy);
        for chain in inboard().legacy() {
            let said = chain.rules.iter().map(|rule| super::text(rule, chain.hook));
            let said: Vec<_> = said.map(|rule| format!("\t\t{rule}\n")).collect();
            assert!(text.contains(&said.concat()), "{text}");
        }
    }
}
