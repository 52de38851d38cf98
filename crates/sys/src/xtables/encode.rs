// SPDX-License-Identifier: Apache-2.0
//! One rule as the kernel's `ipt_entry` or `ip6t_entry`: a head, matches, a target, each as long as it says. Pure.
//!
//! The layouts are those of 64-bit machines (`linux/netfilter_ipv4/ip_tables.h`, `linux/netfilter_ipv6/ip6_tables.h`,
//! `linux/netfilter/x_tables.h`). Must never write an entry that `table.rs` could not read.

use std::ops::RangeInclusive;

use ipnet::IpNet;

use super::{Chain, Family, Hook, Look, Rule, Then};

/// Everything begins at a multiple of this.
const ALIGN: usize = 8;
/// The head of a match or target: size, name, revision.
const HEAD: usize = 32;
/// Bytes of a match's or target's name.
const NAME: usize = 29;
const TCP: u8 = 6;
/// Not a verdict but "back to the chain before".
pub(super) const RETURN: i32 = -5;
/// `XT_OWNER_UID`.
const BY_USER: u8 = 1;
/// `NF_NAT_RANGE_PROTO_SPECIFIED`.
const BY_PORT: u32 = 2;
/// `IP6T_F_PROTO`: the protocol is looked at.
const LOOK_AT_PROTOCOL: u8 = 1;

/// Where the parts of a head are.
pub(super) struct Layout {
    /// Of the whole head.
    pub(super) size: usize,
    /// Two bytes, where the target is; two more, where the next entry is.
    pub(super) offsets: usize,
    to: usize,
    to_mask: usize,
    /// Names and masks of interfaces, 16 bytes each.
    incoming: [usize; 2],
    outgoing: [usize; 2],
    protocol: usize,
    flags: Option<usize>,
}

/// A rule under way.
struct Entry {
    bytes: Vec<u8>,
    layout: &'static Layout,
}

const V4: Layout = Layout {
    size: 112,
    offsets: 88,
    to: 4,
    to_mask: 12,
    incoming: [16, 48],
    outgoing: [32, 64],
    protocol: 80,
    flags: None,
};

const V6: Layout = Layout {
    size: 168,
    offsets: 140,
    to: 16,
    to_mask: 48,
    incoming: [64, 96],
    outgoing: [80, 112],
    protocol: 128,
    flags: Some(131),
};

/// How `family` lays its entries out.
pub(super) const fn layout(family: Family) -> &'static Layout {
    match family {
        Family::V4 => &V4,
        Family::V6 => &V6,
    }
}

/// The rules of a chain, as far as they are about `family`. One that names several ranges of ports becomes several.
pub(super) fn rules(family: Family, chain: &Chain) -> Vec<Vec<u8>> {
    let each = chain.rules.iter();
    each.flat_map(|rule| one(family, chain.hook, rule))
        .collect()
}

fn one(family: Family, hook: Hook, rule: &Rule) -> Vec<Vec<u8>> {
    let ranges = rule.looks.iter().find_map(|look| match look {
        Look::Ports(ranges) => Some(ranges),
        _ => None,
    });
    let encode = |range: Option<&RangeInclusive<u16>>| {
        let mut entry = Entry::new(family);
        for look in &rule.looks {
            entry.look(look, hook)?;
        }
        if let Some(range) = range {
            entry.ports(range);
        }
        Some(match rule.then {
            Then::Pass => entry.standard(RETURN),
            Then::Redirect(port) => entry.redirect(family, port),
        })
    };
    match ranges {
        None => encode(None).into_iter().collect(),
        Some(ranges) => ranges
            .iter()
            .filter_map(|range| encode(Some(range)))
            .collect(),
    }
}

/// The entry that every chain but the built-in ones begins with.
pub(super) fn title(family: Family, name: &str) -> Vec<u8> {
    let mut error = [0; 32];
    put(&mut error, 0, name.as_bytes());
    Entry::new(family).end("ERROR", 0, &error)
}

/// An entry that fits everything and has this verdict.
pub(super) fn always(family: Family, verdict: i32) -> Vec<u8> {
    Entry::new(family).standard(verdict)
}

// === impl Entry ===

impl Entry {
    fn new(family: Family) -> Self {
        let layout = layout(family);
        Self {
            bytes: vec![0; layout.size],
            layout,
        }
    }

    /// None: a rule with this never fits anything in this family.
    fn look(&mut self, look: &Look, hook: Hook) -> Option<()> {
        match look {
            Look::User(user) => {
                // The least and the greatest user, then the same of groups.
                let mut owner = [0; 24];
                put(&mut owner, 0, &user.to_ne_bytes());
                put(&mut owner, 4, &user.to_ne_bytes());
                put(&mut owner, 16, &[BY_USER]);
                self.part("owner", 1, &owner);
            }
            Look::To(net) => self.to(net)?,
            Look::Loopback => {
                let [name, mask] = match hook {
                    Hook::Arriving => self.layout.incoming,
                    Hook::Leaving => self.layout.outgoing,
                };
                put(&mut self.bytes, name, b"lo");
                // With the zero at its end: the whole name.
                put(&mut self.bytes, mask, &[0xff; 3]);
            }
            Look::Tcp | Look::Ports(_) => {
                put(
                    &mut self.bytes,
                    self.layout.protocol,
                    &u16::from(TCP).to_ne_bytes(),
                );
                if let Some(flags) = self.layout.flags {
                    put(&mut self.bytes, flags, &[LOOK_AT_PROTOCOL]);
                }
            }
        }
        Some(())
    }

    fn to(&mut self, net: &IpNet) -> Option<()> {
        let layout = self.layout;
        match (net, layout.flags) {
            (IpNet::V4(net), None) => {
                put(&mut self.bytes, layout.to, &net.network().octets());
                put(&mut self.bytes, layout.to_mask, &net.netmask().octets());
            }
            (IpNet::V6(net), Some(_)) => {
                put(&mut self.bytes, layout.to, &net.network().octets());
                put(&mut self.bytes, layout.to_mask, &net.netmask().octets());
            }
            _ => return None,
        }
        Some(())
    }

    fn ports(&mut self, to: &RangeInclusive<u16>) {
        // From any port, to these, with any flags and options.
        let mut tcp = [0; 16];
        for (at, port) in [(2, u16::MAX), (4, *to.start()), (6, *to.end())] {
            put(&mut tcp, at, &port.to_ne_bytes());
        }
        self.part("tcp", 0, &tcp);
    }

    fn standard(self, verdict: i32) -> Vec<u8> {
        let mut data = [0; ALIGN];
        put(&mut data, 0, &verdict.to_ne_bytes());
        self.end("", 0, &data)
    }

    fn redirect(self, family: Family, port: u16) -> Vec<u8> {
        // The one range: flags, two addresses, two ports. For IPv4 after how many there are.
        let (mut data, flags, ports) = match family {
            Family::V4 => (vec![0; 24], 4, 16),
            Family::V6 => (vec![0; 40], 0, 36),
        };
        if family == Family::V4 {
            put(&mut data, 0, &1_u32.to_ne_bytes());
        }
        put(&mut data, flags, &BY_PORT.to_ne_bytes());
        for at in [ports, ports + 2] {
            put(&mut data, at, &port.to_be_bytes());
        }
        self.end("REDIRECT", 0, &data)
    }

    fn part(&mut self, name: &str, revision: u8, data: &[u8]) {
        let mut head = [0; HEAD];
        put(&mut head, 0, &short(HEAD + data.len()));
        put(&mut head, 2, name.as_bytes());
        put(&mut head, 2 + NAME, &[revision]);
        self.bytes.extend(head);
        self.bytes.extend(data);
    }

    fn end(mut self, name: &str, revision: u8, data: &[u8]) -> Vec<u8> {
        let target = short(self.bytes.len());
        self.part(name, revision, data);
        let next = short(self.bytes.len());
        let offsets = self.layout.offsets;
        put(&mut self.bytes, offsets, &target);
        put(&mut self.bytes, offsets + 2, &next);
        self.bytes
    }
}

/// Entries are a few hundred bytes.
fn short(number: usize) -> [u8; 2] {
    u16::try_from(number).unwrap_or(u16::MAX).to_ne_bytes()
}

/// Writes `what` at `at`, as far as there is room.
pub(super) fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + what.len()) {
        place.copy_from_slice(what);
    }
}
