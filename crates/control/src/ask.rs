// SPDX-License-Identifier: Apache-2.0
//! Questions to proxies: each proxy that is there has a line, each question an id, and each answer goes to whoever asked. A proxy
//! that is connected to another replica has a line by way of it, and nobody who asks sees the difference.
//!
//! Nothing waits here: a line or an asker without room loses the message, and the asker is told how many it lost. Must never ask a
//! proxy anything that was taken back, nor hold an answer for somebody who has gone. Read `serve/questions.rs` and `serve/replicas.rs` for the lines' other
//! ends, `api/tap.rs` and `api/explain.rs` for those who ask.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use maille_model::WorkloadUid;
use maille_wire::v1;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

/// Questions on their way to one proxy.
const LINE: usize = 64;

/// Every line and every question. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Questions(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Counts lines that came and went.
    lines: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    lines: HashMap<WorkloadUid, Lines>,
    askers: HashMap<u64, Asker>,
    last: u64,
}

/// The ways to one proxy.
#[derive(Debug, Default)]
struct Lines {
    /// It is connected to us.
    own: Option<Line<v1::Question>>,
    /// By the name of another replica that says it is connected there.
    others: BTreeMap<String, Line<v1::Forwarded>>,
}

#[derive(Debug)]
struct Line<T> {
    to: mpsc::Sender<T>,
    serial: u64,
}

#[derive(Debug)]
struct Asker {
    to: mpsc::Sender<Answer>,
    lost: Arc<AtomicU64>,
}

/// What a proxy said.
#[derive(Debug)]
pub struct Answer {
    /// To which question.
    pub id: u64,
    /// Which one.
    pub from: WorkloadUid,
    /// What.
    pub what: v1::answer::What,
}

/// A question with its answers; taken back on drop.
#[derive(Debug)]
pub struct Asked {
    asking: Asking,
    answers: mpsc::Receiver<Answer>,
}

/// A question whose answers somebody else reads; taken back on drop.
#[derive(Debug)]
pub(crate) struct Asking {
    questions: Questions,
    id: u64,
    asked: HashMap<WorkloadUid, u64>,
    lost: Arc<AtomicU64>,
}

/// The proxy's end of a line; hung up on drop.
#[derive(Debug)]
pub struct Hanging {
    questions: Questions,
    uid: WorkloadUid,
    serial: u64,
    asked: mpsc::Receiver<v1::Question>,
}

/// Proxies that are asked by way of another replica; none of them any more on drop.
#[derive(Debug)]
pub(crate) struct Beyond {
    questions: Questions,
    replica: String,
    to: mpsc::Sender<v1::Forwarded>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The proxy has no stream open.
    #[error("its proxy is not connected")]
    Away,
    /// It said nothing in time.
    #[error("its proxy did not answer in {} s", .0.as_secs())]
    Late(Duration),
    /// It does not want to.
    #[error("its proxy refuses: {0}")]
    Refused(String),
}

// === impl Questions ===

impl Default for Questions {
    fn default() -> Self {
        Self(Arc::new(Shared {
            state: Mutex::default(),
            lines: watch::Sender::new(0),
        }))
    }
}

impl Questions {
    /// A proxy is there from now on; an older line of the same workload is hung up.
    pub fn hang(&self, uid: &WorkloadUid) -> Hanging {
        let (to, asked) = mpsc::channel(LINE);
        let serial = self.0.state.lock().hang(uid, |lines, serial| {
            lines.own = Some(Line { to, serial });
        });
        self.changed();
        Hanging {
            questions: self.clone(),
            uid: uid.clone(),
            serial,
            asked,
        }
    }

    /// The proxies of the replica of this name, which questions reach by `to`. Nobody is there yet.
    pub(crate) fn beyond(&self, replica: &str, to: mpsc::Sender<v1::Forwarded>) -> Beyond {
        Beyond {
            questions: self.clone(),
            replica: replica.to_owned(),
            to,
        }
    }

    fn changed(&self) {
        self.0.lines.send_modify(|count| *count += 1);
    }

    /// Whether this proxy can be asked.
    pub fn is_there(&self, uid: &WorkloadUid) -> bool {
        self.0.state.lock().lines.contains_key(uid)
    }

    /// The proxies that are connected to us.
    pub(crate) fn own(&self) -> BTreeSet<WorkloadUid> {
        let state = self.0.state.lock();
        let own = state.lines.iter().filter(|(_, lines)| lines.own.is_some());
        own.map(|(uid, _)| uid.clone()).collect()
    }

    /// Changes when a line comes or goes.
    pub fn lines(&self) -> watch::Receiver<u64> {
        self.0.lines.subscribe()
    }

    /// A question that nobody was asked yet, with room for so many answers.
    pub fn open(&self, room: usize) -> Asked {
        let (to, answers) = mpsc::channel(room);
        Asked {
            asking: self.open_to(to),
            answers,
        }
    }

    /// The same, whose answers go to `to`.
    pub(crate) fn open_to(&self, to: mpsc::Sender<Answer>) -> Asking {
        let lost = Arc::new(AtomicU64::new(0));
        let mut state = self.0.state.lock();
        state.last += 1;
        let id = state.last;
        let asker = Asker {
            to,
            lost: Arc::clone(&lost),
        };
        state.askers.insert(id, asker);
        Asking {
            questions: self.clone(),
            id,
            asked: HashMap::new(),
            lost,
        }
    }

    /// Asks one proxy, for one answer within `patience`.
    pub async fn once(
        &self,
        uid: &WorkloadUid,
        what: v1::question::What,
        patience: Duration,
    ) -> Result<v1::answer::What, AskError> {
        let mut asked = self.open(1);
        if !asked.ask(uid, what) {
            return Err(AskError::Away);
        }
        match timeout(patience, asked.next()).await {
            Ok(Some(Answer {
                what: v1::answer::What::Refused(why),
                ..
            })) => Err(AskError::Refused(why)),
            Ok(Some(answer)) => Ok(answer.what),
            Ok(None) => Err(AskError::Away),
            Err(_) => Err(AskError::Late(patience)),
        }
    }

    fn say(&self, uid: &WorkloadUid, id: u64, what: v1::question::What) -> Option<u64> {
        let state = self.0.state.lock();
        let lines = state.lines.get(uid)?;
        let question = v1::Question {
            id,
            what: Some(what),
        };
        if let Some(own) = &lines.own {
            return own.to.try_send(question).ok().map(|()| own.serial);
        }
        let other = lines.newest()?;
        let forwarded = v1::Forwarded {
            to: uid.to_string(),
            question: Some(question),
        };
        other.to.try_send(forwarded).ok().map(|()| other.serial)
    }

    /// A proxy said something, of which `lost` messages were lost on the way. What nobody asked is thrown away.
    fn deliver(&self, from: &WorkloadUid, answer: v1::Answer, lost: u64) {
        let state = self.0.state.lock();
        let (Some(asker), Some(what)) = (state.askers.get(&answer.id), answer.what) else {
            return;
        };
        let lines = match &what {
            v1::answer::What::Events(events) => (events.events.len() + events.pieces.len()) as u64,
            _ => 1,
        };
        let said = Answer {
            id: answer.id,
            from: from.clone(),
            what,
        };
        let missed = if asker.to.try_send(said).is_err() {
            lines
        } else {
            0
        };
        asker.lost.fetch_add(missed + lost, Ordering::Relaxed);
    }
}

// === impl State ===

impl State {
    fn hang(&mut self, uid: &WorkloadUid, put: impl FnOnce(&mut Lines, u64)) -> u64 {
        self.last += 1;
        let serial = self.last;
        put(self.lines.entry(uid.clone()).or_default(), serial);
        serial
    }

    /// Takes away what `drop` takes away of the ways to this proxy.
    fn hang_up(&mut self, uid: &WorkloadUid, drop: impl FnOnce(&mut Lines)) {
        let Some(lines) = self.lines.get_mut(uid) else {
            return;
        };
        drop(lines);
        if lines.own.is_none() && lines.others.is_empty() {
            self.lines.remove(uid);
        }
    }
}

// === impl Lines ===

impl Lines {
    /// A proxy that went from one replica to another is for a moment at both.
    fn newest(&self) -> Option<&Line<v1::Forwarded>> {
        self.others.values().max_by_key(|line| line.serial)
    }

    /// Of the one that is used.
    fn serial(&self) -> Option<u64> {
        let other = || self.newest().map(|line| line.serial);
        self.own.as_ref().map(|line| line.serial).or_else(other)
    }
}

// === impl Asked ===

impl Asked {
    /// Asks a proxy too, or asks it something else in place of the last. Whether it is there to hear it.
    pub fn ask(&mut self, uid: &WorkloadUid, what: v1::question::What) -> bool {
        self.asking.ask(uid, what)
    }

    /// Asks a proxy no more.
    pub fn cancel(&mut self, uid: &WorkloadUid) {
        self.asking.cancel(uid);
    }

    /// Whether this proxy was asked on the line that it has now.
    pub fn is_asked(&self, uid: &WorkloadUid) -> bool {
        let asking = &self.asking;
        let state = asking.questions.0.state.lock();
        let line = state.lines.get(uid).and_then(Lines::serial);
        line.is_some() && line == asking.asked.get(uid).copied()
    }

    /// Who was asked.
    pub fn all(&self) -> impl Iterator<Item = &WorkloadUid> {
        self.asking.asked.keys()
    }

    /// The next answer. Cancel-safe.
    pub async fn next(&mut self) -> Option<Answer> {
        self.answers.recv().await
    }

    /// Answers that found no room since this was last asked.
    pub fn take_lost(&self) -> u64 {
        self.asking.take_lost()
    }
}

// === impl Asking ===

impl Asking {
    /// What its answers are told apart by.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn ask(&mut self, uid: &WorkloadUid, what: v1::question::What) -> bool {
        match self.questions.say(uid, self.id, what) {
            Some(serial) => {
                self.asked.insert(uid.clone(), serial);
                true
            }
            None => false,
        }
    }

    pub(crate) fn cancel(&mut self, uid: &WorkloadUid) {
        if self.asked.remove(uid).is_some() {
            let cancel = v1::question::What::Cancel(v1::Cancel {});
            self.questions.say(uid, self.id, cancel);
        }
    }

    /// Whether anybody is asked still.
    pub(crate) fn is_open(&self) -> bool {
        !self.asked.is_empty()
    }

    pub(crate) fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.questions.0.state.lock().askers.remove(&self.id);
        for uid in std::mem::take(&mut self.asked).into_keys() {
            let cancel = v1::question::What::Cancel(v1::Cancel {});
            self.questions.say(&uid, self.id, cancel);
        }
    }
}

// === impl Hanging ===

impl Hanging {
    /// The next question; `None` when another line took this one's place. Cancel-safe.
    pub async fn next(&mut self) -> Option<v1::Question> {
        self.asked.recv().await
    }

    /// The proxy said something. What nobody asked is thrown away.
    pub fn answer(&self, answer: v1::Answer) {
        self.questions.deliver(&self.uid, answer, 0);
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        let serial = self.serial;
        self.questions.0.state.lock().hang_up(&self.uid, |lines| {
            lines.own.take_if(|line| line.serial == serial);
        });
        self.questions.changed();
    }
}

// === impl Beyond ===

impl Beyond {
    /// These proxies have come to the other replica, and those have left it.
    pub(crate) fn moved(&self, came: &[WorkloadUid], went: &[WorkloadUid]) {
        let mut state = self.questions.0.state.lock();
        for uid in came {
            let to = self.to.clone();
            state.hang(uid, |lines, serial| {
                lines
                    .others
                    .insert(self.replica.clone(), Line { to, serial });
            });
        }
        for uid in went {
            state.hang_up(uid, |lines| {
                lines.others.remove(&self.replica);
            });
        }
        drop(state);
        self.questions.changed();
    }

    /// One of them said something; see [`Hanging::answer`].
    pub(crate) fn answer(&self, from: &WorkloadUid, answer: v1::Answer, lost: u64) {
        self.questions.deliver(from, answer, lost);
    }
}

impl Drop for Beyond {
    fn drop(&mut self) {
        let mut state = self.questions.0.state.lock();
        state.lines.retain(|_, lines| {
            lines.others.remove(&self.replica);
            lines.own.is_some() || !lines.others.is_empty()
        });
        drop(state);
        self.questions.changed();
    }
}

#[cfg(test)]
mod tests;
