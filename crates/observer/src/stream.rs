// SPDX-License-Identifier: Apache-2.0
//! One direction of one TCP connection as seen at one place: segments in, bytes in order out, each byte once. Knows nothing
//! of what the bytes mean; bounded by [`HELD_BYTES`] and [`HELD_PIECES`]. Read `classify.rs` next.

use std::collections::BTreeMap;

/// How much may wait behind a hole: above the largest receive window that Linux gives by default (6 MiB).
pub(crate) const HELD_BYTES: usize = 8 << 20;

/// How many pieces may wait behind a hole.
pub(crate) const HELD_PIECES: usize = 8192;

/// What comes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// The next bytes.
    Bytes(&'a [u8]),
    /// Some that were never seen.
    Hole,
}

/// Puts segments in order.
#[derive(Debug, Default)]
pub(crate) struct Reassembly {
    /// The sequence number that `offset` stands for; `None` before the first segment.
    next: Option<u32>,
    /// How many bytes were given out, holes that were given up included.
    offset: u64,
    /// What waits, by its offset.
    held: BTreeMap<u64, Vec<u8>>,
    held_bytes: usize,
    /// Where the sender said it ends.
    end: Option<u64>,
}

impl Reassembly {
    /// The stream begins after `sequence`.
    pub(crate) fn syn(&mut self, sequence: u32) {
        let first = sequence.wrapping_add(1);
        self.next.get_or_insert(first);
    }

    /// The stream ends at `sequence`.
    pub(crate) fn fin(&mut self, sequence: u32) {
        let start = *self.next.get_or_insert(sequence);
        if let Some(end) = self.offset_of(start, sequence) {
            self.end.get_or_insert(end);
        }
    }

    /// Takes a segment's payload and gives out what follows on. Bytes that were given out before are not looked at again.
    /// A hole is given up only when too much waits behind it.
    pub(crate) fn data(&mut self, sequence: u32, bytes: &[u8], give: &mut dyn FnMut(Part<'_>)) {
        if bytes.is_empty() {
            return;
        }
        let start = *self.next.get_or_insert(sequence);
        match self.offset_of(start, sequence) {
            Some(at) if at <= self.offset => self.deliver(at, bytes, give),
            Some(at) => self.hold(at, bytes),
            None => {
                // Begins before the stream did, or before everything remembered: only its last part may be new.
                let before = start.wrapping_sub(sequence) as usize;
                if let Some(rest) = bytes.get(before..) {
                    self.deliver(self.offset, rest, give);
                }
            }
        }
        self.drain(give);
        while self.held_bytes > HELD_BYTES || self.held.len() > HELD_PIECES {
            self.give_up_hole(give);
        }
    }

    /// Whether something is missing: bytes wait behind a hole, or the end is further on.
    pub(crate) fn has_hole(&self) -> bool {
        !self.held.is_empty() || self.end.is_some_and(|end| end > self.offset)
    }

    /// How much waits behind a hole.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Gives out what still waits, and where something is missing.
    pub(crate) fn finish(&mut self, give: &mut dyn FnMut(Part<'_>)) {
        while !self.held.is_empty() {
            self.give_up_hole(give);
        }
        if self.has_hole() {
            give(Part::Hole);
        }
    }

    fn give_up_hole(&mut self, give: &mut dyn FnMut(Part<'_>)) {
        if let Some(&at) = self.held.keys().next() {
            give(Part::Hole);
            self.advance(at.saturating_sub(self.offset));
            self.drain(give);
        }
    }

    fn drain(&mut self, give: &mut dyn FnMut(Part<'_>)) {
        while let Some(piece) = self.held.first_entry() {
            if *piece.key() > self.offset {
                break;
            }
            let (at, bytes) = piece.remove_entry();
            self.held_bytes -= bytes.len();
            self.deliver(at, &bytes, give);
        }
    }

    /// Gives out what of `bytes`, which begin at `at`, is new; `at` is not beyond the offset.
    fn deliver(&mut self, at: u64, bytes: &[u8], give: &mut dyn FnMut(Part<'_>)) {
        let known = usize::try_from(self.offset - at).unwrap_or(usize::MAX);
        if let Some(new) = bytes.get(known..).filter(|new| !new.is_empty()) {
            give(Part::Bytes(new));
            self.advance(new.len() as u64);
        }
    }

    fn hold(&mut self, at: u64, bytes: &[u8]) {
        let known = self.held.get(&at).map_or(0, Vec::len);
        if bytes.len() > known {
            self.held_bytes += bytes.len() - known;
            self.held.insert(at, bytes.to_vec());
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "sequence numbers wrap at 2^32"
    )]
    fn advance(&mut self, by: u64) {
        self.offset += by;
        self.next = self.next.map(|next| next.wrapping_add(by as u32));
    }

    /// The offset of a sequence number: the one nearest to `next`, which stands for the present offset. `None`: before the
    /// stream's first byte.
    fn offset_of(&self, next: u32, sequence: u32) -> Option<u64> {
        let distance = i64::from(sequence.wrapping_sub(next).cast_signed());
        self.offset.checked_add_signed(distance)
    }
}

#[cfg(test)]
mod tests;
