// SPDX-License-Identifier: Apache-2.0
//! Stage 3, thin: what a client speaks, as far as a declaration says it. `forward/first.rs` looks at the first bytes.
//!
//! Must never let the first bytes overrule a declaration. Next: `route.rs`.

use std::time::Duration;

use maille_engine::detect::{Detected, detect};
use maille_engine::route::{Hint, hint};
use maille_engine::snapshot::{Key, Snapshot};
use maille_model::Protocol;

use crate::route::Facts;

/// How long a client may be silent before its upstream is opened, so that the server can speak first.
pub(crate) const PATIENCE: Duration = Duration::from_millis(5);

/// What can be said before the first byte.
#[derive(Debug)]
pub(crate) enum Early {
    /// HTTP/1, or bytes.
    Known(Detected),
    /// The first bytes of either side will say; this is what they are judged by.
    Listen(Protocol),
    /// Control has to be asked before silence means anything.
    Wait(Key),
}

/// What the declaration of the destination says.
pub(crate) fn early(snapshot: &Snapshot, facts: &Facts) -> Early {
    match hint(snapshot, &facts.asked()) {
        Hint::Wait(key) => Early::Wait(key),
        Hint::Declared(protocol) => match detect(&[], protocol) {
            Detected::NeedMore => Early::Listen(protocol),
            detected => Early::Known(detected),
        },
    }
}
