// SPDX-License-Identifier: Apache-2.0
//! What goes through mesh connections in plain text, for somebody whom the pod's owner lets look (`maille capture --plain`).
//!
//! Nothing is kept, copied or counted while nobody looks. What is on its way from the data thread is bounded in bytes ([`ROOM`]); what finds no
//! room is counted, and the count is told. Must never hold up a connection. Next: `forward/inside.rs`, which tells, and `questions.rs`, which asks
//! for the owner's consent.

use std::net::SocketAddr;
use std::time::Instant;

use tokio::sync::OwnedSemaphorePermit;

/// The longest piece.
pub const PIECE: usize = 4 * 1024;
/// Pieces on their way from the data thread hold so many bytes, at most.
pub const ROOM: usize = 1024 * 1024;
/// What a piece costs beyond its bytes.
pub(crate) const COST: usize = 128;

/// How many bytes of a mesh connection passed while somebody looked.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Passed {
    pub(crate) inward: u64,
    pub(crate) outward: u64,
}

/// Bytes of a mesh connection: before they are sealed, or after they were opened.
#[derive(Debug)]
pub struct Piece {
    /// Tells connections apart.
    pub connection: u64,
    /// The other proxy.
    pub remote: SocketAddr,
    /// This proxy made the connection.
    pub dialled: bool,
    /// This proxy says it.
    pub outward: bool,
    /// When.
    pub at: Instant,
    /// How many of this direction passed before while somebody looked.
    pub offset: u64,
    /// The bytes, at most [`PIECE`].
    pub bytes: Vec<u8>,
    /// Its share of [`ROOM`], given back with it.
    pub(crate) _room: OwnedSemaphorePermit,
}
