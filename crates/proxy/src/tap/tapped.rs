// SPDX-License-Identifier: Apache-2.0
//! What an exchange keeps for taps. There is none of it where nobody taps. Next: `../forward/tapped.rs`.

use std::sync::Arc;

use maille_engine::http1::RequestHead;

use super::{Head, Request};

/// What an exchange remembers for the taps that wait for it.
#[derive(Debug, Default)]
pub(crate) struct Tapped {
    pub(crate) number: u64,
    pub(crate) request: Arc<Request>,
    pub(crate) answer: Arc<Head>,
    pub(crate) begun: bool,
    pub(crate) watchers: Vec<Watcher>,
}

/// One tap's interest in one exchange.
#[derive(Debug)]
pub(crate) struct Watcher {
    pub(crate) tap: u64,
    /// It was told of the beginning; otherwise it waits for how the exchange is answered.
    pub(crate) told: bool,
}

// === impl Tapped ===

impl Tapped {
    /// Takes over what was asked.
    pub(crate) fn take_request(&mut self, head: &RequestHead, bytes: &[u8]) {
        self.request = Arc::new(Request::of_http1(head, bytes));
    }

    /// The same of HTTP/2.
    pub(crate) fn take_message<'f>(
        &mut self,
        fields: impl Iterator<Item = (&'f [u8], &'f [u8])> + Clone,
    ) {
        self.request = Arc::new(Request::of_http2(fields));
    }
}
