// SPDX-License-Identifier: Apache-2.0
//! Byte strings that must not be readable on the wire, found across the borders of segments. Keeps of a stream only as much
//! as a marker may have begun in. Read `flows.rs` next.

/// What is looked for.
#[derive(Debug, Default)]
pub(crate) struct Markers {
    markers: Vec<Marker>,
    longest: usize,
}

/// The end of a stream so far.
#[derive(Debug, Default)]
pub(crate) struct Tail(Vec<u8>);

#[derive(Debug)]
struct Marker {
    bytes: Vec<u8>,
    /// By the byte under the marker's end: how far it may move on at least (Horspool).
    skip: Box<[usize; 256]>,
}

impl Markers {
    /// Empty ones are left out: they stand everywhere.
    pub(crate) fn new(markers: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let markers: Vec<_> = markers
            .into_iter()
            .filter(|bytes| !bytes.is_empty())
            .map(Marker::new)
            .collect();
        let longest = markers.iter().map(|marker| marker.bytes.len()).max();
        Self {
            markers,
            longest: longest.unwrap_or(0),
        }
    }

    /// How often markers end in `bytes`, which follow on `tail`.
    pub(crate) fn search(&self, tail: &mut Tail, bytes: &[u8]) -> u64 {
        if self.markers.is_empty() {
            return 0;
        }
        let keep = self.longest - 1;
        let before = tail.0.len();
        tail.0.extend_from_slice(&bytes[..bytes.len().min(keep)]);
        let mut hits = 0;
        for marker in &self.markers {
            let within = marker.bytes.len() - 1;
            // Those that begin in the tail: they end in what was just appended, and not before it.
            let border = &tail.0[before.saturating_sub(within)..];
            let border = &border[..border.len().min(before.min(within) + within)];
            hits += marker.count(border) + marker.count(bytes);
        }
        if bytes.len() >= keep {
            tail.0.clear();
            tail.0.extend_from_slice(&bytes[bytes.len() - keep..]);
        } else {
            let surplus = tail.0.len().saturating_sub(keep);
            tail.0.drain(..surplus);
        }
        hits
    }
}

impl Marker {
    fn new(bytes: Vec<u8>) -> Self {
        let mut skip = Box::new([bytes.len(); 256]);
        for (at, &byte) in bytes.iter().enumerate().take(bytes.len() - 1) {
            skip[usize::from(byte)] = bytes.len() - 1 - at;
        }
        Self { bytes, skip }
    }

    fn count(&self, text: &[u8]) -> u64 {
        let (mut at, mut hits) = (0, 0);
        while let Some(window) = text.get(at..at + self.bytes.len()) {
            hits += u64::from(window == self.bytes);
            at += self.skip[usize::from(window[window.len() - 1])];
        }
        hits
    }
}

#[cfg(test)]
mod tests;
