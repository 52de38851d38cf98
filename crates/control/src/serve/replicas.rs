// SPDX-License-Identifier: Apache-2.0
//! `Replicas`: what another replica of control wants of us. It hears which proxies are connected here, asks them by way of us, and
//! fetches what they reported. Nobody else is answered: who asks has proved to be control itself, not a pod of its service account.
//!
//! Like every stream it is a value that tonic polls, so that nothing queues for one that does not read. Read [`crate::replicas`] for
//! the other end.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use futures_util::stream::{self, BoxStream, StreamExt as _, unfold};
use maille_identity::tls::Peer;
use maille_model::{Identity, WorkloadUid};
use maille_wire::v1;
use maille_wire::v1::replicas_server::Replicas;
use tokio::sync::{mpsc, watch};
use tonic::{Request, Response, Status, Streaming};

use super::{Desk, Shown};
use crate::ask::{Answer, Asking};
use crate::hub::{Hub, Phase};
use crate::stat::KEPT_SECONDS;

/// Answers on their way to one replica.
const ROOM: usize = 1_024;
/// Questions of one replica at a time.
const QUESTIONS: usize = 8_192;
/// Proxies in one part of an answer.
const PART: usize = 2_000;

/// The service.
#[derive(Clone, Debug)]
pub struct Others {
    desk: Desk,
    /// Who may ask.
    control: Identity,
}

/// The stream to one replica.
struct Stream {
    hub: Arc<Hub>,
    forwarded: Streaming<v1::Forwarded>,
    lines: watch::Receiver<u64>,
    phase: watch::Receiver<Phase>,
    /// Proxies of which it knows; `None` before the first message.
    told: Option<BTreeSet<WorkloadUid>>,
    relay: Relay,
}

/// Its questions.
struct Relay {
    /// By its own id.
    asking: HashMap<u64, Asking>,
    /// Its id by ours.
    ids: HashMap<u64, u64>,
    to: mpsc::Sender<Answer>,
    answers: mpsc::Receiver<Answer>,
}

// === impl Others ===

impl Others {
    /// A service on `desk`, for whoever proves to be `control`.
    pub fn new(desk: Desk, control: Identity) -> Self {
        Self { desk, control }
    }

    fn admit<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let shown = request.extensions().get::<Shown>();
        let peer = shown.and_then(|shown| shown.0.as_ref());
        let is_control = |peer: &&Peer| {
            peer.identity == self.control
                && peer.uid.is_none()
                && peer.not_after > self.desk.hub.now()
        };
        match peer.filter(is_control) {
            Some(_) => Ok(()),
            None => Err(Status::permission_denied(
                "only another replica of control may ask this",
            )),
        }
    }
}

#[tonic::async_trait]
impl Replicas for Others {
    type AskStream = BoxStream<'static, Result<v1::Told, Status>>;
    type StatisticsStream = BoxStream<'static, Result<v1::StatisticsPart, Status>>;

    async fn ask(
        &self,
        request: Request<Streaming<v1::Forwarded>>,
    ) -> Result<Response<Self::AskStream>, Status> {
        self.admit(&request)?;
        let hub = &self.desk.hub;
        let stream = Stream {
            hub: hub.clone(),
            forwarded: request.into_inner(),
            lines: hub.questions().lines(),
            phase: hub.phase(),
            told: None,
            relay: Relay::new(),
        };
        let told = unfold(stream, |mut stream| async move {
            let told = stream.next().await?;
            Some((Ok(told), stream))
        });
        Ok(Response::new(told.boxed()))
    }

    async fn statistics(
        &self,
        request: Request<v1::StatisticsRequest>,
    ) -> Result<Response<Self::StatisticsStream>, Status> {
        self.admit(&request)?;
        let hub = &self.desk.hub;
        let window = request.get_ref().window_s.min(KEPT_SECONDS);
        let mut parts = hub.stats().carry(hub.second(), window);
        let proxies = hub.connected();
        parts.extend(proxies.chunks(PART).map(|proxies| v1::StatisticsPart {
            reporters: Vec::new(),
            proxies: proxies.to_vec(),
        }));
        Ok(Response::new(
            stream::iter(parts.into_iter().map(Ok)).boxed(),
        ))
    }
}

// === impl Stream ===

impl Stream {
    /// What it is told next; `None` when either side has gone.
    async fn next(&mut self) -> Option<v1::Told> {
        loop {
            if self.told.is_none() {
                return self.moved();
            }
            tokio::select! {
                asked = self.forwarded.message() => match asked {
                    Ok(Some(forwarded)) => if let Some(refused) = self.relay.forward(&self.hub, forwarded) {
                        return Some(refused);
                    },
                    Ok(None) | Err(_) => return None,
                },
                answer = self.relay.answers.recv() => if let Some(told) = self.relay.told(answer?) {
                    return Some(told);
                },
                changed = self.lines.changed() => {
                    changed.ok()?;
                    if let Some(told) = self.moved() {
                        return Some(told);
                    }
                }
                () = draining(&mut self.phase) => return None,
            }
        }
    }

    /// Who has come and gone since it was told last.
    fn moved(&mut self) -> Option<v1::Told> {
        let is_first = self.told.is_none();
        let now = self.hub.questions().own();
        let before = self.told.replace(now.clone()).unwrap_or_default();
        let names = |uids: &mut dyn Iterator<Item = &WorkloadUid>| -> Vec<String> {
            uids.map(ToString::to_string).collect()
        };
        let told = v1::Told {
            came: names(&mut now.difference(&before)),
            went: names(&mut before.difference(&now)),
            ..v1::Told::default()
        };
        (is_first || !(told.came.is_empty() && told.went.is_empty())).then_some(told)
    }
}

async fn draining(phase: &mut watch::Receiver<Phase>) {
    // Without its sender the process is about to end as well.
    drop(phase.wait_for(|phase| *phase == Phase::Draining).await);
}

// === impl Relay ===

impl Relay {
    fn new() -> Self {
        let (to, answers) = mpsc::channel(ROOM);
        Self {
            asking: HashMap::new(),
            ids: HashMap::new(),
            to,
            answers,
        }
    }

    /// Asks whom it wants to be asked; where that cannot be, what it is told.
    fn forward(&mut self, hub: &Hub, forwarded: v1::Forwarded) -> Option<v1::Told> {
        let uid = WorkloadUid::new(&forwarded.to)?;
        let question = forwarded.question?;
        let (id, what) = (question.id, question.what?);
        if let v1::question::What::Cancel(_) = what {
            self.cancel(id, &uid);
            return None;
        }
        if self.asking.len() >= QUESTIONS && !self.asking.contains_key(&id) {
            return Some(refusal(uid, id, "too many questions at a time"));
        }
        let asking = self.asking.entry(id).or_insert_with(|| {
            let asking = hub.questions().open_to(self.to.clone());
            self.ids.insert(asking.id(), id);
            asking
        });
        if asking.ask(&uid, what) {
            return None;
        }
        self.cancel(id, &uid);
        Some(refusal(uid, id, "it has gone"))
    }

    fn cancel(&mut self, id: u64, uid: &WorkloadUid) {
        let Some(asking) = self.asking.get_mut(&id) else {
            return;
        };
        asking.cancel(uid);
        if !asking.is_open() {
            self.ids.remove(&asking.id());
            self.asking.remove(&id);
        }
    }

    /// An answer in its terms, unless the question was taken back.
    fn told(&self, answer: Answer) -> Option<v1::Told> {
        let id = *self.ids.get(&answer.id)?;
        let asking = self.asking.get(&id)?;
        Some(v1::Told {
            from: answer.from.to_string(),
            answer: Some(v1::Answer {
                id,
                what: Some(answer.what),
            }),
            lost: asking.take_lost(),
            ..v1::Told::default()
        })
    }
}

fn refusal(uid: WorkloadUid, id: u64, why: &str) -> v1::Told {
    v1::Told {
        from: uid.to_string(),
        answer: Some(v1::Answer {
            id,
            what: Some(v1::answer::What::Refused(why.to_owned())),
        }),
        ..v1::Told::default()
    }
}
