// SPDX-License-Identifier: Apache-2.0
//! The streams that were closed last, and by whom: what still comes for one that we reset is only late, for any other it is a fault
//! (RFC 9113, section 5.1). Bounded: what is forgotten counts as late. Read `connection.rs` next.

use std::collections::VecDeque;

/// Streams that are remembered.
const MOST: usize = 512;

/// Who closed a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// We reset it: the peer could not know yet.
    Us,
    /// The peer reset it, or had said its last before we did.
    Peer,
}

/// The last streams, the latest last.
#[derive(Debug, Default)]
pub(super) struct Closed(VecDeque<(u32, By)>);

// === impl Closed ===

impl Closed {
    pub(super) fn put(&mut self, stream: u32, by: By) {
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back((stream, by));
    }

    /// The peer reset a stream that we had reset: from here on it knows.
    pub(super) fn heard(&mut self, stream: u32) {
        if let Some((_, by)) = self.0.iter_mut().rev().find(|(known, _)| *known == stream) {
            *by = By::Peer;
        }
    }

    /// Who closed a stream; `None` for one that was never opened, or long ago.
    pub(super) fn find(&self, stream: u32) -> Option<By> {
        let found = self.0.iter().rev().find(|(known, _)| *known == stream);
        found.map(|(_, by)| *by)
    }

    /// Whether some were forgotten.
    pub(super) fn is_full(&self) -> bool {
        self.0.len() == MOST
    }
}
