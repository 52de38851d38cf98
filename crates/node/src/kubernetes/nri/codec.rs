// SPDX-License-Identifier: Apache-2.0
//! The bytes between a container runtime and its plugin: ttrpc messages (a header of ten bytes, then data), of which those of several
//! connections share one socket in pieces with a header of eight bytes each. Pure.
//!
//! Must never keep more than one message of each connection. Read `messages.rs` for what is said.

/// The connection on which the runtime asks the plugin.
pub(super) const PLUGIN: u32 = 1;
/// The connection on which the plugin asks the runtime.
pub(super) const RUNTIME: u32 = 2;
/// A message that asks.
pub(super) const REQUEST: u8 = 1;
/// A message that answers.
pub(super) const RESPONSE: u8 = 2;

/// Bytes before a piece: which connection, and how many bytes.
const PIECE: usize = 8;
/// Bytes before a message: how many bytes, which stream, which kind, flags.
const HEADER: usize = 10;
/// The most data that a message may have.
const LONGEST: usize = 4 << 20;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// On which connection.
    pub(super) connection: u32,
    /// Which question it is, or answers.
    pub(super) stream: u32,
    /// [`REQUEST`] or [`RESPONSE`].
    pub(super) kind: u8,
    /// What it says.
    pub(super) data: Vec<u8>,
}

/// Why bytes are no messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CodecError {
    /// More than any message has.
    #[error("a message of {0} bytes is longer than any may be")]
    Long(usize),
    /// A connection that nobody opened.
    #[error("there is no connection {0}")]
    Connection(u32),
}

/// What came and is not a whole message yet.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    trunk: Vec<u8>,
    plugin: Vec<u8>,
    runtime: Vec<u8>,
}

// === impl Decoder ===

impl Decoder {
    /// Takes bytes as they came.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.trunk.extend_from_slice(bytes);
    }

    /// The next message that is whole.
    pub(super) fn next(&mut self) -> Result<Option<Message>, CodecError> {
        loop {
            for (connection, buffer) in [(PLUGIN, &mut self.plugin), (RUNTIME, &mut self.runtime)] {
                if let Some(message) = whole(connection, buffer)? {
                    return Ok(Some(message));
                }
            }
            let (Some(connection), Some(length)) = (word(&self.trunk, 0), word(&self.trunk, 4))
            else {
                return Ok(None);
            };
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if length > LONGEST + HEADER {
                return Err(CodecError::Long(length));
            }
            let Some(piece) = self.trunk.get(PIECE..PIECE + length) else {
                return Ok(None);
            };
            match connection {
                PLUGIN => self.plugin.extend_from_slice(piece),
                RUNTIME => self.runtime.extend_from_slice(piece),
                other => return Err(CodecError::Connection(other)),
            }
            self.trunk.drain(..PIECE + length);
        }
    }
}

/// Takes a whole message from the front of `buffer`.
fn whole(connection: u32, buffer: &mut Vec<u8>) -> Result<Option<Message>, CodecError> {
    let (Some(length), Some(stream), Some(kind)) =
        (word(buffer, 0), word(buffer, 4), buffer.get(8).copied())
    else {
        return Ok(None);
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > LONGEST {
        return Err(CodecError::Long(length));
    }
    let Some(data) = buffer.get(HEADER..HEADER + length) else {
        return Ok(None);
    };
    let data = data.to_vec();
    buffer.drain(..HEADER + length);
    Ok(Some(Message {
        connection,
        stream,
        kind,
        data,
    }))
}

/// Four bytes from `at` as a number.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at + 4)?;
    Some(u32::from_be_bytes(four.try_into().ok()?))
}

/// A message as it is sent.
pub(super) fn encode(message: &Message) -> Result<Vec<u8>, CodecError> {
    let length = message.data.len();
    let long = CodecError::Long(length);
    if length > LONGEST {
        return Err(long);
    }
    let (data, piece) = (u32::try_from(length), u32::try_from(length + HEADER));
    let (Ok(data), Ok(piece)) = (data, piece) else {
        return Err(long);
    };
    let mut bytes = Vec::with_capacity(PIECE + HEADER + length);
    bytes.extend(message.connection.to_be_bytes());
    bytes.extend(piece.to_be_bytes());
    bytes.extend(data.to_be_bytes());
    bytes.extend(message.stream.to_be_bytes());
    bytes.extend([message.kind, 0]);
    bytes.extend(&message.data);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(connection: u32, stream: u32, data: &[u8]) -> Message {
        Message {
            connection,
            stream,
            kind: REQUEST,
            data: data.to_vec(),
        }
    }

    fn all(decoder: &mut Decoder) -> Vec<Message> {
        std::iter::from_fn(|| decoder.next().unwrap()).collect()
    }

    #[test]
    fn messages_come_out_as_they_went_in_however_they_were_cut() {
        let sent = [
            message(PLUGIN, 1, b"configure"),
            message(RUNTIME, 1, b""),
            message(PLUGIN, 3, &[7; 300]),
        ];
        let bytes: Vec<u8> = sent.iter().flat_map(|one| encode(one).unwrap()).collect();
        for step in [1, 2, 7, 11, bytes.len()] {
            let mut decoder = Decoder::default();
            let mut came = Vec::new();
            for part in bytes.chunks(step) {
                decoder.feed(part);
                came.extend(all(&mut decoder));
            }
            assert_eq!(came, sent, "{step} bytes at a time");
        }
    }

    #[test]
    fn one_message_may_come_in_pieces_between_those_of_another() {
        let whole = encode(&message(PLUGIN, 5, b"abcdef")).unwrap();
        let (header, data) = whole[PIECE..].split_at(HEADER);
        let other = encode(&message(RUNTIME, 1, b"x")).unwrap();
        let piece = |bytes: &[u8]| {
            let length = u32::try_from(bytes.len()).unwrap();
            [&PLUGIN.to_be_bytes(), &length.to_be_bytes(), bytes].concat()
        };
        let mut decoder = Decoder::default();
        decoder.feed(&piece(header));
        decoder.feed(&other);
        decoder.feed(&piece(data));
        let came = all(&mut decoder);
        assert_eq!(
            came,
            [message(RUNTIME, 1, b"x"), message(PLUGIN, 5, b"abcdef")]
        );
    }

    #[test]
    fn what_is_too_long_or_for_nobody_is_refused_before_it_is_kept() {
        let mut decoder = Decoder::default();
        decoder.feed(&[0, 0, 0, 1, 0xff, 0, 0, 0]);
        assert_eq!(decoder.next(), Err(CodecError::Long(0xff00_0000)));
        let mut decoder = Decoder::default();
        decoder.feed(&[0, 0, 0, 1, 0, 0, 0, 10, 0xff, 0, 0, 0, 0, 0, 0, 1, 1, 0]);
        assert_eq!(decoder.next(), Err(CodecError::Long(0xff00_0000)));
        let mut decoder = Decoder::default();
        decoder.feed(&[0, 0, 0, 9, 0, 0, 0, 0]);
        assert_eq!(decoder.next(), Err(CodecError::Connection(9)));
    }
}
