// SPDX-License-Identifier: Apache-2.0
//! HEADERS and DATA as they come in: whose they are, in which order they may come, what they cost of the windows.
//!
//! Bytes for a stream that is gone still count for the connection, and are given back at once: the peer could not know yet.
//! Must never let a stream's fault touch the connection, nor skip a block: the tables of both sides stay alike. Read `control.rs` next.

use super::connection::{Connection, Reading, Role};
use super::fields::{RequestShape, ResponseShape};
use super::frame::{self, Header, Kind};
use super::receive::{Found, Step, broken};
use super::streams::Stream;
use super::{Code, ConnectionError};
use crate::hpack::{List, Outcome};

impl Connection {
    pub(super) fn headers(
        &mut self,
        header: Header,
        block: &[u8],
        list: &mut List,
        out: &mut Vec<u8>,
    ) -> Step {
        let Ok(outcome) = self.decoder.decode(block, list) else {
            return broken(Code::COMPRESSION_ERROR, "malformed header block");
        };
        let end = header.has(frame::END_STREAM);
        match self.role {
            Role::Server => self.request(header.stream, outcome, end, list, out),
            Role::Client => self.response(header.stream, outcome, end, list, out),
        }
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
            return self.second_head(stream, out);
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
        match RequestShape::check(list) {
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

    /// There are no trailers in this dialect: they are a part of the body.
    fn second_head(&mut self, stream: u32, out: &mut Vec<u8>) -> Step {
        match self.streams.get(stream) {
            Some(open) if open.remote_ended => self.refuse(stream, Code::STREAM_CLOSED, out),
            Some(_) => self.refuse(stream, Code::PROTOCOL_ERROR, out),
            None => {
                self.charge()?;
                Ok(None)
            }
        }
    }

    /// Answers a head that is too large for us, as the application would.
    fn too_large(&mut self, stream: u32, end: bool, out: &mut Vec<u8>) -> Step {
        self.charge()?;
        let start = out.len();
        let flags = frame::END_HEADERS | frame::END_STREAM;
        frame::header(out, 0, Kind::HEADERS, flags, stream);
        self.encoder.encode(b":status", b"431", out);
        self.encoder.encode(b":m-flag", b"malformed-request", out);
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
            self.charge()?;
            return Ok(None);
        };
        if open.remote_ended {
            return self.refuse(stream, Code::STREAM_CLOSED, out);
        }
        if open.head || outcome == Outcome::TooLarge {
            return self.refuse(stream, Code::PROTOCOL_ERROR, out);
        }
        let shape = match ResponseShape::check(list) {
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
        if let Some(code) = refused {
            self.reading = Reading::Data { stream, left, end };
            return self.refuse(stream, code, out);
        }
        if left == 0 {
            return Ok(self.data(stream, 0, 0, end, out));
        }
        self.reading = Reading::Data { stream, left, end };
        Ok(None)
    }

    /// Takes a frame's length off the windows. A code when the stream may not have sent it.
    fn count(&mut self, stream: u32, length: usize) -> Result<Option<Code>, ConnectionError> {
        let length = i64::try_from(length).unwrap_or(i64::MAX);
        self.recv_window -= length;
        if self.recv_window < 0 {
            return broken(Code::FLOW_CONTROL_ERROR, "connection window exceeded");
        }
        let Some(open) = self.streams.get_mut(stream) else {
            return Ok(None);
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

    /// `length` bytes of DATA, of which `left` more are to come.
    pub(super) fn data(
        &mut self,
        stream: u32,
        length: usize,
        left: usize,
        end: bool,
        out: &mut Vec<u8>,
    ) -> Option<Found> {
        self.reading = match left {
            0 => Reading::Header { first: false },
            left => Reading::Data { stream, left, end },
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
