// SPDX-License-Identifier: Apache-2.0
//! Frames as bytes (RFC 9113, sections 4 and 6). Read `receive.rs` for who reads them.

/// What a client sends first (section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame's header.
pub(super) const HEADER: usize = 9;
/// The largest DATA frame that is sent, and the smallest limit that a peer may set.
pub(super) const DATA_SIZE: usize = 16 * 1024;

pub(super) const END_STREAM: u8 = 0x1;
pub(super) const ACK: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;
pub(super) const PRIORITY: u8 = 0x20;

pub(super) const HEADER_TABLE_SIZE: u16 = 1;
pub(super) const ENABLE_PUSH: u16 = 2;
pub(super) const MAX_CONCURRENT_STREAMS: u16 = 3;
pub(super) const INITIAL_WINDOW_SIZE: u16 = 4;
pub(super) const MAX_FRAME_SIZE: u16 = 5;
pub(super) const MAX_HEADER_LIST_SIZE: u16 = 6;
/// RFC 8441, section 3.
pub(super) const ENABLE_CONNECT_PROTOCOL: u16 = 8;

/// A frame's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind(pub(super) u8);

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) length: usize,
    pub(super) kind: Kind,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

// === impl Kind ===

impl Kind {
    pub(super) const DATA: Self = Self(0);
    pub(super) const HEADERS: Self = Self(1);
    pub(super) const PRIORITY: Self = Self(2);
    pub(super) const RST_STREAM: Self = Self(3);
    pub(super) const SETTINGS: Self = Self(4);
    pub(super) const PUSH_PROMISE: Self = Self(5);
    pub(super) const PING: Self = Self(6);
    pub(super) const GOAWAY: Self = Self(7);
    pub(super) const WINDOW_UPDATE: Self = Self(8);
    pub(super) const CONTINUATION: Self = Self(9);
}

// === impl Header ===

impl Header {
    pub(super) fn parse(bytes: [u8; HEADER]) -> Self {
        let [a, b, c, kind, flags, d, e, f, g] = bytes;
        Self {
            // At most 2^24 - 1.
            length: usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c),
            kind: Kind(kind),
            flags,
            stream: u32::from_be_bytes([d, e, f, g]) & 0x7fff_ffff,
        }
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Appends a frame's header. `length` is below 2^24.
pub(super) fn header(out: &mut Vec<u8>, length: usize, kind: Kind, flags: u8, stream: u32) {
    let [d, e, f, g] = stream.to_be_bytes();
    let [a, b, c] = length_bytes(length);
    out.extend_from_slice(&[a, b, c, kind.0, flags, d, e, f, g]);
}

/// Writes the length of the frame that begins at `start` and ends with `out`.
pub(super) fn patch_length(out: &mut [u8], start: usize) {
    let length = length_bytes(out.len() - start - HEADER);
    out[start..start + 3].copy_from_slice(&length);
}

/// Writes the flags of the frame that begins at `start`.
pub(super) fn patch_flags(out: &mut [u8], start: usize, flags: u8) {
    out[start + 4] = flags;
}

/// Divides the HEADERS frame that begins at `start` and ends with `out` into frames of at most `most` bytes.
pub(super) fn divide(out: &mut Vec<u8>, start: usize, most: usize) {
    let block = out.split_off(start + HEADER);
    let mut pieces = block.chunks(most).peekable();
    let [flags, ..] = out[start + 4..start + HEADER] else {
        return;
    };
    let stream = word(&out[start + 5..]);
    out.truncate(start);
    let mut kind = Kind::HEADERS;
    while let Some(piece) = pieces.next() {
        let last = pieces.peek().is_none();
        let (first, ends) = match kind {
            Kind::HEADERS => (flags & !END_HEADERS, flags & END_HEADERS),
            _ => (0, END_HEADERS),
        };
        let flags = if last { first | ends } else { first };
        header(out, piece.len(), kind, flags, stream);
        out.extend_from_slice(piece);
        kind = Kind::CONTINUATION;
    }
}

fn length_bytes(length: usize) -> [u8; 3] {
    debug_assert!(length < 1 << 24, "every frame sent is far shorter");
    let [a, b, c, ..] = length.to_le_bytes();
    [c, b, a]
}

pub(super) fn settings(out: &mut Vec<u8>, values: &[(u16, u32)]) {
    header(out, values.len() * 6, Kind::SETTINGS, 0, 0);
    for (id, value) in values {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

pub(super) fn window_update(out: &mut Vec<u8>, stream: u32, increment: u32) {
    header(out, 4, Kind::WINDOW_UPDATE, 0, stream);
    out.extend_from_slice(&increment.to_be_bytes());
}

/// The four bytes at the beginning, without the reserved bit where there is one.
pub(super) fn word(payload: &[u8]) -> u32 {
    payload
        .first_chunk()
        .map_or(0, |four| u32::from_be_bytes(*four))
}
