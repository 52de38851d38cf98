// SPDX-License-Identifier: Apache-2.0
//! Deadlines of the core. One is set for each connection or wait, never for each request; one that is no longer needed finds nobody when it is due.
//!
//! Must never be the way anything happens in the ordinary case. Next: `links.rs`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use super::exchange::Exchange;
use crate::table::{ConnId, Id, LinkId};

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The client has not said a word, or only half of one.
    Detect(ConnId),
    /// Control has not said what a client's destination was declared to speak.
    Unknown(ConnId),
    /// The head of a request is still not complete.
    Head(ConnId),
    /// A connect has not been answered.
    Connect(ConnId),
    /// A connection that should be closed still is not.
    Close(ConnId),
    /// A connection that was to wait or to rest is read again.
    Breath(ConnId),
    /// A handshake has not ended.
    Handshake(LinkId),
    /// Control has not said whose an address is.
    Wait(Id<Exchange>),
    /// A client that a server of HTTP/2 has spoken to has not said its preface.
    Unasked(Id<Exchange>),
    /// The rest of a request whose client has gone has not been taken.
    Rest(Id<Exchange>),
    /// Idle connections are looked at.
    Sweep,
    /// The proxy drains, and clients have had their time.
    Farewell,
    /// The workload leaves, and clients outside the mesh have had their time.
    LastCall,
}

/// All deadlines.
#[derive(Debug, Default)]
pub(super) struct Timers(BinaryHeap<Reverse<(Instant, Timer)>>);

// === impl Timers ===

impl Timers {
    pub(super) fn set(&mut self, at: Instant, timer: Timer) {
        self.0.push(Reverse((at, timer)));
    }

    /// The next one, if `now` has passed it.
    pub(super) fn due(&mut self, now: Instant) -> Option<Timer> {
        let Reverse((at, _)) = self.0.peek()?;
        if *at > now {
            return None;
        }
        self.0.pop().map(|Reverse((_, timer))| timer)
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }
}
