// SPDX-License-Identifier: Apache-2.0
//! A resource as bytes, and the version that is made of nothing but these bytes. Read [`super`] next.

use std::fmt;
use std::hash::{DefaultHasher, Hasher as _};

use bytes::Bytes;

/// A resource, ready to be sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The protobuf message.
    pub bytes: Bytes,
    /// The hash of `bytes`.
    pub version: Version,
}

/// Tells two contents of one resource apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Version(u128);

// === impl Encoded ===

impl Encoded {
    /// Takes a message's bytes.
    pub fn new(bytes: Bytes) -> Self {
        let version = Version::of(&bytes);
        Self { bytes, version }
    }
}

impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, version {}", self.bytes.len(), self.version)
    }
}

// === impl Version ===

impl Version {
    /// Two SipHashes of different prefixes. The standard library may change the function: then a new control sends once what
    /// proxies already have.
    fn of(bytes: &[u8]) -> Self {
        let half = |prefix: u8| {
            let mut hasher = DefaultHasher::new();
            hasher.write_u8(prefix);
            hasher.write(bytes);
            u128::from(hasher.finish())
        };
        Self(half(0) << 64 | half(1))
    }

    /// Reads what [`Version`] displays. `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let ok = text.len() == 32 && text.bytes().all(hex);
        ok.then(|| u128::from_str_radix(text, 16).ok().map(Self))?
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_of_the_bytes_and_read_back() {
        let of = |text: &'static str| Encoded::new(Bytes::from_static(text.as_bytes())).version;
        assert_eq!(of("a"), of("a"));
        assert_ne!(of("a"), of("b"));
        assert_eq!(Version::parse(&of("a").to_string()), Some(of("a")));
        for text in [
            "",
            "1",
            &"g".repeat(32),
            &"+".repeat(32),
            &"A".repeat(32),
            &"0".repeat(33),
        ] {
            assert_eq!(Version::parse(text), None, "{text:?}");
        }
    }
}
