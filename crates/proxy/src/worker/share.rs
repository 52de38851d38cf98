// SPDX-License-Identifier: Apache-2.0
//! How much of a connection is read at once: so much that working it off takes a small part of a millisecond, lest one connection makes
//! all others wait for the end of a turn. A few bytes may be much work: chunks and frames of one byte, requests, blocks that decode to more than they are.
//!
//! Must never keep a connection from being read at all. `worker.rs` is who reads.

use std::time::Duration;

/// What working off one read may take.
const LONG: Duration = Duration::from_micros(200);
/// A timed read that begins more requests makes the next one smaller: most of what they cost comes later, when they are sent on and answered.
const MANY: u64 = 16;

/// The most bytes that the next read takes, learned from what earlier ones cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share(usize);

impl Share {
    /// Before anything is known.
    pub(super) const FIRST: Self = Self(512);
    const LEAST: usize = 256;
    const MOST: usize = 256 * 1024;
    /// Reads of fewer bytes are not timed: looking at the clock would cost an ordinary request more than it tells.
    const CHEAP: usize = 2 * 1024;

    /// What the next read takes.
    pub(super) fn bytes(self) -> usize {
        self.0
    }

    /// Whether a read that brought `taken` bytes where `most` were asked for is to be timed.
    pub(super) fn is_timed(taken: usize, most: usize) -> bool {
        taken >= Self::CHEAP || taken >= most
    }

    /// Such a read was worked off in `took`, and began `requests` that are one client's.
    pub(super) fn settle(&mut self, taken: usize, most: usize, took: Duration, requests: u64) {
        if took > LONG || requests > MANY {
            self.0 = (taken / 2).clamp(Self::LEAST, Self::MOST);
        } else if took < LONG / 2 && requests <= MANY / 2 && taken >= most {
            self.0 = (self.0 * 2).min(Self::MOST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_falls_with_the_time_and_rises_with_the_bytes() {
        let mut share = Share::FIRST;
        let read = |share: &mut Share, took| {
            let most = share.bytes();
            assert!(Share::is_timed(most, most));
            share.settle(most, most, took, 1);
        };
        for _ in 0..20 {
            read(&mut share, LONG / 10);
        }
        assert_eq!(share.bytes(), Share::MOST);
        for _ in 0..20 {
            read(&mut share, LONG * 2);
        }
        assert_eq!(share.bytes(), Share::LEAST);
        // Who says little is not given more for it, nor asked what it cost.
        share.settle(10, share.bytes(), Duration::ZERO, 1);
        assert_eq!(share.bytes(), Share::LEAST);
        assert!(!Share::is_timed(10, Share::LEAST));
        // Between the two nothing changes.
        share.settle(Share::LEAST, Share::LEAST, LONG / 2, 1);
        assert_eq!(share.bytes(), Share::LEAST);
    }

    #[test]
    fn requests_are_more_work_than_reading_them() {
        let mut share = Share(4 * Share::LEAST);
        let mut read = |requests| {
            let most = share.bytes();
            share.settle(most, most, Duration::ZERO, requests);
            share.bytes()
        };
        assert_eq!(read(MANY + 1), 2 * Share::LEAST);
        assert_eq!(read(MANY), 2 * Share::LEAST);
        assert_eq!(read(MANY / 2), 4 * Share::LEAST);
    }
}
