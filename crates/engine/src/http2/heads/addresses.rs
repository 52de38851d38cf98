// SPDX-License-Identifier: Apache-2.0
//! Addresses in heads between proxies, kept because the next head mostly says the same: reading one costs more than comparing it.
//!
//! Must never give a value for another text than its own. `mesh.rs` is who reads.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// What each address field said last.
#[derive(Debug, Default)]
pub(in crate::http2) struct Addresses {
    /// `:authority`
    pub(super) authority: Last<SocketAddr>,
    /// `:m-dst`
    pub(super) dialled: Last<SocketAddr>,
    /// `:m-src`
    pub(super) source: Last<IpAddr>,
}

/// A text, and what it stands for. What stands for nothing is not kept: texts of addresses are short.
#[derive(Debug)]
pub(super) struct Last<T> {
    text: Vec<u8>,
    value: Option<T>,
}

// === impl Last ===

impl<T> Default for Last<T> {
    fn default() -> Self {
        Self {
            text: Vec::new(),
            value: None,
        }
    }
}

impl<T: FromStr + Copy> Last<T> {
    /// What `text` stands for; `None` where it is no address, or names a zone, which means nothing on another machine.
    pub(super) fn read(&mut self, text: &[u8]) -> Option<T> {
        if self.text == text && self.value.is_some() {
            return self.value;
        }
        let said = std::str::from_utf8(text).ok()?;
        let value = said.parse().ok().filter(|_| !said.contains('%'))?;
        self.text.clear();
        self.text.extend_from_slice(text);
        self.value = Some(value);
        self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_itself() {
        let mut last = Last::<SocketAddr>::default();
        let texts = [
            "",
            "10.0.0.1:80",
            "10.0.0.1:80",
            "10.0.0.1:8080",
            "x",
            "10.0.0.1:80",
        ];
        for text in texts {
            assert_eq!(last.read(text.as_bytes()), text.parse().ok(), "{text}");
        }
        assert_eq!(last.read(b"[fe80::1%1]:80"), None);
        assert_eq!(last.read(b"\xff"), None);
        assert_eq!(last.read(b"10.0.0.1:80"), "10.0.0.1:80".parse().ok());
    }
}
