// SPDX-License-Identifier: Apache-2.0
//! The name that a TLS client asks for (RFC 6066, section 3): a DNS name, in lower case, without a trailing dot.
//!
//! It comes from strangers: what was parsed here may be a label or stand in a log, and nothing else may.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// RFC 1035, section 2.3.4, as text without the trailing dot.
const LONGEST: usize = 253;
const LONGEST_LABEL: usize = 63;

/// A DNS name. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerName(Arc<str>);

/// Why a text is no server name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a DNS name")]
pub struct NotServerName;

// === impl ServerName ===

impl ServerName {
    /// The name that these bytes are.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotServerName> {
        let text = std::str::from_utf8(bytes).map_err(|_| NotServerName)?;
        let whole = !text.is_empty() && text.len() <= LONGEST;
        if whole && text.split('.').all(is_label) {
            Ok(Self(text.to_ascii_lowercase().into()))
        } else {
            Err(NotServerName)
        }
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Letters, digits and hyphens inside; underscores too, which people have.
fn is_label(label: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !label.is_empty()
        && label.len() <= LONGEST_LABEL
        && label.bytes().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

impl FromStr for ServerName {
    type Err = NotServerName;

    fn from_str(text: &str) -> Result<Self, NotServerName> {
        Self::from_bytes(text.as_bytes())
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_names() {
        for text in [
            "a",
            "Example.COM",
            "xn--bcher-kva.example",
            "_x.a-b.c0",
            "7",
        ] {
            let name: ServerName = text.parse().unwrap();
            assert_eq!(name.as_str(), text.to_ascii_lowercase());
        }
        let label = "a".repeat(64);
        let long = ["ab"; 85].join(".");
        for text in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "a b",
            "a\n",
            "bücher.example",
            "-a",
            "a-.b",
            "[::1]",
            "a:1",
            &label,
            &long,
        ] {
            assert_eq!(text.parse::<ServerName>(), Err(NotServerName), "{text}");
        }
    }
}
