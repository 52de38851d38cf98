// SPDX-License-Identifier: Apache-2.0
//! What this side does: opens, answers, sends, gives windows back, ends. All of it appends to `out` at once and cannot fail later.
//!
//! A stream that is gone swallows what is sent to it: its owner learns of the end by an event, in the order of the input. Read `receive.rs` next.

use super::budget::MOST_OF_MESH;
use super::closed::By;
use super::connection::{Connection, room};
use super::frame::{self, Kind};
use super::settings::Role;
use super::streams::{Blocked, Stream};
use super::{Code, ConnectionError, Dialect};

/// Frames but for DATA that the peer may have sent on a stream when it hears of our reset: interim and final heads, trailers, a reset.
const CROSSING: u32 = 4;
/// The largest stream id.
const LAST_ID: u32 = 0x7fff_ffff;

/// Why a stream cannot be opened on this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// As many are open as either side allows: another connection, or later.
    #[error("too many streams")]
    Full,
    /// The connection is leaving (GOAWAY), broken, or has used up its ids: another connection.
    #[error("connection takes no more streams")]
    Leaving,
    /// The head is larger than the peer takes: no connection will do.
    #[error("head too large for the peer")]
    HeadTooLarge,
}

/// Why a head could not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// It is larger than the peer takes. Nothing was sent.
    #[error("head too large for the peer")]
    TooLarge,
}

impl Connection {
    /// Opens a stream with the head `fields`, pseudo-fields first. Client side. The id, or why not; then nothing was sent.
    pub fn open_stream<'f>(
        &mut self,
        token: u64,
        fields: impl IntoIterator<Item = (&'f [u8], &'f [u8])>,
        end: bool,
        out: &mut Vec<u8>,
    ) -> Result<u32, OpenError> {
        if let Some(refusal) = self.refusal() {
            return Err(refusal);
        }
        let id = if self.highest == 0 {
            1
        } else {
            self.highest + 2
        };
        if self.write_head(id, fields, end, out).is_err() {
            return Err(OpenError::HeadTooLarge);
        }
        self.highest = id;
        let mut stream = Stream::new(token, self.peer.initial_window, self.settings.stream_window);
        stream.local_ended = end;
        self.streams.insert(id, stream);
        Ok(id)
    }

    pub(super) fn refusal(&self) -> Option<OpenError> {
        let most = self.peer.max_streams.min(self.settings.max_streams);
        if self.role == Role::Server
            || self.failed.is_some()
            || self.is_leaving()
            || self.highest >= LAST_ID - 1
        {
            Some(OpenError::Leaving)
        } else if self.streams.len() >= usize::try_from(most).unwrap_or(usize::MAX) {
            Some(OpenError::Full)
        } else {
            None
        }
    }

    /// Sends a response head, interim or final. Server side.
    pub fn send_head<'f>(
        &mut self,
        stream: u32,
        fields: impl IntoIterator<Item = (&'f [u8], &'f [u8])>,
        end: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), HeadError> {
        if self.streams.get(stream).is_none_or(|open| open.local_ended) {
            return Ok(());
        }
        self.write_head(stream, fields, end, out)?;
        if end {
            self.end_local(stream);
        }
        Ok(())
    }

    /// Sends the trailers of an HTTP/2 message: the last of it. What was not sent before never will be.
    pub fn send_trailers<'f>(
        &mut self,
        stream: u32,
        fields: impl IntoIterator<Item = (&'f [u8], &'f [u8])>,
        out: &mut Vec<u8>,
    ) -> Result<(), HeadError> {
        self.send_head(stream, fields, true, out)
    }

    fn write_head<'f>(
        &mut self,
        stream: u32,
        fields: impl IntoIterator<Item = (&'f [u8], &'f [u8])>,
        end: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), HeadError> {
        let start = out.len();
        let flags = frame::END_HEADERS | if end { frame::END_STREAM } else { 0 };
        frame::header(out, 0, Kind::HEADERS, flags, stream);
        let mut listed = 0;
        for (name, value) in fields {
            listed += name.len() + value.len() + crate::hpack::OVERHEAD;
            self.encoder.encode(name, value, out);
        }
        let length = out.len() - start - frame::HEADER;
        let divided = length > self.peer.max_frame;
        if listed > self.peer.max_list || divided && self.settings.dialect == Dialect::Mesh {
            // The peer never sees what the table now holds.
            self.encoder.forget();
            out.truncate(start);
            return Err(HeadError::TooLarge);
        }
        if divided {
            frame::divide(out, start, self.peer.max_frame);
        } else {
            frame::patch_length(out, start);
        }
        Ok(())
    }

    /// Sends bytes, as many as both windows allow: how many that were. `end` goes out with the last of them, if that was all.
    ///
    /// When less was taken, [`Event::Writable`](super::Event::Writable) says when to come again.
    pub fn send_data(&mut self, stream: u32, bytes: &[u8], end: bool, out: &mut Vec<u8>) -> usize {
        let Some(open) = self.streams.get_mut(stream) else {
            return bytes.len();
        };
        if open.local_ended {
            return bytes.len();
        }
        let taken = bytes.len().min(room(self.send_window, open.send));
        let last = end && taken == bytes.len();
        self.latest.append(stream, &bytes[..taken], last, out);
        if taken > 0 {
            self.budget.progress();
            // Receivers open their windows by kibibytes, or after every message, for the stream and for the connection.
            self.windows.pay(4 + taken / 1024);
        }
        let sent = i64::try_from(taken).unwrap_or(i64::MAX);
        open.send -= sent;
        self.send_window -= sent;
        if taken < bytes.len() {
            // A stream stands in line once at most.
            if open.blocked == Blocked::No && open.send <= 0 {
                open.blocked = Blocked::Stream;
            } else if open.blocked == Blocked::No {
                open.blocked = Blocked::Connection;
                self.blocked.push_back(stream);
            }
        } else if last {
            if bytes.is_empty() {
                frame::header(out, 0, Kind::DATA, frame::END_STREAM, stream);
            }
            self.end_local(stream);
        }
        taken
    }

    /// What was appended to `out` so far is sent as it is, or never: it is looked at no more.
    pub fn flushed(&mut self) {
        self.latest.forget();
    }

    fn end_local(&mut self, stream: u32) {
        if let Some(open) = self.streams.get_mut(stream) {
            open.local_ended = true;
        }
        self.settle(stream);
    }

    /// The local side's socket took `n` bytes of the stream (or they will never be wanted): its windows are given back, at half.
    pub fn consumed(&mut self, stream: u32, n: usize, out: &mut Vec<u8>) {
        let Some(open) = self.streams.get_mut(stream) else {
            return;
        };
        let n = u32::try_from(n).unwrap_or(u32::MAX).min(open.owed);
        open.owed -= n;
        open.returned += n;
        let room = i64::from(self.grant) - open.recv;
        let back = open.returned.min(u32::try_from(room).unwrap_or(0));
        if !open.remote_ended && back > 0 && back >= self.grant / 2 {
            frame::window_update(out, stream, back);
            open.recv += i64::from(back);
            open.returned -= back;
        }
        self.give_back(n, out);
        self.settle(stream);
    }

    /// From now on each stream is given back no more than makes its window `bytes`, at most the one of the settings: others share the connection,
    /// and stand behind all that one stream may have on its way. What was promised before is not taken back.
    pub fn grant(&mut self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.grant = bytes.clamp(1, self.settings.stream_window);
    }

    /// All that was received of the stream counts as [`consumed`](Self::consumed): nobody wants it any more.
    pub fn release(&mut self, stream: u32, out: &mut Vec<u8>) {
        self.consumed(stream, usize::MAX, out);
    }

    /// Ends the stream at once, both ways. No event follows.
    pub fn reset(&mut self, stream: u32, code: Code, out: &mut Vec<u8>) {
        if let Some(gone) = self.remove(stream, By::Us, out)
            && !(gone.local_ended && gone.remote_ended)
        {
            Self::write_reset(stream, code, out);
            self.crossing = (self.crossing + CROSSING).min(CROSSING * MOST_OF_MESH);
        }
    }

    /// Says that [`Self::goaway`] will follow: whoever gets this opens no new streams, and those on their way are still taken.
    pub fn goaway_soon(&self, out: &mut Vec<u8>) {
        frame::header(out, 8, Kind::GOAWAY, 0, 0);
        out.extend_from_slice(&LAST_ID.to_be_bytes());
        out.extend_from_slice(&Code::NO_ERROR.0.to_be_bytes());
    }

    /// Takes no new streams any more; what is open goes on. With an error code it is the last word.
    pub fn goaway(&mut self, code: Code, out: &mut Vec<u8>) {
        self.goaway_sent = true;
        let last = match self.role {
            // The peer opens none.
            Role::Client => 0,
            Role::Server => self.highest,
        };
        frame::header(out, 8, Kind::GOAWAY, 0, 0);
        out.extend_from_slice(&last.to_be_bytes());
        out.extend_from_slice(&code.0.to_be_bytes());
    }

    /// Asks for a sign of life: [`Event::Pong`](super::Event::Pong).
    pub fn ping(&mut self, payload: [u8; 8], out: &mut Vec<u8>) {
        frame::header(out, payload.len(), Kind::PING, 0, 0);
        out.extend_from_slice(&payload);
    }

    /// The last word about what the peer did.
    pub(super) fn fail(&mut self, error: ConnectionError, out: &mut Vec<u8>) {
        self.failed = Some(error);
        self.goaway(error.code, out);
    }
}
