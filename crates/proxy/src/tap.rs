// SPDX-License-Identifier: Apache-2.0
//! Taps: people who watch exchanges pass. What one wants to see ([`Filter`]), how much ([`Allowance`]), and what it is told ([`Told`]).
//!
//! Nothing here is looked at while nobody taps: the core asks whether its list is empty, once an exchange. Everything is bounded: taps,
//! what is kept of a head, what waits to be told; what finds no room is counted and the count is told. Must never hold up an
//! exchange. Next: `tap/filter.rs`, `tap/heads.rs`, then `forward/tapped.rs`, which tells.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use maille_engine::route::Direction;
use maille_model::{Identity, ServerName, ServiceId, WorkloadUid};

/// What a tap wants to see.
pub mod filter;
/// What is kept of heads.
pub mod heads;
mod tapped;

use crate::inside::Piece;
pub use filter::Filter;
pub use heads::{Head, HeaderLine, Headers, Request};
pub(crate) use tapped::{Tapped, Watcher};

/// Taps at a time.
pub const TAPS: usize = 16;
/// What waits to be told, at most.
pub const ROOM: usize = 1_024;

/// One tap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tap {
    /// Tells it from others.
    pub id: u64,
    /// What it wants to see.
    pub filter: Filter,
    /// Exchanges a second, at most.
    pub max_rps: u32,
    /// What it is told of headers.
    pub headers: Headers,
    /// It is told ends only.
    pub ends_only: bool,
}

/// Everything that is watched.
#[derive(Clone, Debug, Default)]
pub struct Taps {
    /// Exchanges.
    pub exchanges: Arc<[Arc<Tap>]>,
    /// What goes through mesh connections.
    pub inside: bool,
}

/// A moment in the life of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// It was sent on.
    Begin,
    /// The head of its final answer.
    Answer,
    /// It is over.
    End,
}

/// What goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
    /// HTTP/2, and the request says that it is a gRPC call.
    Grpc,
    /// Bytes.
    Tcp,
}

/// What is known of an exchange at some moment.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Which way it goes.
    pub direction: Direction,
    /// Who began it.
    pub client: SocketAddr,
    /// What the client dialled.
    pub dialled: SocketAddr,
    /// Where it went.
    pub endpoint: Option<SocketAddr>,
    /// The workload on the other side, where it is known.
    pub peer_uid: Option<WorkloadUid>,
    /// The proven identity of the other side.
    pub peer: Option<Identity>,
    /// The address of a client on the other side, as told.
    pub claimed: Option<IpAddr>,
    /// The service that was addressed.
    pub service: Option<ServiceId>,
    /// The hop to the other side is mutual TLS.
    pub protected: bool,
    /// What it speaks.
    pub spoken: Spoken,
    /// Whom a TLS client asked for.
    pub server_name: Option<ServerName>,
    /// What the client got; 0 before.
    pub status: u16,
    /// The same, where it was gRPC.
    pub grpc_status: Option<u8>,
    /// To the first byte of the answer, or to its end without one.
    pub latency: Duration,
    /// Until now.
    pub lasted: Duration,
    /// Bytes of both ways.
    pub bytes: (u64, u64),
    /// Why nobody answered, or the mesh did.
    pub flag: Option<&'static str>,
}

/// One line of one tap.
#[derive(Clone, Debug)]
pub struct Seen {
    /// For whom.
    pub tap: u64,
    /// Tells exchanges apart.
    pub exchange: u64,
    /// When.
    pub at: Instant,
    /// Which moment of it.
    pub moment: Moment,
    /// Everything known by then.
    pub facts: Arc<Facts>,
    /// What was asked.
    pub request: Arc<Request>,
    /// The fields of the answer.
    pub answer: Arc<Head>,
    /// How much of the fields this tap may see.
    pub headers: Headers,
}

/// What a tap was not told since the last time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Untold {
    /// Exchanges beyond `max_rps`.
    pub over_rate: u64,
    /// Lines without room.
    pub no_room: u64,
}

/// What the core tells.
#[derive(Debug)]
pub enum Told {
    /// A line.
    Seen(Box<Seen>),
    /// Bytes of a mesh connection, for everybody who looks inside.
    Piece(Box<Piece>),
    /// Pieces that found no room, since the last time.
    Lost(u64),
    /// What there was no line for.
    Untold {
        /// To which tap.
        tap: u64,
        /// How much.
        untold: Untold,
    },
}

/// Spends `max_rps`: a bucket that holds one second's worth.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    rate: f64,
    tokens: f64,
    at: Instant,
}

// === impl Spoken ===

impl Spoken {
    /// As people read it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http/1",
            Self::Http2 => "http/2",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
        }
    }
}

// === impl Untold ===

impl Untold {
    /// Whether everything was told.
    pub const fn is_nothing(&self) -> bool {
        self.over_rate == 0 && self.no_room == 0
    }

    /// And this, too.
    pub const fn add(&mut self, more: Self) {
        self.over_rate += more.over_rate;
        self.no_room += more.no_room;
    }
}

// === impl Allowance ===

impl Allowance {
    /// Full at `now`. At least one a second.
    pub fn new(max_rps: u32, now: Instant) -> Self {
        let rate = f64::from(max_rps.max(1));
        Self {
            rate,
            tokens: rate,
            at: now,
        }
    }

    /// Whether there is one more to spend at `now`; it is spent.
    pub fn spend(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * self.rate).min(self.rate);
        self.at = self.at.max(now);
        let may = self.tokens >= 1.0;
        if may {
            self.tokens -= 1.0;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowance_is_a_second_s_worth_and_fills_again() {
        let start = maille_chassis::clock::Clock::start().now().into_std();
        let mut allowance = Allowance::new(10, start);
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!((0..20).filter(|_| allowance.spend(at(0))).count(), 10);
        assert!(!allowance.spend(at(99)));
        assert!(allowance.spend(at(101)));
        // Rest does not save more than a second's worth.
        assert_eq!((0..50).filter(|_| allowance.spend(at(60_000))).count(), 10);
        // A rate of nothing is the smallest there is.
        assert!(Allowance::new(0, start).spend(start));
    }
}
