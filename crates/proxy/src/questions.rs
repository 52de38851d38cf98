// SPDX-License-Identifier: Apache-2.0
//! What people ask this proxy, by way of control: one stream that the proxy opens and keeps, on which control asks and the proxy answers.
//!
//! Answers come from what is in force here, and change nothing. Bounded: taps, explanations that wait, lines on their way. When the stream
//! ends every question is taken back. Must never hold up the data thread. Next: `questions/explain.rs`, `questions/convert.rs`.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use maille_chassis::clock::Clock;
use maille_engine::route::{self, Decision};
use maille_engine::snapshot::{Key, Snapshot};
use maille_wire::v1;
use maille_wire::v1::answer::What as Said;
use maille_wire::v1::question::What as Asked;
use maille_wire::v1::questions_client::QuestionsClient;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use crate::config::Inside;
use crate::control::{Backoff, Caller};
use crate::identity_feed;
use crate::tap::{TAPS, Tap, Taps, Told, Untold};

/// Words of the wire and of taps.
mod convert;
/// What would be done, and why.
pub mod explain;
mod inside;

/// Lines that are on their way from the data thread.
pub const LINES: usize = 1_024;
/// Answers on their way to control.
const ANSWERS: usize = 32;
/// Lines in one answer.
const BATCH: usize = 128;
/// Explanations that wait for control to say something.
const WAITING: usize = 64;
/// How long they wait: as long as a connection would.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often what was not told is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What answers are made of.
#[derive(Debug)]
pub struct Sources {
    /// What is known.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// Takes what is not known and should be.
    pub questions: mpsc::Sender<Key>,
    /// The own certificate.
    pub credentials: identity_feed::Feed,
    /// Who taps, for the data thread.
    pub taps: watch::Sender<Taps>,
    /// What taps are told.
    pub told: mpsc::Receiver<Told>,
    /// Whether what goes through mesh connections may be told.
    pub inside: Inside,
}

/// One stream's questions.
struct Session<'a> {
    sources: &'a mut Sources,
    clock: Clock,
    /// Wall time at a moment of the other clock: lines carry the latter.
    wall: (SystemTime, Instant),
    answers: mpsc::Sender<v1::Answer>,
    taps: Vec<Arc<Tap>>,
    /// Who looks at what goes through mesh connections, by their questions.
    inside: Vec<u64>,
    waiting: VecDeque<Waiting>,
    untold: HashMap<u64, Untold>,
}

/// An explanation that control has to say something for.
struct Waiting {
    id: u64,
    facts: route::Facts,
    until: Instant,
}

/// Answers questions, for ever: a stream that ends is begun again.
pub async fn run(mut sources: Sources, channel: Channel, caller: Caller, clock: Clock) {
    let mut client = QuestionsClient::with_interceptor(channel, caller);
    let mut backoff = Backoff::new();
    loop {
        let began = clock.now();
        let (answers, stream) = mpsc::channel(ANSWERS);
        let opened = client
            .serve(Request::new(ReceiverStream::new(stream)))
            .await;
        let ended = match opened {
            Ok(asked) => {
                let mut session = Session {
                    wall: (clock.wall(), clock.now()),
                    sources: &mut sources,
                    clock,
                    answers,
                    taps: Vec::new(),
                    inside: Vec::new(),
                    waiting: VecDeque::new(),
                    untold: HashMap::new(),
                };
                session.serve(asked.into_inner()).await
            }
            Err(status) => status,
        };
        tracing::debug!(code = ?ended.code(), reason = ended.message(), "question stream lost");
        sources.taps.send_replace(Taps::default());
        backoff.wait(&clock, began).await;
    }
}

// === impl Session ===

impl Session<'_> {
    /// Until the stream ends. What was told to nobody is thrown away.
    async fn serve(&mut self, mut asked: Streaming<v1::Question>) -> Status {
        let mut lines = Vec::with_capacity(BATCH);
        let mut look = self.clock.now() + LOOK;
        loop {
            tokio::select! {
                question = asked.message() => match question {
                    Ok(Some(question)) => self.hear(question),
                    Ok(None) => return Status::unavailable("control ended it"),
                    Err(status) => return status,
                },
                _ = self.sources.told.recv_many(&mut lines, BATCH) => self.tell(lines.drain(..)),
                changed = self.sources.snapshots.changed(), if !self.waiting.is_empty() => {
                    if changed.is_err() {
                        return Status::cancelled("the proxy stops");
                    }
                    self.look_again();
                }
                () = self.clock.until(look) => {
                    look = self.clock.now() + LOOK;
                    self.wall = (self.clock.wall(), self.clock.now());
                    self.look_again();
                    self.tell(std::iter::empty());
                }
            }
        }
    }

    fn hear(&mut self, question: v1::Question) {
        let id = question.id;
        let answer = match question.what {
            Some(Asked::Tap(tap)) => self.tap(id, tap).err().map(Said::Refused),
            Some(Asked::Cancel(_)) => {
                self.taps.retain(|tap| tap.id != id);
                self.inside.retain(|known| *known != id);
                self.waiting.retain(|waiting| waiting.id != id);
                self.publish();
                None
            }
            Some(Asked::Explain(asked)) => match convert::facts(&asked) {
                Ok(facts) => self.explain(id, facts),
                Err(why) => Some(Said::Refused(why)),
            },
            Some(Asked::Certificate(_)) => Some(self.certificate()),
            Some(Asked::Inside(_)) => {
                self.look_inside(id);
                None
            }
            None => Some(Said::Refused(
                "this proxy does not know the question".into(),
            )),
        };
        if let Some(what) = answer {
            self.say(id, what);
        }
    }

    /// An answer that finds no room is lost: whoever asked has a deadline.
    fn say(&self, id: u64, what: Said) -> bool {
        let what = Some(what);
        self.answers.try_send(v1::Answer { id, what }).is_ok()
    }

    fn tap(&mut self, id: u64, asked: v1::Tap) -> Result<(), String> {
        let tap = Arc::new(convert::tap(id, asked)?);
        self.taps.retain(|before| before.id != id);
        if self.taps.len() + self.inside.len() >= TAPS {
            return Err(format!("{TAPS} taps watch this proxy already"));
        }
        self.taps.push(tap);
        self.publish();
        Ok(())
    }

    fn publish(&mut self) {
        self.sources.taps.send_replace(Taps {
            exchanges: self.taps.clone().into(),
            inside: !self.inside.is_empty(),
        });
        let (taps, inside) = (&self.taps, &self.inside);
        self.untold
            .retain(|id, _| inside.contains(id) || taps.iter().any(|tap| tap.id == *id));
    }

    /// Answers at once, or once control has said what is missing.
    fn explain(&mut self, id: u64, facts: route::Facts) -> Option<Said> {
        let snapshot = Arc::clone(&self.sources.snapshots.borrow_and_update());
        let missing = match route::decide(&snapshot, &facts) {
            Decision::Wait(key) => Some(key),
            Decision::Forward(_) | Decision::Refuse(_) => match route::hint(&snapshot, &facts) {
                route::Hint::Wait(key) => Some(key),
                route::Hint::Declared(_) => None,
            },
        };
        let Some(key) = missing else {
            return Some(self.explained(&snapshot, &facts));
        };
        if self.waiting.len() >= WAITING {
            return Some(Said::Refused("too many explanations wait here".into()));
        }
        // Full: it is asked again at the next look.
        let _ = self.sources.questions.try_send(key);
        let known = self.waiting.iter().any(|waiting| waiting.id == id);
        if !known {
            self.waiting.push_back(Waiting {
                id,
                facts,
                until: self.clock.now() + PATIENCE,
            });
        }
        None
    }

    fn explained(&self, snapshot: &Snapshot, facts: &route::Facts) -> Said {
        let ready = self.sources.credentials.borrow().is_some() && snapshot.is_complete();
        Said::Explanation(explain::explain(snapshot, facts, ready))
    }

    /// Control said something, or a moment has passed: what waits is decided again, and answered late as it stands.
    fn look_again(&mut self) {
        let now = self.clock.now();
        for waiting in std::mem::take(&mut self.waiting) {
            let Waiting { id, facts, until } = waiting;
            if now >= until {
                let snapshot = Arc::clone(&self.sources.snapshots.borrow());
                let said = self.explained(&snapshot, &facts);
                self.say(id, said);
                continue;
            }
            self.waiting.push_back(Waiting { id, facts, until });
            if let Some(said) = self.explain(id, facts) {
                self.waiting.retain(|waiting| waiting.id != id);
                self.say(id, said);
            }
        }
    }

    fn certificate(&self) -> Said {
        let credentials = self.sources.credentials.borrow().clone();
        let snapshot = self.sources.snapshots.borrow();
        let anchors = snapshot.mesh().map(|mesh| mesh.trust_anchors.clone());
        match credentials {
            Some(credentials) => Said::Certificate(convert::certificate(
                &credentials,
                anchors.unwrap_or_default(),
            )),
            None => Said::Refused("it has no certificate yet".into()),
        }
    }

    fn tell(&mut self, lines: impl Iterator<Item = Told>) {
        let mut by_tap: HashMap<u64, v1::TapEvents> = HashMap::new();
        let mut pieces = Vec::new();
        for told in lines {
            match told {
                Told::Seen(seen) if self.taps.iter().any(|tap| tap.id == seen.tap) => {
                    let event = convert::event(&seen, self.wall);
                    by_tap.entry(seen.tap).or_default().events.push(event);
                }
                Told::Untold { tap, untold } if self.taps.iter().any(|known| known.id == tap) => {
                    self.untold.entry(tap).or_default().add(untold);
                }
                Told::Piece(piece) => pieces.push(convert::piece(*piece, self.wall)),
                Told::Lost(lost) => {
                    for id in self.inside.clone() {
                        self.lose_pieces(id, lost);
                    }
                }
                // Of a tap that is over.
                Told::Seen(_) | Told::Untold { .. } => {}
            }
        }
        for (tap, untold) in std::mem::take(&mut self.untold) {
            let events = by_tap.entry(tap).or_default();
            events.over_rate = untold.over_rate;
            events.no_room = untold.no_room;
        }
        for (tap, events) in by_tap {
            let (lines, over_rate) = (events.events.len() as u64, events.over_rate);
            let no_room = events.no_room + lines;
            if !self.say(tap, Said::Events(events)) {
                let untold = Untold { over_rate, no_room };
                self.untold.entry(tap).or_default().add(untold);
            }
        }
        self.tell_pieces(&pieces);
    }
}
