// SPDX-License-Identifier: Apache-2.0
//! What a watch has told so far, as a table. A list that is under way changes nothing until it is whole. Pure.

use std::collections::BTreeMap;

use kube::runtime::watcher::Event;

/// A table by key.
#[derive(Debug)]
pub(super) struct Mirror<V> {
    now: BTreeMap<String, V>,
    listing: Option<BTreeMap<String, V>>,
    complete: bool,
}

// === impl Mirror ===

impl<V> Mirror<V> {
    /// Nothing was told yet.
    pub(super) fn new() -> Self {
        Self {
            now: BTreeMap::new(),
            listing: None,
            complete: false,
        }
    }

    /// What is there.
    pub(super) fn now(&self) -> &BTreeMap<String, V> {
        &self.now
    }

    /// Whether a whole list was told.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Takes a step; `read` gives an object's key and what is kept of it.
    pub(super) fn take<K>(&mut self, step: Event<K>, read: impl Fn(K) -> Option<(String, V)>) {
        match step {
            Event::Init => self.listing = Some(BTreeMap::new()),
            Event::InitApply(object) => {
                if let (Some((key, value)), Some(listing)) = (read(object), &mut self.listing) {
                    listing.insert(key, value);
                }
            }
            Event::InitDone => {
                self.complete = true;
                if let Some(listing) = self.listing.take() {
                    self.now = listing;
                }
            }
            Event::Apply(object) => self.now.extend(read(object)),
            Event::Delete(object) => {
                if let Some((key, _)) = read(object) {
                    self.now.remove(&key);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_counts_when_it_is_whole() {
        let mut mirror = Mirror::new();
        let read = |key: &'static str| Some((key.to_owned(), ()));
        let keys = |mirror: &Mirror<()>| mirror.now().keys().cloned().collect::<Vec<_>>();
        for step in [Event::Init, Event::InitApply("a"), Event::InitApply("b")] {
            mirror.take(step, read);
        }
        assert!(keys(&mirror).is_empty() && !mirror.is_complete());
        mirror.take(Event::InitDone, read);
        mirror.take(Event::Apply("c"), read);
        mirror.take(Event::Delete("a"), read);
        assert_eq!(keys(&mirror), ["b", "c"]);
        mirror.take(Event::Init, read);
        mirror.take(Event::InitApply("d"), read);
        assert_eq!(keys(&mirror), ["b", "c"]);
        mirror.take(Event::InitDone, read);
        assert_eq!(keys(&mirror), ["d"]);
    }
}
