// SPDX-License-Identifier: Apache-2.0
//! The first message of a TLS client, as far as somebody who only passes it on may look: is it one, is it whole, whom does it ask for.
//!
//! It may come in any number of records and segments (RFC 8446, section 5.1). Nothing is kept and nothing allocated but the name:
//! whoever waits for more bytes shows all of them again. More bytes must never change an answer. Read `detect.rs` next.

use maille_model::ServerName;

/// With this many bytes the answer is never [`Hello::Partial`]: sixteen KiB, and as much again for the headers of short records.
pub const LONGEST: usize = 32 * 1024;

/// A ClientHello with every key share and ticket that people have is a quarter of this.
const LONGEST_MESSAGE: usize = 16 * 1024;
/// RFC 8446, section 5.1.
const LONGEST_RECORD: usize = 1 << 14;
/// Type and length of a message (RFC 8446, section 4).
const HEADER: usize = 4;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// What the first bytes of a client are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// A ClientHello, so far, whose end has not come.
    Partial,
    /// No ClientHello, one that is malformed, or one that is larger than anybody's.
    No,
    /// A whole one, and the name it asks for.
    Whole(Option<ServerName>),
}

/// Why reading stopped.
enum Stop {
    /// The bytes have ended.
    Short,
    /// They are no ClientHello.
    Malformed,
}

/// Reads the payload of handshake records as if it were in one piece.
struct Reader<'a> {
    /// Not read yet; `left` bytes belong to the record that is being read.
    rest: &'a [u8],
    left: usize,
    taken: usize,
    /// Where the message ends, as far as is known: its header first.
    end: usize,
}

/// What `bytes`, the first of a connection, are.
pub fn read(bytes: &[u8]) -> Hello {
    match message(&bytes[..bytes.len().min(LONGEST)]) {
        Ok(name) => Hello::Whole(name),
        Err(Stop::Short) if bytes.len() < LONGEST => Hello::Partial,
        Err(_) => Hello::No,
    }
}

fn message(bytes: &[u8]) -> Result<Option<ServerName>, Stop> {
    let mut reader = Reader {
        rest: bytes,
        left: 0,
        taken: 0,
        end: HEADER,
    };
    if reader.byte()? != CLIENT_HELLO {
        return Err(Stop::Malformed);
    }
    let length = reader.number(3)?;
    if length > LONGEST_MESSAGE {
        return Err(Stop::Malformed);
    }
    reader.end += length;
    // legacy_version: 3.0 to 3.3; a later one says so in an extension.
    if reader.byte()? != 3 {
        return Err(Stop::Malformed);
    }
    // The rest of the version, random, session id, cipher suites, compression methods.
    reader.skip(1 + 32)?;
    reader.vector(1, 0..=32)?;
    let suites = reader.vector(2, 2..=0xfffe)?;
    reader.vector(1, 1..=0xff)?;
    if suites % 2 != 0 {
        return Err(Stop::Malformed);
    }
    if reader.taken == reader.end {
        return Ok(None);
    }
    let extensions = reader.number(2)?;
    if reader.taken + extensions != reader.end {
        return Err(Stop::Malformed);
    }
    reader.extensions()
}

// === impl Reader ===

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, Stop> {
        self.within(1)?;
        if self.left == 0 {
            self.record()?;
        }
        let (byte, rest) = self.rest.split_first().ok_or(Stop::Short)?;
        self.rest = rest;
        self.left -= 1;
        self.taken += 1;
        Ok(*byte)
    }

    /// Whether the message is long enough for `n` more bytes.
    fn within(&self, n: usize) -> Result<(), Stop> {
        if self.taken + n <= self.end {
            Ok(())
        } else {
            Err(Stop::Malformed)
        }
    }

    /// The header of the next record. One without payload may not be, and one of another type may not be here.
    fn record(&mut self) -> Result<(), Stop> {
        let at = |place: usize| self.rest.get(place).copied();
        let right = at(0).is_none_or(|kind| kind == HANDSHAKE)
            && at(1).is_none_or(|major| major == 3)
            && at(2).is_none_or(|minor| minor <= 4)
            && at(3).is_none_or(|high| usize::from(high) <= LONGEST_RECORD >> 8);
        if !right {
            return Err(Stop::Malformed);
        }
        let [_, _, _, high, low, rest @ ..] = self.rest else {
            return Err(Stop::Short);
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if length == 0 || length > LONGEST_RECORD {
            return Err(Stop::Malformed);
        }
        self.rest = rest;
        self.left = length;
        Ok(())
    }

    /// A number of `width` bytes.
    fn number(&mut self, width: usize) -> Result<usize, Stop> {
        let mut number = 0;
        for _ in 0..width {
            number = number << 8 | usize::from(self.byte()?);
        }
        Ok(number)
    }

    fn skip(&mut self, mut n: usize) -> Result<(), Stop> {
        self.within(n)?;
        while n > 0 {
            if self.left == 0 {
                self.record()?;
            }
            let step = n.min(self.left).min(self.rest.len());
            if step == 0 {
                return Err(Stop::Short);
            }
            self.rest = &self.rest[step..];
            self.left -= step;
            self.taken += step;
            n -= step;
        }
        Ok(())
    }

    /// Passes over a vector whose length is a number of `width` bytes.
    fn vector(
        &mut self,
        width: usize,
        allowed: std::ops::RangeInclusive<usize>,
    ) -> Result<usize, Stop> {
        let length = self.number(width)?;
        if !allowed.contains(&length) {
            return Err(Stop::Malformed);
        }
        self.skip(length)?;
        Ok(length)
    }

    /// The extensions, to the end. An extension that nobody knows, GREASE (RFC 8701) among them, says nothing here.
    fn extensions(&mut self) -> Result<Option<ServerName>, Stop> {
        let mut name = None;
        let mut seen = false;
        while self.taken < self.end {
            let kind = self.number(2)?;
            let length = self.number(2)?;
            self.within(length)?;
            if kind == usize::from(SERVER_NAME) {
                if std::mem::replace(&mut seen, true) {
                    return Err(Stop::Malformed);
                }
                name = self.names(self.taken + length)?;
            } else {
                self.skip(length)?;
            }
        }
        Ok(name)
    }

    /// A ServerNameList that ends at `over`. What is no DNS name is no name: the server will judge it.
    fn names(&mut self, over: usize) -> Result<Option<ServerName>, Stop> {
        let list = self.number(2)?;
        if list == 0 || self.taken + list != over {
            return Err(Stop::Malformed);
        }
        let mut name = None;
        let mut text = [0; 256];
        while self.taken < over {
            let kind = self.byte()?;
            let length = self.number(2)?;
            if length == 0 || self.taken + length > over {
                return Err(Stop::Malformed);
            }
            match text.get_mut(..length) {
                Some(text) if kind == HOST_NAME && name.is_none() => {
                    for byte in text.iter_mut() {
                        *byte = self.byte()?;
                    }
                    name = Some(ServerName::from_bytes(text).ok());
                }
                _ => self.skip(length)?,
            }
        }
        Ok(name.flatten())
    }
}

#[cfg(test)]
mod tests;
