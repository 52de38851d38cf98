// SPDX-License-Identifier: Apache-2.0
//! The dynamic table (RFC 7541, sections 2.3.2 and 4): entries in one run of bytes, the oldest thrown out first.
//!
//! Both sides must evict alike, entry by entry. Must never hold more than its maximum (and as much again of what is gone).
//! Read `decoder.rs` and `encoder.rs` next.

use std::collections::VecDeque;

use super::OVERHEAD;

/// Entries, each with a note of the user's. An entry's number is how many came before it, so that it never changes.
#[derive(Debug)]
pub(super) struct Table<T> {
    bytes: Vec<u8>,
    /// Bytes at the front that belong to nobody any more.
    dead: usize,
    entries: VecDeque<Entry<T>>,
    /// How many entries there ever were.
    inserted: u64,
    size: usize,
    max: usize,
}

#[derive(Debug)]
struct Entry<T> {
    /// Place in `bytes`; moves with `dead`.
    start: usize,
    name: usize,
    value: usize,
    note: T,
}

// === impl Table ===

impl<T> Table<T> {
    pub(super) fn new(max: usize) -> Self {
        Self {
            bytes: Vec::new(),
            dead: 0,
            entries: VecDeque::new(),
            inserted: 0,
            size: 0,
            max,
        }
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// How many bytes the entries count.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Changes the maximum, and throws out what is too much.
    pub(super) fn set_max(&mut self, max: usize) {
        self.max = max;
        self.make_room(0);
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.bytes.clear();
        self.dead = 0;
        self.size = 0;
    }

    /// The number that the next entry will have.
    pub(super) fn next(&self) -> u64 {
        self.inserted
    }

    /// The distance of a number from the newest entry, which has 0; `None` when it was thrown out.
    #[inline]
    pub(super) fn age(&self, number: u64) -> Option<usize> {
        let age = usize::try_from(self.inserted.checked_sub(number)?.checked_sub(1)?).ok()?;
        (age < self.entries.len()).then_some(age)
    }

    /// The entry of this age.
    #[inline]
    pub(super) fn get(&self, age: usize) -> Option<(&[u8], &[u8])> {
        let entry = self.entry(age)?;
        let value = entry.start + entry.name;
        Some((
            &self.bytes[entry.start..value],
            &self.bytes[value..value + entry.value],
        ))
    }

    /// The note of the entry of this age.
    #[inline]
    pub(super) fn note(&self, age: usize) -> Option<&T> {
        self.entry(age).map(|entry| &entry.note)
    }

    fn entry(&self, age: usize) -> Option<&Entry<T>> {
        let place = self.entries.len().checked_sub(1)?.checked_sub(age)?;
        self.entries.get(place)
    }

    /// Inserts; whatever is too old for the room is gone. An entry larger than the table empties it and is not kept.
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8], note: T) {
        let size = name.len() + value.len() + OVERHEAD;
        self.make_room(size);
        if size > self.max {
            return;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.entries.push_back(Entry {
            start,
            name: name.len(),
            value: value.len(),
            note,
        });
        self.inserted += 1;
        self.size += size;
    }

    fn make_room(&mut self, size: usize) {
        while self.size + size > self.max {
            let Some(oldest) = self.entries.pop_front() else {
                break;
            };
            let length = oldest.name + oldest.value;
            self.size -= length + OVERHEAD;
            self.dead += length;
        }
        // Moving what lives costs no more than what was inserted since the last time.
        if self.dead > self.max {
            self.bytes.drain(..self.dead);
            for entry in &mut self.entries {
                entry.start -= self.dead;
            }
            self.dead = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first() {
        let mut table = Table::new(2 * (OVERHEAD + 4));
        for name in [b"aa", b"bb", b"cc"] {
            table.insert(name, b"vv", ());
        }
        assert_eq!(table.get(0), Some((&b"cc"[..], &b"vv"[..])));
        assert_eq!(table.get(1), Some((&b"bb"[..], &b"vv"[..])));
        assert_eq!(table.get(2), None);
        assert_eq!(
            (table.age(2), table.age(1), table.age(0)),
            (Some(0), Some(1), None)
        );
        assert_eq!(table.age(3), None);
    }

    #[test]
    fn one_too_large_empties_the_table() {
        let mut table = Table::new(100);
        table.insert(b"a", b"b", ());
        table.insert(&[b'x'; 60], &[b'y'; 20], ());
        assert_eq!(table.get(0), None);
        assert_eq!(table.size(), 0);
    }

    #[test]
    fn it_holds_no_more_than_twice_its_size_in_bytes() {
        let mut table = Table::new(1000);
        for number in 0..10_000u32 {
            let name = number.to_be_bytes();
            table.insert(&name, &[b'v'; 50], ());
            assert!(table.bytes.len() <= 2 * 1000 + 54);
            assert_eq!(table.get(0).unwrap().0, name);
            assert!(table.size() <= 1000);
            if number > 20 {
                assert_eq!(table.get(10).unwrap().0, (number - 10).to_be_bytes());
            }
        }
        table.set_max(0);
        assert_eq!(table.get(0), None);
    }
}
