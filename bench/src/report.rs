// SPDX-License-Identifier: Apache-2.0
//! Medians, and ratios to the peer, of what was measured.

use std::fmt;

use serde::Serialize;

use crate::measure::{Heads, Sample};
use crate::pairs::Peer;
use crate::tap::Tap;

/// All samples, and a row for each combination.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    rows: Vec<Row>,
    samples: Vec<Sample>,
}

/// Medians of one pair under one load.
#[derive(Debug, Serialize)]
struct Row {
    heads: Heads,
    connections: u32,
    peer: Peer,
    tap: Tap,
    rounds: usize,
    rps: f64,
    p50_us: f64,
    p99_us: f64,
    cpu_us: f64,
    /// Median over the rounds of this pair's CPU for a request to haproxy's in the same round.
    cpu_to_haproxy: f64,
    /// The same to this pair's own in the same round while nobody tapped it.
    cpu_to_untapped: f64,
    rss_kib: u64,
}

impl Report {
    pub(crate) fn of(samples: &[Sample]) -> Self {
        let mut keys: Vec<_> = samples
            .iter()
            .map(|s| (s.heads, s.connections, s.peer, s.tap))
            .collect();
        keys.sort_unstable();
        keys.dedup();
        let rows = keys.into_iter().map(|key| Row::of(samples, key)).collect();
        Self {
            rows,
            samples: samples.to_vec(),
        }
    }

    /// What the gate looks at: Maille to haproxy, 64 connections, plain heads.
    pub(crate) fn gate_ratio(&self) -> Option<f64> {
        self.rows
            .iter()
            .find(|row| {
                row.peer == Peer::Maille
                    && row.tap == Tap::None
                    && row.connections == 64
                    && row.heads == Heads::Plain
            })
            .map(|row| row.cpu_to_haproxy)
            .filter(|ratio| ratio.is_finite())
    }
}

impl Row {
    fn of(samples: &[Sample], (heads, connections, peer, tap): (Heads, u32, Peer, Tap)) -> Self {
        let of = |peer: Peer, tap: Tap| -> Vec<&Sample> {
            let same = |s: &&Sample| {
                (s.heads, s.connections, s.peer, s.tap) == (heads, connections, peer, tap)
            };
            samples.iter().filter(same).collect()
        };
        let own = of(peer, tap);
        let (reference, untapped) = (of(Peer::Haproxy, Tap::None), of(peer, Tap::None));
        let ratio = |to: &[&Sample]| {
            let pairs = own.iter().zip(to);
            median(pairs.map(|(a, b)| a.cpu_us / b.cpu_us).collect())
        };
        let middle = |value: fn(&Sample) -> f64| median(own.iter().map(|s| value(s)).collect());
        Self {
            heads,
            connections,
            peer,
            tap,
            rounds: own.len(),
            rps: middle(|s| s.rps),
            p50_us: middle(|s| s.p50_us),
            p99_us: middle(|s| s.p99_us),
            cpu_us: middle(|s| s.cpu_us),
            cpu_to_haproxy: ratio(&reference),
            cpu_to_untapped: ratio(&untapped),
            rss_kib: own.iter().map(|s| s.rss_kib).max().unwrap_or(0),
        }
    }
}

/// The middle value; NaN of nothing.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n| heads | connections | pair | tap | rounds | rps | p50 us | p99 us | CPU us/request | to haproxy | to untapped | RSS MiB |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|---|---|---|")?;
        for row in &self.rows {
            writeln!(
                f,
                "| {:?} | {} | {} | {:?} | {} | {:.0} | {:.0} | {:.0} | {:.2} | {:.2} | {:.3} | {:.1} |",
                row.heads,
                row.connections,
                row.peer,
                row.tap,
                row.rounds,
                row.rps,
                row.p50_us,
                row.p99_us,
                row.cpu_us,
                row.cpu_to_haproxy,
                row.cpu_to_untapped,
                row.rss_kib as f64 / 1024.0
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert!(median(vec![]).is_nan());
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
