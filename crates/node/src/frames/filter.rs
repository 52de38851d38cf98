// SPDX-License-Identifier: Apache-2.0
//! Which frames are recorded: the part of tcpdump's language that people use of a pod. Pure.
//!
//! `tcp`, `udp`, `icmp`, `arp`, `ip`, `ip6`, `host ADDRESS`, `net CIDR`, `port N`, `portrange N-M`, with `src` or `dst` before host and port, joined
//! by `and`, `or`, `not` and parentheses. A word that it does not know is refused, never taken for nothing. Next: `pcapng.rs`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use ipnet::IpNet;

/// Words in one filter, and parentheses in each other.
const WORDS: usize = 256;
const DEPTH: usize = 32;

/// What is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    /// Everything.
    All,
    /// By what it carries.
    Kind(Kind),
    /// By who speaks.
    Net(Ends, IpNet),
    /// By ports.
    Ports(Ends, RangeInclusive<u16>),
    Not(Box<Self>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Arp,
    Ip4,
    Ip6,
    Tcp,
    Udp,
    Icmp,
}

/// Which end is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    Source,
    Destination,
    Either,
}

/// Why a text is no filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FilterError {
    Unknown(String),
    Missing(&'static str),
    Long,
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(word) => write!(
                f,
                "{word:?} is no word of a filter; for example: tcp port 80 and host 10.244.0.3"
            ),
            Self::Missing(what) => write!(f, "the filter lacks {what}"),
            Self::Long => write!(f, "the filter is too long"),
        }
    }
}

impl std::error::Error for FilterError {}

/// What is looked at in a frame.
#[derive(Clone, Copy, Debug, Default)]
struct Facts {
    arp: bool,
    addresses: Option<(IpAddr, IpAddr)>,
    protocol: u8,
    ports: Option<(u16, u16)>,
}

/// Words that are left.
struct Words<'a> {
    words: Vec<&'a str>,
    at: usize,
    depth: usize,
}

// === impl Filter ===

impl Filter {
    /// Reads one; an empty text takes everything.
    pub(crate) fn parse(text: &str) -> Result<Self, FilterError> {
        let spaced = text
            .replace('(', " ( ")
            .replace(')', " ) ")
            .replace('!', " not ");
        let words: Vec<&str> = spaced.split_whitespace().collect();
        if words.is_empty() {
            return Ok(Self::All);
        }
        if words.len() > WORDS {
            return Err(FilterError::Long);
        }
        let mut words = Words {
            words,
            at: 0,
            depth: 0,
        };
        let filter = words.any()?;
        match words.next() {
            None => Ok(filter),
            Some(word) => Err(FilterError::Unknown(word.to_owned())),
        }
    }

    /// Whether it takes a frame, Ethernet header first.
    pub(crate) fn takes(&self, frame: &[u8]) -> bool {
        *self == Self::All || self.is(&facts(frame))
    }

    fn is(&self, facts: &Facts) -> bool {
        let either = |ends: Ends, source: bool, destination: bool| match ends {
            Ends::Source => source,
            Ends::Destination => destination,
            Ends::Either => source || destination,
        };
        match self {
            Self::All => true,
            Self::Kind(kind) => match kind {
                Kind::Arp => facts.arp,
                Kind::Ip4 => {
                    facts.addresses.is_some_and(|(source, _)| source.is_ipv4()) && !facts.arp
                }
                Kind::Ip6 => facts.addresses.is_some_and(|(source, _)| source.is_ipv6()),
                Kind::Tcp => facts.protocol == 6,
                Kind::Udp => facts.protocol == 17,
                Kind::Icmp => facts.protocol == 1 || facts.protocol == 58,
            },
            Self::Net(ends, net) => facts.addresses.is_some_and(|(source, destination)| {
                either(*ends, net.contains(&source), net.contains(&destination))
            }),
            Self::Ports(ends, ports) => facts.ports.is_some_and(|(source, destination)| {
                either(*ends, ports.contains(&source), ports.contains(&destination))
            }),
            Self::Not(filter) => !filter.is(facts),
            Self::And(left, right) => left.is(facts) && right.is(facts),
            Self::Or(left, right) => left.is(facts) || right.is(facts),
        }
    }
}

// === impl Words ===

impl<'a> Words<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.at).copied()
    }

    fn next(&mut self) -> Option<&'a str> {
        let word = self.peek();
        self.at += 1;
        word
    }

    fn any(&mut self) -> Result<Filter, FilterError> {
        let mut filter = self.every()?;
        while matches!(self.peek(), Some("or" | "||")) {
            self.at += 1;
            filter = Filter::Or(Box::new(filter), Box::new(self.every()?));
        }
        Ok(filter)
    }

    fn every(&mut self) -> Result<Filter, FilterError> {
        let mut filter = self.one()?;
        loop {
            match self.peek() {
                Some("and" | "&&") => self.at += 1,
                // `tcp port 80`: two words beside each other are both meant.
                Some(word) if !matches!(word, "or" | "||" | ")") => {}
                _ => return Ok(filter),
            }
            filter = Filter::And(Box::new(filter), Box::new(self.one()?));
        }
    }

    fn one(&mut self) -> Result<Filter, FilterError> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(FilterError::Long);
        }
        let filter = self.term();
        self.depth -= 1;
        filter
    }

    fn term(&mut self) -> Result<Filter, FilterError> {
        let ends = match self.peek() {
            Some("src") => Ends::Source,
            Some("dst") => Ends::Destination,
            _ => Ends::Either,
        };
        if ends != Ends::Either {
            self.at += 1;
        }
        let kind = |kind| Ok(Filter::Kind(kind));
        match self.next().ok_or(FilterError::Missing("a condition"))? {
            "(" if ends == Ends::Either => {
                let filter = self.any()?;
                match self.next() {
                    Some(")") => Ok(filter),
                    _ => Err(FilterError::Missing("a closing parenthesis")),
                }
            }
            "not" if ends == Ends::Either => Ok(Filter::Not(Box::new(self.one()?))),
            "host" => self.net(ends, true),
            "net" => self.net(ends, false),
            "port" => self.ports(ends),
            "portrange" => self.ports(ends),
            "arp" if ends == Ends::Either => kind(Kind::Arp),
            "ip" if ends == Ends::Either => kind(Kind::Ip4),
            "ip6" if ends == Ends::Either => kind(Kind::Ip6),
            "tcp" if ends == Ends::Either => kind(Kind::Tcp),
            "udp" if ends == Ends::Either => kind(Kind::Udp),
            "icmp" | "icmp6" if ends == Ends::Either => kind(Kind::Icmp),
            other => Err(FilterError::Unknown(other.to_owned())),
        }
    }

    fn net(&mut self, ends: Ends, host: bool) -> Result<Filter, FilterError> {
        let word = self.next().ok_or(FilterError::Missing("an address"))?;
        let unknown = || FilterError::Unknown(word.to_owned());
        let net = if host {
            IpNet::from(word.parse::<IpAddr>().map_err(|_| unknown())?)
        } else {
            word.parse().map_err(|_| unknown())?
        };
        Ok(Filter::Net(ends, net))
    }

    fn ports(&mut self, ends: Ends) -> Result<Filter, FilterError> {
        let word = self.next().ok_or(FilterError::Missing("a port"))?;
        let port = |text: &str| {
            text.parse::<u16>()
                .map_err(|_| FilterError::Unknown(word.to_owned()))
        };
        let ports = match word.split_once('-') {
            Some((from, to)) => port(from)?..=port(to)?,
            None => port(word)?..=port(word)?,
        };
        Ok(Filter::Ports(ends, ports))
    }
}

fn facts(frame: &[u8]) -> Facts {
    let read = |at: usize| -> Option<u16> {
        let bytes = frame.get(at..at + 2)?;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    };
    let mut at = 12;
    // Tags of VLANs are passed over.
    while matches!(read(at), Some(0x8100 | 0x88a8)) && at < 32 {
        at += 4;
    }
    let start = at + 2;
    match read(at) {
        Some(0x0806) => Facts {
            arp: true,
            addresses: v4(frame, start + 14).zip(v4(frame, start + 24)),
            ..Facts::default()
        },
        Some(0x0800) => {
            let length = usize::from(frame.get(start).copied().unwrap_or(0) & 15) * 4;
            let protocol = frame.get(start + 9).copied().unwrap_or(0);
            let later = read(start + 6).is_some_and(|word| word & 0x1fff != 0);
            let behind = start + length;
            Facts {
                addresses: v4(frame, start + 12).zip(v4(frame, start + 16)),
                protocol,
                ports: (matches!(protocol, 6 | 17) && !later)
                    .then(|| read(behind).zip(read(behind + 2)))
                    .flatten(),
                arp: false,
            }
        }
        Some(0x86dd) => {
            let protocol = frame.get(start + 6).copied().unwrap_or(0);
            let behind = start + 40;
            Facts {
                addresses: v6(frame, start + 8).zip(v6(frame, start + 24)),
                protocol,
                ports: matches!(protocol, 6 | 17)
                    .then(|| read(behind).zip(read(behind + 2)))
                    .flatten(),
                arp: false,
            }
        }
        _ => Facts::default(),
    }
}

fn v4(frame: &[u8], at: usize) -> Option<IpAddr> {
    let bytes: [u8; 4] = frame.get(at..at + 4)?.try_into().ok()?;
    Some(IpAddr::V4(Ipv4Addr::from(bytes)))
}

fn v6(frame: &[u8], at: usize) -> Option<IpAddr> {
    let bytes: [u8; 16] = frame.get(at..at + 16)?.try_into().ok()?;
    Some(IpAddr::V6(Ipv6Addr::from(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(source: [u8; 4], destination: [u8; 4], ports: (u16, u16)) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0]);
        frame.extend(source);
        frame.extend(destination);
        frame.extend(ports.0.to_be_bytes());
        frame.extend(ports.1.to_be_bytes());
        frame
    }

    #[test]
    fn words_and_what_they_take() {
        let frame = tcp([10, 0, 0, 1], [10, 0, 0, 2], (4000, 80));
        for (text, taken) in [
            ("", true),
            ("tcp", true),
            ("udp", false),
            ("port 80", true),
            ("src port 80", false),
            ("dst port 80 and src host 10.0.0.1", true),
            ("tcp port 443 or host 10.0.0.2", true),
            ("not (tcp and port 80)", false),
            ("! port 443", true),
            ("net 10.0.0.0/30", true),
            ("ip6", false),
            ("portrange 79-81", true),
            ("arp or icmp", false),
        ] {
            let filter = Filter::parse(text).unwrap();
            assert_eq!(filter.takes(&frame), taken, "{text}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for text in [
            "prot 80",
            "port",
            "port http",
            "host web",
            "(tcp",
            "tcp)",
            "and",
            "src tcp",
            "tcp or",
            &"( ".repeat(100),
            &"tcp ".repeat(1_000),
        ] {
            assert!(Filter::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn frames_of_any_length_are_looked_at() {
        let filter = Filter::parse("port 80 or host ::1 or arp").unwrap();
        let whole = tcp([1; 4], [2; 4], (80, 80));
        for length in 0..whole.len() {
            filter.takes(&whole[..length]);
            for kind in [[0x08, 0x06], [0x86, 0xdd], [0x81, 0x00]] {
                let mut frame = whole[..length].to_vec();
                if length >= 14 {
                    frame[12..14].copy_from_slice(&kind);
                }
                filter.takes(&frame);
            }
        }
    }
}
