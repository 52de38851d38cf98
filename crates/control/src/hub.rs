// SPDX-License-Identifier: Apache-2.0
//! What everything in the process shares: the index, the resources made of it, what proxies reported, who is connected.
//!
//! Written by one loop ([`crate::run`]) through [`Hub::apply`], read by every stream and by the API. It must never be locked
//! across an `await`. Read [`crate::serve`] next.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use maille_chassis::clock::Clock;
use maille_model::{Mesh, Workload, WorkloadUid};
use maille_wire::v1;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use tokio::sync::{broadcast, watch};
use tokio::time::timeout;

use crate::ask::Questions;
use crate::causes::with_causes;
use crate::index::{Change, Dirty, Index};
use crate::key::Key;
use crate::stat::Stats;
use crate::translate::{Encoded, View, translate};
use crate::watch::{Event, ObjectKey, Origin};

/// What is known of one proxy.
mod proxy;

/// Batches of changes that a stream may be behind before it looks at everything it subscribed to.
const CHANGES: usize = 256;
/// Encoded resources that are kept for the next stream that asks.
const CACHED: usize = 50_000;
/// How long a workload may be unknown while its object is still on the way.
const GRACE: Duration = Duration::from_secs(2);
/// Problems that are kept for reports.
const PROBLEMS: usize = 1_000;

/// Where the process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not every source told everything yet: nobody is answered.
    Starting,
    /// Answers are what the sources say.
    Serving,
    /// Streams end; proxies come back to the next process.
    Draining,
}

/// Why somebody is not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such workload.
    #[error("workload {0} is not known")]
    Unknown(WorkloadUid),
    /// It was left out.
    #[error("workload {0} is not in the mesh")]
    Unmeshed(WorkloadUid),
    /// It ended.
    #[error("workload {0} is finished")]
    Finished(WorkloadUid),
    /// The sources did not tell everything in time.
    #[error("control is still starting")]
    Starting,
    /// The process is about to end.
    #[error("control is stopping")]
    Draining,
}

/// Everything shared.
#[derive(Debug)]
pub struct Hub {
    world: RwLock<World>,
    changes: broadcast::Sender<Arc<Dirty>>,
    phase: watch::Sender<Phase>,
    stats: Mutex<Stats>,
    proxies: Mutex<HashMap<WorkloadUid, Proxy>>,
    counted: Mutex<Counted>,
    questions: Questions,
    restarts: Arc<AtomicU64>,
    clock: Clock,
    started: SystemTime,
}

/// What was done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Resources that were sent.
    pub sent: u64,
    /// Resources that a proxy was told not to exist.
    pub removed: u64,
    /// Answers that a proxy refused.
    pub rejections: u64,
    /// Certificates.
    pub signed: u64,
    /// Certificates that were asked for in vain.
    pub refused: u64,
    /// This replica is the one that writes.
    pub leads: bool,
    /// How often that changed.
    pub lease_changes: u64,
}

/// What exists, and what was made of it.
#[derive(Debug)]
pub struct World {
    /// What exists.
    pub index: Index,
    /// What every proxy shares.
    pub mesh: Mesh,
    /// Files that made no sense when they were read last, and why.
    pub broken: BTreeMap<Origin, String>,
    /// Objects that cannot be taken, and why.
    pub refused: BTreeMap<Origin, String>,
    cache: HashMap<Key, Arc<Encoded>>,
    sources: usize,
}

/// What is known of a workload's proxy beside its reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxy {
    /// Its discovery streams.
    pub discovery: usize,
    /// Its report streams.
    pub reports: usize,
    /// Its lines for questions.
    pub questions: usize,
    /// When its newest certificate ends.
    pub certified_until: Option<SystemTime>,
    /// Certificates that it had lately: in which stretch of seconds, how many.
    pub(crate) signed: (u64, u32),
    /// Events that its node's agent told of it lately, in the same way.
    pub(crate) told: (u64, u32),
    /// What it could not use, in its own words.
    pub rejection: Option<String>,
}

// === impl Hub ===

impl Hub {
    /// A hub for `sources` sources that told nothing yet.
    pub fn new(mesh: Mesh, sources: usize, clock: Clock) -> Self {
        Self {
            world: RwLock::new(World {
                index: Index::default(),
                mesh,
                broken: BTreeMap::new(),
                refused: BTreeMap::new(),
                cache: HashMap::new(),
                sources,
            }),
            changes: broadcast::Sender::new(CHANGES),
            phase: watch::Sender::new(Phase::Starting),
            stats: Mutex::default(),
            proxies: Mutex::default(),
            counted: Mutex::default(),
            questions: Questions::default(),
            restarts: Arc::default(),
            started: clock.wall(),
            clock,
        }
    }

    /// Takes what sources told, in order. Streams hear of it once, and find the result of all of it.
    pub fn apply(&self, events: Vec<Event>) {
        let mut dirty = Dirty::new();
        let mut world = self.world.write();
        for event in events {
            world.take(event, &mut dirty);
        }
        for key in &dirty {
            world.cache.remove(key);
        }
        let complete = world.sources == 0;
        let gone = |uid: &WorkloadUid| world.index.pod(uid).is_none();
        self.proxies.lock().retain(|uid, proxy| {
            !gone(uid) || proxy.discovery + proxy.reports + proxy.questions > 0
        });
        drop(world);
        if !dirty.is_empty() {
            // Nobody listens: there is no stream.
            let _ = self.changes.send(Arc::new(dirty));
        }
        if complete {
            self.phase.send_if_modified(|phase| match phase {
                Phase::Starting => {
                    *phase = Phase::Serving;
                    true
                }
                Phase::Serving | Phase::Draining => false,
            });
        }
    }

    /// From now on every proxy believes these certificates (DER).
    pub fn believe(&self, trust_anchors: Vec<Vec<u8>>) {
        let mut world = self.world.write();
        if world.mesh.trust_anchors == trust_anchors {
            return;
        }
        world.mesh.trust_anchors = trust_anchors;
        world.cache.remove(&Key::Mesh);
        drop(world);
        // Nobody listens: there is no stream.
        let _ = self.changes.send(Arc::new(Dirty::from([Key::Mesh])));
    }

    /// Questions to proxies.
    pub fn questions(&self) -> &Questions {
        &self.questions
    }

    /// Ends every stream, now and from now on.
    pub fn drain(&self) {
        self.phase.send_replace(Phase::Draining);
    }

    /// Where the process is in its life, and what follows.
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Hears of every change from now on.
    pub fn changes(&self) -> broadcast::Receiver<Arc<Dirty>> {
        self.changes.subscribe()
    }

    /// What exists at this moment. Never hold it across an `await`.
    pub fn world(&self) -> RwLockReadGuard<'_, World> {
        self.world.read()
    }

    /// What proxies reported. Never hold it across an `await`; lock it after [`Hub::world`], never before.
    pub fn stats(&self) -> parking_lot::MutexGuard<'_, Stats> {
        self.stats.lock()
    }

    /// Whole seconds since the process started.
    pub fn second(&self) -> u64 {
        self.clock.elapsed().as_secs()
    }

    /// Wall time.
    pub fn now(&self) -> SystemTime {
        self.clock.wall()
    }

    /// When the process began.
    pub fn started(&self) -> SystemTime {
        self.started
    }

    /// What was done since then.
    pub fn counted(&self) -> Counted {
        *self.counted.lock()
    }

    /// Watches on the API server that had to be begun again.
    pub fn restarts(&self) -> &Arc<AtomicU64> {
        &self.restarts
    }

    /// Counts what is being done.
    pub(crate) fn count(&self, add: impl FnOnce(&mut Counted)) {
        add(&mut self.counted.lock());
    }

    /// Streams of all proxies: discovery, reports.
    pub fn streams(&self) -> (usize, usize) {
        let proxies = self.proxies.lock();
        proxies
            .values()
            .fold((0, 0), |(discovery, reports), proxy| {
                (discovery + proxy.discovery, reports + proxy.reports)
            })
    }

    /// The newest version of a resource.
    pub fn look(&self, key: &Key) -> Option<Arc<Encoded>> {
        if let Some(encoded) = self.world.read().cache.get(key) {
            return Some(encoded.clone());
        }
        let mut world = self.world.write();
        let view = View {
            index: &world.index,
            mesh: &world.mesh,
        };
        let encoded = translate(key, &view)?;
        if world.cache.len() >= CACHED {
            world.cache.clear();
        }
        world.cache.insert(key.clone(), encoded.clone());
        Some(encoded)
    }

    /// The workload `uid`, if it is to be served at this moment.
    pub fn admit(&self, uid: &WorkloadUid) -> Result<Workload, Refusal> {
        match *self.phase.borrow() {
            Phase::Starting => return Err(Refusal::Starting),
            Phase::Draining => return Err(Refusal::Draining),
            Phase::Serving => {}
        }
        let world = self.world.read();
        let pod = world.index.pod(uid);
        let pod = pod.ok_or_else(|| Refusal::Unknown(uid.clone()))?;
        if pod.is_served() {
            return Ok(pod.workload.clone());
        }
        Err(match pod.phase {
            crate::index::Phase::Finished => Refusal::Finished(uid.clone()),
            _ => Refusal::Unmeshed(uid.clone()),
        })
    }

    /// Whether `agent` is the node agent that has the pod `uid` on its node: the only one that may speak for it.
    pub fn is_on_node_of(&self, uid: &WorkloadUid, agent: &WorkloadUid) -> bool {
        let world = self.world.read();
        let node = |uid| Some(world.index.pod(uid)?.node.as_deref()?.to_owned());
        node(agent).is_some_and(|own| node(uid) == Some(own))
    }

    /// The node agent `uid`: a pod that is there, and not over. It is not in the mesh itself.
    pub fn agent(&self, uid: &WorkloadUid) -> Result<Workload, Refusal> {
        match *self.phase.borrow() {
            Phase::Starting => return Err(Refusal::Starting),
            Phase::Draining => return Err(Refusal::Draining),
            Phase::Serving => {}
        }
        let world = self.world.read();
        match world.index.pod(uid) {
            None => Err(Refusal::Unknown(uid.clone())),
            Some(pod) if pod.phase == crate::index::Phase::Finished => {
                Err(Refusal::Finished(uid.clone()))
            }
            Some(pod) => Ok(pod.workload.clone()),
        }
    }

    /// The same, waiting at most `patience` for the sources, and then a moment for an object that is still on the way:
    /// a proxy may be faster than the file that says it exists.
    pub async fn await_admission(
        &self,
        uid: &WorkloadUid,
        patience: Duration,
    ) -> Result<Workload, Refusal> {
        let mut phase = self.phase();
        let mut changes = self.changes();
        let serving = phase.wait_for(|phase| *phase != Phase::Starting);
        match timeout(patience, serving).await {
            Ok(_) => {}
            Err(_) => return Err(Refusal::Starting),
        }
        let known = async {
            loop {
                match self.admit(uid) {
                    Err(Refusal::Unknown(_)) => {}
                    decided => return decided,
                }
                tokio::select! {
                    heard = changes.recv() => if heard == Err(broadcast::error::RecvError::Closed) {
                        return Err(Refusal::Draining);
                    },
                    _ = phase.wait_for(|phase| *phase == Phase::Draining) => return Err(Refusal::Draining),
                }
            }
        };
        match timeout(GRACE, known).await {
            Ok(decided) => decided,
            Err(_) => self.admit(uid),
        }
    }

    /// What is known of every proxy, for another replica.
    pub(crate) fn connected(&self) -> Vec<v1::Connected> {
        let proxies = self.proxies.lock();
        let told = proxies.iter().map(|(uid, proxy)| proxy.carry(uid));
        told.collect()
    }

    /// What is known of a workload's proxy.
    pub fn proxy(&self, uid: &WorkloadUid) -> Proxy {
        self.proxies.lock().get(uid).cloned().unwrap_or_default()
    }

    /// Changes what is known of a workload's proxy. Only for workloads that were admitted: the table is as large as the mesh.
    pub fn note<T>(&self, uid: &WorkloadUid, change: impl FnOnce(&mut Proxy) -> T) -> T {
        change(self.proxies.lock().entry(uid.clone()).or_default())
    }
}

// === impl World ===

impl World {
    fn take(&mut self, event: Event, dirty: &mut Dirty) {
        match event {
            Event::Apply { origin, object } => match Change::read(&object) {
                Ok(Some(change)) => {
                    self.refused.remove(&origin);
                    dirty.extend(self.index.apply(change));
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%origin, error = %with_causes(&error), "object refused, its last good state holds");
                    if self.refused.len() < PROBLEMS {
                        self.refused.insert(origin, with_causes(&error));
                    }
                }
            },
            Event::Delete { origin, key } => {
                self.refused.remove(&origin);
                let change = match key {
                    ObjectKey::Pod(uid) => Change::PodGone(uid),
                    ObjectKey::Service(id) => Change::ServiceGone(id),
                    ObjectKey::Slice(id) => Change::SliceGone(id),
                };
                dirty.extend(self.index.apply(change));
            }
            Event::Broken { origin, reason } => {
                tracing::warn!(%origin, reason, "file makes no sense, its last good state holds");
                if self.broken.len() < PROBLEMS {
                    self.broken.insert(origin, reason);
                }
            }
            Event::Mended(origin) => {
                tracing::info!(%origin, "file makes sense again, or is gone");
                self.broken.remove(&origin);
            }
            Event::Ranges(ranges) => {
                if self.mesh.cluster_ranges != ranges {
                    self.mesh.cluster_ranges = ranges;
                    dirty.insert(Key::Mesh);
                    let services = self.index.services();
                    dirty.extend(services.map(|one| Key::Endpoints(one.facts.id.clone())));
                }
            }
            Event::InitDone => self.sources = self.sources.saturating_sub(1),
        }
    }

    /// Whether every source told everything.
    pub fn is_complete(&self) -> bool {
        self.sources == 0
    }
}

#[cfg(test)]
mod tests {
    use maille_manifest::{Object, from_json};
    use maille_model::ClusterRanges;

    use super::*;

    impl Hub {
        /// One of one source, of which nobody told anything yet.
        pub(crate) fn of_pods() -> Self {
            let mesh = Mesh {
                trust_domain: "cluster.local".parse().unwrap(),
                trust_anchors: Vec::new(),
                cluster_ranges: ClusterRanges(Vec::new()),
            };
            Self::new(mesh, 1, Clock::start())
        }
    }

    #[tokio::test]
    async fn an_agent_has_the_pods_of_its_node_and_no_others() {
        let hub = Hub::of_pods();
        let uid = |text: &str| WorkloadUid::new(text).unwrap();
        assert!(matches!(hub.agent(&uid("a1")), Err(Refusal::Starting)));
        let pod = |name: &str, node: &str| {
            let text = format!(
                r#"{{"metadata":{{"name":"{name}","namespace":"shop","uid":"{name}"}},
                    "spec":{{{node}"containers":[{{"name":"c"}}]}},"status":{{"phase":"Running"}}}}"#
            );
            let object = Object::Pod(Box::new(from_json(text.as_bytes()).unwrap()));
            Event::Apply {
                origin: name.into(),
                object: Box::new(object),
            }
        };
        let on = |node: &str| format!(r#""nodeName":"{node}","#);
        hub.apply(vec![
            pod("a1", &on("one")),
            pod("w1", &on("one")),
            pod("w2", &on("two")),
            pod("bound-nowhere", ""),
            pod("agent-nowhere", ""),
            Event::InitDone,
        ]);
        assert!(hub.agent(&uid("a1")).is_ok());
        assert!(matches!(hub.agent(&uid("gone")), Err(Refusal::Unknown(_))));
        assert!(hub.is_on_node_of(&uid("w1"), &uid("a1")));
        for (pod, agent) in [
            ("w2", "a1"),
            ("bound-nowhere", "a1"),
            ("gone", "a1"),
            ("w1", "gone"),
            ("bound-nowhere", "agent-nowhere"),
        ] {
            assert!(!hub.is_on_node_of(&uid(pod), &uid(agent)), "{pod} {agent}");
        }
    }
}
