// SPDX-License-Identifier: Apache-2.0
//! How much a peer may make us do for nothing: answers, resets, frames without content (`docs/wire.md`, limits). Read `receive.rs` next.

/// Such frames for each [`PERIOD`].
const MOST: u32 = 1000;
/// Milliseconds.
const PERIOD: u64 = 10_000;

/// What a peer has spent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Budget {
    since: u64,
    spent: u32,
}

// === impl Budget ===

impl Budget {
    /// One more. Whether that was one too many. `now` in milliseconds.
    pub(super) fn charge(&mut self, now: u64) -> bool {
        if now.saturating_sub(self.since) >= PERIOD {
            self.since = now;
            self.spent = 0;
        }
        self.spent = self.spent.saturating_add(1);
        self.spent > MOST
    }

    /// A stream ended as streams should: that is what resets and settings are allowed for.
    pub(super) fn progress(&mut self) {
        self.spent = self.spent.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_for_each_ten_seconds() {
        let mut budget = Budget::default();
        for _ in 0..MOST {
            assert!(!budget.charge(5));
        }
        assert!(budget.charge(9_999));
        assert!(!budget.charge(10_000));
    }

    #[test]
    fn work_done_pays() {
        let mut budget = Budget::default();
        for _ in 0..10 * MOST {
            assert!(!budget.charge(5));
            budget.progress();
        }
    }
}
