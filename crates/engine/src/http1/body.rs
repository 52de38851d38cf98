// SPDX-License-Identifier: Apache-2.0
//! Where a body ends (RFC 9112, sections 6 and 7). The bytes are the caller's, and are forwarded as they came.
//!
//! Must give the same answer however the bytes were split, and never take a byte of the next message. Read `head.rs` for what decides the framing.

use super::chars::{TEXT, TOKEN, end_of_text, is};
use super::{Framing, LONGEST_BODY, Malformed};

/// Bytes of the line that begins a chunk, extensions included.
const CHUNK_LINE: u16 = 4 * 1024;
/// Bytes of a trailer section.
const TRAILERS: u16 = 16 * 1024;
/// Digits of a chunk's size.
const DIGITS: u16 = 16;
/// Trailers that some recipients merge into the head, where they would say another length or another host
/// (RFC 9110, section 6.5.1).
const FORBIDDEN: [&[u8]; 3] = [b"content-length", b"transfer-encoding", b"host"];
/// The longest of them.
const LONGEST_NAME: usize = 17;

/// A body, as far as it has been seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    state: State,
    /// Bytes that are left of the body or of the chunk; the size of a chunk while it is read.
    left: u64,
    /// Bytes of the line or section so far.
    line: u16,
    name: Name,
}

/// The beginning of a trailer's name, in lower case; its length may be more than is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Name {
    bytes: [u8; LONGEST_NAME],
    length: u16,
}

/// What a call of [`Body::advance`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advance {
    /// So many of the bytes belong to this message.
    pub taken: usize,
    /// The message is complete.
    pub ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ended,
    UntilClose,
    Length,
    /// The digits of a chunk's size.
    Size,
    /// White space before an extension's semicolon.
    Space,
    /// Behind the semicolon: white space, then a name.
    Semicolon,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// The first byte of a trailer's line, or of the empty line.
    Trailer,
    Name,
    Value,
    TrailerLf,
    LastLf,
}

// === impl Name ===

impl Name {
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(usize::from(self.length)) {
            *place = byte.to_ascii_lowercase();
        }
        self.length = self.length.saturating_add(1);
    }

    fn is_forbidden(&self) -> bool {
        let name = self.bytes.get(..usize::from(self.length));
        name.is_some_and(|name| FORBIDDEN.contains(&name))
    }
}

// === impl Body ===

impl Body {
    /// The body that follows a head with this framing.
    pub fn new(framing: Framing) -> Self {
        let (state, left) = match framing {
            Framing::None | Framing::Length(0) => (State::Ended, 0),
            Framing::Length(left) => (State::Length, left),
            Framing::Chunked => (State::Size, 0),
            Framing::UntilClose => (State::UntilClose, 0),
        };
        Self {
            state,
            left,
            line: 0,
            name: Name::default(),
        }
    }

    /// Whether the message is complete.
    pub fn ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Whether only the end of the connection can end it.
    pub fn ends_with_connection(&self) -> bool {
        self.state == State::UntilClose
    }

    /// Whether the end of the input is a clean end here.
    pub fn eof(&self) -> bool {
        matches!(self.state, State::Ended | State::UntilClose)
    }

    /// Follows the body through `buf`, up to its end. An error is final.
    pub fn advance(&mut self, buf: &[u8]) -> Result<Advance, Malformed> {
        let mut at = 0;
        while at < buf.len() {
            match self.state {
                State::Ended => break,
                State::UntilClose => at = buf.len(),
                State::Length | State::Data => at += self.skip(buf.len() - at),
                State::Extension => at = self.extension(buf, at)?,
                State::Value => at = self.value(buf, at)?,
                _ => {
                    self.state = self.step(buf[at])?;
                    at += 1;
                }
            }
        }
        Ok(Advance {
            taken: at,
            ended: self.ended(),
        })
    }

    /// Bytes of content: as many of `there` as are left.
    fn skip(&mut self, there: usize) -> usize {
        let there = u64::try_from(there).unwrap_or(u64::MAX);
        let taken = there.min(self.left);
        self.left -= taken;
        if self.left == 0 {
            self.state = match self.state {
                State::Data => State::DataCr,
                _ => State::Ended,
            };
        }
        // At most `there`, which was one.
        usize::try_from(taken).unwrap_or(usize::MAX)
    }

    /// One byte of the framing between contents.
    fn step(&mut self, byte: u8) -> Result<State, Malformed> {
        self.line = self.line.saturating_add(1);
        match (self.state, byte) {
            (State::Size, b'\r') if self.line > 1 => Ok(State::SizeLf),
            (State::Size, b';') if self.line > 1 => Ok(State::Semicolon),
            (State::Size, b' ' | b'\t') if self.line > 1 => Ok(State::Space),
            (State::Size, _) if self.line <= DIGITS => {
                let digit = char::from(byte).to_digit(16).ok_or(Malformed::Chunk)?;
                self.left = self.left << 4 | u64::from(digit);
                if self.left > LONGEST_BODY {
                    return Err(Malformed::Chunk);
                }
                Ok(State::Size)
            }
            (State::Space, b' ' | b'\t') if self.line < CHUNK_LINE => Ok(State::Space),
            (State::Space, b';') => Ok(State::Semicolon),
            (State::Semicolon, b' ' | b'\t') if self.line < CHUNK_LINE => Ok(State::Semicolon),
            (State::Semicolon, _) if is(byte, TOKEN) => Ok(State::Extension),
            (State::SizeLf, b'\n') => {
                self.line = 0;
                Ok(if self.left == 0 {
                    State::Trailer
                } else {
                    State::Data
                })
            }
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => {
                self.line = 0;
                Ok(State::Size)
            }
            (
                State::Size
                | State::Space
                | State::Semicolon
                | State::SizeLf
                | State::DataCr
                | State::DataLf,
                _,
            ) => Err(Malformed::Chunk),
            _ => self.trailer(byte),
        }
    }

    fn trailer(&mut self, byte: u8) -> Result<State, Malformed> {
        if self.line >= TRAILERS {
            return Err(Malformed::Trailer);
        }
        match (self.state, byte) {
            (State::Trailer, b'\r') => Ok(State::LastLf),
            (State::LastLf, b'\n') => Ok(State::Ended),
            (State::TrailerLf, b'\n') => Ok(State::Trailer),
            (State::Name, b':') if self.name.is_forbidden() => Err(Malformed::Trailer),
            (State::Name, b':') => Ok(State::Value),
            (State::Trailer | State::Name, _) if is(byte, TOKEN) => {
                if self.state == State::Trailer {
                    self.name = Name::default();
                }
                self.name.push(byte);
                Ok(State::Name)
            }
            _ => Err(Malformed::Trailer),
        }
    }

    fn extension(&mut self, buf: &[u8], at: usize) -> Result<usize, Malformed> {
        self.text(buf, at, State::SizeLf, CHUNK_LINE)
            .ok_or(Malformed::Chunk)
    }

    fn value(&mut self, buf: &[u8], at: usize) -> Result<usize, Malformed> {
        self.text(buf, at, State::TrailerLf, TRAILERS)
            .ok_or(Malformed::Trailer)
    }

    /// Text up to CR, which leads to `then`.
    fn text(&mut self, buf: &[u8], at: usize, then: State, limit: u16) -> Option<usize> {
        let mut end = end_of_text(buf, at);
        debug_assert!(
            end == buf.len() || !is(buf[end], TEXT),
            "text ends at no text"
        );
        if let Some(&stop) = buf.get(end) {
            if stop != b'\r' {
                return None;
            }
            self.state = then;
            end += 1;
        }
        let length = u16::try_from(end - at).ok()?;
        self.line = self.line.checked_add(length).filter(|&line| line < limit)?;
        Some(end)
    }
}

#[cfg(test)]
mod tests;
