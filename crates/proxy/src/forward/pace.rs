// SPDX-License-Identifier: Apache-2.0
//! How fast one client may begin requests of which it has many open, while clients that have few ask beside it: a thousand at once would keep both
//! proxies busy without a pause, and the processor from the others. And how long a connection rests whose reads take long to work off.
//!
//! Must never slow down who is alone, nor crowds among themselves. `hear.rs` and `forward.rs` are who ask.

use std::time::Duration;

/// Who has more requests open is a crowd.
const CROWD: usize = 32;
/// For each that a crowd begins, and for each [`OTHERS`] of others', it is not read for so long.
const PACE: Duration = Duration::from_micros(64);
const OTHERS: u64 = 4;
/// So many are let pass before it waits, and it waits for so many at most.
const LEAST: u64 = 8;
const MOST: u64 = 64;
/// Working off what one read of a connection brought may take so long before the connection has to rest, for twice as long as it took: frames of
/// one byte keep a proxy as busy as requests do.
const LONG: Duration = Duration::from_micros(100);

/// What was seen when the client was looked at last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// Requests begun by others, none of them a crowd.
    others: u64,
    /// The highest stream that the client has opened; those that were refused count as well.
    highest: u32,
}

// === impl Pace ===

impl Pace {
    /// The client was heard and began `begun` requests: it has `open` streams now, the highest is `highest`. How long it is not to be read.
    /// `modest` counts the requests of all that are no crowd.
    pub(super) fn breath(
        &mut self,
        (begun, open, highest): (u64, usize, u32),
        modest: &mut u64,
    ) -> Option<Duration> {
        if open <= CROWD {
            *modest += begun;
            *self = Self {
                others: *modest,
                highest,
            };
            return None;
        }
        let own = u64::from(highest.saturating_sub(self.highest).div_ceil(2));
        if own < LEAST {
            return None;
        }
        // At the first look nobody knows what others began meanwhile.
        let others = match self.highest {
            0 => 0,
            _ => modest.saturating_sub(self.others),
        };
        *self = Self {
            others: *modest,
            highest,
        };
        let paces = (own + others / OTHERS).min(MOST);
        let paces = u32::try_from(paces).unwrap_or(u32::MAX);
        (others > 0).then(|| PACE * paces)
    }
}

/// How long a connection is not to be read when working off what it said has taken `took`, and others ask.
pub(super) fn rest(took: Duration) -> Option<Duration> {
    let most = PACE * u32::try_from(MOST).unwrap_or(u32::MAX);
    (took > LONG).then(|| (2 * took).min(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client with `open` streams has opened `own` more since, one odd number after the other; `others` came from elsewhere.
    fn after(pace: &mut Pace, open: usize, own: u32, others: u64) -> Option<Duration> {
        let highest = pace.highest + 2 * own;
        let mut modest = pace.others + others;
        pace.breath((own.into(), open, highest), &mut modest)
    }

    #[test]
    fn a_crowd_waits_for_others_and_for_nobody_else() {
        let mut pace = Pace::default();
        assert_eq!(after(&mut pace, CROWD, 100, 100), None, "no crowd");
        assert_eq!(after(&mut pace, CROWD + 1, 100, 0), None, "alone");
        assert_eq!(after(&mut pace, CROWD + 1, 8, 1), Some(8 * PACE));
        assert_eq!(after(&mut pace, CROWD + 1, 8, 40), Some(18 * PACE));
        assert_eq!(after(&mut pace, CROWD + 1, 1000, 0), None);
        assert_eq!(after(&mut pace, CROWD + 1, 1000, 1), Some(64 * PACE));
    }

    #[test]
    fn who_takes_long_rests_longer_but_not_for_ever() {
        assert_eq!(rest(LONG), None);
        assert_eq!(rest(2 * LONG), Some(4 * LONG));
        assert_eq!(rest(Duration::from_secs(1)), Some(64 * PACE));
    }

    #[test]
    fn crowds_do_not_count_and_few_are_counted_later() {
        let (mut pace, mut modest) = (Pace::default(), 0);
        assert_eq!(pace.breath((5, CROWD, 9), &mut modest), None);
        assert_eq!(modest, 5);
        modest += 100;
        for own in 1..8 {
            assert_eq!(pace.breath((1, CROWD + 1, 9 + 2 * own), &mut modest), None);
        }
        let breath = pace.breath((1, CROWD + 1, 9 + 16), &mut modest);
        assert_eq!(breath, Some(33 * PACE));
        assert_eq!(modest, 105);
    }
}
