// SPDX-License-Identifier: Apache-2.0
//! Delta discovery: carries messages between tonic and a [`Session`], and decides nothing that the session can decide.
//!
//! There is no task and no queue: the stream is polled when the peer has room for another answer, and only then is the newest
//! version of anything looked up. Read [`super::session`] for the rules.

use std::sync::Arc;

use futures_util::stream::{BoxStream, StreamExt as _, unfold};
use maille_chassis::limited;
use maille_wire::discovery::aggregated_discovery_service_server::AggregatedDiscoveryService;
use maille_wire::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use tokio::sync::{broadcast, watch};
use tonic::{Request, Response, Status, Streaming};

use super::caller::Caller;
use super::session::{Answer, Ask, Session, SessionError, Verdict};
use super::{Desk, Seat, status};
use crate::hub::{Hub, Phase};
use crate::index::Dirty;
use crate::key::{Key, Kind};

/// Names that one stream may subscribe to.
const SUBSCRIPTIONS: usize = 20_000;
/// The service.
#[derive(Clone, Debug)]
pub struct Ads {
    desk: Desk,
}

/// One stream.
struct Stream {
    hub: Arc<Hub>,
    caller: Caller,
    incoming: Streaming<DeltaDiscoveryRequest>,
    session: Session,
    changes: broadcast::Receiver<Arc<Dirty>>,
    phase: watch::Receiver<Phase>,
    /// Taken once the workload was admitted.
    seat: Option<Seat>,
    ended: bool,
}

/// What a stream waits for.
enum Wake {
    Said(Result<Option<DeltaDiscoveryRequest>, Status>),
    Changed(Arc<Dirty>),
    Missed,
    Draining,
}

// === impl Ads ===

impl Ads {
    /// A service on `desk`.
    pub fn new(desk: Desk) -> Self {
        Self { desk }
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type DeltaAggregatedResourcesStream =
        BoxStream<'static, Result<DeltaDiscoveryResponse, Status>>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let hub = &self.desk.hub;
        let stream = Stream {
            caller: self.desk.callers.caller(&request)?,
            incoming: request.into_inner(),
            session: Session::new(SUBSCRIPTIONS),
            changes: hub.changes(),
            phase: hub.phase(),
            hub: hub.clone(),
            seat: None,
            ended: false,
        };
        let answers = unfold(stream, |mut stream| async move {
            let said = stream.next().await?;
            Some((said, stream))
        });
        Ok(Response::new(answers.boxed()))
    }
}

// === impl Stream ===

impl Stream {
    /// The next message to the client; `None` after the end.
    async fn next(&mut self) -> Option<Result<DeltaDiscoveryResponse, Status>> {
        if self.ended {
            return None;
        }
        let next = self.advance().await;
        self.ended = !matches!(next, Ok(Some(_)));
        next.transpose()
    }

    async fn advance(&mut self) -> Result<Option<DeltaDiscoveryResponse>, Status> {
        if self.seat.is_none() {
            self.caller.admitted(&self.hub).await?;
            self.seat = Some(Seat::take(&self.hub, &self.caller.uid, |proxy| {
                &mut proxy.discovery
            })?);
        }
        loop {
            // A workload that left meanwhile is told so by the end of its stream.
            self.hub
                .admit(&self.caller.uid)
                .map_err(|refusal| status(&refusal))?;
            self.caller.is_current(self.hub.now())?;
            // It sees everything that is addressed, and of workloads' own resources its own.
            let (hub, me) = (&self.hub, &self.caller.uid);
            let look = |key: &Key| match key {
                Key::Own(uid) if uid != me => None,
                _ => hub.look(key),
            };
            if let Some(answer) = self.session.answer(look) {
                self.hub.count(|counted| {
                    counted.sent += answer.resources.len() as u64;
                    counted.removed += answer.removed.len() as u64;
                });
                return Ok(Some(message(answer)));
            }
            match self.wake().await {
                Wake::Said(said) => match said? {
                    Some(request) => self.take(request)?,
                    None => return Ok(None),
                },
                Wake::Changed(dirty) => self.session.changed(&*dirty),
                Wake::Missed => self.session.changed_all(),
                Wake::Draining => return Ok(None),
            }
        }
    }

    async fn wake(&mut self) -> Wake {
        tokio::select! {
            said = self.incoming.message() => Wake::Said(said),
            heard = self.changes.recv() => match heard {
                Ok(dirty) => Wake::Changed(dirty),
                Err(broadcast::error::RecvError::Lagged(_)) => Wake::Missed,
                Err(broadcast::error::RecvError::Closed) => Wake::Draining,
            },
            _ = self.phase.wait_for(|phase| *phase == Phase::Draining) => Wake::Draining,
        }
    }

    fn take(&mut self, request: DeltaDiscoveryRequest) -> Result<(), Status> {
        let kind = Kind::of_type_url(&request.type_url);
        let kind = kind.ok_or_else(|| Status::invalid_argument("unknown type_url"))?;
        let ask = Ask {
            subscribe: request.resource_names_subscribe,
            unsubscribe: request.resource_names_unsubscribe,
            versions: request.initial_resource_versions.into_iter().collect(),
            nonce: request.response_nonce,
            error: request.error_detail.map(|detail| detail.message),
        };
        let verdict = self.session.ask(kind, ask).map_err(|error| match error {
            SessionError::TooManySubscriptions(_) => Status::resource_exhausted(error.to_string()),
        })?;
        match verdict {
            Verdict::Spontaneous => {}
            Verdict::Accepted => self.note_rejections(),
            Verdict::Rejected(rejection) => {
                self.hub.count(|counted| counted.rejections += 1);
                limited!(
                    warn,
                    workload = %self.caller.uid,
                    kind = kind.type_url(),
                    reason = rejection.message,
                    "proxy refused a resource and keeps what it had"
                );
                self.note_rejections();
            }
        }
        Ok(())
    }

    fn note_rejections(&self) {
        let mut standing = self.session.rejections();
        let text = standing
            .next()
            .map(|rejection| format!("{:?}: {}", rejection.kind, rejection.message));
        self.hub
            .note(&self.caller.uid, |proxy| proxy.rejection = text);
    }
}

fn message(answer: Answer) -> DeltaDiscoveryResponse {
    let type_url = answer.kind.type_url().to_owned();
    let resources = answer
        .resources
        .into_iter()
        .map(|(name, encoded)| Resource {
            name,
            version: encoded.version.to_string(),
            resource: Some(maille_wire::Any {
                type_url: type_url.clone(),
                value: encoded.bytes.to_vec(),
            }),
        });
    DeltaDiscoveryResponse {
        resources: resources.collect(),
        removed_resources: answer.removed,
        nonce: answer.nonce,
        type_url,
        ..DeltaDiscoveryResponse::default()
    }
}
