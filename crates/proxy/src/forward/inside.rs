// SPDX-License-Identifier: Apache-2.0
//! Tells what goes through mesh connections while somebody looks: each stretch of bytes as it is sealed, or as it was opened.
//!
//! While nobody looks it costs one look at a flag, a read or a flush. Must never hold up a connection: what finds no room is counted instead,
//! and leaves a gap in the numbers of its bytes. Next: `../inside.rs`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Semaphore;

use super::links::Link;
use crate::inside::{COST, PIECE, Piece, ROOM};
use crate::table::LinkId;
use crate::tap::Told;

/// Whether somebody looks, and what he was not told.
#[derive(Debug)]
pub(super) struct Looking {
    now: bool,
    room: Arc<Semaphore>,
    /// Pieces that found no room since that was told.
    lost: u64,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The other side says them.
    In,
    /// This side does.
    Out,
}

impl Default for Looking {
    fn default() -> Self {
        Self {
            now: false,
            room: Arc::new(Semaphore::new(ROOM)),
            lost: 0,
        }
    }
}

// === impl Looking ===

impl Looking {
    /// Somebody looks from now on, or nobody does.
    pub(super) fn set(&mut self, now: bool) {
        self.now = now;
        if !now {
            self.lost = 0;
        }
    }

    pub(super) const fn is_on(&self) -> bool {
        self.now
    }

    /// A piece found no room.
    pub(super) const fn lose(&mut self) {
        self.lost += 1;
    }

    /// How many found none since this was asked last.
    pub(super) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// Bytes go through a link to another proxy.
    pub(super) fn passes(
        &mut self,
        (id, link): (LinkId, &mut Link),
        (way, bytes): (Way, &[u8]),
        at: Instant,
        told: &mut VecDeque<Told>,
    ) {
        let (remote, dialled) = (link.remote, link.dialled());
        let passed = match way {
            Way::In => &mut link.passed.inward,
            Way::Out => &mut link.passed.outward,
        };
        for piece in bytes.chunks(PIECE) {
            let offset = *passed;
            *passed += piece.len() as u64;
            let cost = u32::try_from(piece.len() + COST).unwrap_or(u32::MAX);
            let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(cost) else {
                self.lose();
                continue;
            };
            told.push_back(Told::Piece(Box::new(Piece {
                connection: id.to_bits(),
                remote,
                dialled,
                outward: way == Way::Out,
                at,
                offset,
                bytes: piece.to_vec(),
                _room: room,
            })));
        }
    }
}
