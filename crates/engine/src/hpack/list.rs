// SPDX-License-Identifier: Apache-2.0
//! A decoded field list: one vector of bytes and one of places in it, used again for every block. Read `decoder.rs` next.

/// Fields in their order. Cleared by whoever fills it; it then allocates no more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    bytes: Vec<u8>,
    /// Where each name and each value ends.
    ends: Vec<(u32, u32)>,
}

// === impl List ===

impl List {
    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
        self.from(0)
    }

    /// Names and values behind the first `count` fields.
    pub fn from(&self, count: usize) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
        let start = count.checked_sub(1).and_then(|last| self.ends.get(last));
        let mut at = start.map_or(0, |&(_, end)| end as usize);
        let ends = self.ends.get(count..).unwrap_or_default();
        ends.iter().map(move |&(name, value)| {
            let (start, name, value) = (at, name as usize, value as usize);
            at = value;
            (&self.bytes[start..name], &self.bytes[name..value])
        })
    }

    /// The field at this place; empty where there is none.
    pub fn get(&self, place: usize) -> (&[u8], &[u8]) {
        self.from(place).next().unwrap_or_default()
    }

    /// How many bytes names and values have together.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// How many fields.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Forgets all fields and keeps the room.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Appends one.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(name);
        let name = self.mark();
        self.bytes.extend_from_slice(value);
        let value = self.mark();
        self.ends.push((name, value));
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "a list is bounded far below 4 GiB by the decoder's limits"
    )]
    fn mark(&self) -> u32 {
        self.bytes.len() as u32
    }
}
