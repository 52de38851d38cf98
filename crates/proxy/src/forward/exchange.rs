// SPDX-License-Identifier: Apache-2.0
//! One exchange: a downstream side, an upstream side, a flow each way, and what is kept so that it can be tried again.
//!
//! Plain data; what happens to it is in `flow.rs` (bytes) and `attempt.rs` (where they go), to be read next.

use std::time::Instant;

use maille_engine::http1::{Body, Framing, RequestKind};
use maille_engine::http2::Code;
use maille_engine::route::Plan;

use crate::balance::{Picked, Tried};
use crate::failure::Failure;
use crate::outcome::Asked;
use crate::route::Facts;
use crate::table::{ConnId, LinkId};
use crate::tap::Tapped;
use crate::telemetry::EdgeId;

/// A request that is larger than this cannot be sent a second time.
pub(super) const REPLAY: usize = 64 * 1024;

/// The end of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The client's.
    Down,
    /// The server's.
    Up,
}

/// What stands at an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Nothing yet, or no more.
    None,
    /// A socket of its own.
    Plain(ConnId),
    /// A stream.
    Stream {
        /// Of which connection.
        link: LinkId,
        /// Which.
        stream: u32,
    },
}

/// What is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carries {
    /// One HTTP/1 request and its answer.
    Http,
    /// One HTTP/2 request and its answer: a stream at both ends.
    Http2,
    /// One TCP connection.
    Tcp,
}

/// How a flow ends towards a stream, once everything before has been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Last {
    /// Not yet.
    Open,
    /// END_STREAM.
    End,
    /// RST_STREAM with this code: what comes before it is still delivered.
    Broken(Code),
    /// It was sent.
    Sent,
}

/// The bytes that go one way.
#[derive(Debug)]
pub(super) struct Flow {
    /// Where the message is, by its framing.
    pub(super) body: Body,
    /// What a stream's window had no room for.
    pub(super) pending: Vec<u8>,
    /// Bytes that were passed on, and whose stream was not given its window back for them yet.
    pub(super) uncredited: usize,
    /// The fields behind the content of an HTTP/2 message, as `fields.rs` keeps them.
    pub(super) trailers: Option<Vec<u8>>,
    pub(super) last: Last,
    /// The source has said its last.
    pub(super) ended: bool,
    pub(super) bytes: u64,
}

/// One HTTP request with its answer, or one TCP connection.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) carries: Carries,
    pub(super) facts: Facts,
    pub(super) down: Side,
    pub(super) up: Side,
    pub(super) request: Flow,
    pub(super) response: Flow,
    /// The request as far as it came, while it may have to be sent again: head first.
    pub(super) replay: Vec<u8>,
    pub(super) replayable: bool,
    pub(super) request_head: RequestFacts,
    /// For the access log, where there is one.
    pub(super) asked: Option<Box<Asked>>,
    /// For taps, where there are any.
    pub(super) tapped: Option<Box<Tapped>>,
    /// Bytes flow by now without regard to messages: TCP, or after an upgrade.
    pub(super) raw: bool,
    /// Opened before anybody said a byte: it may turn out to have been something else.
    pub(super) silent: bool,
    /// What the server said meanwhile, as one of HTTP/2 does: none of it counts until the client speaks.
    pub(super) unasked: Vec<u8>,
    /// Bytes of a peer for a port of ours that is declared HTTP: the first of them ends it.
    pub(super) misplaced: bool,
    /// The upstream has taken the connection, so that it can no longer fail to.
    pub(super) established: bool,
    /// A byte of the answer came.
    pub(super) answered: bool,
    pub(super) interim: u8,
    /// Connections that were left under it.
    pub(super) reopened: u8,
    /// The client's connection takes another request afterwards.
    pub(super) keep_down: bool,
    /// The server's connection does.
    pub(super) keep_up: bool,
    /// The server said more than its answer: whatever it is, nobody asked for it.
    pub(super) excess: bool,
    pub(super) plan: Option<Plan>,
    pub(super) picked: Option<Picked>,
    pub(super) tried: Tried,
    /// How often it was sent again after an answer, or none.
    pub(super) retries: u8,
    /// When it is too late, where its service says so.
    pub(super) deadline: Option<Instant>,
    /// Waits, or has waited, for control; what it fails with if that does not help.
    pub(super) parked: Option<Failure>,
    /// A used connection failed once: only a new one will do.
    pub(super) fresh: bool,
    pub(super) began: Instant,
    pub(super) answered_at: Option<Instant>,
    pub(super) ended_at: Option<Instant>,
    pub(super) status: u16,
    /// The request says that it is a gRPC call.
    pub(super) grpc: bool,
    /// What the answer to one says of it.
    pub(super) grpc_status: Option<u8>,
    /// The code with which one side reset its stream: the other side is told the same.
    pub(super) code: Option<Code>,
    pub(super) failure: Option<Failure>,
    /// The server left before the request had ended.
    pub(super) cut: bool,
    /// The hop to the other side is mutual TLS.
    pub(super) protected: bool,
    /// Where a TCP connection counts, once it is established.
    pub(super) edge: Option<EdgeId>,
    /// Bytes that were counted already.
    pub(super) counted: (u64, u64),
}

/// What later stages must know about a request's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestFacts {
    /// Bytes of the head, as they stand in the replay.
    pub(super) length: usize,
    pub(super) kind: RequestKind,
    /// The answer may turn both ways into raw bytes.
    pub(super) may_tunnel: bool,
    /// May be sent again even if the server saw it (RFC 9110, 9.2.2).
    pub(super) idempotent: bool,
}

// === impl Exchange ===

impl Exchange {
    /// An exchange that nothing is known of but its facts. `replay` is empty, with room.
    pub(super) fn new(carries: Carries, facts: Facts, replay: Vec<u8>, now: Instant) -> Self {
        Self {
            carries,
            facts,
            down: Side::None,
            up: Side::None,
            request: Flow::new(),
            response: Flow::new(),
            replay,
            replayable: true,
            request_head: RequestFacts {
                length: 0,
                kind: RequestKind::Other,
                may_tunnel: false,
                idempotent: false,
            },
            asked: None,
            tapped: None,
            raw: carries == Carries::Tcp,
            silent: false,
            unasked: Vec::new(),
            misplaced: false,
            established: false,
            answered: false,
            interim: 0,
            reopened: 0,
            keep_down: true,
            keep_up: true,
            excess: false,
            plan: None,
            picked: None,
            tried: Tried::default(),
            retries: 0,
            deadline: None,
            parked: None,
            fresh: false,
            began: now,
            answered_at: None,
            ended_at: None,
            status: 0,
            grpc: false,
            grpc_status: None,
            code: None,
            failure: None,
            cut: false,
            protected: false,
            edge: None,
            counted: (0, 0),
        }
    }

    /// The answer is complete. A server that was not asked whole by then may take the rest for its next request.
    pub(super) fn answer_ended(&mut self) {
        self.keep_up &= self.request.ended;
    }

    /// Its client has said all, and has been answered: it may be gone before the last of what it said is with the server.
    pub(super) fn is_past_its_client(&self) -> bool {
        !self.raw && self.request.ended && self.begun() && self.response.done()
    }

    /// The final answer has begun: nothing else can be said any more. Interim ones do not count.
    pub(super) fn begun(&self) -> bool {
        self.status != 0
    }
}

// === impl Flow ===

impl Flow {
    fn new() -> Self {
        Self {
            body: Body::new(Framing::None),
            pending: Vec::new(),
            uncredited: 0,
            trailers: None,
            last: Last::Open,
            ended: false,
            bytes: 0,
        }
    }
}
