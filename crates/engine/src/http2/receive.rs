// SPDX-License-Identifier: Apache-2.0
//! What the peer does: frames, split anywhere, turned into events. DATA is handed on as it comes, all other frames when they are whole.
//!
//! Two kinds of faults (RFC 9113, section 5.4): one that makes the connection useless, after which there is a GOAWAY and nothing
//! more, and one of a single stream, which is reset. Must never hold more than one frame. Read `message.rs` for heads and DATA,
//! `control.rs` for the other frames.

use super::closed::By;
use super::connection::{Block, Connection, Reading};
use super::frame::{self, HEADER, Header, Kind, PREFACE};
use super::heads::{Fields, RequestShape, ResponseShape};
use super::streams::Blocked;
use super::{Code, ConnectionError, Dialect, Event, Received};
use crate::hpack::List;

/// A frame that came in pieces may leave a vector of this size behind.
const KEEP: usize = 16 * 1024;
/// A header block that is divided, encoded: as long as one frame may be between proxies.
const BLOCK: usize = 128 * 1024;

/// An event, before what it borrows is looked up.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found {
    Request {
        stream: u32,
        shape: RequestShape,
        end: bool,
    },
    Response {
        stream: u32,
        token: u64,
        shape: ResponseShape,
        end: bool,
    },
    Trailers {
        stream: u32,
        token: u64,
    },
    Data {
        stream: u32,
        token: u64,
        /// The last so many bytes before the end of what is handed on.
        length: usize,
        end: bool,
    },
    Plain(Event<'static>),
}

pub(super) type Step = Result<Option<Found>, ConnectionError>;

/// Bytes that are being taken.
struct Input<'a> {
    buf: &'a [u8],
    at: usize,
}

/// The connection ends with this code.
pub(super) fn broken<T>(code: Code, reason: &'static str) -> Result<T, ConnectionError> {
    Err(ConnectionError { code, reason })
}

// === impl Input ===

impl<'a> Input<'a> {
    fn left(&self) -> usize {
        self.buf.len() - self.at
    }

    /// The next bytes, as many of `most` as there are.
    fn take(&mut self, most: usize) -> &'a [u8] {
        let start = self.at;
        self.at += most.min(self.left());
        &self.buf[start..self.at]
    }
}

// === impl Connection ===

impl Connection {
    /// Takes bytes that the peer sent, up to the first event. Call again with the rest of the input until there is no event,
    /// even if nothing is left of it.
    ///
    /// `now` is in milliseconds of any clock that does not go back. May append to `out`, with an error as well. Bytes of `buf` that are done with may
    /// have been moved, and mean nothing any more.
    pub fn receive<'a>(
        &mut self,
        now: u64,
        buf: &'a mut [u8],
        list: &'a mut List,
        out: &mut Vec<u8>,
    ) -> Result<Received<'a>, ConnectionError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.now = now;
        let mut input = Input { buf, at: 0 };
        let mut found = loop {
            if let Some(event) = self.waiting() {
                break Some(Found::Plain(event));
            }
            if input.left() == 0 {
                break None;
            }
            match self.step(&mut input, list, out) {
                Ok(None) => {}
                Ok(found) => break found,
                Err(error) => {
                    self.fail(error, out);
                    return Err(error);
                }
            }
        };
        let (mut taken, mut upto) = (input.at, input.at);
        if let Some(Found::Data {
            stream,
            length,
            end: false,
            ..
        }) = &mut found
        {
            let (more, joined) = self.run(*stream, buf, taken);
            *length += joined;
            (taken, upto) = (more, taken + joined);
        }
        Ok(Received {
            taken,
            event: found.map(|found| found.event(&buf[..upto], list)),
        })
    }

    /// Events that earlier input made possible.
    fn waiting(&mut self) -> Option<Event<'static>> {
        while self.send_window > 0
            && let Some(stream) = self.blocked.pop_front()
        {
            if let Some(open) = self.streams.get_mut(stream) {
                open.blocked = Blocked::No;
                let token = open.token;
                return Some(Event::Writable { stream, token });
            }
        }
        while let Some(stream) = self.unprocessed.pop_front() {
            if let Some(gone) = self.streams.remove(stream) {
                let token = gone.token;
                return Some(Event::Unprocessed { stream, token });
            }
        }
        None
    }

    fn step(&mut self, input: &mut Input<'_>, list: &mut List, out: &mut Vec<u8>) -> Step {
        match self.reading {
            Reading::Preface(seen) => self.preface(seen, input),
            Reading::Header { first } => self.header(first, input, list, out),
            Reading::Whole(header) => {
                let more = input.take(header.length - self.partial.len());
                self.partial.extend_from_slice(more);
                if self.partial.len() < header.length {
                    return Ok(None);
                }
                self.reading = Reading::Header { first: false };
                let mut payload = std::mem::take(&mut self.partial);
                let step = self.frame(header, &payload, list, out);
                if payload.capacity() <= KEEP {
                    payload.clear();
                    self.partial = payload;
                }
                step
            }
            Reading::PadLength { stream, left, end } => {
                let pad = input.take(1).first().map_or(0, |pad| usize::from(*pad));
                self.pad_length(stream, pad, left - 1, end, out)
            }
            Reading::Data {
                stream,
                left,
                pad,
                end,
            } => {
                let length = input.take(left).len();
                Ok(self.data(stream, length, (left - length, pad), end, out))
            }
            Reading::Padding { stream, left } => {
                let length = input.take(left).len();
                self.padding(stream, length, left - length, out);
                Ok(None)
            }
            Reading::Skip(left) => {
                self.skip(left - input.take(left).len());
                Ok(None)
            }
        }
    }

    fn preface(&mut self, seen: usize, input: &mut Input<'_>) -> Step {
        let wanted = &PREFACE[seen..];
        let bytes = input.take(wanted.len());
        if !wanted.starts_with(bytes) {
            return broken(Code::PROTOCOL_ERROR, "no preface");
        }
        self.reading = if bytes.len() == wanted.len() {
            Reading::Header { first: true }
        } else {
            Reading::Preface(seen + bytes.len())
        };
        Ok(None)
    }

    /// A frame's header, and the frame where it lies if all of it is there.
    fn header(
        &mut self,
        first: bool,
        input: &mut Input<'_>,
        list: &mut List,
        out: &mut Vec<u8>,
    ) -> Step {
        let bytes = input.take(HEADER - self.partial.len());
        let bytes = match (self.partial.is_empty(), bytes.first_chunk::<HEADER>()) {
            (true, Some(bytes)) => *bytes,
            _ => {
                self.partial.extend_from_slice(bytes);
                let Some(bytes) = self.partial.first_chunk::<HEADER>().copied() else {
                    return Ok(None);
                };
                self.partial.clear();
                bytes
            }
        };
        let header = Header::parse(bytes);
        self.admit(first, header)?;
        self.begun += u64::from(self.block.is_none());
        self.reading = Reading::Header { first: false };
        if header.kind == Kind::DATA {
            return self.data_header(header, out);
        }
        if header.kind.0 > Kind::CONTINUATION.0 {
            self.charge()?;
            self.skip(header.length);
            return Ok(None);
        }
        if input.left() < header.length {
            self.reading = Reading::Whole(header);
            return Ok(None);
        }
        let payload = input.take(header.length);
        self.frame(header, payload, list, out)
    }

    fn skip(&mut self, left: usize) {
        self.reading = match left {
            0 => Reading::Header { first: false },
            left => Reading::Skip(left),
        };
    }

    /// What can be said of a frame by its header.
    fn admit(&self, first: bool, header: Header) -> Result<(), ConnectionError> {
        if first && (header.kind != Kind::SETTINGS || header.has(frame::ACK)) {
            return broken(Code::PROTOCOL_ERROR, "first frame is not SETTINGS");
        }
        if header.length > usize::try_from(self.settings.max_frame).unwrap_or(usize::MAX) {
            return broken(Code::FRAME_SIZE_ERROR, "frame larger than announced");
        }
        let fixed = match header.kind {
            Kind::RST_STREAM | Kind::WINDOW_UPDATE => Some(4),
            Kind::PING => Some(8),
            _ => None,
        };
        if fixed.is_some_and(|length| length != header.length) {
            return broken(Code::FRAME_SIZE_ERROR, "frame of a wrong length");
        }
        let of_connection = matches!(header.kind, Kind::SETTINGS | Kind::PING | Kind::GOAWAY);
        let of_stream = matches!(
            header.kind,
            Kind::DATA | Kind::HEADERS | Kind::PRIORITY | Kind::RST_STREAM
        );
        if of_connection && header.stream != 0 || of_stream && header.stream == 0 {
            return broken(Code::PROTOCOL_ERROR, "frame on a wrong stream");
        }
        match (&self.block, header.kind) {
            (Some(block), Kind::CONTINUATION) if block.header.stream == header.stream => Ok(()),
            (None, kind) if kind != Kind::CONTINUATION => self.admit_to(header),
            _ => broken(Code::PROTOCOL_ERROR, "header block that does not go on"),
        }
    }

    /// What the dialect takes.
    fn admit_to(&self, header: Header) -> Result<(), ConnectionError> {
        if header.kind == Kind::PUSH_PROMISE {
            return broken(Code::PROTOCOL_ERROR, "push promise");
        }
        if self.settings.dialect == Dialect::Rfc9113 {
            return Ok(());
        }
        let padded = matches!(header.kind, Kind::DATA | Kind::HEADERS) && header.has(frame::PADDED);
        match header.kind {
            Kind::PRIORITY => broken(Code::PROTOCOL_ERROR, "frame outside of the dialect"),
            _ if padded => broken(Code::PROTOCOL_ERROR, "padding"),
            Kind::HEADERS if header.has(frame::PRIORITY) => {
                broken(Code::PROTOCOL_ERROR, "priority")
            }
            Kind::HEADERS if !header.has(frame::END_HEADERS) => {
                broken(Code::PROTOCOL_ERROR, "divided header block")
            }
            _ => Ok(()),
        }
    }

    fn frame(
        &mut self,
        header: Header,
        payload: &[u8],
        list: &mut List,
        out: &mut Vec<u8>,
    ) -> Step {
        match header.kind {
            Kind::HEADERS => self.first_block(header, payload, list, out),
            Kind::CONTINUATION => self.more_block(header, payload, list, out),
            Kind::PRIORITY => self.peer_priority(header, payload, out),
            Kind::RST_STREAM => self.rst_stream(header.stream, Code(frame::word(payload)), out),
            Kind::SETTINGS => self.peer_settings(header, payload, out),
            Kind::PING => self.peer_ping(header, payload, out),
            Kind::GOAWAY => self.peer_goaway(payload),
            Kind::WINDOW_UPDATE => self.window_update(header.stream, payload, out),
            _ => Ok(None),
        }
    }

    /// HEADERS: a whole block, or the beginning of one.
    fn first_block(
        &mut self,
        header: Header,
        payload: &[u8],
        list: &mut List,
        out: &mut Vec<u8>,
    ) -> Step {
        let mut bytes = payload;
        if header.has(frame::PADDED) {
            let Some((&pad, rest)) = bytes.split_first() else {
                return broken(Code::FRAME_SIZE_ERROR, "HEADERS of a wrong length");
            };
            let Some(length) = rest.len().checked_sub(pad.into()) else {
                return broken(Code::PROTOCOL_ERROR, "padding longer than its frame");
            };
            bytes = &rest[..length];
        }
        let mut looped = false;
        if header.has(frame::PRIORITY) {
            let Some((priority, rest)) = bytes.split_first_chunk::<5>() else {
                return broken(Code::FRAME_SIZE_ERROR, "HEADERS of a wrong length");
            };
            looped = frame::word(priority) & 0x7fff_ffff == header.stream;
            bytes = rest;
        }
        if header.has(frame::END_HEADERS) {
            return self.headers(header, looped, bytes, list, out);
        }
        self.block = Some(Block {
            header,
            bytes: bytes.to_vec(),
            looped,
        });
        Ok(None)
    }

    /// CONTINUATION. The block is bounded, and so is the number of its pieces.
    fn more_block(
        &mut self,
        header: Header,
        payload: &[u8],
        list: &mut List,
        out: &mut Vec<u8>,
    ) -> Step {
        self.charge()?;
        let Some(mut block) = self.block.take() else {
            return Ok(None);
        };
        block.bytes.extend_from_slice(payload);
        if block.bytes.len() > BLOCK {
            return broken(Code::ENHANCE_YOUR_CALM, "header block too large");
        }
        if header.has(frame::END_HEADERS) {
            return self.headers(block.header, block.looped, &block.bytes, list, out);
        }
        self.block = Some(block);
        Ok(None)
    }

    /// One more frame that made us work for nothing.
    pub(super) fn charge(&mut self) -> Result<(), ConnectionError> {
        if self.budget.charge(self.now) {
            return broken(Code::ENHANCE_YOUR_CALM, "too many frames without progress");
        }
        Ok(())
    }

    /// One more frame for a stream that is gone: to be expected where this side has reset it.
    pub(super) fn charge_late(&mut self) -> Result<(), ConnectionError> {
        if self.crossing > 0 {
            self.crossing -= 1;
            return Ok(());
        }
        self.charge()
    }

    /// The peer broke a rule of this stream, and is told; so is the stream's owner.
    pub(super) fn refuse(&mut self, stream: u32, code: Code, out: &mut Vec<u8>) -> Step {
        Self::write_reset(stream, code, out);
        self.charge()?;
        let gone = self.remove(stream, By::Us, out);
        Ok(gone.map(|gone| {
            Found::Plain(Event::Reset {
                stream,
                token: gone.token,
                code,
            })
        }))
    }

    /// Whether nobody has opened the stream yet. Ids of the wrong side count as never opened.
    pub(super) fn is_idle(&self, stream: u32) -> bool {
        stream.is_multiple_of(2) || stream > self.highest
    }
}

// === impl Found ===

impl Found {
    /// `taken` are the bytes up to the event's end, its own DATA at last.
    fn event<'a>(self, taken: &'a [u8], list: &'a List) -> Event<'a> {
        match self {
            Self::Request { stream, shape, end } => Event::Request {
                stream,
                fields: shape.of(list),
                end,
            },
            Self::Response {
                stream,
                token,
                shape,
                end,
            } => Event::Response {
                stream,
                token,
                fields: shape.of(list),
                end,
            },
            Self::Trailers { stream, token } => Event::Trailers {
                stream,
                token,
                fields: Fields::all(list),
            },
            Self::Data {
                stream,
                token,
                length,
                end,
            } => Event::Data {
                stream,
                token,
                bytes: &taken[taken.len() - length..],
                end,
            },
            Self::Plain(event) => event,
        }
    }
}
