// SPDX-License-Identifier: Apache-2.0
//! What the observer says. Bytes and gaps are those of streams between two pods; everything else (probes from the node, the
//! way out) is `other`. Without an expectation every address is a pod, and none is meshed. Read `run.rs` next.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;

use crate::expect::Expectation;
use crate::flows::{Flows, Pair, Reason};

/// How many violations are told; more are only counted.
const VIOLATIONS: usize = 100;

/// How many pairs are told, the ones with most bytes first.
const PAIRS: usize = 1000;

/// The report; `observer.json` of `maille up`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) bytes_tls: u64,
    pub(crate) bytes_plain: u64,
    /// Of streams with an end that is no pod.
    pub(crate) bytes_other: u64,
    pub(crate) bytes_plain_between_meshed: u64,
    pub(crate) marker_hits_between_meshed: u64,
    pub(crate) frames_dropped: u64,
    pub(crate) gaps: u64,
    /// Directions of connections.
    pub(crate) streams: u64,
    /// Those of them that had begun before they were seen.
    pub(crate) beginnings_missed: u64,
    pub(crate) pairs: Vec<PairReport>,
    pub(crate) violations: Vec<Violation>,
    /// Violations that found no room in the list included.
    pub(crate) violations_total: u64,
}

/// What one pod sent another.
#[derive(Debug, Serialize)]
pub(crate) struct PairReport {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) bytes_tls: u64,
    pub(crate) bytes_plain: u64,
}

/// Something that must not be.
#[derive(Debug, Serialize)]
pub(crate) struct Violation {
    /// Seconds since 1970, of the frame; absent where it was no frame.
    pub(crate) at: Option<f64>,
    /// Whose it was; empty for what concerns all.
    pub(crate) stream: String,
    pub(crate) reason: String,
}

/// What went wrong with the observer itself.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    pub(crate) frames_dropped: u64,
    /// The expectation cannot be read.
    pub(crate) expectation: Option<String>,
}

impl Report {
    /// `expectation`: `None` if there was none to be read.
    pub(crate) fn new(flows: &Flows, expectation: Option<&Expectation>, trouble: &Trouble) -> Self {
        let mut report = Self {
            frames_dropped: trouble.frames_dropped,
            ..Self::default()
        };
        for (&(from, to), pair) in flows.pairs() {
            let name = |address| match expectation {
                Some(known) => known.pod(address).map(|pod| (pod.name.clone(), pod.meshed)),
                None => Some((String::new(), false)),
            };
            let (Some(source), Some(target)) = (name(from), name(to)) else {
                report.bytes_other += pair.counts.tls + pair.counts.plain;
                continue;
            };
            let named = |name: String, address: std::net::IpAddr| {
                if name.is_empty() {
                    address.to_string()
                } else {
                    name
                }
            };
            report.pairs.push(PairReport {
                from: named(source.0, from),
                to: named(target.0, to),
                bytes_tls: pair.counts.tls,
                bytes_plain: pair.counts.plain,
            });
            report.add(pair, source.1 && target.1);
        }
        report.own_trouble(flows, trouble);
        report.sort();
        report
    }

    /// Whether nothing is wrong.
    pub(crate) fn is_clean(&self) -> bool {
        self.violations_total == 0
    }

    /// Replaces `path` whole: a reader sees this report or the one before.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let mut text = serde_json::to_vec(self)?;
        text.push(b'\n');
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".new");
        fs::write(&temporary, text)?;
        fs::rename(&temporary, path)
    }

    fn add(&mut self, pair: &Pair, meshed: bool) {
        self.bytes_tls += pair.counts.tls;
        self.bytes_plain += pair.counts.plain;
        self.streams += pair.streams;
        self.beginnings_missed += pair.beginnings_missed;
        self.gaps += pair.gaps;
        let findings = pair
            .findings
            .iter()
            .filter(|finding| meshed || finding.reason == Reason::Gap);
        for finding in findings {
            self.violations.push(Violation {
                at: Some(finding.at.as_secs_f64()),
                stream: finding.stream.clone(),
                reason: finding.reason.to_string(),
            });
        }
        if meshed {
            self.bytes_plain_between_meshed += pair.counts.plain;
            self.marker_hits_between_meshed += pair.counts.markers;
            self.violations_total += pair.found;
        } else {
            self.violations_total += pair.gaps;
        }
    }

    fn own_trouble(&mut self, flows: &Flows, trouble: &Trouble) {
        let dropped = trouble.frames_dropped;
        let found = [
            (dropped > 0).then(|| format!("{dropped} frames were dropped before they were seen")),
            (flows.missed > 0).then(|| format!("{} streams were not followed", flows.missed)),
            trouble.expectation.clone(),
        ];
        for reason in found.into_iter().flatten() {
            self.violations_total += 1;
            self.violations.push(Violation {
                at: None,
                stream: String::new(),
                reason,
            });
        }
    }

    /// In an order that does not depend on chance, the oldest violations first.
    fn sort(&mut self) {
        let key = |pair: &PairReport| std::cmp::Reverse(pair.bytes_plain + pair.bytes_tls);
        self.pairs
            .sort_by(|a, b| (key(a), &a.from, &a.to).cmp(&(key(b), &b.from, &b.to)));
        self.pairs.truncate(PAIRS);
        let key = |violation: &Violation| violation.at.unwrap_or(0.0);
        self.violations
            .sort_by(|a, b| key(a).total_cmp(&key(b)).then(a.stream.cmp(&b.stream)));
        self.violations.truncate(VIOLATIONS);
    }
}

#[cfg(test)]
mod tests;
