// SPDX-License-Identifier: Apache-2.0
//! Statistics on their way from one replica to another, and added up there. Pure.
//!
//! A report goes to one replica, so that what several of them have is added and nothing counts twice. Clocks differ: seconds travel
//! as seconds ago. What makes no sense is left out. Read [`super::window`] for what is added.

use std::collections::BTreeMap;
use std::sync::Arc;

use maille_model::{WorkloadUid, latency};
use maille_wire::v1;

use super::window::Window;
use super::{Counters, Direction, Edge, EdgeKey, FLAGS, Reporter, Series, Spoken, Stats, Who};

/// Cells in one part: some hundred thousand bytes.
const PART: usize = 32 * 1024;
/// What an edge takes beside its windows, in cells.
const EDGE: usize = 32;

impl Stats {
    /// Everything, with the windows of the last `window` seconds before `second`, in parts that fit into a message each.
    pub(crate) fn carry(&self, second: u64, window: u64) -> Vec<v1::StatisticsPart> {
        let since = (second + 1).saturating_sub(window);
        let (mut parts, mut reporters, mut cells) = (Vec::new(), Vec::new(), 0);
        for (uid, reporter) in &self.reporters {
            let head = || v1::Reporter {
                uid: uid.to_string(),
                who: Some(who_out(&reporter.who)),
                first_ago: second.saturating_sub(reporter.first),
                last_ago: second.saturating_sub(reporter.last),
                edges: Vec::new(),
                dropped: 0,
            };
            let mut told = v1::Reporter {
                dropped: reporter.dropped,
                ..head()
            };
            for (key, edge) in &reporter.edges {
                let series = series_out(key, edge, (second, since));
                let in_windows = series.windows.iter().map(|window| window.buckets.len() + 8);
                cells += EDGE + in_windows.sum::<usize>();
                told.edges.push(series);
                if cells >= PART {
                    reporters.push(std::mem::replace(&mut told, head()));
                    parts.push(std::mem::take(&mut reporters));
                    cells = 0;
                }
            }
            cells += EDGE;
            reporters.push(told);
        }
        parts.push(reporters);
        let part = |reporters| v1::StatisticsPart {
            reporters,
            proxies: Vec::new(),
        };
        parts.into_iter().map(part).collect()
    }

    /// Adds what another process carried, at our `second`.
    pub(crate) fn unload(&mut self, part: &v1::StatisticsPart, second: u64) {
        for told in &part.reporters {
            let (Some(uid), Some(who)) = (WorkloadUid::new(&told.uid), who_in(told.who.as_ref()))
            else {
                continue;
            };
            let reporter = Reporter {
                who,
                first: second.saturating_sub(told.first_ago),
                last: second.saturating_sub(told.last_ago),
                edges: told
                    .edges
                    .iter()
                    .filter_map(|series| edge_in(series, second))
                    .collect(),
                dropped: told.dropped,
            };
            self.add(&uid, reporter);
        }
    }

    /// Adds what we have ourselves, `later` seconds later.
    pub(crate) fn absorb(&mut self, own: &Self, later: u64) {
        for (uid, reporter) in &own.reporters {
            let edges = reporter.edges.iter();
            let edges = edges.map(|(key, edge)| (key.clone(), edge.copied(later)));
            let reporter = Reporter {
                who: reporter.who.clone(),
                first: reporter.first.saturating_add(later),
                last: reporter.last.saturating_add(later),
                edges: edges.collect(),
                dropped: reporter.dropped,
            };
            self.add(uid, reporter);
        }
    }

    fn add(&mut self, uid: &WorkloadUid, more: Reporter) {
        let Some(known) = self.reporters.get_mut(uid) else {
            self.reporters.insert(uid.clone(), more);
            return;
        };
        if more.last > known.last {
            known.who = more.who;
        }
        known.first = known.first.min(more.first);
        known.last = known.last.max(more.last);
        known.dropped = known.dropped.saturating_add(more.dropped);
        for (key, edge) in more.edges {
            let total = known.edges.entry(key).or_default();
            total.series.absorb(&edge.series, 0);
            for (flag, count) in edge.flags {
                let sum = total.flags.entry(flag).or_default();
                *sum = sum.saturating_add(count);
            }
        }
    }
}

// === impl Edge ===

impl Edge {
    fn copied(&self, later: u64) -> Self {
        let mut copy = Self::default();
        copy.series.absorb(&self.series, later);
        copy.flags.clone_from(&self.flags);
        copy
    }
}

fn who_out(who: &Who) -> v1::Who {
    v1::Who {
        namespace: who.namespace.to_string(),
        kind: who.kind.clone(),
        name: who.name.to_string(),
        meshed: who.meshed,
    }
}

fn who_in(told: Option<&v1::Who>) -> Option<Arc<Who>> {
    let told = told?;
    Some(Arc::new(Who {
        namespace: told.namespace.parse().ok()?,
        kind: told.kind.clone(),
        name: told.name.parse().ok()?,
        meshed: told.meshed,
    }))
}

fn series_out(key: &EdgeKey, edge: &Edge, (second, since): (u64, u64)) -> v1::Series {
    let (windows, open) = edge.series.since(since);
    let direction = match key.direction {
        Direction::Outbound => v1::Direction::Outbound,
        Direction::Inbound => v1::Direction::Inbound,
    };
    let text = |shown: Option<String>| shown.unwrap_or_default();
    v1::Series {
        direction: direction.into(),
        peer: key.peer.as_deref().map(who_out),
        pod: text(key.pod.as_ref().map(ToString::to_string)),
        service: text(key.service.as_ref().map(ToString::to_string)),
        port: key.port.into(),
        http: key.spoken == Spoken::Http,
        protected: key.protected,
        total: Some(counters_out(edge.series.total())),
        open,
        windows: windows.map(|window| window_out(window, second)).collect(),
        flags: edge
            .flags
            .iter()
            .map(|(flag, count)| ((*flag).to_owned(), *count))
            .collect(),
    }
}

fn edge_in(told: &v1::Series, second: u64) -> Option<(EdgeKey, Edge)> {
    let direction = match told.direction() {
        v1::Direction::Outbound => Direction::Outbound,
        v1::Direction::Inbound => Direction::Inbound,
        v1::Direction::Unspecified => return None,
    };
    let key = EdgeKey {
        direction,
        peer: who_in(told.peer.as_ref()),
        pod: WorkloadUid::new(&told.pod),
        service: told.service.parse().ok(),
        port: u16::try_from(told.port).ok()?,
        spoken: if told.http { Spoken::Http } else { Spoken::Tcp },
        protected: told.protected,
    };
    let mut windows: Vec<Window> = told
        .windows
        .iter()
        .map(|window| window_in(window, second))
        .collect();
    windows.sort_by_key(|window| window.second);
    let total = counters_in(told.total.as_ref());
    let mut flags: BTreeMap<&'static str, u64> = BTreeMap::new();
    for (flag, count) in &told.flags {
        let known = FLAGS.into_iter().find(|known| known == flag);
        let sum = flags.entry(known.unwrap_or("other")).or_default();
        *sum = sum.saturating_add(*count);
    }
    let series = Series::carried(total, told.open, windows);
    Some((key, Edge { series, flags }))
}

fn counters_out(counters: &Counters) -> v1::Counters {
    v1::Counters {
        requests: counters.requests,
        failures: counters.failures,
        bytes: counters.bytes,
        opened: counters.opened,
        closed: counters.closed,
    }
}

fn counters_in(told: Option<&v1::Counters>) -> Counters {
    let told = told.copied().unwrap_or_default();
    Counters {
        requests: told.requests,
        failures: told.failures,
        bytes: told.bytes,
        opened: told.opened,
        closed: told.closed,
    }
}

fn window_out(window: &Window, second: u64) -> v1::Window {
    let (buckets, counts) = window
        .latency
        .iter()
        .map(|(bucket, count)| (u32::from(*bucket), *count))
        .unzip();
    v1::Window {
        ago: second.saturating_sub(window.second),
        counters: Some(counters_out(&window.counters)),
        buckets,
        counts,
    }
}

fn window_in(told: &v1::Window, second: u64) -> Window {
    let pairs = told.buckets.iter().zip(&told.counts);
    let pairs = pairs.filter_map(|(bucket, count)| {
        let bucket = u16::try_from(*bucket).ok()?;
        (usize::from(bucket) < latency::BUCKETS).then_some((bucket, *count))
    });
    let mut latency: Vec<(u16, u32)> = pairs.collect();
    latency.sort_unstable();
    latency.dedup_by_key(|(bucket, _)| *bucket);
    Window {
        second: second.saturating_sub(told.ago),
        counters: counters_in(told.counters.as_ref()),
        latency,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Increment, Observation};
    use super::*;

    fn who(name: &str) -> Arc<Who> {
        Arc::new(Who {
            namespace: "shop".parse().unwrap(),
            kind: "Deployment".to_owned(),
            name: name.parse().unwrap(),
            meshed: true,
        })
    }

    fn observed(port: u16, requests: u64) -> Observation {
        Observation {
            key: EdgeKey {
                direction: Direction::Inbound,
                peer: Some(who("client")),
                pod: WorkloadUid::new("c-1"),
                service: "shop/web".parse().ok(),
                port,
                spoken: Spoken::Http,
                protected: true,
            },
            increment: Increment {
                counters: Counters {
                    requests,
                    bytes: 10,
                    opened: 1,
                    ..Counters::default()
                },
                latency: vec![(3, 1), (7, 2)],
            },
            flags: vec![("overloaded".to_owned(), 2)],
        }
    }

    fn sum(stats: &Stats, since: u64) -> (u64, u64, u64, u64) {
        let (mut sum, mut total, mut flags) = (super::super::Sum::default(), 0, 0);
        for reporter in stats.reporters.values() {
            for edge in reporter.edges.values() {
                edge.series.sum_since(since, true, &mut sum);
                total += edge.series.total().requests;
                flags += edge.flags.values().sum::<u64>();
            }
        }
        (sum.counters.requests, sum.open, total, flags)
    }

    #[test]
    fn what_two_replicas_were_told_is_added_once() {
        let uid = WorkloadUid::new("w-1").unwrap();
        let (mut own, mut other) = (Stats::default(), Stats::default());
        // Their clocks began at different times: 1000 there is 100 here.
        own.report(&uid, &who("web"), 95, vec![observed(80, 5)], 0);
        other.report(&uid, &who("web"), 985, vec![observed(80, 7)], 0);
        other.report(&uid, &who("web"), 995, vec![observed(80, 11)], 1);
        let mut all = Stats::default();
        for part in other.carry(1000, 10) {
            all.unload(&part, 700);
        }
        all.absorb(&own, 600);
        let (requests, open, total, flags) = sum(&all, 691);
        assert_eq!((requests, open), (16, 3), "the window of 985 stayed behind");
        assert_eq!((total, flags), (23, 6));
        assert_eq!(all.last_report(&uid), Some(695));
        assert_eq!(all.dropped(), 1);
        assert_eq!(own.last_report(&uid), Some(95), "ours are as they were");
    }

    #[test]
    fn many_edges_come_in_parts_and_are_all_there() {
        let uid = WorkloadUid::new("w-1").unwrap();
        let mut stats = Stats::default();
        let many = (1..=4000).map(|port| observed(port, 1)).collect();
        stats.report(&uid, &who("web"), 5, many, 3);
        let parts = stats.carry(5, 60);
        assert!(parts.len() > 2, "{}", parts.len());
        let mut all = Stats::default();
        for part in &parts {
            all.unload(part, 5);
        }
        assert_eq!(sum(&all, 0).0, 4000);
        assert_eq!(all.dropped(), 3);
    }
}
