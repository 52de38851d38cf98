// SPDX-License-Identifier: Apache-2.0
//! Stage 3, thin: what a client speaks, by declaration, by its first bytes, or by its silence.
//!
//! Must never wait long: a client that says nothing may be waiting for the server's first word. Next: `route.rs`.

use std::time::Duration;

use maille_engine::detect::{Detected, detect};
use maille_engine::route::{Hint, hint};
use maille_engine::snapshot::{Key, Snapshot};
use maille_model::Protocol;

use crate::route::Facts;

/// How long a client may be silent before the server is let speak first.
pub(crate) const PATIENCE: Duration = Duration::from_millis(5);

/// What can be said before the first byte.
#[derive(Debug)]
pub(crate) enum Early {
    /// HTTP/1, or bytes.
    Known(Detected),
    /// The first bytes, or a moment's silence, will say.
    Listen,
    /// Control has to be asked before silence means anything.
    Wait(Key),
}

/// What the declaration of the destination says.
pub(crate) fn early(snapshot: &Snapshot, facts: &Facts) -> Early {
    match hint(snapshot, &facts.asked()) {
        Hint::Wait(key) => Early::Wait(key),
        Hint::Declared(Protocol::Undeclared) => Early::Listen,
        Hint::Declared(protocol) => Early::Known(detect(&[], protocol)),
    }
}

/// What the first bytes say where nothing is declared.
pub(crate) fn by_bytes(first: &[u8]) -> Detected {
    detect(first, Protocol::Undeclared)
}
