// SPDX-License-Identifier: Apache-2.0
//! How many tries beyond the first a service bears: a share of its requests and a floor, both of the last ten seconds (Finagle's retry budget).
//!
//! What it promises, whatever is asked of it: in no ten seconds are there more retries than that. Time is an argument. Read `seat.rs` next.

use std::time::Instant;

/// Seconds that count.
const WINDOW: usize = 10;

/// Requests and retries of the last seconds. 80 bytes, and nothing grows.
#[derive(Debug)]
pub(super) struct Budget {
    origin: Instant,
    /// Seconds since `origin` that the newest slot stands for.
    newest: u64,
    slots: [Slot; WINDOW],
    /// Sums of the slots.
    requests: u64,
    retries: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    requests: u32,
    retries: u32,
}

impl Budget {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            origin: now,
            newest: 0,
            slots: [Slot::default(); WINDOW],
            requests: 0,
            retries: 0,
        }
    }

    /// A request came, for the first time.
    pub(super) fn request(&mut self, now: Instant) {
        let slot = self.slot(now);
        if let Some(more) = slot.requests.checked_add(1) {
            slot.requests = more;
            self.requests += 1;
        }
    }

    /// One more try, if there is one left.
    pub(super) fn withdraw(&mut self, now: Instant, percent: u8, floor: u16) -> bool {
        self.slot(now);
        let window = WINDOW as u64;
        let allowed = self.requests * u64::from(percent) / 100 + u64::from(floor) * window;
        if self.retries >= allowed {
            return false;
        }
        let slot = self.slot(now);
        let Some(more) = slot.retries.checked_add(1) else {
            return false;
        };
        slot.retries = more;
        self.retries += 1;
        true
    }

    /// The slot of this second; those that have passed out of the window are emptied.
    fn slot(&mut self, now: Instant) -> &mut Slot {
        let second = now.saturating_duration_since(self.origin).as_secs();
        let passed = second.saturating_sub(self.newest);
        if passed > 0 {
            let all = WINDOW as u64;
            for ago in 0..passed.min(all) {
                let old = &mut self.slots[place(second - ago)];
                self.requests -= u64::from(old.requests);
                self.retries -= u64::from(old.retries);
                *old = Slot::default();
            }
            self.newest = second;
        }
        &mut self.slots[place(self.newest)]
    }
}

fn place(second: u64) -> usize {
    usize::try_from(second % WINDOW as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::start;

    #[test]
    fn a_share_of_requests_and_a_floor_that_come_back_with_time() {
        let began = start();
        let at = |second| began + Duration::from_secs(second);
        let mut budget = Budget::new(began);
        (0..100).for_each(|_| budget.request(at(0)));
        let taken = (0..100).filter(|_| budget.withdraw(at(1), 20, 0)).count();
        assert_eq!(taken, 20);
        assert!(!budget.withdraw(at(9), 20, 0));
        assert!(
            !budget.withdraw(at(10), 20, 0),
            "the requests have gone, the retries have not"
        );
        let taken = (0..100).filter(|_| budget.withdraw(at(30), 20, 3)).count();
        assert_eq!(taken, 30);
        assert!(!budget.withdraw(at(39), 20, 3));
        assert!(budget.withdraw(at(40), 20, 3));
    }
}
