// SPDX-License-Identifier: Apache-2.0
//! When requests are too late, for those services that say so (`maille.io/timeout-*`). One entry a request, taken out when it ends.
//!
//! Apart from `timers.rs`, whose entries stay until they are due: a request is short, its deadline may be long. Must never hold an entry for an exchange
//! that has ended. Next: `timers.rs`.

use std::collections::BTreeSet;
use std::time::Instant;

use super::Core;
use super::exchange::{Carries, Exchange};
use crate::table::Id;

/// All deadlines of requests.
#[derive(Debug, Default)]
pub(super) struct Deadlines(BTreeSet<(Instant, Id<Exchange>)>);

// === impl Deadlines ===

impl Deadlines {
    fn change(&mut self, id: Id<Exchange>, before: Option<Instant>, after: Option<Instant>) {
        if before == after {
            return;
        }
        if let Some(before) = before {
            self.0.remove(&(before, id));
        }
        if let Some(after) = after {
            self.0.insert((after, id));
        }
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.0.first().map(|(at, _)| *at)
    }

    /// One that `now` has passed.
    pub(super) fn due(&mut self, now: Instant) -> Option<Id<Exchange>> {
        self.next().filter(|at| *at <= now)?;
        self.0.pop_first().map(|(_, id)| id)
    }
}

// === impl Core ===

impl Core {
    /// Sets the deadline of an exchange by where it stands: a try has begun, an answer has, or both ways are raw bytes by now.
    pub(super) fn set_deadline(&mut self, id: Id<Exchange>) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        let terms = exchange.terms();
        let none = terms.request_timeout.is_none() && terms.response_timeout.is_none();
        if none && exchange.deadline.is_none() {
            return;
        }
        let whole = terms.request_timeout.map(|time| exchange.began + time);
        let head = terms.response_timeout.filter(|_| exchange.status == 0);
        let head = head.map(|time| self.now + time);
        let message = exchange.carries != Carries::Tcp && !exchange.raw;
        let after = [whole, head]
            .into_iter()
            .flatten()
            .min()
            .filter(|_| message);
        let before = std::mem::replace(&mut exchange.deadline, after);
        self.deadlines.change(id, before, after);
    }

    /// The exchange has ended.
    pub(super) fn clear_deadline(&mut self, id: Id<Exchange>, exchange: &Exchange) {
        self.deadlines.change(id, exchange.deadline, None);
    }
}
