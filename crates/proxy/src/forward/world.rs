// SPDX-License-Identifier: Apache-2.0
//! What the core is told from outside its connections: snapshots, credentials, the drain; and what it tells: questions and counts.
//!
//! Must never let a decision see half of a change. Next: `links.rs`.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use maille_engine::http1::{RequestHead, ResponseHead};
use maille_engine::route::Direction;
use maille_engine::snapshot::{Key, Snapshot};
use maille_identity::Credentials;

use super::conns::{Conns, Role};
use super::deadlines::Deadlines;
use super::exchange::{Carries, Exchange};
use super::links::Links;
use super::recover::Work;
use super::report::{Ended, Recent};
use super::tapped::Tapping;
use super::timers::{Timer, Timers};
use super::{Core, Settings};
use crate::balance::Balance;
use crate::connect::pool::Pool;
use crate::outcome::Access;
use crate::route::Facts;
use crate::table::ConnId;
use crate::table::Table;
use crate::telemetry::Recorder;

/// How often idle connections are looked at, while there are any.
const SWEEP: Duration = Duration::from_secs(1);
/// How long a client that keeps its connection has to ask once more after a drain began, and to be told `connection: close`.
const FAREWELL: Duration = Duration::from_secs(2);
/// The same for one from outside the mesh, after the workload was asked to go: shorter than what passes before its application
/// hears of it.
const LAST_CALL: Duration = Duration::from_millis(500);
/// Questions to control that were not taken yet.
const QUESTIONS: usize = 1_024;

impl Core {
    /// A core that knows nobody yet.
    pub fn new(settings: Settings, now: Instant) -> Self {
        Self {
            settings,
            snapshot: Arc::new(Snapshot::new()),
            conns: Conns::default(),
            exchanges: Table::default(),
            links: Links::default(),
            pool: Pool::default(),
            balance: Balance::new(settings.seed),
            recorder: Recorder::new(),
            recent: Recent::default(),
            ended: Ended::default(),
            tapping: Tapping::default(),
            timers: Timers::default(),
            deadlines: Deadlines::default(),
            waiting: Vec::new(),
            barren: HashSet::new(),
            undetected: Vec::new(),
            questions: VecDeque::new(),
            request: RequestHead::default(),
            response: ResponseHead::default(),
            parsed: None,
            now,
            sweeping: false,
            draining: false,
            leaving: false,
            parted: false,
            work: Work::Nobody,
            attaching: None,
            news: false,
        }
    }

    /// Control said something.
    pub fn learn(&mut self, snapshot: Arc<Snapshot>) {
        // What has ended is called what it was called then.
        self.report_ended();
        let before = std::mem::replace(&mut self.snapshot, snapshot);
        self.withdraw(&before);
        self.take_leave();
        self.news = true;
    }

    /// The workload was asked to go. Who is in the mesh turns elsewhere by itself; who is not may keep a connection for
    /// ever, and would meet a closed door as soon as the application is gone: it is told with its next answer, and closed
    /// where it asks for nothing, while the application still serves.
    fn take_leave(&mut self) {
        let leaving = self.snapshot.own().is_some_and(|own| own.leaving);
        if leaving && !self.leaving {
            self.timers.set(self.now + LAST_CALL, Timer::LastCall);
            self.links_warn();
        }
        self.leaving = leaving;
    }

    /// Clients outside the mesh that have asked nothing since the workload began to leave are closed.
    pub(super) fn last_call(&mut self) {
        for id in self.conns.ids() {
            let client = self.conns.get(id);
            if client.is_some_and(|conn| conn.role == Role::Client && conn.comes_in()) {
                self.client_drained(id);
            }
        }
    }

    /// Whether an answer that goes this way is the last on its connection.
    pub(super) fn is_last(&self, direction: Direction) -> bool {
        self.draining || (self.leaving && direction == Direction::Inbound)
    }

    /// There is a new certificate. What is open goes on with the old one; new streams take the new one.
    pub fn renew(&mut self, credentials: Credentials) {
        self.mesh_renew(credentials);
        self.news = true;
    }

    /// Stops: nothing new is accepted, what is open may end.
    pub fn drain(&mut self) {
        self.draining = true;
        for old in self.pool.aged(self.now, true) {
            self.conns.close(old);
        }
        self.timers.set(self.now + FAREWELL, Timer::Farewell);
        self.links_drain();
    }

    /// Clients that have asked nothing since the drain began are closed: they had time to ask, and to be told that it was the last time.
    pub(super) fn farewell(&mut self) {
        self.parted = true;
        for id in self.conns.ids() {
            if self.role(id) == Some(Role::Client) {
                self.client_drained(id);
            }
        }
    }

    /// Ends at once what the drain has left.
    pub fn cut(&mut self) {
        for id in self.conns.ids() {
            self.conns.abort(id);
        }
    }

    /// Whether no connection is left.
    pub fn is_quiet(&self) -> bool {
        self.conns.len() == 0
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.conns.len()
    }

    /// What control shall be asked.
    pub fn next_question(&mut self) -> Option<Key> {
        self.questions.pop_front()
    }

    /// Whether there is something to ask.
    pub fn has_questions(&self) -> bool {
        !self.questions.is_empty()
    }

    pub(super) fn ask(&mut self, key: Key) {
        // A question that finds no place is asked again by the next who needs it.
        if self.questions.len() < QUESTIONS && !self.questions.contains(&key) {
            self.questions.push_back(key);
        }
    }

    pub(super) fn role(&self, id: ConnId) -> Option<Role> {
        self.conns.get(id).map(|conn| conn.role)
    }

    pub(super) fn new_exchange(&mut self, carries: Carries, facts: Facts) -> Exchange {
        let mut exchange = Exchange::new(carries, facts, self.conns.spare(), self.now);
        if carries == Carries::Http && self.settings.access != Access::Off {
            exchange.asked = Some(Box::default());
        }
        self.tap_new(&mut exchange);
        exchange
    }

    pub(super) fn sweep_later(&mut self) {
        if !self.sweeping {
            self.sweeping = true;
            self.timers.set(self.now + SWEEP, Timer::Sweep);
        }
    }

    pub(super) fn sweep(&mut self) {
        self.sweeping = false;
        for old in self.pool.aged(self.now, false) {
            self.conns.close(old);
        }
        self.links_sweep();
        if !self.pool.is_empty() || !self.links.is_empty() {
            self.sweep_later();
        }
    }

    pub(super) fn pool_forget(&mut self, id: ConnId) {
        if let Some(key) = self.conns.get(id).and_then(|conn| conn.pool_key) {
            self.pool.forget(id, &key);
        }
    }
}
