// SPDX-License-Identifier: Apache-2.0
//! Counters of one edge: totals, and a ring of windows of one second. Pure; the second is an argument.

use std::collections::{BTreeMap, VecDeque};

use maille_model::latency;

/// What was counted in some stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// HTTP requests that ended.
    pub requests: u64,
    /// Of these, the ones that failed.
    pub failures: u64,
    /// Payload bytes, both ways.
    pub bytes: u64,
    /// Connections opened.
    pub opened: u64,
    /// Connections closed.
    pub closed: u64,
}

/// One report's increments for one edge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Increment {
    /// Counters since the last report.
    pub counters: Counters,
    /// Latency bucket ([`latency::bucket`]) -> count.
    pub latency: Vec<(u16, u32)>,
}

/// What a window takes beside its histogram, in cells of 8 bytes.
const WINDOW_CELLS: usize = 12;

/// One edge's history.
#[derive(Debug, Default)]
pub struct Series {
    total: Counters,
    open: u64,
    ring: VecDeque<Window>,
    cells: usize,
}

/// One second.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) second: u64,
    pub(super) counters: Counters,
    /// By bucket.
    pub(super) latency: Vec<(u16, u32)>,
}

/// What happened in the last seconds, over any number of series.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Counters of the stretch.
    pub counters: Counters,
    /// Connections open at its end.
    pub open: u64,
    /// Of `counters.bytes`, the ones that travelled under mutual TLS.
    pub bytes_protected: u64,
    /// Latency bucket -> count.
    latency: BTreeMap<u16, u64>,
}

// === impl Counters ===

impl Counters {
    /// Adds, at the top of the range if need be: a peer chooses the numbers.
    pub fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.failures = self.failures.saturating_add(other.failures);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.opened = self.opened.saturating_add(other.opened);
        self.closed = self.closed.saturating_add(other.closed);
    }
}

// === impl Series ===

impl Series {
    /// Adds what a report says, in the window of `second`. Seconds never go back.
    pub fn record(&mut self, second: u64, increment: &Increment) {
        self.total.add(&increment.counters);
        self.open = self
            .open
            .saturating_add(increment.counters.opened)
            .saturating_sub(increment.counters.closed);
        match self.ring.back_mut() {
            Some(window) if window.second >= second => {
                self.cells -= window.cells();
                window.add(increment);
                self.cells += window.cells();
            }
            _ => {
                let mut window = Window {
                    second,
                    counters: Counters::default(),
                    latency: Vec::new(),
                };
                window.add(increment);
                window.latency.shrink_to_fit();
                self.cells += window.cells();
                self.ring.push_back(window);
            }
        }
    }

    /// The proxy that counted is gone, and its connections with it.
    pub fn close(&mut self) {
        self.open = 0;
    }

    /// Everything since control started.
    pub fn total(&self) -> &Counters {
        &self.total
    }

    /// Takes over the totals of a series that has ended.
    pub fn bury(&mut self, ended: &Self) {
        self.total.add(&ended.total);
    }

    /// Its windows from `since` on, the oldest first, and how many connections are open.
    pub(super) fn since(&self, since: u64) -> (impl Iterator<Item = &Window>, u64) {
        let windows = self.ring.iter().filter(move |w| w.second >= since);
        (windows, self.open)
    }

    /// One that another process counted.
    pub(super) fn carried(total: Counters, open: u64, windows: Vec<Window>) -> Self {
        Self {
            total,
            open,
            cells: windows.iter().map(Window::cells).sum(),
            ring: windows.into(),
        }
    }

    /// Adds what somebody else counted of the same edge, `later` seconds later.
    pub(super) fn absorb(&mut self, other: &Self, later: u64) {
        self.total.add(&other.total);
        self.open = self.open.saturating_add(other.open);
        let mut all: BTreeMap<u64, Window> = BTreeMap::new();
        let others = other.ring.iter().map(|window| Window {
            second: window.second.saturating_add(later),
            ..window.clone()
        });
        for window in self.ring.iter().cloned().chain(others) {
            match all.get_mut(&window.second) {
                None => {
                    all.insert(window.second, window);
                }
                Some(same) => same.add(&Increment {
                    counters: window.counters,
                    latency: window.latency,
                }),
            }
        }
        self.ring = all.into_values().collect();
        self.cells = self.ring.iter().map(Window::cells).sum();
    }

    /// Memory that its windows take, in cells of 8 bytes.
    pub fn cells(&self) -> usize {
        self.cells
    }

    /// Forgets windows before `second`.
    pub fn forget(&mut self, second: u64) {
        while let Some(window) = self.ring.front().filter(|w| w.second < second) {
            self.cells -= window.cells();
            self.ring.pop_front();
        }
    }

    /// The newest window's second, if any is kept.
    pub fn newest(&self) -> Option<u64> {
        self.ring.back().map(|window| window.second)
    }

    /// Adds the windows from `since` on to `sum`.
    pub fn sum_since(&self, since: u64, protected: bool, sum: &mut Sum) {
        sum.open = sum.open.saturating_add(self.open);
        for window in self.ring.iter().rev().take_while(|w| w.second >= since) {
            sum.counters.add(&window.counters);
            if protected {
                sum.bytes_protected = sum.bytes_protected.saturating_add(window.counters.bytes);
            }
            for (bucket, count) in &window.latency {
                let total = sum.latency.entry(*bucket).or_default();
                *total = total.saturating_add(u64::from(*count));
            }
        }
    }
}

// === impl Window ===

impl Window {
    fn cells(&self) -> usize {
        WINDOW_CELLS + self.latency.len()
    }

    fn add(&mut self, increment: &Increment) {
        self.counters.add(&increment.counters);
        for (bucket, count) in &increment.latency {
            match self.latency.binary_search_by_key(bucket, |(b, _)| *b) {
                Ok(at) => self.latency[at].1 = self.latency[at].1.saturating_add(*count),
                Err(at) => self.latency.insert(at, (*bucket, *count)),
            }
        }
    }
}

// === impl Sum ===

impl Sum {
    /// Adds another stretch of the same seconds.
    pub fn merge(&mut self, other: &Self) {
        self.counters.add(&other.counters);
        self.open = self.open.saturating_add(other.open);
        self.bytes_protected = self.bytes_protected.saturating_add(other.bytes_protected);
        for (bucket, count) in &other.latency {
            let total = self.latency.entry(*bucket).or_default();
            *total = total.saturating_add(*count);
        }
    }

    /// The latency in milliseconds below which the share `quantile` lies.
    pub fn quantile_ms(&self, quantile: f64) -> Option<f64> {
        let mut counts = vec![0; latency::BUCKETS];
        for (bucket, count) in &self.latency {
            if let Some(slot) = counts.get_mut(usize::from(*bucket)) {
                *slot = *count;
            }
        }
        latency::quantile(&counts, quantile).map(|micros| micros as f64 / 1_000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(requests: u64) -> Increment {
        Increment {
            counters: Counters {
                requests,
                bytes: 10 * requests,
                ..Counters::default()
            },
            latency: vec![(160, u32::try_from(requests).unwrap())],
        }
    }

    #[test]
    fn a_stretch_sums_its_windows_only() {
        let mut series = Series::default();
        for second in 1..=10 {
            series.record(second, &requests(second));
        }
        series.record(10, &requests(1));
        let mut sum = Sum::default();
        series.sum_since(9, true, &mut sum);
        assert_eq!(sum.counters.requests, 9 + 10 + 1);
        assert_eq!(sum.bytes_protected, 200);
        assert_eq!(series.total().requests, 56);
        assert_eq!((series.ring.len(), series.cells()), (10, 130));
        let p50 = sum.quantile_ms(0.5).unwrap() * 1_000.0;
        let low = latency::floor(160) as f64;
        assert!(p50 >= low && p50 <= latency::floor(161) as f64, "{p50}");
        series.forget(10);
        assert_eq!((series.cells(), series.newest()), (13, Some(10)));
    }

    #[test]
    fn open_connections_never_underflow() {
        let mut series = Series::default();
        let closed = Increment {
            counters: Counters {
                closed: 3,
                opened: 1,
                ..Counters::default()
            },
            latency: Vec::new(),
        };
        series.record(1, &closed);
        let mut sum = Sum::default();
        series.sum_since(0, false, &mut sum);
        assert_eq!(sum.open, 0);
    }
}
