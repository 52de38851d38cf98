// SPDX-License-Identifier: Apache-2.0
//! One proxy's delta stream as a value without I/O or clock: what it subscribed to, what it holds, what it must be told next.
//!
//! Rules: the delta variant of the xDS protocol (envoyproxy.io, "xDS REST and gRPC protocol"), without wildcards and aliases.
//! It must never translate anything itself: the driver ([`super::ads`]) hands it a look-up. A consumer that is slow gets only
//! the newest version of each resource, because a version is looked up when an answer is built, never before.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use crate::key::{Key, Kind, SENDING, place};
use crate::translate::{Encoded, Version};

/// Names in one answer at most.
const ANSWER_NAMES: usize = 1_000;
/// An answer is closed once it holds this many bytes; one resource above it travels alone.
const ANSWER_BYTES: usize = 512 * 1024;
/// Bytes of a rejection's text that are kept.
const REJECTION_BYTES: usize = 256;

/// What a client says in one message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// Names it wants from now on; a name that it already wanted is sent again.
    pub subscribe: Vec<String>,
    /// Names it wants no more.
    pub unsubscribe: Vec<String>,
    /// What it holds from an earlier stream; read in the first message of a kind only.
    pub versions: HashMap<String, String>,
    /// The answer that this message acknowledges, empty when it is spontaneous.
    pub nonce: String,
    /// Why it could not use that answer.
    pub error: Option<String>,
}

/// What the server says in one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Every resource of an answer is of this kind.
    pub kind: Kind,
    /// Unique on this stream.
    pub nonce: String,
    /// Resources that are new or differ.
    pub resources: Vec<(String, Arc<Encoded>)>,
    /// Names of which there is nothing.
    pub removed: Vec<String>,
}

/// What a message of the client meant for earlier answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: it was spontaneous, or its nonce is none of this stream's.
    Spontaneous,
    /// The answer is in force there.
    Accepted,
    /// The client kept what it had before.
    Rejected(Rejection),
}

/// A client's refusal of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Which kind of resource.
    pub kind: Kind,
    /// The client's words, cut to 256 bytes, without control characters.
    pub message: String,
}

/// Why a stream must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The bound on names of one stream.
    #[error("more than {0} subscriptions on one stream")]
    TooManySubscriptions(usize),
}

/// The state of one stream.
#[derive(Debug)]
pub struct Session {
    interests: [Interest; SENDING.len()],
    nonce: u64,
    limit: usize,
}

/// Everything about one kind of resource.
#[derive(Debug, Default)]
struct Interest {
    /// The first message of this kind was read.
    opened: bool,
    subscriptions: HashMap<Key, Subscription>,
    /// Keys to look at; may hold keys that were unsubscribed since.
    queue: VecDeque<Key>,
    /// Names that nothing can have, to be answered once.
    impossible: BTreeSet<String>,
    rejection: Option<(u64, Rejection)>,
}

#[derive(Debug)]
struct Subscription {
    client: Client,
    queued: bool,
}

/// What the client has of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    /// Not known, or it asked for a repetition: whatever there is must be sent.
    Unknown,
    /// It was told that there is nothing.
    Nothing,
    Holds(Version),
}

// === impl Session ===

impl Session {
    /// A stream on which nothing was said yet. `limit` bounds its subscriptions.
    pub fn new(limit: usize) -> Self {
        Self {
            interests: Default::default(),
            nonce: 0,
            limit,
        }
    }

    /// Takes a message of the client. A stale or foreign nonce never voids its subscription changes.
    pub fn ask(&mut self, kind: Kind, ask: Ask) -> Result<Verdict, SessionError> {
        let others: usize = self
            .interests
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != place(kind))
            .map(|(_, interest)| interest.names())
            .sum();
        let limit = self.limit;
        let interest = &mut self.interests[place(kind)];
        let first = !std::mem::replace(&mut interest.opened, true);
        for name in ask.subscribe {
            let held = ask.versions.get(&name).filter(|_| first);
            interest.subscribe(kind, name, held.and_then(|text| Version::parse(text)));
            if others + interest.names() > limit {
                return Err(SessionError::TooManySubscriptions(limit));
            }
        }
        for name in ask.unsubscribe {
            if let Some(key) = Key::parse(kind, &name) {
                interest.subscriptions.remove(&key);
            }
            interest.impossible.remove(&name);
        }
        Ok(self.verdict(kind, &ask.nonce, ask.error.as_deref()))
    }

    fn verdict(&mut self, kind: Kind, nonce: &str, error: Option<&str>) -> Verdict {
        let Some(nonce) = nonce.parse().ok().filter(|n| (1..=self.nonce).contains(n)) else {
            return Verdict::Spontaneous;
        };
        let kept = &mut self.interests[place(kind)].rejection;
        let Some(error) = error else {
            if kept.as_ref().is_some_and(|(rejected, _)| *rejected < nonce) {
                *kept = None;
            }
            return Verdict::Accepted;
        };
        let rejection = Rejection {
            kind,
            message: printable(error),
        };
        *kept = Some((nonce, rejection.clone()));
        Verdict::Rejected(rejection)
    }

    /// Notes that `keys` may have changed; keys that nobody here subscribed to cost a look-up.
    pub fn changed<'a>(&mut self, keys: impl IntoIterator<Item = &'a Key>) {
        for key in keys {
            self.interests[place(key.kind())].enqueue(key);
        }
    }

    /// Notes that anything may have changed: for a stream that missed what did.
    pub fn changed_all(&mut self) {
        for interest in &mut self.interests {
            let keys: Vec<Key> = interest.subscriptions.keys().cloned().collect();
            for key in keys {
                interest.enqueue(&key);
            }
        }
    }

    /// The next message to the client, or `None` when it knows everything. `look` gives the newest version of a resource.
    pub fn answer(&mut self, look: impl Fn(&Key) -> Option<Arc<Encoded>>) -> Option<Answer> {
        for kind in SENDING {
            let interest = &mut self.interests[place(kind)];
            let (resources, removed) = interest.collect(&look);
            if !resources.is_empty() || !removed.is_empty() {
                self.nonce += 1;
                return Some(Answer {
                    kind,
                    nonce: self.nonce.to_string(),
                    resources,
                    removed,
                });
            }
        }
        None
    }

    /// The refusals that still stand, one a kind at most.
    pub fn rejections(&self) -> impl Iterator<Item = &Rejection> {
        self.interests
            .iter()
            .filter_map(|interest| interest.rejection.as_ref().map(|(_, rejection)| rejection))
    }
}

// === impl Interest ===

impl Interest {
    fn names(&self) -> usize {
        self.subscriptions.len() + self.impossible.len()
    }

    fn subscribe(&mut self, kind: Kind, name: String, held: Option<Version>) {
        let Some(key) = Key::parse(kind, &name) else {
            self.impossible.insert(name);
            return;
        };
        let queued = self
            .subscriptions
            .get(&key)
            .is_some_and(|known| known.queued);
        let client = held.map_or(Client::Unknown, Client::Holds);
        self.subscriptions
            .insert(key.clone(), Subscription { client, queued });
        self.enqueue(&key);
    }

    fn enqueue(&mut self, key: &Key) {
        if let Some(subscription) = self.subscriptions.get_mut(key)
            && !std::mem::replace(&mut subscription.queued, true)
        {
            self.queue.push_back(key.clone());
        }
        self.compact();
    }

    /// Forgets queued keys that were unsubscribed since: a client that subscribes and unsubscribes in a circle without
    /// reading must not grow the queue. Amortised, so that it costs nothing a message.
    fn compact(&mut self) {
        if self.queue.len() <= 2 * self.subscriptions.len() + 64 {
            return;
        }
        let waiting = self.subscriptions.iter().filter(|(_, s)| s.queued);
        self.queue = waiting.map(|(key, _)| key.clone()).collect();
    }

    fn collect(
        &mut self,
        look: impl Fn(&Key) -> Option<Arc<Encoded>>,
    ) -> (Vec<(String, Arc<Encoded>)>, Vec<String>) {
        let (mut resources, mut removed, mut bytes) = (Vec::new(), Vec::new(), 0);
        while resources.len() + removed.len() < ANSWER_NAMES && bytes < ANSWER_BYTES {
            if let Some(name) = self.impossible.pop_first() {
                removed.push(name);
                continue;
            }
            let Some(key) = self.queue.pop_front() else {
                break;
            };
            let Some(subscription) = self.subscriptions.get_mut(&key).filter(|s| s.queued) else {
                continue;
            };
            let found = look(&key);
            let now = found
                .as_ref()
                .map_or(Client::Nothing, |encoded| Client::Holds(encoded.version));
            if subscription.client != now
                && let Some(encoded) = &found
                && !resources.is_empty()
                && bytes + encoded.bytes.len() > ANSWER_BYTES
            {
                self.queue.push_front(key);
                break;
            }
            subscription.queued = false;
            if std::mem::replace(&mut subscription.client, now) == now {
                continue;
            }
            match found {
                Some(encoded) => {
                    bytes += encoded.bytes.len();
                    resources.push((key.name(), encoded));
                }
                None => removed.push(key.name()),
            }
        }
        (resources, removed)
    }
}

fn printable(text: &str) -> String {
    let mut kept = String::new();
    for c in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if kept.len() + c.len_utf8() > REJECTION_BYTES {
            break;
        }
        kept.push(c);
    }
    kept
}

#[cfg(test)]
mod tests;
