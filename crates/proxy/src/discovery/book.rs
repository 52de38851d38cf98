// SPDX-License-Identifier: Apache-2.0
//! The client's side of delta discovery as a value: what is subscribed, which versions are held, what must be said next.
//!
//! Rules: the delta variant of the xDS protocol (envoyproxy.io, "xDS REST and gRPC protocol"), by name only. An address that is a service's is
//! followed at once to the service and its endpoints. What cannot be used is refused by name (NACK) while the rest of the answer is taken.
//! Must never hold more than [`MOST`] names. Tests: `book/tests.rs` and `discovery/tests.rs`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use maille_engine::snapshot::{Key, Known, Snapshot};
use maille_model::{AddressOwner, ServiceId, WorkloadUid};
use maille_wire::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node, Status};
use maille_wire::{ConvertError, Kind, Resource};

/// Names held at the same time.
pub const MOST: usize = 10_000;
/// What nobody used for so long is given up.
pub const UNUSED: Duration = Duration::from_secs(300);
/// `google.rpc.Code.INVALID_ARGUMENT`.
const INVALID_ARGUMENT: i32 = 3;

/// Subscriptions, versions and the snapshot made of all answers.
#[derive(Debug)]
pub struct Book {
    uid: WorkloadUid,
    snapshot: Snapshot,
    changed: bool,
    entries: HashMap<Key, Held>,
    topics: BTreeMap<Kind, Topic>,
    replies: VecDeque<DeltaDiscoveryRequest>,
}

#[derive(Debug, Default)]
struct Held {
    /// The version that is in force; none before the first usable answer.
    version: Option<String>,
    /// When somebody last asked for it or used it.
    used: Duration,
}

/// What was not said yet about one kind.
#[derive(Debug, Default)]
struct Topic {
    opened: bool,
    subscribe: BTreeSet<String>,
    unsubscribe: BTreeSet<String>,
}

/// Why something in an answer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The type URL names none of our kinds.
    #[error("type {0:?} is not known")]
    UnknownType(String),
    /// The name cannot be one of this kind.
    #[error("{name:?} is no name of a {kind:?}")]
    Name {
        /// The kind.
        kind: Kind,
        /// The name.
        name: String,
    },
    /// A resource without content.
    #[error("{name:?} has no content")]
    Empty {
        /// Its name.
        name: String,
    },
    /// The content is for another name.
    #[error("{name:?} holds something else")]
    Other {
        /// The name that it was sent under.
        name: String,
    },
    /// The content is no resource.
    #[error("{name:?} cannot be read")]
    Content {
        /// Its name.
        name: String,
        /// What is wrong with it.
        #[source]
        source: ConvertError,
    },
}

// === impl Book ===

impl Book {
    /// Nothing known; the mesh and the own workload are always wanted.
    pub fn new(uid: WorkloadUid) -> Self {
        Self {
            uid,
            snapshot: Snapshot::new(),
            changed: false,
            entries: HashMap::from([(Key::Mesh, Held::default()), (Key::Own, Held::default())]),
            topics: BTreeMap::new(),
            replies: VecDeque::new(),
        }
    }

    /// What is in force.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Whether the snapshot changed since this was last asked.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Names that are held or wanted.
    pub fn names(&self) -> usize {
        self.entries.len()
    }

    /// Somebody needs `key` at `now`. Where all places are taken the name that was unused for the longest time goes.
    pub fn ask(&mut self, key: Key, now: Duration) {
        if let Some(held) = self.entries.get_mut(&key) {
            held.used = now;
            return;
        }
        while self.entries.len() >= MOST {
            let optional = |key: &Key| !matches!(key, Key::Mesh | Key::Own);
            let oldest = self.entries.iter().filter(|(key, _)| optional(key));
            let Some(oldest) = oldest
                .min_by_key(|(_, held)| held.used)
                .map(|(key, _)| key.clone())
            else {
                return;
            };
            self.give_up(&oldest);
        }
        self.entries.insert(
            key.clone(),
            Held {
                version: None,
                used: now,
            },
        );
        let name = self.name(&key);
        let topic = self.topics.entry(kind(&key)).or_default();
        topic.unsubscribe.remove(&name);
        topic.subscribe.insert(name);
    }

    /// Forgets `key` and says so: it is unknown again.
    fn give_up(&mut self, key: &Key) {
        self.entries.remove(key);
        self.snapshot.forget(key);
        self.changed = true;
        let name = self.name(key);
        let topic = self.topics.entry(kind(key)).or_default();
        // Where control was not told yet it has nothing to forget, but telling it again harms nobody.
        topic.subscribe.remove(&name);
        topic.unsubscribe.insert(name);
    }

    /// Gives up what nobody used for [`UNUSED`], and what only such addresses led to.
    pub fn sweep(&mut self, now: Duration) {
        for (key, held) in &mut self.entries {
            if self.snapshot.take_used(key) {
                held.used = now;
            }
        }
        let unused = |held: &Held| now.saturating_sub(held.used) >= UNUSED;
        let led_to: HashSet<&ServiceId> = self
            .snapshot
            .addresses()
            .filter(|(address, _)| {
                self.entries
                    .get(&Key::Address(*address))
                    .is_some_and(|held| !unused(held))
            })
            .filter_map(|(_, owner)| match &**owner.present()? {
                AddressOwner::Service(id) => Some(id),
                AddressOwner::Workload(_) => None,
            })
            .collect();
        let needed = |key: &Key| match key {
            Key::Mesh | Key::Own => true,
            Key::Address(_) => false,
            Key::Service(id) | Key::Endpoints(id) => led_to.contains(id),
        };
        let gone: Vec<Key> = self
            .entries
            .iter()
            .filter(|(key, held)| unused(held) && !needed(key))
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            self.give_up(&key);
        }
    }

    // --- the stream ---

    /// A stream begins: everything wanted is subscribed again, with the versions that are held.
    pub fn connected(&mut self) {
        self.disconnected();
        let keys: Vec<Key> = self.entries.keys().cloned().collect();
        for key in keys {
            let name = self.name(&key);
            self.topics
                .entry(kind(&key))
                .or_default()
                .subscribe
                .insert(name);
        }
    }

    /// The stream is gone: nothing said on it counts any more.
    pub fn disconnected(&mut self) {
        self.topics.clear();
        self.replies.clear();
    }

    /// Whether there is something to say.
    pub fn has_requests(&self) -> bool {
        let pending = |topic: &Topic| !topic.subscribe.is_empty() || !topic.unsubscribe.is_empty();
        !self.replies.is_empty() || self.topics.values().any(pending)
    }

    /// What is to be said next.
    pub fn next_request(&mut self) -> Option<DeltaDiscoveryRequest> {
        if let Some(reply) = self.replies.pop_front() {
            return Some(reply);
        }
        let pending =
            |topic: &&mut Topic| !topic.subscribe.is_empty() || !topic.unsubscribe.is_empty();
        let (kind, topic) = self
            .topics
            .iter_mut()
            .map(|(kind, topic)| (*kind, topic))
            .find(|(_, topic)| pending(topic))?;
        let first = !std::mem::replace(&mut topic.opened, true);
        let subscribe: Vec<String> = std::mem::take(&mut topic.subscribe).into_iter().collect();
        let unsubscribe = std::mem::take(&mut topic.unsubscribe).into_iter().collect();
        let versions = if first {
            self.versions(kind, &subscribe)
        } else {
            BTreeMap::new()
        };
        Some(DeltaDiscoveryRequest {
            resource_names_subscribe: subscribe,
            resource_names_unsubscribe: unsubscribe,
            initial_resource_versions: versions,
            ..self.request(kind)
        })
    }

    fn versions(&self, kind: Kind, names: &[String]) -> BTreeMap<String, String> {
        let version = |name: &String| {
            let held = self.entries.get(&self.key(kind, name)?)?;
            Some((name.clone(), held.version.clone()?))
        };
        names.iter().filter_map(version).collect()
    }

    fn request(&self, kind: Kind) -> DeltaDiscoveryRequest {
        DeltaDiscoveryRequest {
            node: Some(Node {
                id: self.uid.to_string(),
            }),
            type_url: kind.type_url().to_owned(),
            ..DeltaDiscoveryRequest::default()
        }
    }

    /// Control said something at `now`. All of it that can be used is taken; the first thing that cannot is refused and returned.
    pub fn answer(
        &mut self,
        answer: &DeltaDiscoveryResponse,
        now: Duration,
    ) -> Result<(), AnswerError> {
        let Some(kind) = Kind::of_type_url(&answer.type_url) else {
            let error = AnswerError::UnknownType(answer.type_url.chars().take(80).collect());
            self.reply(&answer.type_url, &answer.nonce, Some(&error));
            return Err(error);
        };
        let mut refused = None;
        for resource in &answer.resources {
            let bytes = resource.resource.as_ref();
            let taken = self.take(kind, &resource.name, bytes, &resource.version, now);
            if let Err(error) = taken {
                refused.get_or_insert(error);
            }
        }
        for name in &answer.removed_resources {
            match self.key(kind, name) {
                Some(key) => self.remove(&key),
                None => drop(refused.get_or_insert_with(|| bad_name(kind, name))),
            }
        }
        self.reply(&answer.type_url, &answer.nonce, refused.as_ref());
        refused.map_or(Ok(()), Err)
    }

    fn reply(&mut self, type_url: &str, nonce: &str, error: Option<&AnswerError>) {
        let message = |error: &AnswerError| match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        self.replies.push_back(DeltaDiscoveryRequest {
            node: Some(Node {
                id: self.uid.to_string(),
            }),
            type_url: type_url.to_owned(),
            response_nonce: nonce.to_owned(),
            error_detail: error.map(|error| Status {
                code: INVALID_ARGUMENT,
                message: message(error),
            }),
            ..DeltaDiscoveryRequest::default()
        });
    }

    fn take(
        &mut self,
        kind: Kind,
        name: &str,
        content: Option<&maille_wire::Any>,
        version: &str,
        now: Duration,
    ) -> Result<(), AnswerError> {
        let key = self.key(kind, name).ok_or_else(|| bad_name(kind, name))?;
        let short = || name.chars().take(80).collect::<String>();
        let content = content.ok_or_else(|| AnswerError::Empty { name: short() })?;
        let resource = Resource::from_any(content).map_err(|source| AnswerError::Content {
            name: short(),
            source,
        })?;
        if !self.fits(&key, &resource) {
            return Err(AnswerError::Other { name: short() });
        }
        // Unsubscribed meanwhile.
        let Some(held) = self.entries.get_mut(&key) else {
            return Ok(());
        };
        held.version = Some(version.to_owned());
        self.changed = true;
        match (key, resource) {
            (Key::Address(address), Resource::Address(owner)) => {
                let follow = match &owner {
                    AddressOwner::Service(id) => Some(id.clone()),
                    AddressOwner::Workload(_) => None,
                };
                self.snapshot.set_address(address, Known::Present(owner));
                if let Some(id) = follow {
                    self.ask(Key::Service(id.clone()), now);
                    self.ask(Key::Endpoints(id), now);
                }
            }
            (Key::Service(id), Resource::Service(service)) => {
                self.snapshot.set_service(id, Known::Present(service));
            }
            (Key::Endpoints(id), Resource::Endpoints(endpoints)) => {
                self.snapshot.set_endpoints(id, Known::Present(endpoints));
            }
            (Key::Mesh, Resource::Mesh(mesh)) => self.snapshot.set_mesh(mesh),
            (Key::Own, Resource::Own(own)) => self.snapshot.set_own(own),
            _ => {}
        }
        Ok(())
    }

    /// Whether a resource may stand under that name.
    fn fits(&self, key: &Key, resource: &Resource) -> bool {
        match (key, resource) {
            (Key::Mesh, Resource::Mesh(_)) | (Key::Endpoints(_), Resource::Endpoints(_)) => true,
            (Key::Own, Resource::Own(own)) => own.workload.uid == self.uid,
            (Key::Service(id), Resource::Service(service)) => service.id == *id,
            (Key::Address(address), Resource::Address(owner)) => match owner {
                AddressOwner::Workload(workload) => workload.addresses.contains(address),
                AddressOwner::Service(_) => true,
            },
            _ => false,
        }
    }

    /// Control says that there is no such thing (any more).
    fn remove(&mut self, key: &Key) {
        let Some(held) = self.entries.get_mut(key) else {
            return;
        };
        held.version = None;
        match key {
            // The last good word stays in force: see the file's head.
            Key::Mesh | Key::Own => return,
            // Somebody's address that is nobody's now may be another's in a moment: whoever needs it asks again.
            Key::Address(address) if self.snapshot.address(*address).present().is_some() => {
                self.give_up(key);
            }
            Key::Address(address) => self.snapshot.set_address(*address, Known::Absent),
            Key::Service(id) => self.snapshot.set_service(id.clone(), Known::Absent),
            Key::Endpoints(id) => self.snapshot.set_endpoints(id.clone(), Known::Absent),
        }
        self.changed = true;
    }

    fn name(&self, key: &Key) -> String {
        match key {
            Key::Mesh => "mesh".to_owned(),
            Key::Own => self.uid.to_string(),
            Key::Address(address) => address.to_string(),
            Key::Service(id) | Key::Endpoints(id) => id.to_string(),
        }
    }

    /// The key that a name of that kind stands for, if it is written as [`Self::name`] writes it.
    fn key(&self, kind: Kind, name: &str) -> Option<Key> {
        let key = match kind {
            Kind::Mesh => Key::Mesh,
            Kind::Own => Key::Own,
            Kind::Address => Key::Address(name.parse().ok()?),
            Kind::Service => Key::Service(name.parse().ok()?),
            Kind::Endpoints => Key::Endpoints(name.parse().ok()?),
        };
        (self.name(&key) == name).then_some(key)
    }
}

fn kind(key: &Key) -> Kind {
    match key {
        Key::Mesh => Kind::Mesh,
        Key::Own => Kind::Own,
        Key::Address(_) => Kind::Address,
        Key::Service(_) => Kind::Service,
        Key::Endpoints(_) => Kind::Endpoints,
    }
}

fn bad_name(kind: Kind, name: &str) -> AnswerError {
    AnswerError::Name {
        kind,
        name: name.chars().take(80).collect(),
    }
}

#[cfg(test)]
mod tests;
