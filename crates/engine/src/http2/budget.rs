// SPDX-License-Identifier: Apache-2.0
//! How much a peer may make us do for nothing: answers, resets, frames without content (`docs/wire.md`, limits). Read `receive.rs` next.

/// Frames without progress for each [`PERIOD`], and streams of an application that were reset for each [`SHORT`]: when a server is slow, every
/// request of a client that has deadlines ends like this, and the connection with them would take along what is well.
pub(super) const MOST: u32 = 1000;
/// Streams of another proxy that were reset: it carries the impatience of many clients.
pub(super) const MOST_OF_MESH: u32 = 20_000;
/// Windows that are opened though nothing went through them, and the same between proxies, whose connections carry many streams.
pub(super) const MOST_WINDOWS: u32 = 10_000;
pub(super) const MOST_WINDOWS_OF_MESH: u32 = 200_000;
/// Milliseconds.
const PERIOD: u64 = 10_000;
pub(super) const SHORT: u64 = 1_000;

/// What a peer has spent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    most: u32,
    period: u64,
    since: u64,
    spent: u32,
}

// === impl Budget ===

impl Budget {
    /// Nothing spent, of `most` for each [`PERIOD`].
    pub(super) fn new(most: u32) -> Self {
        Self::each(PERIOD, most)
    }

    /// Nothing spent, of `most` for each `period`.
    pub(super) fn each(period: u64, most: u32) -> Self {
        Self {
            most,
            period,
            since: 0,
            spent: 0,
        }
    }

    /// One more. Whether that was one too many. `now` in milliseconds.
    pub(super) fn charge(&mut self, now: u64) -> bool {
        if now.saturating_sub(self.since) >= self.period {
            self.since = now;
            self.spent = 0;
        }
        self.spent = self.spent.saturating_add(1);
        self.spent > self.most
    }

    /// Something was done that `many` of them are allowed for.
    pub(super) fn pay(&mut self, many: usize) {
        let many = u32::try_from(many).unwrap_or(u32::MAX);
        self.spent = self.spent.saturating_sub(many);
    }

    /// Something was done that such frames are allowed for: a stream ended as streams should, or content came or went.
    pub(super) fn progress(&mut self) {
        self.pay(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_for_each_ten_seconds() {
        let mut budget = Budget::new(MOST);
        for _ in 0..MOST {
            assert!(!budget.charge(5));
        }
        assert!(budget.charge(9_999));
        assert!(!budget.charge(10_000));
        let mut resets = Budget::each(SHORT, MOST);
        for at in 0..10 {
            assert!(!(0..MOST).any(|_| resets.charge(at * SHORT)));
        }
        assert!(resets.charge(9 * SHORT + 999));
    }

    #[test]
    fn work_done_pays() {
        let mut budget = Budget::new(MOST);
        for _ in 0..10 * MOST {
            assert!(!budget.charge(5));
            budget.progress();
        }
    }
}
