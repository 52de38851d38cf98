// SPDX-License-Identifier: Apache-2.0
//! Fields into a block: one byte for what was sent before, never Huffman.
//!
//! What enters the table: a name that it does not know, with whatever value; and a value when it comes for the second time,
//! so that request ids and dates do not push out what repeats. Secrets never enter: the connection is shared by clients who do
//! not trust each other, and a table tells by the length of a frame what it knows (RFC 7541, section 7.1).
//! Read `table.rs` for eviction, `statics.rs` for the hash.

use super::statics::{self, STATIC};
use super::table::Table;
use super::{OVERHEAD, integer};

/// Chains of entries by name and value, and by name.
const FIELDS: usize = 256;
const NAMES: usize = 64;
/// Remembered values that were seen once.
const ONCE: usize = 256;
/// No entry is larger than this part of the table.
const SHARE: usize = 4;

/// Encodes the blocks of one direction of one connection.
#[derive(Debug)]
pub struct Encoder {
    table: Table<Note>,
    fields: Box<[u64; FIELDS]>,
    names: Box<[u64; NAMES]>,
    once: Box<[u16; ONCE]>,
    /// The smallest maximum since the last block, if there was a change: to be announced first.
    lowest: Option<usize>,
}

/// An entry's place in its chains. Numbers are one more than the table's, 0 ends a chain; so does an entry that is gone,
/// since all behind it are older.
#[derive(Debug)]
struct Note {
    field: u64,
    next_field: u64,
    next_name: u64,
}

// === impl Encoder ===

impl Encoder {
    /// With a table of this size, which is [`INITIAL_TABLE`](super::INITIAL_TABLE) where nothing was agreed.
    pub fn new(table: usize) -> Self {
        Self {
            table: Table::new(table),
            fields: Box::new([0; FIELDS]),
            names: Box::new([0; NAMES]),
            once: Box::new([0; ONCE]),
            lowest: None,
        }
    }

    /// Changes the table's size, between blocks. Never more than what the peer's settings allow.
    pub fn set_table(&mut self, size: usize) {
        if size != self.table.max() {
            self.lowest = Some(self.lowest.unwrap_or(size).min(size));
            self.table.set_max(size);
        }
    }

    /// The block that was encoded last is not sent after all: both tables begin again.
    pub fn forget(&mut self) {
        self.table.clear();
        self.lowest = Some(0);
    }

    /// Appends one field. A block is what is appended between two frames.
    #[inline]
    pub fn encode(&mut self, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        if self.lowest.is_some() {
            self.announce(out);
        }
        let name_hash = statics::hash(name, 0);
        let hash = statics::hash(value, name_hash);
        if let Some(age) = self.find(hash, name, value) {
            return integer::encode(out, 0x80, 7, STATIC.len() + 1 + age);
        }
        self.encode_new(name, value, (name_hash, hash), out);
    }

    fn encode_new(&mut self, name: &[u8], value: &[u8], hashes: (u64, u64), out: &mut Vec<u8>) {
        let (name_hash, hash) = hashes;
        let fixed = statics::find(name, name_hash);
        let secret = is_secret(name);
        if let Some(index) = fixed.and_then(|first| statics::find_value(first, value))
            && !secret
        {
            return integer::encode(out, 0x80, 7, index);
        }
        let known = fixed.or_else(|| Some(STATIC.len() + 1 + self.find_name(name_hash, name)?));
        let small = name.len() + value.len() + OVERHEAD <= self.table.max() / SHARE;
        let insert = !secret && small && (known.is_none() || self.second_time(hash));
        let (first, prefix) = match (secret, insert) {
            (true, _) => (0x10, 4),
            (false, true) => (0x40, 6),
            (false, false) => (0x00, 4),
        };
        integer::encode(out, first, prefix, known.unwrap_or(0));
        if known.is_none() {
            literal(name, out);
        }
        literal(value, out);
        if insert {
            self.insert(name, value, name_hash, hash);
        }
    }

    fn announce(&mut self, out: &mut Vec<u8>) {
        let max = self.table.max();
        if let Some(lowest) = self.lowest.take()
            && lowest < max
        {
            integer::encode(out, 0x20, 5, lowest);
        }
        integer::encode(out, 0x20, 5, max);
    }

    /// The age of an entry.
    #[inline]
    fn find(&self, hash: u64, name: &[u8], value: &[u8]) -> Option<usize> {
        let mut number = self.fields[place(hash, FIELDS)];
        loop {
            let age = self.table.age(number.checked_sub(1)?)?;
            let note = self.table.note(age)?;
            if note.field == hash && self.table.get(age)? == (name, value) {
                return Some(age);
            }
            number = note.next_field;
        }
    }

    /// The age of an entry with this name.
    fn find_name(&self, hash: u64, name: &[u8]) -> Option<usize> {
        let mut number = self.names[place(hash, NAMES)];
        loop {
            let age = self.table.age(number.checked_sub(1)?)?;
            if self.table.get(age)?.0 == name {
                return Some(age);
            }
            number = self.table.note(age)?.next_name;
        }
    }

    fn insert(&mut self, name: &[u8], value: &[u8], name_hash: u64, hash: u64) {
        let number = self.table.next() + 1;
        let field = &mut self.fields[place(hash, FIELDS)];
        let next_field = std::mem::replace(field, number);
        let name_of = &mut self.names[place(name_hash, NAMES)];
        let next_name = std::mem::replace(name_of, number);
        let note = Note {
            field: hash,
            next_field,
            next_name,
        };
        self.table.insert(name, value, note);
    }

    /// Whether a field was seen lately. A guess by 16 bits, which costs a few bytes when it is wrong.
    fn second_time(&mut self, hash: u64) -> bool {
        let [.., low, high] = hash.to_le_bytes();
        let tag = u16::from_le_bytes([low, high]);
        std::mem::replace(&mut self.once[place(hash, ONCE)], tag) == tag
    }
}

/// Where a hash has its place among `count`, a power of two.
#[inline]
fn place(hash: u64, count: usize) -> usize {
    // Bits 24 and up: the lowest are the least mixed.
    usize::try_from(hash >> 24 & 0xffff).unwrap_or(0) & (count - 1)
}

fn literal(bytes: &[u8], out: &mut Vec<u8>) {
    integer::encode(out, 0, 7, bytes.len());
    out.extend_from_slice(bytes);
}

fn is_secret(name: &[u8]) -> bool {
    match name.len() {
        6 => name.eq_ignore_ascii_case(b"cookie"),
        10 => name.eq_ignore_ascii_case(b"set-cookie"),
        13 => name.eq_ignore_ascii_case(b"authorization"),
        19 => name.eq_ignore_ascii_case(b"proxy-authorization"),
        _ => false,
    }
}
