// SPDX-License-Identifier: Apache-2.0
//! DATA in many small frames, one behind the other: they are one event, of bytes that are moved together where they lie. A peer may say each
//! byte in a frame of its own (RFC 9113 gives the boundaries no meaning), and all that is done for an event would be done for each.
//!
//! Must never take a frame that ends something, breaks a rule or is not whole: those go the way of all frames. Read `receive.rs` next.

use super::connection::{Connection, Reading};
use super::frame::{HEADER, Header, Kind};

/// Payloads up to this size are moved: larger ones are worth an event.
const SMALL: usize = 512;

impl Connection {
    /// DATA of `stream` was found, `taken` bytes of `buf` are done with. Takes small frames of the same stream that follow, and moves their bytes
    /// behind those that were found: how many bytes of `buf` are done with then, and how many joined.
    pub(super) fn run(&mut self, stream: u32, buf: &mut [u8], taken: usize) -> (usize, usize) {
        let (mut at, mut end, mut frames) = (taken, taken, 0_u32);
        if self.reading != (Reading::Header { first: false }) {
            return (at, 0);
        }
        let Some(open) = self
            .streams
            .get_mut(stream)
            .filter(|open| !open.remote_ended)
        else {
            return (at, 0);
        };
        while let Some(bytes) = buf[at..].first_chunk::<HEADER>() {
            let header = Header::parse(*bytes);
            let from = at + HEADER;
            let small = (1..=SMALL).contains(&header.length) && from + header.length <= buf.len();
            let more = header.kind == Kind::DATA && header.flags == 0 && header.stream == stream;
            let length = i64::try_from(header.length).unwrap_or(i64::MAX);
            if !small || !more || length > open.recv.min(self.recv_window) {
                break;
            }
            open.recv -= length;
            self.recv_window -= length;
            buf.copy_within(from..from + header.length, end);
            end += header.length;
            at = from + header.length;
            frames += 1;
        }
        let joined = end - taken;
        // No more than the window allowed.
        open.owed += u32::try_from(joined).unwrap_or(u32::MAX);
        self.begun += u64::from(frames);
        self.budget
            .pay(usize::try_from(frames).unwrap_or(usize::MAX));
        (at, joined)
    }
}
