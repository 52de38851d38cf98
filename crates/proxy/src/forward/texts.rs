// SPDX-License-Identifier: Apache-2.0
//! Addresses as text for the heads of streams, kept because the next head mostly says the same.
//!
//! Must never outlive the mesh connection that it is kept for. Next: `speak.rs`.

use std::fmt::{Display, Write};
use std::net::{IpAddr, SocketAddr};

/// Addresses as text: mostly the same ones as the last time.
#[derive(Debug, Default)]
pub(super) struct Texts {
    pub(super) authority: Text<SocketAddr>,
    pub(super) dialled: Text<SocketAddr>,
    pub(super) source: Text<IpAddr>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Text<T> {
    of: Option<T>,
    text: String,
}

// === impl Text ===

impl<T> Default for Text<T> {
    fn default() -> Self {
        Self {
            of: None,
            text: String::new(),
        }
    }
}

impl<T: Copy + PartialEq + Display> Text<T> {
    /// The text of `value`.
    pub(super) fn of(&mut self, value: T) -> &[u8] {
        if self.of != Some(value) {
            self.of = Some(value);
            self.text.clear();
            // Writing into a string does not fail.
            let _ = write!(self.text, "{value}");
        }
        self.text.as_bytes()
    }
}
