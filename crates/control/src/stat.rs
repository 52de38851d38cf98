// SPDX-License-Identifier: Apache-2.0
//! What proxies reported, added up. Pure: the time is an argument (whole seconds of a clock that never goes back).
//!
//! Bounded whatever a proxy says: edges a workload, memory of all windows, flags from a closed list. It must never decide
//! who somebody is by a proxy's word: the other end is looked up in the index by the caller. Read [`window`], then [`view`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use maille_model::{Name, ServiceId, WorkloadUid};

/// On the way between replicas.
mod carried;
/// Rows by resource.
pub mod rows;
/// Answers of `GET /v1/stat`.
pub mod view;
/// Counters and their ring.
pub mod window;

pub use window::{Counters, Increment, Series, Sum};

/// Seconds that windows are kept.
pub const KEPT_SECONDS: u64 = 600;
/// Edges that one workload may report.
pub const EDGES: usize = 4_096;
/// Memory of all windows, in cells of 8 bytes (10 MB); above it the oldest are forgotten first.
const CELLS: usize = 1_250_000;

/// The flags of `docs/wire.md` section 5; what is not in it counts as `other`.
const FLAGS: [&str; 19] = [
    "connect-refused",
    "connect-timeout",
    "connect-unreachable",
    "peer-identity",
    "no-endpoint",
    "no-port",
    "unknown-address",
    "misdirected",
    "malformed-request",
    "malformed-response",
    "response-too-large",
    "upstream-closed",
    "stream-refused",
    "no-extended-connect",
    "response-timeout",
    "request-timeout",
    "concurrency-limit",
    "draining",
    "overloaded",
];

/// What pods are counted under: their owner, or the pod itself where it has none.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Who {
    /// Its namespace.
    pub namespace: Name,
    /// `Deployment`, `Pod`, ...
    pub kind: String,
    /// Its name.
    pub name: Name,
    /// Whether its traffic passes through proxies of its own.
    pub meshed: bool,
}

/// Which side of a connection reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// The client's.
    Outbound,
    /// The server's.
    Inbound,
}

/// What a proxy was said to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Spoken {
    /// Requests are counted.
    Http,
    /// Only connections and bytes are.
    Tcp,
}

/// One edge as one workload sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EdgeKey {
    /// The reporter's side.
    pub direction: Direction,
    /// The other end; `None`: no workload that control knows.
    pub peer: Option<Arc<Who>>,
    /// Which pod of it, where that is known.
    pub pod: Option<WorkloadUid>,
    /// The service that was addressed.
    pub service: Option<ServiceId>,
    /// The port that was addressed.
    pub port: u16,
    /// What it spoke.
    pub spoken: Spoken,
    /// The hop was mutual TLS.
    pub protected: bool,
}

/// One edge of one report, parsed.
#[derive(Clone, Debug)]
pub struct Observation {
    /// Which edge.
    pub key: EdgeKey,
    /// What was counted.
    pub increment: Increment,
    /// Failure flag -> count.
    pub flags: Vec<(String, u64)>,
}

/// Everything reported.
#[derive(Debug, Default)]
pub struct Stats {
    reporters: HashMap<WorkloadUid, Reporter>,
    cells: usize,
}

/// One workload's reports.
#[derive(Debug)]
pub struct Reporter {
    who: Arc<Who>,
    first: u64,
    last: u64,
    edges: HashMap<EdgeKey, Edge>,
    dropped: u64,
}

#[derive(Debug, Default)]
struct Edge {
    series: Series,
    flags: BTreeMap<&'static str, u64>,
}

// === impl Stats ===

impl Stats {
    /// Adds one report of `uid`, which is counted under `who`. `dropped` are edges that its proxy had no room for.
    pub fn report(
        &mut self,
        uid: &WorkloadUid,
        who: &Arc<Who>,
        second: u64,
        observations: Vec<Observation>,
        dropped: u64,
    ) {
        let reporter = self
            .reporters
            .entry(uid.clone())
            .or_insert_with(|| Reporter {
                who: who.clone(),
                first: second,
                last: second,
                edges: HashMap::new(),
                dropped: 0,
            });
        reporter.last = reporter.last.max(second);
        reporter.dropped = reporter.dropped.saturating_add(dropped);
        let last = reporter.last;
        for observation in observations {
            if reporter.edges.len() >= EDGES && !reporter.edges.contains_key(&observation.key) {
                reporter.dropped = reporter.dropped.saturating_add(1);
                continue;
            }
            let edge = reporter.edges.entry(observation.key).or_default();
            let before = edge.series.cells();
            edge.series.record(last, &observation.increment);
            self.cells += edge.series.cells() - before;
            for (flag, count) in observation.flags {
                let known = FLAGS.into_iter().find(|known| *known == flag);
                let total = edge.flags.entry(known.unwrap_or("other")).or_default();
                *total = total.saturating_add(count);
            }
        }
        if self.cells > CELLS {
            self.shrink(second);
        }
    }

    /// Its proxy stopped reporting: its connections are gone.
    pub fn silence(&mut self, uid: &WorkloadUid) {
        if let Some(reporter) = self.reporters.get_mut(uid) {
            for edge in reporter.edges.values_mut() {
                edge.series.close();
            }
        }
    }

    /// Forgets old windows, and workloads that `exists` does not know once none of their windows is left.
    pub fn prune(&mut self, second: u64, exists: impl Fn(&WorkloadUid) -> bool) {
        self.forget(second.saturating_sub(KEPT_SECONDS));
        for reporter in self.reporters.values_mut() {
            reporter.bury(&exists);
        }
        self.reporters.retain(|uid, reporter| {
            let newest = reporter.edges.values().filter_map(|e| e.series.newest());
            newest.max().is_some() || exists(uid)
        });
    }

    /// Halves the stretch that is kept until the bound holds again; if need be nothing but totals is kept.
    fn shrink(&mut self, second: u64) {
        let mut kept = KEPT_SECONDS;
        while self.cells > CELLS && kept > 1 {
            kept /= 2;
            self.forget(second.saturating_sub(kept));
        }
        if self.cells > CELLS {
            self.forget(u64::MAX);
        }
    }

    fn forget(&mut self, second: u64) {
        self.cells = 0;
        for reporter in self.reporters.values_mut() {
            for edge in reporter.edges.values_mut() {
                edge.series.forget(second);
                self.cells += edge.series.cells();
            }
        }
    }

    /// When this workload last reported.
    pub fn last_report(&self, uid: &WorkloadUid) -> Option<u64> {
        self.reporters.get(uid).map(|reporter| reporter.last)
    }

    /// Edges that found no room, at the proxies or here.
    pub fn dropped(&self) -> u64 {
        let each = self.reporters.values().map(|reporter| reporter.dropped);
        each.fold(0, u64::saturating_add)
    }
}

// === impl Reporter ===

impl Reporter {
    /// Peers that are gone, and of whom no window is left, count together: there is room for those who come.
    fn bury(&mut self, exists: impl Fn(&WorkloadUid) -> bool) {
        let gone = |key: &EdgeKey, edge: &Edge| {
            let gone = key.pod.as_ref().is_some_and(|uid| !exists(uid));
            gone && edge.series.newest().is_none()
        };
        let mut buried: Vec<(EdgeKey, Edge)> = Vec::new();
        self.edges.retain(|key, edge| {
            let is_gone = gone(key, edge);
            if is_gone {
                let key = EdgeKey {
                    pod: None,
                    ..key.clone()
                };
                buried.push((key, std::mem::take(edge)));
            }
            !is_gone
        });
        for (key, edge) in buried {
            let together = self.edges.entry(key).or_default();
            together.series.bury(&edge.series);
            for (flag, count) in edge.flags {
                let total = together.flags.entry(flag).or_default();
                *total = total.saturating_add(count);
            }
        }
    }
}

#[cfg(test)]
mod tests;
