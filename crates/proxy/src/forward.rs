// SPDX-License-Identifier: Apache-2.0
//! Stage 7, the forwarding core: a plain value without I/O or clock that owns everything of a worker's connections.
//!
//! ```text
//! driver (worker.rs)                       core
//!   begin_turn(now)
//!   input(conn, bytes), eof, reset  --->   who speaks what (first.rs, client.rs, server.rs, hear.rs)
//!   connected, connect_failed       --->   where to (attempt.rs), what goes on (flow.rs), how it ends (ends.rs)
//!   finish_turn()                          deadlines, requests that waited
//!   next_effect()                   <---   connect, close, reset, read on
//!   next_dirty_plain(), output()    <---   local connections first: what they take gives windows back
//!   seal(), next_dirty_link()       <---   then each mesh connection is sealed and written, once
//!   end_turn()                             what has ended is counted (report.rs)
//! ```
//!
//! Must never block, read a clock, or let what one peer sends grow without bound. Read `forward/conns.rs`, then `forward/exchange.rs`.

mod again;
mod answer;
mod attempt;
mod client;
mod conns;
mod deadlines;
mod ends;
mod exchange;
mod fields;
mod first;
mod flow;
mod head;
mod hear;
mod inside;
mod leave;
mod links;
mod message;
mod pace;
mod raw;
mod recover;
mod report;
mod response;
mod seal;
mod server;
mod speak;
mod stream;
mod tapped;
mod texts;
mod timers;
mod world;

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::hooked;

use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use crate::table::{ConnId, Socket};
use crate::table::{Id, LinkId, Table};
pub use conns::Effect;
use conns::{Conn, Conns, Hold, LOW, Role};
use deadlines::Deadlines;
use exchange::{End, Exchange, Side};
use links::{Link, Links};
use maille_engine::http1::{RequestHead, ResponseHead};
use maille_engine::snapshot::{Key, Snapshot};
pub use recover::Doubt;
use recover::Work;
use report::{Ended, Recent};
use tapped::Tapping;
use timers::{Timer, Timers};

use crate::accept::{Accepted, Door};
use crate::balance::Balance;
use crate::connect::pool::Pool;
use crate::failure::Failure;
use crate::outcome::Access;
use crate::route::Dress;
use crate::telemetry::Recorder;

/// What a stream between proxies may have on its way at least, however long it takes to work that off.
const LEAST_WINDOW: usize = 8 * 1024;

/// How the data plane is set up.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How sockets towards the own application are dressed.
    pub dress: Dress,
    /// How long a connect may take.
    pub connect_timeout: Duration,
    /// Sockets in all; a connection above this is closed at once.
    pub max_connections: usize,
    /// Whether there is an access log.
    pub access: Access,
    /// Makes the draws of balancing repeatable.
    pub seed: u64,
    /// Whether connections that should be left are cut: for a test.
    pub impatient: bool,
}

/// Everything of a worker's connections.
#[derive(Debug)]
pub struct Core {
    settings: Settings,
    snapshot: Arc<Snapshot>,
    conns: Conns,
    exchanges: Table<Exchange>,
    links: Links,
    pool: Pool,
    balance: Balance,
    recorder: Recorder,
    recent: Recent,
    ended: Ended,
    tapping: Tapping,
    timers: Timers,
    deadlines: Deadlines,
    /// Exchanges that wait for control.
    waiting: Vec<Id<Exchange>>,
    /// Destinations without an endpoint, waited for in vain since control spoke last.
    barren: HashSet<SocketAddr>,
    /// Clients of whose destination nothing is known, not even what it speaks.
    undetected: Vec<ConnId>,
    questions: VecDeque<Key>,
    /// The head that was parsed last, and the exchange it began.
    request: RequestHead,
    response: ResponseHead,
    parsed: Option<Id<Exchange>>,
    now: Instant,
    sweeping: bool,
    draining: bool,
    /// The workload was asked to go, and its application still serves.
    leaving: bool,
    /// It drains, and who has not asked since is closed.
    parted: bool,
    work: Work,
    /// The exchange that is being given its upstream side.
    attaching: Option<Id<Exchange>>,
    /// Control said something in this turn.
    news: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            dress: Dress {
                keep_source: false,
                mark: None,
                metrics: None,
                front: None,
            },
            connect_timeout: Duration::from_secs(1),
            max_connections: 65_536,
            access: Access::Off,
            impatient: false,
            seed: 0,
        }
    }
}

// === impl Core: what the driver calls ===

impl Core {
    /// The first thing of a turn.
    pub fn begin_turn(&mut self, now: Instant) {
        self.now = now;
        self.work = Work::Nobody;
    }

    /// A connection was accepted. `None` above the bound: close it.
    pub fn accept(&mut self, accepted: Accepted) -> Option<ConnId> {
        self.work = Work::Nobody;
        if self.conns.len() >= self.settings.max_connections || self.draining {
            return None;
        }
        let mut conn = Conn::new(Role::Detect);
        conn.accepted = Some(accepted);
        let id = self.conns.insert(conn);
        self.work = Work::Conn(id);
        match accepted.door {
            Door::Mesh => self.mesh_accepted(id, accepted.client),
            Door::Plain(_) => self.detect_begin(id),
        }
        Some(id)
    }

    /// Bytes were read. `bytes` may be overwritten. Gives how many requests they began, where all of these are one client's: working them off has
    /// only begun then.
    pub fn input(&mut self, id: ConnId, bytes: &mut [u8]) -> u64 {
        self.work = Work::Conn(id);
        let modest = self.links.modest;
        let begun = self.take_input(id, bytes);
        let own = self.links.modest - modest;
        if own > 0
            && let Some(conn) = self.conns.get_mut(id)
            && let Some(others) = &mut conn.others
        {
            *others += own;
        }
        begun
    }

    fn take_input(&mut self, id: ConnId, bytes: &mut [u8]) -> u64 {
        let before = self.exchanges.inserted();
        let Some(Role::Link(link)) = self.conns.get(id).map(|conn| conn.role) else {
            self.plain_input(id, bytes);
            let begun = self.exchanges.inserted() - before;
            self.links.modest += begun;
            return begun;
        };
        self.link_input(link, bytes);
        let begun = self.exchanges.inserted() - before;
        if self.is_shared(link) {
            self.links.modest += begun;
            return 0;
        }
        self.link_paced(link, begun);
        begun
    }

    /// Whether the connection is another proxy's, and carries what many clients say.
    fn is_shared(&self, link: LinkId) -> bool {
        let link = self.links.get(link);
        link.is_some_and(|link| link.proxy().is_some())
    }

    fn plain_input(&mut self, id: ConnId, bytes: &mut [u8]) {
        match self.conns.get(id).map(|conn| conn.role) {
            Some(Role::Client) => self.client_input(id, bytes),
            Some(Role::Server) => self.server_input(id, bytes),
            Some(Role::Raw) => self.raw_input(id, bytes),
            Some(Role::Detect) => self.detect_input(id, bytes),
            Some(Role::Link(link)) => self.link_plain(link, bytes),
            // A server that speaks unasked: its connection is not one to trust a request to.
            Some(Role::Idle) => {
                self.pool_forget(id);
                self.conns.abort(id);
            }
            Some(Role::Linger | Role::Gone) | None => {}
        }
    }

    /// The peer sent FIN.
    pub fn eof(&mut self, id: ConnId) {
        self.work = Work::Conn(id);
        match self.conns.get(id).map(|conn| conn.role) {
            Some(Role::Client) => self.client_eof(id),
            Some(Role::Server) => self.server_eof(id),
            Some(Role::Raw) => self.raw_eof(id),
            Some(Role::Detect) => self.detect_eof(id),
            Some(Role::Idle) => {
                self.pool_forget(id);
                self.conns.close(id);
            }
            Some(Role::Linger) => self.conns.close(id),
            Some(Role::Link(link)) => self.link_end(link, Failure::ConnectRefused),
            Some(Role::Gone) | None => {}
        }
    }

    /// The connection broke: a reset, or an error of the socket.
    pub fn reset(&mut self, id: ConnId) {
        self.work = Work::Conn(id);
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        conn.input_ended = true;
        let exchange = conn.exchange;
        match conn.role {
            Role::Link(link) => {
                self.link_end(link, Failure::ConnectRefused);
                self.conns.abort(id);
            }
            Role::Server => self.server_lost(id),
            Role::Idle => {
                self.pool_forget(id);
                self.conns.abort(id);
            }
            Role::Client | Role::Raw | Role::Detect | Role::Linger => {
                if let Some((exchange, end)) = exchange {
                    self.broken(exchange, end);
                }
                self.conns.abort(id);
            }
            Role::Gone => {}
        }
    }

    /// A connect succeeded.
    pub fn connected(&mut self, id: ConnId) {
        self.work = Work::Conn(id);
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        conn.connecting = false;
        let (role, exchange) = (conn.role, conn.exchange);
        self.conns.mark(id);
        if matches!(role, Role::Link(_)) {
            // Its handshake was waiting to be written.
        } else if let Some((exchange, _)) = exchange {
            self.plain_connected(exchange);
        }
    }

    /// A connect failed.
    pub fn connect_failed(&mut self, id: ConnId, failure: Failure) {
        self.work = Work::Conn(id);
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let (role, exchange) = (conn.role, conn.exchange);
        if let Role::Link(link) = role {
            return self.link_end(link, failure);
        }
        self.conns.abort(id);
        if let Some((exchange, _)) = exchange {
            self.upstream_failed(exchange, failure);
        }
    }

    /// The socket is closed: its key is free.
    pub fn closed(&mut self, id: ConnId) {
        self.conns.remove(id);
    }

    /// Whether the connection may be read now.
    pub fn wants_read(&self, id: ConnId) -> bool {
        self.conns.wants_read(id)
    }

    /// Whether it is a mesh connection, which is read in larger pieces.
    pub fn is_link(&self, id: ConnId) -> bool {
        self.conns
            .get(id)
            .is_some_and(|conn| matches!(conn.role, Role::Link(_)))
    }

    /// So many bytes of the connection are about as much as may be worked off before others have their turn. Where it is another proxy's, a single
    /// stream has no more than that on its way.
    pub fn share(&mut self, id: ConnId, bytes: usize) {
        let Some(Role::Link(link)) = self.conns.get(id).map(|conn| conn.role) else {
            return;
        };
        if self.is_shared(link)
            && let Some(link) = self.links.get_mut(link)
        {
            link.codec.grant(bytes.max(LEAST_WINDOW));
        }
    }

    /// Working off what was read of the connection took so long. Where that was much, and others ask, it is not read for a while.
    pub fn rest(&mut self, id: ConnId, took: Duration) {
        let modest = self.links.modest;
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let alone = conn
            .others
            .replace(modest)
            .is_none_or(|seen| seen == modest);
        let of_many = match conn.role {
            Role::Link(link) => self.links.get(link).is_none_or(Link::is_of_many),
            _ => false,
        };
        if let Some(rest) = pace::rest(took)
            && !alone
            && !of_many
        {
            self.conns.hold(id, Hold::Breath);
            self.timers.set(self.now + rest, Timer::Breath(id));
        }
    }

    /// What is to be written to the connection.
    pub fn output(&self, id: ConnId) -> &[u8] {
        self.conns.output(id)
    }

    /// `n` bytes of [`Self::output`] were written; 0 when there were none.
    pub fn wrote(&mut self, id: ConnId, n: usize) {
        self.work = Work::Conn(id);
        let (left, credit) = self.conns.consume(id, n);
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        if let Role::Link(link) = conn.role {
            if left <= LOW {
                self.link_drained(link);
            }
            return self.conns.settle(id);
        }
        if let Some((exchange, end)) = conn.exchange {
            if credit > 0 {
                self.credit(exchange, end.other(), credit);
            }
            if left <= LOW && n > 0 {
                self.read_source(exchange, end.other());
            }
        } else if left <= LOW && conn.role == Role::Client {
            let waits = !conn.inbuf.is_empty() || conn.input_ended;
            self.conns.release(id, Hold::Pipeline);
            if waits {
                self.conns.pump_later(id);
            }
        }
        if left == 0 {
            self.conns.settle(id);
        }
    }

    fn read_source(&mut self, exchange: Id<Exchange>, source: End) {
        if let Some(exchange) = self.exchanges.get(exchange)
            && let Side::Plain(source) = exchange.side(source)
        {
            self.conns.release(source, Hold::Full);
        }
    }

    /// There is room in the socket again, or something to settle.
    pub fn mark_dirty(&mut self, id: ConnId) {
        self.conns.mark(id);
    }

    /// The next connection to an application or client that has something to write.
    pub fn next_dirty_plain(&mut self) -> Option<ConnId> {
        let next = self.conns.next_dirty_plain();
        self.work = next.map_or(Work::Nobody, Work::Conn);
        next
    }

    /// The next mesh connection that has something to write.
    pub fn next_dirty_link(&mut self) -> Option<ConnId> {
        let next = self.conns.next_dirty_link();
        self.work = next.map_or(Work::Nobody, Work::Conn);
        next
    }

    /// The next thing to do.
    pub fn next_effect(&mut self) -> Option<Effect> {
        self.conns.next_effect()
    }

    /// Whether there is one.
    pub fn has_effects(&self) -> bool {
        self.conns.has_effects()
    }

    /// When [`Self::finish_turn`] has to be called at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        let all = [self.timers.next(), self.deadlines.next()];
        all.into_iter().flatten().min()
    }

    /// All that was ready has been read: what waited for the end of the turn is done.
    pub fn finish_turn(&mut self) {
        if std::mem::take(&mut self.news) {
            self.decide_waiting();
        }
        while let Some(timer) = self.timers.due(self.now) {
            self.work = Work::of(timer);
            self.fire(timer);
        }
        while let Some(exchange) = self.deadlines.due(self.now) {
            self.work = Work::Exchange(exchange);
            self.too_late(exchange);
        }
        while let Some(conn) = self.conns.next_pump() {
            self.work = Work::Conn(conn);
            self.client_pump(conn);
        }
        self.work = Work::Nobody;
    }

    fn fire(&mut self, timer: Timer) {
        match timer {
            Timer::Detect(conn) => self.detect_late(conn),
            Timer::Unknown(conn) => self.detect_unknown(conn),
            Timer::Head(conn) => self.head_late(conn),
            Timer::Connect(conn) => {
                if self.conns.get(conn).is_some_and(|conn| conn.connecting) {
                    self.connect_failed(conn, Failure::ConnectTimeout);
                }
            }
            Timer::Close(conn) => self.conns.abort(conn),
            Timer::Breath(conn) => self.conns.release(conn, Hold::Breath),
            Timer::Handshake(link) => self.handshake_late(link),
            Timer::Wait(exchange) => self.waited(exchange),
            Timer::Unasked(exchange) => self.spoken(exchange),
            Timer::Rest(exchange) => self.rest_late(exchange),
            Timer::Sweep => self.sweep(),
            Timer::Farewell => self.farewell(),
            Timer::LastCall => self.last_call(),
        }
    }
}
