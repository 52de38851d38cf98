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

use maille_engine::balance::Tally;
use maille_engine::route::Direction;
use maille_model::{Identity, Name, Owner, ServerName, ServiceId, WorkloadUid, latency};
use tokio::sync::mpsc;

use crate::failure::Failure;

/// Streams increments to control.
pub mod report;
/// Sums since the start, for people and Prometheus.
pub mod totals;

/// Edges that are counted apart at the same time.
pub const EDGES: usize = 4_096;
/// Those of them that may be told apart by the name that a TLS client asked for: names are chosen by clients.
pub const NAMED_EDGES: usize = EDGES / 8;
/// Edges of what did not fit: by direction, protocol and protection.
pub const OTHERS: usize = 8;
/// Different responses of one edge that are counted apart.
const RESPONSES: usize = 32;
/// Ways in which a handshake ends.
pub const HANDSHAKES: usize = Handshake::ALL.len();
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
    /// What it is called.
    pub workload: Option<PeerWorkload>,
    /// The identity that the other side proved.
    pub peer: Option<Identity>,
    /// Where a client of the cluster that proved none came from.
    pub peer_address: Option<IpAddr>,
    /// The service that was addressed, where it was one.
    pub service: Option<ServiceId>,
    /// The port that was addressed.
    pub port: u16,
    /// HTTP or TCP.
    pub carries: Carries,
    /// The hop was mutual TLS.
    pub protected: bool,
    /// Whom a TLS client asked for, in bytes that pass as they are.
    pub server_name: Option<ServerName>,
}

/// Names of the other workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerWorkload {
    /// Its namespace.
    pub namespace: Name,
    /// The pod's name.
    pub name: Name,
    /// What made it.
    pub owner: Option<Owner>,
}

/// How a handshake with another proxy ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// Both sides took each other.
    Done,
    /// One refused the other.
    Refused,
    /// It took too long.
    Late,
    /// The connection was lost meanwhile.
    Lost,
}

/// How things stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Sockets of the data plane.
    pub sockets: usize,
    /// Connections with other proxies.
    pub mesh_connections: usize,
    /// Exchanges under way.
    pub exchanges: usize,
}

/// What an HTTP client was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Response {
    /// The status code; 0 stands for none and for what did not fit.
    pub status: u16,
    /// `grpc-status`, where it was gRPC.
    pub grpc: Option<u8>,
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
    /// What the client got.
    pub response: Response,
    /// Why the mesh answered, or nobody did.
    pub failure: Option<Failure>,
    /// From the first byte of the request to the first byte of its answer.
    pub latency: Duration,
}

/// Counts for one worker.
#[derive(Debug)]
pub struct Recorder {
    places: HashMap<Arc<EdgeKey>, usize>,
    /// Edges with a name among them.
    named: usize,
    slots: Vec<Slot>,
    touched: Vec<usize>,
    flushes: u64,
    /// The flush in which no edge was quiet enough to give its place away: it is not looked for again.
    packed: Option<u64>,
    overflow: u64,
    dropped: u64,
    handshakes: [[u64; HANDSHAKES]; 2],
    gauges: Gauges,
    tally: Tally,
    /// Something of the last four differs from what was handed over.
    stirred: bool,
}

#[derive(Debug)]
struct Slot {
    key: Arc<EdgeKey>,
    /// It is that of what did not fit.
    other: bool,
    generation: u32,
    /// The flush after which it was last counted for.
    seen: u64,
    /// Connections that are open.
    open: u64,
    touched: bool,
    counts: Increment,
    /// Latencies of requests, or lengths of connections; made with the first.
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
    /// Those of them that failed.
    pub broken: u64,
    /// Bytes towards the other side.
    pub sent: u64,
    /// Bytes from the other side.
    pub received: u64,
    /// Sum of latencies, or of lengths of connections, in microseconds.
    pub latency_micros: u64,
    /// Failure and count.
    pub failed: Vec<(Failure, u64)>,
    /// Response and count.
    pub responses: Vec<(Response, u64)>,
    /// Bucket of [`maille_model::latency`] and count, rising.
    pub latency: Vec<(u16, u64)>,
}

/// What was added since the last flush.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Only edges with something to add.
    pub edges: Vec<(Arc<EdgeKey>, Increment)>,
    /// Things that were counted for [`EdgeKey::other`].
    pub overflow: u64,
    /// Things that could not be counted for an edge.
    pub dropped: u64,
    /// Handshakes that ended: outbound, inbound.
    pub handshakes: [[u64; HANDSHAKES]; 2],
    /// What balancing did.
    pub tally: Tally,
    /// How things stand.
    pub gauges: Gauges,
}

// === impl EdgeKey ===

impl EdgeKey {
    /// The edge of everything that is like this and finds no place of its own.
    pub fn other(&self) -> Self {
        Self {
            direction: self.direction,
            peer_uid: None,
            workload: None,
            peer: None,
            peer_address: None,
            service: None,
            // Nobody listens there.
            port: 0,
            carries: self.carries,
            protected: self.protected,
            server_name: None,
        }
    }

    /// The same edge whomever its clients asked for.
    pub fn nameless(&self) -> Self {
        Self {
            server_name: None,
            ..self.clone()
        }
    }

    /// Whether it is one of those.
    pub fn is_other(&self) -> bool {
        self.port == 0 && self.peer_uid.is_none() && self.peer.is_none() && self.service.is_none()
    }
}

// === impl Handshake ===

impl Handshake {
    /// Every way.
    pub const ALL: [Self; 4] = [Self::Done, Self::Refused, Self::Late, Self::Lost];

    /// As it is called in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "ok",
            Self::Refused => "refused",
            Self::Late => "timeout",
            Self::Lost => "lost",
        }
    }
}

// === impl Response ===

impl Response {
    /// The status code of HTTP alone.
    pub const fn http(status: u16) -> Self {
        Self { status, grpc: None }
    }

    /// Whether the server did its part: no 5xx, and no gRPC status that says it did not.
    pub const fn is_success(self) -> bool {
        // UNKNOWN, DEADLINE_EXCEEDED, PERMISSION_DENIED, INTERNAL, UNAVAILABLE, DATA_LOSS.
        let grpc = !matches!(self.grpc, Some(2 | 4 | 7 | 13 | 14 | 15));
        grpc && 0 < self.status && self.status < 500
    }
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
            named: 0,
            slots: Vec::new(),
            touched: Vec::new(),
            flushes: 0,
            packed: None,
            overflow: 0,
            dropped: 0,
            handshakes: [[0; HANDSHAKES]; 2],
            gauges: Gauges::default(),
            tally: Tally::default(),
            stirred: false,
        }
    }

    /// The place of an edge; a new one where it has none. With all places taken it is that of the edge that was quiet for the
    /// longest time, if that is a minute; else it counts for [`EdgeKey::other`]. One name too many counts as none.
    pub fn edge(&mut self, key: &EdgeKey) -> EdgeId {
        if let Some(place) = self.places.get(key).copied() {
            return EdgeId {
                place,
                generation: self.slots[place].generation,
            };
        }
        if key.server_name.is_some() && self.named >= NAMED_EDGES {
            return self.edge(&key.nameless());
        }
        let key = Arc::new(key.clone());
        let place = if self.slots.len() < EDGES || key.is_other() {
            self.slots.push(Slot::new(Arc::clone(&key), self.flushes));
            self.slots.len() - 1
        } else if let Some(place) = self.quietest() {
            let slot = &mut self.slots[place];
            self.places.remove(&slot.key);
            self.named -= usize::from(slot.key.server_name.is_some());
            let generation = slot.generation.wrapping_add(1);
            *slot = Slot {
                generation,
                ..Slot::new(Arc::clone(&key), self.flushes)
            };
            place
        } else {
            return self.edge(&key.other());
        };
        self.named += usize::from(key.server_name.is_some());
        self.places.insert(key, place);
        EdgeId {
            place,
            generation: self.slots[place].generation,
        }
    }

    fn quietest(&mut self) -> Option<usize> {
        if self.packed == Some(self.flushes) {
            return None;
        }
        let quiet = |slot: &Slot| {
            let idle = !slot.touched && slot.open == 0 && !slot.key.is_other();
            idle && self.flushes - slot.seen >= QUIET_FLUSHES
        };
        let candidates = self
            .slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| quiet(slot));
        let found = candidates
            .min_by_key(|(_, slot)| slot.seen)
            .map(|(place, _)| place);
        if found.is_none() {
            self.packed = Some(self.flushes);
        }
        found
    }

    /// A request ended.
    pub fn request(&mut self, edge: EdgeId, ended: &Ended) {
        let Some(slot) = self.slot(edge) else { return };
        slot.counts.requests += 1;
        if ended.failure.is_some() || !ended.response.is_success() {
            slot.counts.failures += 1;
        }
        if let Some(failure) = ended.failure {
            add(&mut slot.counts.failed, failure, 1);
        }
        add_response(&mut slot.counts.responses, ended.response, 1);
        slot.took(ended.latency);
    }

    /// A connection began.
    pub fn opened(&mut self, edge: EdgeId) {
        let Some(slot) = self.slot(edge) else { return };
        slot.counts.opened += 1;
        slot.open += 1;
    }

    /// A connection ended after so long, with the reason where there is one.
    pub fn closed(&mut self, edge: EdgeId, failure: Option<Failure>, lasted: Duration) {
        let Some(slot) = self.slot(edge) else { return };
        slot.counts.closed += 1;
        slot.open = slot.open.saturating_sub(1);
        if let Some(failure) = failure {
            slot.counts.broken += 1;
            add(&mut slot.counts.failed, failure, 1);
        }
        slot.took(lasted);
    }

    /// A handshake with another proxy ended.
    pub fn handshake(&mut self, direction: Direction, ended: Handshake) {
        let way = match direction {
            Direction::Outbound => 0,
            Direction::Inbound => 1,
        };
        self.handshakes[way][ended as usize] += 1;
        self.stirred = true;
    }

    /// How things stand now.
    pub fn gauge(&mut self, gauges: Gauges) {
        self.stirred |= self.gauges != gauges;
        self.gauges = gauges;
    }

    /// Bytes passed: `sent` towards the other side, `received` from it.
    pub fn bytes(&mut self, edge: EdgeId, sent: u64, received: u64) {
        let Some(slot) = self.slot(edge) else { return };
        slot.counts.sent += sent;
        slot.counts.received += received;
    }

    /// Balancing did this since the last time.
    pub fn balanced(&mut self, tally: &Tally) {
        self.tally.add(tally);
        self.stirred |= *tally != Tally::default();
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
        if slot.other {
            self.overflow += 1;
        }
        Some(slot)
    }

    /// Hands over what was added, unless the control thread has not taken the batches before: then it goes with the next. Call it once a second.
    pub fn flush(&mut self, to: &mpsc::Sender<Batch>) {
        self.flushes += 1;
        if self.touched.is_empty() && self.dropped == 0 && !self.stirred {
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
        self.stirred = false;
        Batch {
            edges,
            overflow: std::mem::take(&mut self.overflow),
            dropped: std::mem::take(&mut self.dropped),
            handshakes: std::mem::take(&mut self.handshakes),
            tally: std::mem::take(&mut self.tally),
            gauges: self.gauges,
        }
    }
}

// === impl Slot ===

impl Slot {
    fn new(key: Arc<EdgeKey>, seen: u64) -> Self {
        Self {
            other: key.is_other(),
            key,
            generation: 0,
            seen,
            open: 0,
            touched: false,
            counts: Increment::default(),
            latency: None,
        }
    }

    fn took(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.counts.latency_micros = self.counts.latency_micros.saturating_add(micros);
        let latency = self
            .latency
            .get_or_insert_with(|| Box::new([0; latency::BUCKETS]));
        let count = &mut latency[latency::bucket(micros)];
        *count = count.saturating_add(1);
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
    /// Adds `other`. The order in which increments are added never matters, as long as no edge has more than 32 responses.
    pub fn merge(&mut self, other: &Self) {
        self.merge_without_latency(other);
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

    /// The same, but for the distribution of latencies.
    pub fn merge_without_latency(&mut self, other: &Self) {
        self.requests += other.requests;
        self.failures += other.failures;
        self.opened += other.opened;
        self.closed += other.closed;
        self.broken += other.broken;
        self.sent += other.sent;
        self.received += other.received;
        self.latency_micros = self.latency_micros.saturating_add(other.latency_micros);
        for (failure, count) in &other.failed {
            add(&mut self.failed, *failure, *count);
        }
        for (response, count) in &other.responses {
            add_response(&mut self.responses, *response, *count);
        }
    }
}

fn add<K: PartialEq + Copy>(counts: &mut Vec<(K, u64)>, key: K, more: u64) {
    match counts.iter_mut().find(|(known, _)| *known == key) {
        Some((_, count)) => *count += more,
        None => counts.push((key, more)),
    }
}

fn add_response(counts: &mut Vec<(Response, u64)>, response: Response, more: u64) {
    let known = counts.iter().any(|(known, _)| *known == response);
    let response = if known || counts.len() + 1 < RESPONSES {
        response
    } else {
        Response::default()
    };
    add(counts, response, more);
}

#[cfg(test)]
mod tests;
