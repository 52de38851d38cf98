// SPDX-License-Identifier: Apache-2.0
//! How long to wait before something that ended is started again. No clock: times are arguments.

use std::time::Duration;

/// The waits of one thing that is started again and again.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    /// A run that lasted this long was a good one.
    good: Duration,
    /// Bad runs that cost nothing.
    free: u32,
    bad: u32,
}

impl Backoff {
    /// A container, as Kubernetes has it: at once, then 10 s, 20 s, ... 5 min; forgotten after a run of ten minutes.
    pub(crate) const fn container() -> Self {
        Self {
            first: Duration::from_secs(10),
            most: Duration::from_secs(300),
            good: Duration::from_secs(600),
            free: 1,
            bad: 0,
        }
    }

    /// A pod that cannot be set up: at once, then 1 s, 2 s, ... 60 s.
    pub(crate) const fn pod() -> Self {
        Self {
            first: Duration::from_secs(1),
            most: Duration::from_secs(60),
            good: Duration::from_secs(60),
            free: 1,
            bad: 0,
        }
    }

    /// A process of the mesh: at once three times, because every moment without it is somebody's wait, then 100 ms, 200 ms, ... 5 s.
    pub(crate) const fn mesh() -> Self {
        Self {
            first: Duration::from_millis(100),
            most: Duration::from_secs(5),
            good: Duration::from_secs(10),
            free: 3,
            bad: 0,
        }
    }

    /// The wait after a run of `ran`.
    pub(crate) fn after(&mut self, ran: Duration) -> Duration {
        if ran >= self.good {
            self.bad = 0;
        }
        self.bad = self.bad.saturating_add(1);
        if self.bad <= self.free {
            return Duration::ZERO;
        }
        let doublings = (self.bad - self.free - 1).min(16);
        (self.first * (1 << doublings)).min(self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_most_and_forgets_after_a_good_run() {
        let mut backoff = Backoff::container();
        let waits: Vec<u64> = (0..9)
            .map(|_| backoff.after(Duration::ZERO).as_secs())
            .collect();
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300, 300]);
        assert_eq!(backoff.after(Duration::from_secs(601)), Duration::ZERO);
        assert_eq!(backoff.after(Duration::ZERO), Duration::from_secs(10));
        for _ in 0..1000 {
            assert!(backoff.after(Duration::ZERO) <= Duration::from_secs(300));
        }
    }
}
