// SPDX-License-Identifier: Apache-2.0
//! From the worker to the totals and to control: one report a second while there is something to say.
//!
//! What control has not taken yet stays here and is merged, so that an absent control costs nothing but detail in time. A report that
//! was handed to the transport is not sent again: a lost stream loses at most that one, and nothing is ever counted twice.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{Stream, unfold};
use maille_chassis::clock::Clock;
use maille_chassis::drain::{Phase, Watch};
use maille_chassis::metrics::Text;
use maille_engine::route::Direction;
use maille_wire::v1::telemetry_client::TelemetryClient;
use maille_wire::v1::{self, ReportRequest};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Request;
use tonic::transport::Channel;

use super::totals::{Place, Totals};
use super::{Batch, Carries, EDGES, EdgeKey, Increment};
use crate::control::{Backoff, Caller};
use crate::failure::Failure;

/// How often is reported.
const EVERY: Duration = Duration::from_secs(1);
/// Without anything to say, every so many times an empty report says that the proxy is there.
const HEARTBEAT: u32 = 10;
/// A page of Prometheus text is written out once it is so long.
const PAGE: usize = 64 * 1024;
/// Batches between the worker and this thread; the worker keeps what does not fit.
pub const QUEUE: usize = 4;

/// What was counted, on the control thread's side. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Counted(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    totals: Totals,
    pending: HashMap<Arc<EdgeKey>, Increment>,
    /// What lost its place in `pending` to the edges of others since the last report, with what the worker could not tell apart.
    dropped: u64,
}

/// Where the stream is between two reports.
struct Reporting {
    counted: Counted,
    clock: Clock,
    last: Instant,
    idle: u32,
    end: Watch,
    ended: bool,
}

// === impl Counted ===

impl Counted {
    /// Adds what a worker counted.
    pub fn add(&self, batch: &Batch) {
        let mut state = self.0.lock();
        state.totals.add(batch);
        state.dropped += batch.dropped + batch.overflow;
        for (key, increment) in &batch.edges {
            // Control does not tell names apart.
            let key = &match key.server_name {
                Some(_) => Arc::new(key.nameless()),
                None => Arc::clone(key),
            };
            let full = state.pending.len() >= EDGES && !state.pending.contains_key(key);
            let key = if full && !key.is_other() {
                state.dropped += 1;
                &Arc::new(key.other())
            } else {
                key
            };
            state
                .pending
                .entry(Arc::clone(key))
                .or_default()
                .merge(increment);
        }
    }

    /// Prometheus text of everything since the start, in pages of which none is large.
    pub fn pages(&self) -> impl Iterator<Item = Vec<u8>> + Send + use<> {
        let counted = self.clone();
        let keys = self.0.lock().totals.keys();
        let mut next = Some(Place::default());
        std::iter::from_fn(move || {
            let mut place = next?;
            let mut text = Text::default();
            let state = counted.0.lock();
            while text.len() < PAGE {
                match state.totals.page(&mut text, &keys, place, PAGE) {
                    Some(after) => place = after,
                    None => {
                        state.totals.write(&mut text);
                        next = None;
                        return Some(text.into_string().into_bytes());
                    }
                }
            }
            next = Some(place);
            Some(text.into_string().into_bytes())
        })
    }

    /// What was counted before.
    #[cfg(test)]
    pub(super) fn of(totals: Totals) -> Self {
        Self(Arc::new(Mutex::new(State {
            totals,
            ..State::default()
        })))
    }

    /// Runs `look` on the totals.
    pub fn totals<T>(&self, look: impl FnOnce(&Totals) -> T) -> T {
        look(&self.0.lock().totals)
    }

    /// Takes what control has not heard of. `None` when that is nothing.
    fn report(&self, covers: Duration) -> Option<ReportRequest> {
        let mut state = self.0.lock();
        if state.pending.is_empty() && state.dropped == 0 {
            return None;
        }
        Some(ReportRequest {
            covers_ms: u32::try_from(covers.as_millis()).unwrap_or(u32::MAX),
            edges: state
                .pending
                .drain()
                .map(|(key, increment)| edge(&key, increment))
                .collect(),
            edges_dropped: std::mem::take(&mut state.dropped),
        })
    }
}

/// Adds up what workers send, until the last of them is gone.
pub async fn collect(counted: Counted, mut batches: mpsc::Receiver<Batch>) {
    while let Some(batch) = batches.recv().await {
        counted.add(&batch);
    }
}

/// Reports to control: a stream that ends is begun again. When `end` says that the work is done, what is left goes with one last report.
pub async fn run(counted: Counted, channel: Channel, caller: Caller, clock: Clock, end: Watch) {
    let mut client = TelemetryClient::with_interceptor(channel, caller);
    let mut backoff = Backoff::new();
    loop {
        let began = clock.now();
        let ended = client
            .report(Request::new(reports(counted.clone(), clock, end.clone())))
            .await;
        if let Err(status) = ended {
            tracing::debug!(code = ?status.code(), reason = status.message(), "report stream lost");
        }
        if end.phase() != Phase::Running {
            return;
        }
        backoff.wait(&clock, began).await;
    }
}

/// The reports, made when the transport has room for one. The first comes after a second, so that a stream that is refused takes nothing along.
fn reports(counted: Counted, clock: Clock, end: Watch) -> impl Stream<Item = ReportRequest> {
    let start = Reporting {
        counted,
        last: clock.now(),
        clock,
        idle: 0,
        end,
        ended: false,
    };
    unfold(start, |mut state| async move {
        let report = state.next().await?;
        Some((report, state))
    })
}

// === impl Reporting ===

impl Reporting {
    async fn next(&mut self) -> Option<ReportRequest> {
        while !self.ended {
            let tick = self.last + EVERY;
            tokio::select! {
                () = self.clock.until(tick) => {}
                () = self.end.reached(Phase::Graceful) => self.ended = true,
            }
            let now = self.clock.now();
            let report = self
                .counted
                .report(now.saturating_duration_since(self.last));
            self.last = now;
            self.idle = if report.is_none() { self.idle + 1 } else { 0 };
            if self.idle >= HEARTBEAT {
                self.idle = 0;
                return Some(ReportRequest::default());
            }
            if report.is_some() {
                return report;
            }
        }
        None
    }
}

fn edge(key: &EdgeKey, increment: Increment) -> v1::Edge {
    let text = |value: Option<String>| value.unwrap_or_default();
    v1::Edge {
        direction: match key.direction {
            Direction::Outbound => v1::Direction::Outbound,
            Direction::Inbound => v1::Direction::Inbound,
        }
        .into(),
        peer_uid: text(key.peer_uid.as_ref().map(ToString::to_string)),
        peer_address: match key.peer_address {
            Some(IpAddr::V4(address)) => address.octets().to_vec(),
            Some(IpAddr::V6(address)) => address.octets().to_vec(),
            None => Vec::new(),
        },
        peer_identity: text(key.peer.as_ref().map(ToString::to_string)),
        service: text(key.service.as_ref().map(ToString::to_string)),
        port: u32::from(key.port),
        protocol: match key.carries {
            Carries::Http => "http".to_owned(),
            Carries::Tcp => "tcp".to_owned(),
        },
        protected: key.protected,
        requests: increment.requests,
        failures: increment.failures,
        flags: flags(&increment.failed),
        connections_opened: increment.opened,
        connections_closed: increment.closed,
        bytes_sent: increment.sent,
        bytes_received: increment.received,
        // Connections have none: theirs is how long they lasted.
        latency: increment
            .latency
            .into_iter()
            .filter(|_| key.carries == Carries::Http)
            .map(|(bucket, count)| (u32::from(bucket), count))
            .collect(),
    }
}

fn flags(failed: &[(Failure, u64)]) -> BTreeMap<String, u64> {
    let mut flags = BTreeMap::new();
    for (failure, count) in failed {
        *flags.entry(failure.flag().to_owned()).or_default() += count;
    }
    flags
}

#[cfg(test)]
mod tests;
