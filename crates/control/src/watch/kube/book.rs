// SPDX-License-Identifier: Apache-2.0
//! What was told of one kind, so that a list after a gap tells only what changed meanwhile. Pure.
//!
//! Nothing is told to be gone because it could not be asked for: only a whole list, or the server's word, ends an object.
//! Read [`super`] next.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;

use kube::runtime::watcher::Event as Step;

use super::seen::{Seen, Watched};

/// What follows from a step of a watch.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Told<K, T> {
    /// There is this object now.
    Is(K, T),
    /// The object of this key makes no sense.
    Broken(K, String),
    /// The object of this key is gone.
    Gone(K),
}

/// The objects of one kind, by key.
#[derive(Debug)]
pub(super) struct Book<K> {
    known: HashSet<K>,
    /// Those that a list under way has named so far.
    listing: Option<HashSet<K>>,
    /// A whole list was told once.
    complete: bool,
}

/// The ranges of one kind, by the name of the object that has them.
#[derive(Debug)]
pub(super) struct RangeBook<R>(HashMap<String, R>);

// === impl Book ===

impl<K: Clone + Eq + Hash> Book<K> {
    /// Nothing told yet.
    pub(super) fn new() -> Self {
        Self {
            known: HashSet::new(),
            listing: None,
            complete: false,
        }
    }

    /// Whether a whole list was told.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// There is no such kind: nothing is all that there is.
    pub(super) fn absent(&mut self) {
        self.complete = true;
    }

    /// Takes a step of the watch; `key` says which object it is, `None` for one that cannot be any.
    pub(super) fn take<T: Watched>(
        &mut self,
        step: Step<Seen<T>>,
        key: impl Fn(&Seen<T>) -> Option<K>,
    ) -> Vec<Told<K, T>> {
        match step {
            Step::Init => {
                self.listing = Some(HashSet::new());
                Vec::new()
            }
            Step::InitApply(seen) | Step::Apply(seen) => {
                let Some(key) = key(&seen) else {
                    return Vec::new();
                };
                self.known.insert(key.clone());
                if let Some(listing) = &mut self.listing {
                    listing.insert(key.clone());
                }
                vec![match seen.object {
                    Ok(object) => Told::Is(key, object),
                    Err(reason) => Told::Broken(key, reason),
                }]
            }
            Step::Delete(seen) => {
                let gone = key(&seen).filter(|key| self.known.remove(key));
                gone.map(Told::Gone).into_iter().collect()
            }
            Step::InitDone => {
                self.complete = true;
                let Some(listing) = self.listing.take() else {
                    return Vec::new();
                };
                let missing = self.known.iter().filter(|key| !listing.contains(*key));
                let gone = missing.cloned().map(Told::Gone).collect();
                self.known = listing;
                gone
            }
        }
    }
}

// === impl RangeBook ===

impl<R> RangeBook<R> {
    /// No ranges.
    pub(super) fn new() -> Self {
        Self(HashMap::new())
    }

    /// Takes what was told; one that makes no sense keeps what it had.
    pub(super) fn take(&mut self, told: Vec<Told<String, R>>) {
        for told in told {
            match told {
                Told::Is(name, ranges) => drop(self.0.insert(name, ranges)),
                Told::Gone(name) => drop(self.0.remove(&name)),
                Told::Broken(name, reason) => {
                    tracing::warn!(name, reason, "ranges make no sense, those of before hold");
                }
            }
        }
    }

    /// All of them.
    pub(super) fn all<N: Ord>(&self, of: impl Fn(&R) -> Vec<N>) -> BTreeSet<N> {
        self.0.values().flat_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use maille_manifest::Service;
    use serde_json::json;

    use super::*;

    fn seen(name: &str, spec: serde_json::Value) -> Seen<Service> {
        let object = json!({"metadata": {"name": name, "namespace": "n"}, "spec": spec});
        serde_json::from_value(object).unwrap()
    }

    fn name(seen: &Seen<Service>) -> Option<String> {
        kube::Resource::meta(seen).name.clone()
    }

    fn say(book: &mut Book<String>, step: Step<Seen<Service>>) -> Vec<String> {
        let told = book.take(step, name);
        let word = |told: &Told<String, Service>| match told {
            Told::Is(key, _) => format!("+{key}"),
            Told::Broken(key, _) => format!("!{key}"),
            Told::Gone(key) => format!("-{key}"),
        };
        let mut words: Vec<String> = told.iter().map(word).collect();
        words.sort();
        words
    }

    #[test]
    fn a_list_after_a_gap_tells_what_is_gone_and_only_at_its_end() {
        let mut book = Book::new();
        let object = |name: &str| seen(name, json!({}));
        assert!(say(&mut book, Step::Init).is_empty() && !book.is_complete());
        assert_eq!(say(&mut book, Step::InitApply(object("a"))), ["+a"]);
        assert_eq!(say(&mut book, Step::InitApply(object("b"))), ["+b"]);
        assert!(say(&mut book, Step::InitDone).is_empty() && book.is_complete());
        assert_eq!(say(&mut book, Step::Apply(object("c"))), ["+c"]);
        // A list that fails half way is begun again, and ends nothing.
        assert!(say(&mut book, Step::Init).is_empty());
        assert_eq!(say(&mut book, Step::InitApply(object("c"))), ["+c"]);
        assert!(say(&mut book, Step::Init).is_empty());
        assert_eq!(say(&mut book, Step::InitApply(object("a"))), ["+a"]);
        assert_eq!(say(&mut book, Step::InitDone), ["-b", "-c"]);
        assert_eq!(say(&mut book, Step::Delete(object("a"))), ["-a"]);
        assert!(say(&mut book, Step::Delete(object("a"))).is_empty());
    }

    #[test]
    fn what_makes_no_sense_is_there_all_the_same() {
        let mut book = Book::new();
        let odd = || seen("odd", json!({"type": "Novel"}));
        say(&mut book, Step::Init);
        assert_eq!(say(&mut book, Step::InitApply(odd())), ["!odd"]);
        assert!(say(&mut book, Step::InitDone).is_empty());
        assert_eq!(say(&mut book, Step::Delete(odd())), ["-odd"]);
    }
}
