// SPDX-License-Identifier: Apache-2.0
//! What control knows, on demand: workers ask for keys, control answers on one delta stream, and each change is a new snapshot.
//!
//! The rules are in [`book`], which has no I/O; this file only carries messages. It must never take anything back that control did not take
//! back: without control the last good snapshot stays in force, for ever. Read `discovery/book.rs` next.

use std::sync::Arc;
use std::time::Duration;

use maille_chassis::clock::Clock;
use maille_engine::snapshot::{Key, Snapshot};
use maille_model::WorkloadUid;
use maille_wire::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use maille_wire::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::control::{Backoff, Caller};

/// Subscriptions, versions and the snapshot, without I/O.
pub mod book;

use book::Book;

/// Keys that workers asked for and that were not looked at yet.
pub const ASKS: usize = 1_024;
/// Requests on their way to the transport.
const REQUESTS: usize = 8;
/// How long control may take to open a stream.
const OPEN: Duration = Duration::from_secs(10);
/// How often unused subscriptions are looked for.
const SWEEP: Duration = Duration::from_secs(30);

type Client = AggregatedDiscoveryServiceClient<InterceptedService<Channel, Caller>>;

/// The other end of discovery. Cheap to clone.
#[derive(Clone, Debug)]
pub struct View {
    /// Takes what somebody needs. While too many are waiting a question is lost: whoever waits asks again with the next snapshot.
    pub questions: mpsc::Sender<Key>,
    /// What is known, whenever it changes.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
}

/// The control thread's end: to be run.
#[derive(Debug)]
pub struct Discovery {
    book: Book,
    asks: mpsc::Receiver<Key>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    clock: Clock,
    /// The last stream ended without an answer since.
    outage: bool,
    /// For a test: whose book, if what is known is forgotten with the stream.
    forgets: Option<WorkloadUid>,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error("control did not open the stream in time")]
    Late,
    #[error("control ended the stream")]
    Ended,
    #[error("the stream failed: {code:?}, {message:?}")]
    Failed { code: Code, message: String },
}

/// Both ends of discovery for the workload `uid`.
pub fn new(uid: WorkloadUid, clock: Clock) -> (View, Discovery) {
    let (questions, asks) = mpsc::channel(ASKS);
    let book = Book::new(uid);
    let (publish, snapshots) = watch::channel(Arc::new(book.snapshot().clone()));
    (
        View {
            questions,
            snapshots,
        },
        Discovery {
            book,
            asks,
            snapshots: publish,
            clock,
            outage: false,
            forgets: None,
        },
    )
}

// === impl Discovery ===

impl Discovery {
    /// For a test: without control nothing is known any more.
    #[must_use]
    pub fn forgetting(mut self, uid: WorkloadUid) -> Self {
        self.forgets = Some(uid);
        self
    }

    /// Talks to control, for ever: a stream that ends is begun again.
    pub async fn run(mut self, channel: Channel, caller: Caller) {
        let mut client = AggregatedDiscoveryServiceClient::with_interceptor(channel, caller)
            .max_decoding_message_size(maille_chassis::grpc::MESSAGE_LIMIT);
        let mut backoff = Backoff::new();
        loop {
            let began = self.clock.now();
            let Err(error) = self.stream(&mut client).await;
            // Once for each outage: attempts go on for as long as it lasts.
            if std::mem::replace(&mut self.outage, true) {
                tracing::debug!(%error, "still no discovery stream");
            } else {
                tracing::warn!(%error, "discovery stream lost; the last snapshot stays in force");
            }
            self.book.disconnected();
            if let Some(uid) = &self.forgets {
                self.book = Book::new(uid.clone());
                self.snapshots
                    .send_replace(Arc::new(self.book.snapshot().clone()));
            }
            backoff.wait(&self.clock, began).await;
        }
    }

    async fn stream(
        &mut self,
        client: &mut Client,
    ) -> Result<std::convert::Infallible, StreamError> {
        let (send, requests) = mpsc::channel(REQUESTS);
        self.book.connected();
        // The server may wait for the first request before it answers at all.
        self.send_now(&send);
        let opening = client.delta_aggregated_resources(ReceiverStream::new(requests));
        let mut answers = timeout(OPEN, opening)
            .await
            .map_err(|_| StreamError::Late)?
            .map_err(|status| failed(&status))?
            .into_inner();
        let mut sweep = self.clock.now() + SWEEP;
        loop {
            tokio::select! {
                room = send.reserve(), if self.book.has_requests() => {
                    let room = room.map_err(|_| StreamError::Ended)?;
                    if let Some(request) = self.book.next_request() {
                        room.send(request);
                    }
                }
                // While requests wait for room no more answers are taken, which would make more of them.
                answer = next(&mut answers), if !self.book.has_requests() => {
                    self.take(&answer?);
                }
                key = self.asks.recv() => {
                    let Some(key) = key else { return Err(StreamError::Ended) };
                    self.ask(key);
                }
                () = self.clock.until(sweep) => {
                    sweep = self.clock.now() + SWEEP;
                    self.book.sweep(self.clock.elapsed());
                    self.publish();
                }
            }
        }
    }

    fn send_now(&mut self, send: &mpsc::Sender<DeltaDiscoveryRequest>) {
        while self.book.has_requests() {
            let Ok(room) = send.try_reserve() else { return };
            let Some(request) = self.book.next_request() else {
                return;
            };
            room.send(request);
        }
    }

    /// Takes every key that is waiting, so that they travel together.
    fn ask(&mut self, first: Key) {
        let now = self.clock.elapsed();
        self.book.ask(first, now);
        while let Ok(key) = self.asks.try_recv() {
            self.book.ask(key, now);
        }
        self.publish();
    }

    fn take(&mut self, answer: &DeltaDiscoveryResponse) {
        if std::mem::replace(&mut self.outage, false) {
            tracing::info!("control answers again");
        }
        if let Err(error) = self.book.answer(answer, self.clock.elapsed()) {
            maille_chassis::limited!(
                warn,
                error = &error as &dyn std::error::Error,
                "control said something unusable; what it said before stays in force"
            );
        }
        self.publish();
    }

    fn publish(&mut self) {
        if self.book.take_changed() {
            self.snapshots
                .send_replace(Arc::new(self.book.snapshot().clone()));
        }
    }
}

fn failed(status: &Status) -> StreamError {
    StreamError::Failed {
        code: status.code(),
        message: status.message().chars().take(200).collect(),
    }
}

async fn next(
    answers: &mut Streaming<DeltaDiscoveryResponse>,
) -> Result<DeltaDiscoveryResponse, StreamError> {
    let answer = answers.message().await.map_err(|status| failed(&status))?;
    answer.ok_or(StreamError::Ended)
}

#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;
