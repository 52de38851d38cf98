// SPDX-License-Identifier: Apache-2.0
//! Ports that somebody excepts from something, as people write them: `22,443,8000-8010`.
//!
//! Ordered, without overlaps, so that two texts that mean the same are equal. Read `mesh.rs` next, for the ports that are the mesh's own.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// A set of ports, from 1 to 65535. Empty by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ports(Vec<RangeInclusive<u16>>);

/// Why a text is no set of ports.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortsError {
    /// A part is neither a port nor a range.
    #[error("{part:?} is neither a port from 1 to 65535 nor a range such as 8000-8010")]
    Part {
        /// Which one.
        part: String,
    },
    /// A range ends before it begins.
    #[error("{first}-{last} ends before it begins")]
    Backwards {
        /// Where it begins.
        first: u16,
        /// Where it ends.
        last: u16,
    },
}

// === impl Ports ===

impl Ports {
    /// Whether `port` is one of them.
    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|range| range.contains(&port))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ranges, in order, none touching another.
    pub fn ranges(&self) -> &[RangeInclusive<u16>] {
        &self.0
    }

    fn of(mut ranges: Vec<RangeInclusive<u16>>) -> Self {
        ranges.sort_unstable_by_key(|range| *range.start());
        let mut merged: Vec<RangeInclusive<u16>> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match merged.last_mut() {
                Some(last) if *range.start() <= last.end().saturating_add(1) => {
                    *last = *last.start()..=*last.end().max(range.end());
                }
                _ => merged.push(range),
            }
        }
        Self(merged)
    }
}

impl FromStr for Ports {
    type Err = PortsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let ranges = text.split(',').map(|part| range(part.trim()));
        ranges.collect::<Result<_, _>>().map(Self::of)
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, range) in self.0.iter().enumerate() {
            let comma = if n > 0 { "," } else { "" };
            let (first, last) = (range.start(), range.end());
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

fn range(part: &str) -> Result<RangeInclusive<u16>, PortsError> {
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        (Some(first), Some(last)) => Err(PortsError::Backwards { first, last }),
        _ => Err(PortsError::Part {
            part: part.chars().take(40).collect(),
        }),
    }
}

/// Digits alone: a sign is not a port's.
fn port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_the_same_is_the_same() {
        for (text, same) in [
            ("", ""),
            (" ", ""),
            ("22", "22"),
            ("443, 22", "22,443"),
            ("8000-8010,8005-8020,8021", "8000-8021"),
            ("1,1,1-1", "1"),
            ("65535,65534", "65534-65535"),
            ("1-65535,80", "1-65535"),
        ] {
            let ports: Ports = text.parse().unwrap();
            assert_eq!(ports.to_string(), same, "{text}");
            assert_eq!(same.parse(), Ok(ports));
        }
        let ports: Ports = "22,8000-8010".parse().unwrap();
        let found: Vec<u16> = (1..=u16::MAX)
            .filter(|port| ports.contains(*port))
            .collect();
        assert_eq!(found.len(), 12);
        assert!(!ports.is_empty() && Ports::default().is_empty());
    }

    #[test]
    fn what_is_no_port_is_named() {
        for text in [
            "0", "65536", "+80", "-80", "80-", "a", "80,", "80;81", "1-2-3", "0-9",
        ] {
            let error = text.parse::<Ports>().unwrap_err();
            assert!(matches!(&error, PortsError::Part { .. }), "{text}: {error}");
        }
        assert_eq!(
            "90-80".parse::<Ports>(),
            Err(PortsError::Backwards {
                first: 90,
                last: 80
            })
        );
    }
}
