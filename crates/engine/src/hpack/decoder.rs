// SPDX-License-Identifier: Apache-2.0
//! A block into fields: every representation of RFC 7541, section 6, and a bound for what a few bytes can grow into.
//!
//! A block that says too much is still decoded to its end, into nothing, so that the tables of both sides stay alike.
//! Read `table.rs` for the table, `list.rs` for where fields go.

use super::table::Table;
use super::{INITIAL_TABLE, List, OVERHEAD, huffman, integer, statics};

/// How large a decoded list may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of names and values, and [`OVERHEAD`] for each field (RFC 9113, section 6.5.2).
    pub size: usize,
    /// Fields, pseudo-fields included.
    pub fields: usize,
}

/// What is wrong with a block. The connection is lost: its tables are no longer known to be alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum DecodeError {
    /// An integer or string that is cut short, or larger than any block.
    #[error("malformed integer or string")]
    Cut,
    /// An index without an entry.
    #[error("index without an entry")]
    Index,
    /// A string that is not a Huffman code.
    #[error("malformed huffman string")]
    Huffman,
    /// A table size that is larger than what was allowed, or stands behind a field.
    #[error("unacceptable table size")]
    TableSize,
}

/// What a block held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All is in the list.
    Complete,
    /// More than [`Limits`]: the list holds the fields before.
    TooLarge,
}

/// Room for a name or a value that is kept from one block to the next.
const KEEP: usize = 4 * 1024;

/// Decodes the blocks of one direction of one connection.
#[derive(Debug)]
pub struct Decoder {
    table: Table<()>,
    /// What the peer may set the table to.
    most: usize,
    limits: Limits,
    name: Vec<u8>,
    value: Vec<u8>,
}

/// A list that is being filled, with a bound.
struct Filling<'a> {
    list: &'a mut List,
    limits: Limits,
    size: usize,
    outcome: Outcome,
}

// === impl Limits ===

impl Default for Limits {
    /// `docs/wire.md`: 96 KiB, 256 fields of the application and room for the pseudo-fields.
    fn default() -> Self {
        Self {
            size: 96 * 1024,
            fields: 256 + 32,
        }
    }
}

// === impl Decoder ===

impl Decoder {
    /// `table` is the SETTINGS_HEADER_TABLE_SIZE that is announced to the peer.
    pub fn new(table: usize, limits: Limits) -> Self {
        Self {
            table: Table::new(INITIAL_TABLE),
            most: table.max(INITIAL_TABLE),
            limits,
            name: Vec::new(),
            value: Vec::new(),
        }
    }

    /// Decodes a whole block into `list`, which is cleared first.
    pub fn decode(&mut self, block: &[u8], list: &mut List) -> Result<Outcome, DecodeError> {
        list.clear();
        let mut filling = Filling {
            list,
            limits: self.limits,
            size: 0,
            outcome: Outcome::Complete,
        };
        let mut rest = self.sizes(block)?;
        while let Some(&first) = rest.first() {
            rest = if first & 0x80 != 0 {
                let (index, rest) = integer::decode(rest, 7).ok_or(DecodeError::Cut)?;
                let (name, value) = self.entry(index)?;
                filling.push(name, value);
                rest
            } else if first & 0xc0 == 0x40 {
                let rest = self.literal(rest, 6)?;
                filling.push(&self.name, &self.value);
                self.table.insert(&self.name, &self.value, ());
                rest
            } else if first & 0xe0 == 0x20 {
                return Err(DecodeError::TableSize);
            } else {
                let rest = self.literal(rest, 4)?;
                filling.push(&self.name, &self.value);
                rest
            };
        }
        let outcome = filling.outcome;
        for scratch in [&mut self.name, &mut self.value] {
            if scratch.capacity() > KEEP {
                *scratch = Vec::new();
            }
        }
        Ok(outcome)
    }

    /// Changes of the table's size, which only begin a block.
    fn sizes<'b>(&mut self, mut block: &'b [u8]) -> Result<&'b [u8], DecodeError> {
        while block.first().is_some_and(|first| first & 0xe0 == 0x20) {
            let (size, rest) = integer::decode(block, 5).ok_or(DecodeError::Cut)?;
            if size > self.most {
                return Err(DecodeError::TableSize);
            }
            self.table.set_max(size);
            block = rest;
        }
        Ok(block)
    }

    fn entry(&self, index: usize) -> Result<(&[u8], &[u8]), DecodeError> {
        let dynamic = index.checked_sub(statics::STATIC.len() + 1);
        match dynamic {
            Some(age) => self.table.get(age),
            None => statics::entry(index),
        }
        .ok_or(DecodeError::Index)
    }

    /// A literal's name and value into `self.name` and `self.value`.
    fn literal<'b>(&mut self, block: &'b [u8], prefix: u32) -> Result<&'b [u8], DecodeError> {
        let (index, rest) = integer::decode(block, prefix).ok_or(DecodeError::Cut)?;
        let mut name = std::mem::take(&mut self.name);
        name.clear();
        let read = if index == 0 {
            string(rest, &mut name)
        } else {
            self.entry(index).map(|(known, _)| {
                name.extend_from_slice(known);
                rest
            })
        };
        self.name = name;
        self.value.clear();
        string(read?, &mut self.value)
    }
}

fn string<'b>(block: &'b [u8], out: &mut Vec<u8>) -> Result<&'b [u8], DecodeError> {
    let coded = block.first().is_some_and(|first| first & 0x80 != 0);
    let (length, rest) = integer::decode(block, 7).ok_or(DecodeError::Cut)?;
    let (bytes, rest) = rest.split_at_checked(length).ok_or(DecodeError::Cut)?;
    if coded {
        huffman::decode(bytes, out).ok_or(DecodeError::Huffman)?;
    } else {
        out.extend_from_slice(bytes);
    }
    Ok(rest)
}

// === impl Filling ===

impl Filling<'_> {
    #[inline]
    fn push(&mut self, name: &[u8], value: &[u8]) {
        self.size = self
            .size
            .saturating_add(name.len() + value.len() + OVERHEAD);
        if self.size > self.limits.size || self.list.len() == self.limits.fields {
            self.outcome = Outcome::TooLarge;
        }
        if self.outcome == Outcome::Complete {
            self.list.push(name, value);
        }
    }
}
