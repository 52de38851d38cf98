// SPDX-License-Identifier: Apache-2.0
//! Questions to proxies: each proxy that is there has a line, each question an id, and each answer goes to whoever asked.
//!
//! Nothing waits here: a line or an asker without room loses the message, and the asker is told how many it lost. Must never ask a
//! proxy anything that was taken back, nor hold an answer for somebody who has gone. Read `serve/questions.rs` for the lines' other
//! end, `api/tap.rs` and `api/explain.rs` for those who ask.

use std::collections::HashMap;
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
    lines: HashMap<WorkloadUid, Line>,
    askers: HashMap<u64, Asker>,
    last: u64,
}

#[derive(Debug)]
struct Line {
    to: mpsc::Sender<v1::Question>,
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
    /// Which one.
    pub from: WorkloadUid,
    /// What.
    pub what: v1::answer::What,
}

/// A question with its answers; taken back on drop.
#[derive(Debug)]
pub struct Asked {
    questions: Questions,
    id: u64,
    asked: HashMap<WorkloadUid, u64>,
    answers: mpsc::Receiver<Answer>,
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
        let mut state = self.0.state.lock();
        state.last += 1;
        let serial = state.last;
        state.lines.insert(uid.clone(), Line { to, serial });
        drop(state);
        self.0.lines.send_modify(|count| *count += 1);
        Hanging {
            questions: self.clone(),
            uid: uid.clone(),
            serial,
            asked,
        }
    }

    /// Whether this proxy can be asked.
    pub fn is_there(&self, uid: &WorkloadUid) -> bool {
        self.0.state.lock().lines.contains_key(uid)
    }

    /// Changes when a line comes or goes.
    pub fn lines(&self) -> watch::Receiver<u64> {
        self.0.lines.subscribe()
    }

    /// A question that nobody was asked yet, with room for so many answers.
    pub fn open(&self, room: usize) -> Asked {
        let (to, answers) = mpsc::channel(room);
        let lost = Arc::new(AtomicU64::new(0));
        let mut state = self.0.state.lock();
        state.last += 1;
        let id = state.last;
        let asker = Asker {
            to,
            lost: Arc::clone(&lost),
        };
        state.askers.insert(id, asker);
        Asked {
            questions: self.clone(),
            id,
            asked: HashMap::new(),
            answers,
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
        let line = state.lines.get(uid)?;
        let what = Some(what);
        let said = line.to.try_send(v1::Question { id, what });
        said.is_ok().then_some(line.serial)
    }
}

// === impl Asked ===

impl Asked {
    /// Asks a proxy too, or asks it something else in place of the last. Whether it is there to hear it.
    pub fn ask(&mut self, uid: &WorkloadUid, what: v1::question::What) -> bool {
        match self.questions.say(uid, self.id, what) {
            Some(serial) => {
                self.asked.insert(uid.clone(), serial);
                true
            }
            None => false,
        }
    }

    /// Asks a proxy no more.
    pub fn cancel(&mut self, uid: &WorkloadUid) {
        if self.asked.remove(uid).is_some() {
            let cancel = v1::question::What::Cancel(v1::Cancel {});
            self.questions.say(uid, self.id, cancel);
        }
    }

    /// Whether this proxy was asked on the line that it has now.
    pub fn is_asked(&self, uid: &WorkloadUid) -> bool {
        let state = self.questions.0.state.lock();
        let line = state.lines.get(uid).map(|line| line.serial);
        line.is_some() && line == self.asked.get(uid).copied()
    }

    /// Who was asked.
    pub fn all(&self) -> impl Iterator<Item = &WorkloadUid> {
        self.asked.keys()
    }

    /// The next answer. Cancel-safe.
    pub async fn next(&mut self) -> Option<Answer> {
        self.answers.recv().await
    }

    /// Answers that found no room since this was last asked.
    pub fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Asked {
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
        let state = self.questions.0.state.lock();
        let (Some(asker), Some(what)) = (state.askers.get(&answer.id), answer.what) else {
            return;
        };
        let lines = match &what {
            v1::answer::What::Events(events) => events.events.len() as u64,
            _ => 1,
        };
        let from = self.uid.clone();
        if asker.to.try_send(Answer { from, what }).is_err() {
            asker.lost.fetch_add(lines, Ordering::Relaxed);
        }
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        let mut state = self.questions.0.state.lock();
        let current = state.lines.get(&self.uid).map(|line| line.serial);
        if current == Some(self.serial) {
            state.lines.remove(&self.uid);
        }
        drop(state);
        self.questions.0.lines.send_modify(|count| *count += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use v1::answer::What as Said;
    use v1::question::What;

    fn uid(name: &str) -> WorkloadUid {
        WorkloadUid::new(name).unwrap()
    }

    fn explain() -> What {
        What::Explain(v1::Explain::default())
    }

    #[tokio::test]
    async fn an_answer_goes_to_whoever_asked() {
        let questions = Questions::default();
        let mut line = questions.hang(&uid("a"));
        let mut asked = questions.open(2);
        assert!(asked.ask(&uid("a"), explain()));
        assert!(!asked.ask(&uid("b"), explain()), "nobody is there");
        let question = line.next().await.unwrap();
        for id in [question.id, question.id + 7] {
            let what = Some(Said::Refused("no".into()));
            line.answer(v1::Answer { id, what });
        }
        let answer = asked.next().await.unwrap();
        assert_eq!(answer.from, uid("a"));
        assert!(asked.answers.is_empty(), "what nobody asked went nowhere");
        drop(asked);
        let cancel = line.next().await.unwrap();
        assert!(matches!(cancel.what, Some(What::Cancel(_))));
    }

    #[tokio::test]
    async fn answers_without_room_are_counted() {
        let questions = Questions::default();
        let mut line = questions.hang(&uid("a"));
        let mut asked = questions.open(1);
        asked.ask(&uid("a"), What::Tap(v1::Tap::default()));
        let id = line.next().await.unwrap().id;
        let events = v1::TapEvents {
            events: vec![v1::TapEvent::default(); 3],
            ..v1::TapEvents::default()
        };
        for _ in 0..2 {
            let what = Some(Said::Events(events.clone()));
            line.answer(v1::Answer { id, what });
        }
        assert_eq!((asked.take_lost(), asked.take_lost()), (3, 0));
    }

    #[tokio::test]
    async fn a_line_that_came_again_is_to_be_asked_again() {
        let questions = Questions::default();
        let mut lines = questions.lines();
        let first = questions.hang(&uid("a"));
        let mut asked = questions.open(1);
        asked.ask(&uid("a"), explain());
        assert!(asked.is_asked(&uid("a")));
        let second = questions.hang(&uid("a"));
        drop(first);
        assert!(lines.has_changed().unwrap());
        lines.mark_unchanged();
        assert!(questions.is_there(&uid("a")) && !asked.is_asked(&uid("a")));
        drop(second);
        assert!(lines.has_changed().unwrap() && !questions.is_there(&uid("a")));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let questions = Questions::default();
        let second = Duration::from_secs(1);
        let away = questions.once(&uid("a"), explain(), second).await;
        assert_eq!(away, Err(AskError::Away));
        let _line = questions.hang(&uid("a"));
        let late = questions.once(&uid("a"), explain(), second).await;
        assert_eq!(late, Err(AskError::Late(second)));
    }
}
