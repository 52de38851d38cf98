// SPDX-License-Identifier: Apache-2.0
//! HEADERS and DATA as they come in: whose they are, in which order they may come, what they cost of the windows.
//!
//! Bytes for a stream that is gone still count for the connection, and are given back at once: the peer could not know yet.
//! Must never let a stream's fault touch the connection, nor skip a block: the tables of both sides stay alike. Read `control.rs` next.

use super::closed::By;
use super::connection::{Connection, Reading};
use super::frame::{self, Header, Kind};
use super::heads::{RequestShape, ResponseShape, check_trailers};
use super::receive::{Found, Step, broken};
use super::settings::Role;
use super::streams::Stream;
use super::{Code, ConnectionError, Dialect};
use crate::hpack::{List, Outcome};

/// What a block may decode to beyond its own length and the table: short names of the static table.
const REPEATED: usize = 16 * 1024;
/// So much more of that counts as a frame without progress.
const REPEATED_EACH: usize = 256;

impl Connection {
    pub(super) fn headers(
        &mut self,
        header: Header,
        looped: bool,
        block: &[u8],
        list: &mut List,
        out: &mut Vec<u8>,
    ) -> Step {
        let Ok(outcome) = self.decoder.decode(block, list) else {
            return broken(Code::COMPRESSION_ERROR, "malformed header block");
        };
        self.charge_for(block, list)?;
        let stream = header.stream;
        let end = header.has(frame::END_STREAM);
        if looped && !self.is_idle(stream) {
            return self.refuse(stream, Code::PROTOCOL_ERROR, out);
        }
        match self.role {
            Role::Server if looped => {
                self.highest = self.highest.max(stream);
                self.refuse(stream, Code::PROTOCOL_ERROR, out)
            }
            Role::Server => self.request(stream, outcome, end, list, out),
            Role::Client => self.response(stream, outcome, end, list, out),
        }
    }

    /// A few bytes may stand for many, and then it is we and the next hop who work: what an application repeats out of a table, beyond all that is in
    /// it, is charged. Between proxies a block carries what was charged already.
    fn charge_for(&mut self, block: &[u8], list: &List) -> Result<(), ConnectionError> {
        if self.settings.dialect == Dialect::Mesh {
            return Ok(());
        }
        let own = block.len() + self.settings.header_table + REPEATED;
        for _ in 0..list.bytes().saturating_sub(own).div_ceil(REPEATED_EACH) {
            self.charge()?;
        }
        Ok(())
    }

    fn request(
        &mut self,
        stream: u32,
        outcome: Outcome,
        end: bool,
        list: &List,
        out: &mut Vec<u8>,
    ) -> Step {
        if stream.is_multiple_of(2) {
            return broken(Code::PROTOCOL_ERROR, "even stream id from a client");
        }
        if stream <= self.highest {
            return self.second_head(stream, outcome, end, list, out);
        }
        self.highest = stream;
        if self.goaway_sent {
            // The peer was told, or will learn: it opens it elsewhere.
            self.charge()?;
            return Ok(None);
        }
        let most = usize::try_from(self.settings.max_streams).unwrap_or(usize::MAX);
        if self.streams.len() >= most {
            return self.refuse(stream, Code::REFUSED_STREAM, out);
        }
        if outcome == Outcome::TooLarge {
            return self.too_large(stream, end, out);
        }
        match RequestShape::check(self.settings.dialect, list, &mut self.addresses) {
            Err(code) => self.refuse(stream, code, out),
            Ok(shape) => {
                let mut open =
                    Stream::new(0, self.peer.initial_window, self.settings.stream_window);
                open.head = true;
                open.remote_ended = end;
                self.streams.insert(stream, open);
                Ok(Some(Found::Request { stream, shape, end }))
            }
        }
    }

    /// Trailers, or a fault.
    fn second_head(
        &mut self,
        stream: u32,
        outcome: Outcome,
        end: bool,
        list: &List,
        out: &mut Vec<u8>,
    ) -> Step {
        let Some(open) = self.streams.get(stream) else {
            return self.late_head(stream);
        };
        if open.remote_ended {
            return self.refuse(stream, Code::STREAM_CLOSED, out);
        }
        self.trailers(stream, outcome, end, list, out)
    }

    /// A head for a stream that is gone, or that was passed over.
    fn late_head(&mut self, stream: u32) -> Step {
        let mesh = self.settings.dialect == Dialect::Mesh;
        match self.closed.find(stream) {
            Some(By::Peer) => broken(Code::STREAM_CLOSED, "HEADERS on a closed stream"),
            None if !mesh && !self.closed.is_full() => {
                broken(Code::PROTOCOL_ERROR, "stream id that does not rise")
            }
            Some(By::Us) | None => {
                self.charge_late()?;
                Ok(None)
            }
        }
    }

    /// The end of a message of HTTP/2. Between proxies an HTTP/1 message has its trailers in its body.
    fn trailers(
        &mut self,
        stream: u32,
        outcome: Outcome,
        end: bool,
        list: &List,
        out: &mut Vec<u8>,
    ) -> Step {
        if !end || outcome == Outcome::TooLarge || check_trailers(list).is_err() {
            return self.refuse(stream, Code::PROTOCOL_ERROR, out);
        }
        let Some(open) = self.streams.get_mut(stream) else {
            return Ok(None);
        };
        open.remote_ended = true;
        let token = open.token;
        self.settle(stream);
        Ok(Some(Found::Trailers { stream, token }))
    }

    /// Answers a head that is too large for us, as the application would.
    fn too_large(&mut self, stream: u32, end: bool, out: &mut Vec<u8>) -> Step {
        self.charge()?;
        let start = out.len();
        let flags = frame::END_HEADERS | frame::END_STREAM;
        frame::header(out, 0, Kind::HEADERS, flags, stream);
        self.encoder.encode(b":status", b"431", out);
        if self.settings.dialect == Dialect::Mesh {
            self.encoder.encode(b":m-flag", b"malformed-request", out);
        }
        frame::patch_length(out, start);
        if !end {
            Self::write_reset(stream, Code::NO_ERROR, out);
        }
        Ok(None)
    }

    fn response(
        &mut self,
        stream: u32,
        outcome: Outcome,
        end: bool,
        list: &List,
        out: &mut Vec<u8>,
    ) -> Step {
        if self.is_idle(stream) {
            return broken(Code::PROTOCOL_ERROR, "response to no request");
        }
        let Some(open) = self.streams.get_mut(stream) else {
            self.charge_late()?;
            return Ok(None);
        };
        if open.remote_ended {
            return self.refuse(stream, Code::STREAM_CLOSED, out);
        }
        if open.head {
            return self.trailers(stream, outcome, end, list, out);
        }
        if outcome == Outcome::TooLarge {
            return self.refuse(stream, Code::PROTOCOL_ERROR, out);
        }
        let shape = match ResponseShape::check(self.settings.dialect, list) {
            Ok(shape) if !(shape.interim() && end) => shape,
            Ok(_) => return self.refuse(stream, Code::PROTOCOL_ERROR, out),
            Err(code) => return self.refuse(stream, code, out),
        };
        open.head = !shape.interim();
        open.remote_ended = end;
        let token = open.token;
        self.settle(stream);
        Ok(Some(Found::Response {
            stream,
            token,
            shape,
            end,
        }))
    }

    /// The beginning of DATA: all of it counts against both windows before a byte of it is looked at.
    pub(super) fn data_header(&mut self, header: Header, out: &mut Vec<u8>) -> Step {
        let (stream, left) = (header.stream, header.length);
        let end = header.has(frame::END_STREAM);
        if self.is_idle(stream) {
            return broken(Code::PROTOCOL_ERROR, "DATA on a stream that is not open");
        }
        if left == 0 && !end {
            self.charge()?;
            return Ok(None);
        }
        let refused = self.count(stream, left)?;
        let padded = header.has(frame::PADDED);
        self.reading = match left {
            0 if padded => return broken(Code::FRAME_SIZE_ERROR, "DATA of a wrong length"),
            0 => Reading::Header { first: false },
            _ if padded => Reading::PadLength { stream, left, end },
            _ => Reading::Data {
                stream,
                left,
                pad: 0,
                end,
            },
        };
        if let Some(code) = refused {
            return self.refuse(stream, code, out);
        }
        if left == 0 {
            return Ok(self.data(stream, 0, (0, 0), end, out));
        }
        if !padded {
            self.budget.progress();
        }
        Ok(None)
    }

    /// The padding of DATA is known: `left` bytes come, the last `pad` of them mean nothing.
    pub(super) fn pad_length(
        &mut self,
        stream: u32,
        pad: usize,
        left: usize,
        end: bool,
        out: &mut Vec<u8>,
    ) -> Step {
        let Some(left) = left.checked_sub(pad) else {
            return broken(Code::PROTOCOL_ERROR, "padding longer than its frame");
        };
        self.credit(stream, 1, out);
        if left == 0 && !end {
            self.charge()?;
        }
        self.reading = Reading::Data {
            stream,
            left,
            pad,
            end,
        };
        if left > 0 {
            return Ok(None);
        }
        Ok(self.data(stream, 0, (0, pad), end, out).filter(|_| end))
    }

    /// `length` bytes of padding, of which `left` more are to come: consumed as they are.
    pub(super) fn padding(&mut self, stream: u32, length: usize, left: usize, out: &mut Vec<u8>) {
        self.reading = match left {
            0 => Reading::Header { first: false },
            left => Reading::Padding { stream, left },
        };
        self.credit(stream, length, out);
    }

    /// Bytes of a stream that nobody will consume.
    fn credit(&mut self, stream: u32, length: usize, out: &mut Vec<u8>) {
        let bytes = u32::try_from(length).unwrap_or(u32::MAX);
        match self.streams.get_mut(stream) {
            Some(open) => {
                open.owed += bytes;
                self.consumed(stream, length, out);
            }
            None => self.give_back(bytes, out),
        }
    }

    /// Takes a frame's length off the windows. A code when the stream may not have sent it.
    fn count(&mut self, stream: u32, length: usize) -> Result<Option<Code>, ConnectionError> {
        let length = i64::try_from(length).unwrap_or(i64::MAX);
        self.recv_window -= length;
        if self.recv_window < 0 {
            return broken(Code::FLOW_CONTROL_ERROR, "connection window exceeded");
        }
        let Some(open) = self.streams.get_mut(stream) else {
            let fault = self.closed.find(stream) == Some(By::Peer);
            return Ok(fault.then_some(Code::STREAM_CLOSED));
        };
        open.recv -= length;
        if open.recv < 0 {
            return broken(Code::FLOW_CONTROL_ERROR, "stream window exceeded");
        }
        if open.remote_ended {
            return Ok(Some(Code::STREAM_CLOSED));
        }
        // A body before its head.
        Ok((!open.head).then_some(Code::PROTOCOL_ERROR))
    }

    /// `length` bytes of DATA, of which `left` more are to come, and `pad` behind them.
    pub(super) fn data(
        &mut self,
        stream: u32,
        length: usize,
        (left, pad): (usize, usize),
        end: bool,
        out: &mut Vec<u8>,
    ) -> Option<Found> {
        self.reading = match (left, pad) {
            (0, 0) => Reading::Header { first: false },
            (0, left) => Reading::Padding { stream, left },
            (left, pad) => Reading::Data {
                stream,
                left,
                pad,
                end,
            },
        };
        // No frame is longer than 2^24 - 1.
        let bytes = u32::try_from(length).unwrap_or(u32::MAX);
        let Some(open) = self.streams.get_mut(stream) else {
            self.give_back(bytes, out);
            return None;
        };
        let end = end && left == 0;
        open.owed += bytes;
        open.remote_ended |= end;
        let token = open.token;
        self.settle(stream);
        Some(Found::Data {
            stream,
            token,
            length,
            end,
        })
    }
}
