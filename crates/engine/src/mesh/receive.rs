// SPDX-License-Identifier: Apache-2.0
//! What the peer does: frames, split anywhere, turned into events.
use super::connection::{Connection, Role};
use super::{ConnectionError, Received};
use crate::hpack::List;

#[derive(Debug)]
pub(super) struct Reading;

impl Reading {
    pub(super) fn begin(_role: Role) -> Self {
        Self
    }
}

impl Connection {
    /// Takes bytes that the peer sent, up to the first event. Call with the rest of the input until there is no event.
    ///
    /// `now` is in milliseconds of any clock that does not go back. May append to `out`, an error as well.
    pub fn receive<'a>(
        &mut self,
        now: u64,
        buf: &'a [u8],
        list: &'a mut List,
        out: &mut Vec<u8>,
    ) -> Result<Received<'a>, ConnectionError> {
        let _ = (now, buf, list, out);
        todo!()
    }
}
