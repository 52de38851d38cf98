// SPDX-License-Identifier: Apache-2.0
//! What passed through this proxy, counted by edge: who, which service and port, HTTP or TCP, protected or not.
//!
//! The worker owns a [`Recorder`]: an edge is resolved once to an [`EdgeId`], then counting is adding to an array. Once a second what
//! was added goes to the control thread, which adds it to the totals (`totals.rs`) and reports it (`report.rs`).
//! Must never grow with what peers do, and never count anything twice. Read `telemetry/totals.rs` next.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use maille_engine::route::Direction;
use maille_model::{Identity, ServiceId, WorkloadUid, latency};
use tokio::sync::mpsc;

use crate::failure::Failure;

/// Streams increments to control.
pub mod report;
/// Sums since the start, for people and Prometheus.
pub mod totals;

/// Edges that are counted apart at the same time.
pub const EDGES: usize = 4_096;
/// Different status codes of one edge that are counted apart.
const STATUSES: usize = 32;
/// An edge that was quiet for so many flushes gives its place to a new one.
const QUIET_FLUSHES: u64 = 60;

/// What is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Carries {
    /// HTTP requests.
    Http,
    /// TCP connections.
    Tcp,
}

/// What tells edges apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EdgeKey {
    /// Which way, seen from the own workload.
    pub direction: Direction,
    /// The other workload, where it is known.
    pub peer_uid: Option<WorkloadUid>,
    /// The identity that the other side proved.
    pub peer: Option<Identity>,
    /// Where a client that proved none came from.
    pub peer_address: Option<IpAddr>,
    /// The service that was addressed, where it was one.
    pub service: Option<ServiceId>,
    /// The port that was addressed.
    pub port: u16,
    /// HTTP or TCP.
    pub carries: Carries,
    /// The hop was mutual TLS.
    pub protected: bool,
}

/// An edge's place in its recorder. What is counted for an edge that lost its place counts as dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EdgeId {
    place: usize,
    generation: u32,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The status that the client got; 0 where it got none.
    pub status: u16,
    /// Why the mesh answered, or nobody did.
    pub failure: Option<Failure>,
    /// From the first byte of the request to the first byte of its answer.
    pub latency: Duration,
}

/// Counts for one worker.
#[derive(Debug)]
pub struct Recorder {
    places: HashMap<Arc<EdgeKey>, usize>,
    slots: Vec<Slot>,
    touched: Vec<usize>,
    flushes: u64,
    dropped: u64,
}

#[derive(Debug)]
struct Slot {
    key: Arc<EdgeKey>,
    generation: u32,
    /// The flush after which it was last counted for.
    seen: u64,
    /// Connections that are open.
    open: u64,
    touched: bool,
    counts: Increment,
    /// Made with the first request: TCP edges need none.
    latency: Option<Box<[u32; latency::BUCKETS]>>,
}

/// What was added to one edge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Increment {
    /// Requests that ended.
    pub requests: u64,
    /// Those of them with a 5xx, a refusal of the mesh, or no answer.
    pub failures: u64,
    /// Connections that began.
    pub opened: u64,
    /// Connections that ended.
    pub closed: u64,
    /// Bytes towards the other side.
    pub sent: u64,
    /// Bytes from the other side.
    pub received: u64,
    /// Sum of latencies in microseconds.
    pub latency_micros: u64,
    /// Failure flag and count.
    pub flags: Vec<(&'static str, u64)>,
    /// Status code and count; 0 stands for none and for what did not fit.
    pub statuses: Vec<(u16, u64)>,
    /// Bucket of [`maille_model::latency`] and count, rising.
    pub latency: Vec<(u16, u64)>,
}

/// What was added since the last flush.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Only edges with something to add.
    pub edges: Vec<(Arc<EdgeKey>, Increment)>,
    /// Things that could not be counted for an edge.
    pub dropped: u64,
}

// === impl Recorder ===

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder {
    /// Nothing counted.
    pub fn new() -> Self {
        Self {
            places: HashMap::new(),
            slots: Vec::new(),
            touched: Vec::new(),
            flushes: 0,
            dropped: 0,
        }
    }

    /// The place of an edge; a new one where it has none. With all places taken it is that of the edge that was quiet for the
    /// longest time, if that is a minute; else what is counted for it is dropped.
    pub fn edge(&mut self, key: &EdgeKey) -> EdgeId {
        if let Some(place) = self.places.get(key).copied() {
            return EdgeId {
                place,
                generation: self.slots[place].generation,
            };
        }
        let key = Arc::new(key.clone());
        let place = if self.slots.len() < EDGES {
            self.slots.push(Slot::new(Arc::clone(&key), self.flushes));
            self.slots.len() - 1
        } else if let Some(place) = self.quietest() {
            let slot = &mut self.slots[place];
            self.places.remove(&slot.key);
            let generation = slot.generation.wrapping_add(1);
            *slot = Slot {
                generation,
                ..Slot::new(Arc::clone(&key), self.flushes)
            };
            place
        } else {
            // No slot has this place, so everything counted there is dropped.
            return EdgeId {
                place: EDGES,
                generation: 0,
            };
        };
        self.places.insert(key, place);
        EdgeId {
            place,
            generation: self.slots[place].generation,
        }
    }

    fn quietest(&self) -> Option<usize> {
        let quiet = |slot: &Slot| {
            !slot.touched && slot.open == 0 && self.flushes - slot.seen >= QUIET_FLUSHES
        };
        let candidates = self
            .slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| quiet(slot));
        candidates
            .min_by_key(|(_, slot)| slot.seen)
            .map(|(place, _)| place)
    }

    /// A request ended.
    pub fn request(&mut self, edge: EdgeId, ended: &Ended) {
        let Some(slot) = self.slot(edge) else { return };
        slot.counts.requests += 1;
        if ended.failure.is_some() || ended.status >= 500 || ended.status == 0 {
            slot.counts.failures += 1;
        }
        if let Some(failure) = ended.failure {
            add(&mut slot.counts.flags, failure.flag(), 1);
        }
        add_status(&mut slot.counts.statuses, ended.status, 1);
        let micros = u64::try_from(ended.latency.as_micros()).unwrap_or(u64::MAX);
        slot.counts.latency_micros = slot.counts.latency_micros.saturating_add(micros);
        let latency = slot
            .latency
            .get_or_insert_with(|| Box::new([0; latency::BUCKETS]));
        let count = &mut latency[latency::bucket(micros)];
        *count = count.saturating_add(1);
    }

    /// A connection began.
    pub fn opened(&mut self, edge: EdgeId) {
        let Some(slot) = self.slot(edge) else { return };
        slot.counts.opened += 1;
        slot.open += 1;
    }

    /// A connection ended, with the reason where there is one.
    pub fn closed(&mut self, edge: EdgeId, failure: Option<Failure>) {
        let Some(slot) = self.slot(edge) else { return };
        slot.counts.closed += 1;
        slot.open = slot.open.saturating_sub(1);
        if let Some(failure) = failure {
            add(&mut slot.counts.flags, failure.flag(), 1);
        }
    }

    /// Bytes passed: `sent` towards the other side, `received` from it.
    pub fn bytes(&mut self, edge: EdgeId, sent: u64, received: u64) {
        let Some(slot) = self.slot(edge) else { return };
        slot.counts.sent += sent;
        slot.counts.received += received;
    }

    fn slot(&mut self, edge: EdgeId) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(edge.place);
        let Some(slot) = slot.filter(|slot| slot.generation == edge.generation) else {
            self.dropped += 1;
            return None;
        };
        slot.seen = self.flushes;
        if !slot.touched {
            slot.touched = true;
            self.touched.push(edge.place);
        }
        Some(slot)
    }

    /// Hands over what was added, unless the control thread has not taken the batches before: then it goes with the next. Call it once a second.
    pub fn flush(&mut self, to: &mpsc::Sender<Batch>) {
        self.flushes += 1;
        if self.touched.is_empty() && self.dropped == 0 {
            return;
        }
        if let Ok(place) = to.try_reserve() {
            place.send(self.take());
        }
    }

    /// Takes what was added since the last time.
    pub fn take(&mut self) -> Batch {
        let slots = &mut self.slots;
        let edges = self
            .touched
            .drain(..)
            .map(|place| slots[place].take())
            .collect();
        Batch {
            edges,
            dropped: std::mem::take(&mut self.dropped),
        }
    }
}

// === impl Slot ===

impl Slot {
    fn new(key: Arc<EdgeKey>, seen: u64) -> Self {
        Self {
            key,
            generation: 0,
            seen,
            open: 0,
            touched: false,
            counts: Increment::default(),
            latency: None,
        }
    }

    fn take(&mut self) -> (Arc<EdgeKey>, Increment) {
        self.touched = false;
        let mut counts = std::mem::take(&mut self.counts);
        let buckets = self
            .latency
            .iter_mut()
            .flat_map(|buckets| buckets.iter_mut());
        counts.latency = (0u16..)
            .zip(buckets)
            .filter(|(_, count)| **count > 0)
            .map(|(bucket, count)| (bucket, u64::from(std::mem::take(count))))
            .collect();
        (Arc::clone(&self.key), counts)
    }
}

// === impl Increment ===

impl Increment {
    /// Adds `other`. The order in which increments are added never matters, as long as no edge has more than 32 status codes.
    pub fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.failures += other.failures;
        self.opened += other.opened;
        self.closed += other.closed;
        self.sent += other.sent;
        self.received += other.received;
        self.latency_micros = self.latency_micros.saturating_add(other.latency_micros);
        for (flag, count) in &other.flags {
            add(&mut self.flags, flag, *count);
        }
        for (status, count) in &other.statuses {
            add_status(&mut self.statuses, *status, *count);
        }
        for (bucket, count) in &other.latency {
            match self
                .latency
                .binary_search_by_key(bucket, |(bucket, _)| *bucket)
            {
                Ok(place) => self.latency[place].1 += count,
                Err(place) => self.latency.insert(place, (*bucket, *count)),
            }
        }
    }
}

fn add<K: PartialEq + Copy>(counts: &mut Vec<(K, u64)>, key: K, more: u64) {
    match counts.iter_mut().find(|(known, _)| *known == key) {
        Some((_, count)) => *count += more,
        None => counts.push((key, more)),
    }
}

fn add_status(counts: &mut Vec<(u16, u64)>, status: u16, more: u64) {
    let known = counts.iter().any(|(known, _)| *known == status);
    let status = if known || counts.len() + 1 < STATUSES {
        status
    } else {
        0
    };
    add(counts, status, more);
}

#[cfg(test)]
mod tests;
