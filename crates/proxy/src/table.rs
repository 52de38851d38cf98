// SPDX-License-Identifier: Apache-2.0
//! A table whose keys never mean somebody else: an index and a generation, without allocation in the steady state.
//!
//! Must never hand out a key twice for two values. Next: `forward/conns.rs`.

use std::fmt;
use std::marker::PhantomData;

/// The key of a value in a [`Table`], of kind `T`; stale once the value was removed.
pub struct Id<T> {
    index: u32,
    generation: u32,
    of: PhantomData<fn() -> T>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// The kind of the keys of sockets: those who hold such a key need not know what a socket is.
#[derive(Debug)]
pub enum Socket {}

/// The key of one socket.
pub type ConnId = Id<Socket>;

/// The kind of the keys of mesh connections.
#[derive(Debug)]
pub(crate) enum Multiplexed {}

/// The key of one mesh connection.
pub(crate) type LinkId = Id<Multiplexed>;

/// Values by key; the keys' kind is the values' own type unless something else is said.
#[derive(Debug)]
pub(crate) struct Table<T, K = T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    /// How many values there have ever been.
    inserted: u64,
    keys: PhantomData<fn() -> K>,
}

// === impl Id ===

impl<T> Id<T> {
    /// The place in the table; unique among the living.
    pub fn index(self) -> usize {
        self.index as usize
    }

    /// The key as a number.
    pub(crate) fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// Back from [`Self::to_bits`].
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self {
            index: bits as u32,
            generation: (bits >> 32) as u32,
            of: PhantomData,
        }
    }
}

impl<T> Clone for Id<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Id<T> {}

impl<T> PartialEq for Id<T> {
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index && self.generation == other.generation
    }
}

impl<T> Eq for Id<T> {}

impl<T> PartialOrd for Id<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Id<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.index, self.generation).cmp(&(other.index, other.generation))
    }
}

impl<T> fmt::Debug for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}.{}", self.index, self.generation)
    }
}

// === impl Table ===

impl<T, K> Default for Table<T, K> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            inserted: 0,
            keys: PhantomData,
        }
    }
}

impl<T, K> Table<T, K> {
    pub(crate) fn insert(&mut self, value: T) -> Id<K> {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                value: None,
            });
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        self.inserted += 1;
        let slot = &mut self.slots[index as usize];
        slot.value = Some(value);
        Id {
            index,
            generation: slot.generation,
            of: PhantomData,
        }
    }

    /// How many values there have ever been.
    pub(crate) fn inserted(&self) -> u64 {
        self.inserted
    }

    pub(crate) fn get(&self, id: Id<K>) -> Option<&T> {
        let slot = self.slots.get(id.index())?;
        if slot.generation == id.generation {
            slot.value.as_ref()
        } else {
            None
        }
    }

    pub(crate) fn get_mut(&mut self, id: Id<K>) -> Option<&mut T> {
        let slot = self.slots.get_mut(id.index())?;
        if slot.generation == id.generation {
            slot.value.as_mut()
        } else {
            None
        }
    }

    pub(crate) fn remove(&mut self, id: Id<K>) -> Option<T> {
        let slot = self.slots.get_mut(id.index())?;
        if slot.generation != id.generation {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.index);
        Some(value)
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = Id<K>> + '_ {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            slot.value.as_ref()?;
            Some(Id {
                index: u32::try_from(index).unwrap_or(u32::MAX),
                generation: slot.generation,
                of: PhantomData,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_key_finds_nobody() {
        let mut table: Table<&str> = Table::default();
        let first = table.insert("first");
        assert_eq!(table.remove(first), Some("first"));
        let second = table.insert("second");
        assert_eq!(first.index(), second.index());
        assert_eq!(table.get(first), None);
        assert_eq!(table.remove(first), None);
        assert_eq!(table.get_mut(second), Some(&mut "second"));
        assert_eq!(table.ids().collect::<Vec<_>>(), [second]);
        assert_eq!(table.len(), 1);
    }
}
