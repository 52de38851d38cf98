// SPDX-License-Identifier: Apache-2.0
//! The sockets as the core sees them: what is to be written, who is held back, which are dirty, what the driver shall do.
//!
//! A connection owns no buffer while nothing waits in it: output vectors come from a small store of spare ones and go back
//! when they are empty. Must never copy what could be passed on. Next: `exchange.rs`.

use std::collections::VecDeque;
use std::time::Instant;

use maille_engine::http1::{RequestHead, ResponseHead};
use maille_engine::route::Direction;
use maille_model::Protocol;

use super::exchange::{End, Exchange};
use crate::accept::{Accepted, Door};
use crate::connect::pool::PoolKey;
use crate::connect::tcp::ConnectSpec;
use crate::table::{ConnId, Id, LinkId, Socket, Table};

/// Above this much unsent output the sources of a connection are not read.
pub(super) const HIGH: usize = 256 * 1024;
/// Below this much they are read again.
pub(super) const LOW: usize = 64 * 1024;
/// An empty vector above this is dropped, not kept.
pub(super) const KEEP: usize = 64 * 1024;
/// Empty vectors kept for the next to write.
const SPARE: usize = 256;

/// What the driver shall do.
#[derive(Debug)]
pub enum Effect {
    /// Begin to connect a socket under this key.
    Connect {
        /// The key.
        conn: ConnId,
        /// Where, and how the socket is dressed.
        spec: ConnectSpec,
    },
    /// Poll the connection again: it may be read.
    Resume(ConnId),
    /// Send FIN. Everything before it was written.
    Shutdown(ConnId),
    /// Close the socket and free the key with `closed`.
    Close(ConnId),
    /// The same with a reset (`SO_LINGER` 0).
    Reset(ConnId),
}

/// What a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A client that has not said what it speaks.
    Detect,
    /// A client that speaks HTTP/1; between requests while it has no exchange.
    Client,
    /// A server that answers HTTP/1.
    Server,
    /// A server without a request, waiting for the next one.
    Idle,
    /// Bytes, both ways.
    Raw,
    /// Answered for the last time: what still comes is thrown away, so that the answer is not lost to a reset.
    Linger,
    /// A connection of many streams: with another proxy, or with an application that speaks HTTP/2.
    Link(LinkId),
    /// Waits for the driver to close it.
    Gone,
}

/// Why a connection is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Hold {
    /// The next request waits for the one before.
    Pipeline = 1,
    /// The other side has enough.
    Full = 2,
    /// Nobody knows yet where it goes.
    Undecided = 4,
    /// It begins requests faster than one client may, or rests ([`super::pace`]).
    Breath = 8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fin {
    No,
    Wanted,
    Sent,
}

/// What happens after the last byte that is queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Afterwards {
    Nothing,
    Close,
    Reset,
}

/// A head that is not complete yet.
#[derive(Debug, Default)]
pub(super) enum Partial {
    #[default]
    None,
    Request(Box<RequestHead>),
    Response(Box<ResponseHead>),
}

/// One socket.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) role: Role,
    /// Facts of an accepted connection.
    pub(super) accepted: Option<Accepted>,
    /// Where it waits between requests.
    pub(super) pool_key: Option<PoolKey>,
    /// What it is a part of.
    pub(super) exchange: Option<(Id<Exchange>, End)>,
    /// Received and not yet understood: a part of a head, or a pipelined request.
    pub(super) inbuf: Vec<u8>,
    pub(super) partial: Partial,
    /// What its destination was declared to speak; `None` before control has said.
    pub(super) declared: Option<Protocol>,
    /// Waits, or has waited, for control to say so.
    pub(super) parked: bool,
    /// When the head, or the first word, that is partial has to be complete.
    pub(super) head_until: Option<Instant>,
    out: Vec<u8>,
    start: usize,
    /// How many bytes at the end of `out` a mesh stream has not been credited for.
    pub(super) owed: usize,
    holds: u8,
    pub(super) connecting: bool,
    pub(super) input_ended: bool,
    /// Served a message before.
    pub(super) used: bool,
    /// Has answered a request before.
    pub(super) answered: bool,
    fin: Fin,
    last: Afterwards,
    /// Requests of all but crowds when a read of it was timed last, and those of its own since ([`super::pace`]).
    pub(super) others: Option<u64>,
    dirty: bool,
    /// In the list of connections with something to do.
    pumping: bool,
}

/// All sockets.
#[derive(Debug, Default)]
pub(super) struct Conns {
    table: Table<Conn, Socket>,
    dirty_plain: VecDeque<ConnId>,
    dirty_links: VecDeque<ConnId>,
    effects: VecDeque<Effect>,
    pump: VecDeque<ConnId>,
    spare: Vec<Vec<u8>>,
}

// === impl Conn ===

impl Conn {
    /// Whether it is one of somebody outside the mesh to this workload.
    pub(super) fn comes_in(&self) -> bool {
        let door = self.accepted.map(|accepted| accepted.door);
        door == Some(Door::Plain(Direction::Inbound))
    }

    pub(super) fn new(role: Role) -> Self {
        Self {
            role,
            accepted: None,
            pool_key: None,
            exchange: None,
            inbuf: Vec::new(),
            partial: Partial::None,
            declared: None,
            parked: false,
            head_until: None,
            out: Vec::new(),
            start: 0,
            owed: 0,
            holds: 0,
            connecting: false,
            input_ended: false,
            used: false,
            answered: false,
            fin: Fin::No,
            last: Afterwards::Nothing,
            others: None,
            dirty: false,
            pumping: false,
        }
    }

    /// Bytes that wait to be written.
    pub(super) fn unsent(&self) -> usize {
        self.out.len() - self.start
    }

    /// Whether it is visited at the end of the turn.
    pub(super) fn pumping(&self) -> bool {
        self.pumping
    }

    /// Whether it is being closed.
    pub(super) fn closing(&self) -> bool {
        self.last != Afterwards::Nothing || self.role == Role::Gone
    }
}

// === impl Conns ===

impl Conns {
    pub(super) fn insert(&mut self, conn: Conn) -> ConnId {
        self.table.insert(conn)
    }

    pub(super) fn get(&self, id: ConnId) -> Option<&Conn> {
        self.table.get(id)
    }

    pub(super) fn get_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.table.get_mut(id)
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn ids(&self) -> Vec<ConnId> {
        self.table.ids().collect()
    }

    /// Forgets a closed socket.
    pub(super) fn remove(&mut self, id: ConnId) {
        if let Some(conn) = self.table.remove(id) {
            self.store(conn.out);
            self.store(conn.inbuf);
        }
    }

    pub(super) fn effect(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }

    pub(super) fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    pub(super) fn has_effects(&self) -> bool {
        !self.effects.is_empty()
    }

    /// Queues `bytes` to be written.
    pub(super) fn put(&mut self, id: ConnId, bytes: &[u8]) {
        let Some(conn) = self.table.get_mut(id) else {
            return;
        };
        if bytes.is_empty() || conn.closing() {
            return;
        }
        if conn.out.capacity() == 0
            && let Some(spare) = self.spare.pop()
        {
            conn.out = spare;
        }
        conn.out.extend_from_slice(bytes);
        self.mark(id);
    }

    /// Queues all of `bytes` to be written; they are empty then.
    pub(super) fn give(&mut self, id: ConnId, bytes: &mut Vec<u8>) {
        let idle = self
            .table
            .get(id)
            .is_some_and(|conn| conn.out.is_empty() && !conn.closing());
        if !idle {
            self.put(id, bytes);
            return bytes.clear();
        }
        if let Some(conn) = self.table.get_mut(id) {
            std::mem::swap(&mut conn.out, bytes);
        }
        self.mark(id);
    }

    /// Lets `write` append to what is to be written.
    pub(super) fn put_with<T>(
        &mut self,
        id: ConnId,
        write: impl FnOnce(&mut Vec<u8>) -> T,
    ) -> Option<T> {
        let conn = self.table.get_mut(id)?;
        if conn.out.capacity() == 0
            && let Some(spare) = self.spare.pop()
        {
            conn.out = spare;
        }
        let before = conn.out.len();
        let result = write(&mut conn.out);
        if conn.out.len() > before {
            self.mark(id);
        }
        Some(result)
    }

    /// What is to be written now.
    pub(super) fn output(&self, id: ConnId) -> &[u8] {
        self.table
            .get(id)
            .map_or(&[], |conn| &conn.out[conn.start..])
    }

    /// Takes `n` written bytes off. What is left, and how many bytes a mesh stream may be credited for now.
    pub(super) fn consume(&mut self, id: ConnId, n: usize) -> (usize, usize) {
        let Some(conn) = self.table.get_mut(id) else {
            return (0, 0);
        };
        conn.start = (conn.start + n).min(conn.out.len());
        let left = conn.out.len() - conn.start;
        let credit = conn.owed.saturating_sub(left);
        conn.owed -= credit;
        if left == 0 {
            conn.start = 0;
            let out = std::mem::take(&mut conn.out);
            self.store(out);
        } else if conn.start >= HIGH {
            conn.out.drain(..conn.start);
            conn.start = 0;
        }
        (left, credit)
    }

    /// Does what had to wait until everything was written. Whether the connection ends with it.
    pub(super) fn settle(&mut self, id: ConnId) {
        let Some(conn) = self.table.get_mut(id) else {
            return;
        };
        if conn.unsent() > 0 || conn.connecting || conn.role == Role::Gone {
            return;
        }
        match conn.last {
            Afterwards::Close => {
                conn.role = Role::Gone;
                self.effects.push_back(Effect::Close(id));
            }
            Afterwards::Reset => self.abort(id),
            Afterwards::Nothing if conn.fin == Fin::Wanted => {
                conn.fin = Fin::Sent;
                self.effects.push_back(Effect::Shutdown(id));
            }
            Afterwards::Nothing => {}
        }
    }

    /// A vector that may have room already.
    pub(super) fn spare(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Keeps an empty vector for the next.
    pub(super) fn store(&mut self, mut vector: Vec<u8>) {
        let capacity = vector.capacity();
        if capacity > 0 && capacity <= KEEP && self.spare.len() < SPARE {
            vector.clear();
            self.spare.push(vector);
        }
    }

    /// Has the connection written (or settled) at the end of the turn.
    pub(super) fn mark(&mut self, id: ConnId) {
        let Some(conn) = self.table.get_mut(id) else {
            return;
        };
        if conn.dirty {
            return;
        }
        conn.dirty = true;
        if matches!(conn.role, Role::Link(_)) {
            self.dirty_links.push_back(id);
        } else {
            self.dirty_plain.push_back(id);
        }
    }

    pub(super) fn next_dirty_plain(&mut self) -> Option<ConnId> {
        Self::next(&mut self.dirty_plain, &mut self.table)
    }

    pub(super) fn next_dirty_link(&mut self) -> Option<ConnId> {
        Self::next(&mut self.dirty_links, &mut self.table)
    }

    fn next(queue: &mut VecDeque<ConnId>, table: &mut Table<Conn, Socket>) -> Option<ConnId> {
        while let Some(id) = queue.pop_front() {
            if let Some(conn) = table.get_mut(id) {
                conn.dirty = false;
                return Some(id);
            }
        }
        None
    }

    /// Asks for a visit at the end of the turn: there may be a request in `inbuf`.
    pub(super) fn pump_later(&mut self, id: ConnId) {
        if let Some(conn) = self.table.get_mut(id)
            && !conn.pumping
        {
            conn.pumping = true;
            self.pump.push_back(id);
        }
    }

    pub(super) fn next_pump(&mut self) -> Option<ConnId> {
        while let Some(id) = self.pump.pop_front() {
            if let Some(conn) = self.table.get_mut(id) {
                conn.pumping = false;
                return Some(id);
            }
        }
        None
    }

    /// Stops reading.
    pub(super) fn hold(&mut self, id: ConnId, hold: Hold) {
        if let Some(conn) = self.table.get_mut(id) {
            conn.holds |= hold as u8;
        }
    }

    /// Reads again, if nothing else is in the way.
    pub(super) fn release(&mut self, id: ConnId, hold: Hold) {
        if let Some(conn) = self.table.get_mut(id)
            && conn.holds & hold as u8 != 0
        {
            conn.holds &= !(hold as u8);
            if conn.holds == 0 {
                self.effects.push_back(Effect::Resume(id));
            }
        }
    }

    pub(super) fn wants_read(&self, id: ConnId) -> bool {
        self.table
            .get(id)
            .is_some_and(|conn| conn.holds == 0 && !conn.input_ended && conn.role != Role::Gone)
    }

    /// FIN after what is queued.
    pub(super) fn finish_output(&mut self, id: ConnId) {
        if let Some(conn) = self.table.get_mut(id)
            && conn.fin == Fin::No
        {
            conn.fin = Fin::Wanted;
            self.mark(id);
        }
    }

    /// Closes after what is queued.
    pub(super) fn close(&mut self, id: ConnId) {
        if let Some(conn) = self.table.get_mut(id) {
            conn.exchange = None;
            conn.last = Afterwards::Close;
            if conn.connecting {
                conn.role = Role::Gone;
                self.effects.push_back(Effect::Close(id));
            } else {
                self.mark(id);
            }
        }
    }

    /// Resets after what is queued, so that the peer does not take the end of the connection for an end of the message.
    pub(super) fn reset(&mut self, id: ConnId) {
        if let Some(conn) = self.table.get_mut(id) {
            conn.exchange = None;
            conn.last = Afterwards::Reset;
            self.mark(id);
        }
    }

    /// Closes now, with a reset.
    pub(super) fn abort(&mut self, id: ConnId) {
        if let Some(conn) = self.table.get_mut(id)
            && conn.role != Role::Gone
        {
            conn.exchange = None;
            conn.role = Role::Gone;
            self.effects.push_back(Effect::Reset(id));
        }
    }
}
