// SPDX-License-Identifier: Apache-2.0
//! Idle connections of a line protocol, kept for the next exchange.
//!
//! Must never give out one on which the other side has said or done anything. Read `ledger.rs` for the protocol.

use std::sync::{Mutex, PoisonError};

use futures_util::FutureExt as _;
use tokio::io::{AsyncBufReadExt as _, BufStream};
use tokio::task::coop::unconstrained;

use crate::ledger::Duplex;

/// Connections kept.
const MAX_IDLE: usize = 64;

/// The idle connections to one server.
#[derive(Debug)]
pub(crate) struct Idle<S>(Mutex<Vec<BufStream<S>>>);

// === impl Idle ===

impl<S: Duplex> Idle<S> {
    /// None yet.
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// One that can be used.
    pub(crate) fn take(&self) -> Option<BufStream<S>> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(mut line) = idle.pop() {
            // Anything to read on an idle connection is a farewell or its end: never use it again.
            if unconstrained(line.fill_buf()).now_or_never().is_none() {
                return Some(line);
            }
        }
        None
    }

    /// Keeps one on which no answer is owed.
    pub(crate) fn keep(&self, line: BufStream<S>) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(line);
        }
    }
}
