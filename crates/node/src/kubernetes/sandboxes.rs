// SPDX-License-Identifier: Apache-2.0
//! The captured pods of this node: each has a directory with its mesh namespace pinned, what it is, and its proxy's number and sockets,
//! so that the next agent finds it. A proxy that is there still goes on, its listening sockets are taken from it; where it has ended
//! the pod is closed until it gets another.
//!
//! Must never leave a pod half captured: what cannot be done whole is undone, and the pod does not start. Read `capture.rs` for what
//! is done, `agent/proxy.rs` for the proxy's life.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use maille_chassis::clock::Clock;
use maille_chassis::tasks::Tasks;
use maille_cni::protocol::{INSIDE, PIN, Sandbox};
use maille_manifest::marks::CAPTURE_BY;
use maille_sys::NetNs;
use maille_sys::nft::Generation;
use maille_wire::v1::Happening;
use parking_lot::Mutex;
use tokio::sync::{Mutex as Slot, Semaphore};

use super::counts::Counts;
use super::failure::{SandboxError, blocking};
use super::held::{Held, Mode, Way};
use super::inside::Inside;
use super::network::Network;
use super::seen::{Seen, Using};
use crate::agent::Agent;
use crate::agent::apart::{self, Apart};
use crate::capture::{self, Captured, Options};
use crate::host::{Child, listeners_of};
use crate::processes::Processes;

mod interfaces;

use interfaces::{may_have, others};

/// What a sandbox is, in its directory.
pub(super) const RECORD: &str = "sandbox.json";
/// Its rules as they were when it was captured, there too.
const RULES: &str = "rules.nft";
/// The number of its own network namespace, there too: by that it is known to be the one that the runtime means.
const NETWORK: &str = "pod";
/// The directory in it that its proxy can write to. Short: the path of a socket may have 107 bytes.
const PROXY: &str = "p";
/// Pods that are captured at the same time. A program that a capture runs has its time (`sys::nft`), so that it holds no turn for ever. More would
/// not be done sooner, and each of them later: the kernel changes one network at a time.
const AT_ONCE: usize = 8;

/// All of them, by the runtime's id.
#[derive(Debug)]
pub(super) struct Sandboxes {
    agent: Agent,
    processes: Arc<Processes>,
    directory: PathBuf,
    counts: Arc<Counts>,
    tasks: Tasks,
    clock: Clock,
    slots: Mutex<BTreeMap<String, Arc<Slot<Option<Held>>>>>,
    turns: Semaphore,
}

// === impl Sandboxes ===

impl Sandboxes {
    /// Those in `directory`, once they are taken up.
    pub(super) fn new(
        agent: Agent,
        processes: Arc<Processes>,
        directory: PathBuf,
        counts: Arc<Counts>,
        (tasks, clock): (Tasks, Clock),
    ) -> Self {
        Self {
            agent,
            processes,
            directory,
            counts,
            tasks,
            clock,
            slots: Mutex::default(),
            turns: Semaphore::new(AT_ONCE),
        }
    }

    /// Captures a pod whose network namespace is `namespace`, and starts its proxy. One that is captured already stays so.
    pub(super) async fn add(
        &self,
        sandbox: Sandbox,
        namespace: OwnedFd,
    ) -> Result<(), SandboxError> {
        let slot = self.slot(&sandbox.container);
        let mut held = slot.lock().await;
        if held.is_some() {
            return Ok(());
        }
        let pod = NetNs::from_fd(namespace)?;
        let asked = self.clock.elapsed();
        // Nobody closes it; in the order in which they came.
        let turn = self.turns.acquire().await;
        let begins = self.clock.elapsed();
        let (begun, others) = match Mode::of(&sandbox.annotations)? {
            Mode::Outboard => {
                let (net, own) = (pod.clone(), sandbox.interface.clone());
                let others = blocking(move || others(&net, &own)).await?;
                may_have(&sandbox, &others)?;
                (self.outboard(sandbox, pod).await?, others)
            }
            // Rules inside hold for every interface.
            Mode::InboardCni => (self.inside(sandbox, pod).await?, Vec::new()),
        };
        drop(turn);
        let (pod, mode) = (&begun.sandbox, begun.mode());
        let (waited, took) = (begins - asked, self.clock.elapsed() - begins);
        tracing::info!(pod.uid = pod.uid, pod = %format_args!("{}/{}", pod.namespace, pod.name), capture = mode.word(), ?waited, ?took, "pod captured");
        self.agent
            .tell(&pod.uid, Happening::Captured, chosen(pod, mode, &others));
        *begun.others.lock() = others;
        *held = Some(begun);
        Ok(())
    }

    /// A sandbox of which nobody told what its pod is meant for, with what control says of that; `None` where its node has nothing to do.
    pub(super) async fn told(&self, sandbox: Sandbox) -> Result<Option<Sandbox>, SandboxError> {
        let said = self.agent.meant(&sandbox.uid).await?;
        match said.capture.as_str() {
            "inboard-cni" => Ok(Some(Sandbox {
                annotations: said.annotations,
                ..sandbox
            })),
            "none" | "inboard" => Ok(None),
            "outboard" => Err(SandboxError::Delegate),
            _ => Err(SandboxError::Mode(said.capture)),
        }
    }

    /// Puts a mesh namespace before the pod.
    async fn outboard(&self, sandbox: Sandbox, pod: NetNs) -> Result<Held, SandboxError> {
        let (network, interface) = (pod.inode(), sandbox.interface.clone());
        let captured =
            blocking(move || Ok(capture::insert(&pod, &interface, &Options::default())?)).await?;
        let mesh = captured.mesh.clone();
        let begun = self.begin(sandbox, network, captured).await;
        if begun.is_err() {
            // Its wire goes, and with it the pod's start: nothing of it is open.
            let removed = blocking(move || Ok(capture::remove(&mesh)?)).await;
            if let Err(error) = removed {
                tracing::warn!(%error, "a capture that was not finished cannot be undone");
            }
        }
        begun
    }

    /// Writes rules into the pod's own network, and writes down what was captured.
    async fn inside(&self, sandbox: Sandbox, pod: NetNs) -> Result<Held, SandboxError> {
        let dir = self.directory.join(&sandbox.container);
        self.note(&sandbox, pod.inode())?;
        let annotations = sandbox.annotations.clone();
        let (own, network) = (dir.clone(), pod.inode());
        let begun = blocking(move || {
            pod.pin(&own.join(INSIDE))?;
            let inside = Inside::begin(&pod, &annotations, &own.join(RULES))?;
            Ok((inside, Generation::of(&pod)?))
        });
        match begun.await {
            Ok(begun) => Ok(inside_of((sandbox, network), begun)),
            Err(error) => {
                clear(&dir)?;
                Err(error)
            }
        }
    }

    /// Ends a capture, if there is one: the wire at once, the proxy when it has finished.
    pub(super) async fn del(&self, container: &str) -> Result<(), SandboxError> {
        let slot = self.slots.lock().remove(container);
        let held = match slot {
            Some(slot) => slot.lock().await.take(),
            None => None,
        };
        let dir = self.directory.join(container);
        let Some(held) = held else {
            // One that was not taken up has its wire still.
            return blocking(move || {
                if let Ok(mesh) = NetNs::pinned(&dir.join(PIN)) {
                    capture::remove(&mesh)?;
                }
                Ok(clear(&dir)?)
            })
            .await;
        };
        let uid = held.sandbox.uid;
        let (captured, proxy) = match held.way {
            Way::Outboard {
                captured, proxy, ..
            } => (captured, proxy),
            // Its rules stay as long as its network: whatever runs there still does not go round them.
            Way::Inside(_) => {
                blocking(move || Ok(clear(&dir)?)).await?;
                tracing::info!(pod.uid = uid, "pod's capture ended");
                return Ok(());
            }
        };
        let mesh = captured.mesh.clone();
        let pin = dir.join(PIN);
        blocking(move || {
            capture::remove(&mesh)?;
            Ok(NetNs::unpin(&pin)?)
        })
        .await?;
        tracing::info!(pod.uid = uid, "pod's capture ended");
        let apart = self.agent.apart().cloned();
        self.tasks.spawn("sandbox's end", async move {
            proxy.stop().await;
            if let Some(Err(error)) = apart.map(|apart| apart.clear(&dir.join(PROXY))) {
                tracing::debug!(%error, "a sandbox's control group is removed later");
            }
            if let Err(error) = clear(&dir) {
                tracing::warn!(%error, "a sandbox's directory cannot be removed");
            }
        });
        Ok(())
    }

    /// Whether it is captured as it was.
    pub(super) async fn check(&self, container: &str) -> Result<(), SandboxError> {
        let slot = self.slots.lock().get(container).cloned();
        let slot = slot.ok_or(SandboxError::Unknown)?;
        let held = slot.lock().await;
        let held = held.as_ref().ok_or(SandboxError::Unknown)?;
        match held.differs(&self.processes).await? {
            Some(what) => Err(SandboxError::Drift(what)),
            None => Ok(()),
        }
    }

    /// Whether it is captured, and what is captured is the pod whose network namespace has this number.
    pub(super) async fn holds(
        &self,
        container: &str,
        network: Option<u64>,
    ) -> Result<(), SandboxError> {
        let slot = self.slots.lock().get(container).cloned();
        let slot = slot.ok_or(SandboxError::Unknown)?;
        let held = slot.lock().await;
        let held = held.as_ref().ok_or(SandboxError::Unknown)?;
        match network {
            Some(network) if network != held.network => Err(SandboxError::Other),
            _ => Ok(()),
        }
    }

    /// What is counted.
    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Says it in the pod's events.
    fn tell(&self, held: &Held, what: &str, mended: bool) {
        let (happening, end) = match mended {
            true => (Happening::Mended, "it is as it was again"),
            false => (Happening::NotMended, "that could not be mended"),
        };
        let message = format!("the pod was not captured as it was: {what}; {end}");
        self.agent.tell(&held.sandbox.uid, happening, message);
    }

    /// What is to be said of each. One that is being changed is not among them.
    pub(super) fn seen(&self) -> Vec<Seen> {
        let slots: Vec<_> = self.slots.lock().values().cloned().collect();
        let one =
            |slot: Arc<Slot<Option<Held>>>| Some(self.seen_of(slot.try_lock().ok()?.as_ref()?));
        slots.into_iter().filter_map(one).collect()
    }

    fn seen_of(&self, held: &Held) -> Seen {
        let (sandbox, history) = (&held.sandbox, held.history.lock().clone());
        let dir = self.directory.join(&sandbox.container).join(PROXY);
        let proxy = match &held.way {
            // It is a container: the kubelet says what it uses.
            Way::Inside(_) => Using::default(),
            Way::Outboard { proxy, .. } => {
                let used = self.agent.apart().map(|apart| apart.used(&dir));
                let used = used.unwrap_or_default();
                let limits = crate::agent::limits(&sandbox.annotations);
                Using {
                    ready: Some(*proxy.ready().borrow()),
                    memory: used.memory,
                    memory_limit: limits.memory,
                    cpu_micros: used.cpu_micros,
                    cpu_limit_millis: limits.cpu_millis,
                }
            }
        };
        Seen {
            namespace: sandbox.namespace.clone(),
            name: sandbox.name.clone(),
            uid: sandbox.uid.clone(),
            capture: held.mode().word(),
            interface: sandbox.interface.clone(),
            proxy,
            drift: history.drift,
            repairs: history.repairs,
            repaired: history.repaired,
        }
    }

    /// Ends every capture but these.
    pub(super) async fn only(&self, keep: &[String]) -> Result<(), SandboxError> {
        let mut found = self.found()?;
        found.extend(self.slots.lock().keys().cloned());
        found.sort();
        found.dedup();
        for container in found.iter().filter(|found| !keep.contains(found)) {
            self.del(container).await?;
        }
        Ok(())
    }

    /// Takes up what an earlier agent left. What cannot be taken up stays closed; proxies of pods that are gone are ended.
    pub(super) async fn resume(&self, apart: &Apart) -> Result<(), SandboxError> {
        let mut all = Vec::new();
        for container in self.found()? {
            let dir = self.directory.join(&container);
            let there = blocking(move || Ok(proxy_there(&dir))).await?;
            all.push((container, there));
        }
        let proxies = all.iter().filter_map(|(_, there)| there.as_ref());
        let known: Vec<i32> = proxies.map(Child::pid).collect();
        let ended = apart.end_others(&known)?;
        if ended > 0 {
            tracing::info!(ended, "proxies of pods that ended without an agent");
        }
        for (container, there) in all {
            let slot = self.slot(&container);
            let mut held = slot.lock().await;
            match self.again(&container, there).await {
                Ok(begun) => {
                    tracing::info!(pod.uid = begun.sandbox.uid, "capture taken up");
                    *held = Some(begun);
                }
                Err(error) => {
                    let reason = anyhow::Error::from(error);
                    tracing::warn!(container, reason = %format_args!("{reason:#}"), "capture of an earlier agent cannot be taken up");
                }
            }
        }
        Ok(())
    }

    /// Looks at all of them, and mends what somebody changed.
    pub(super) async fn look(&self) {
        if let Some(apart) = self.agent.apart() {
            apart.sweep(&self.directory);
        }
        let slots: Vec<_> = self.slots.lock().values().cloned().collect();
        for slot in slots {
            // One that is being changed is looked at next time.
            let Ok(held) = slot.try_lock() else { continue };
            let Some(held) = held.as_ref() else { continue };
            let looked = held.looked(&self.processes).await;
            if let Ok(None) = looked {
                held.history.lock().drift.clear();
            }
            if let Ok(Some(what)) = looked {
                let mended = held.mend(&self.processes).await.is_ok();
                let is_news = held.history.lock().found(&what, mended);
                if is_news {
                    self.tell(held, &what, mended);
                }
                if mended {
                    self.counts.mended();
                }
                maille_chassis::limited!(
                    warn,
                    pod.uid = held.sandbox.uid,
                    what,
                    mended,
                    "a pod was not captured as it was"
                );
            }
        }
    }

    /// Lets all of them be: the next agent finds them.
    pub(super) async fn leave(&self) {
        let slots: Vec<_> = std::mem::take(&mut *self.slots.lock())
            .into_values()
            .collect();
        let ends: FuturesUnordered<_> = slots
            .into_iter()
            .map(|slot| async move {
                if let Some(Held {
                    way: Way::Outboard { proxy, .. },
                    ..
                }) = slot.lock().await.take()
                {
                    proxy.leave().await;
                }
            })
            .collect();
        ends.collect::<()>().await;
    }

    fn slot(&self, container: &str) -> Arc<Slot<Option<Held>>> {
        let mut slots = self.slots.lock();
        slots.entry(container.to_owned()).or_default().clone()
    }

    /// Writes down what was captured, and starts its proxy.
    async fn begin(
        &self,
        sandbox: Sandbox,
        network: u64,
        captured: Captured,
    ) -> Result<Held, SandboxError> {
        let dir = self.directory.join(&sandbox.container);
        let begun = async {
            self.note(&sandbox, network)?;
            std::fs::create_dir(dir.join(PROXY))?;
            captured.mesh.pin(&dir.join(PIN))?;
            let mesh = captured.mesh.clone();
            let read = blocking(move || {
                let seen = Generation::of(&mesh)?.now().ok();
                let rules = maille_sys::nft::stateless(&mesh).map_err(io::Error::other)?;
                Ok((seen, rules))
            });
            let (seen, rules) = read.await?;
            std::fs::write(dir.join(RULES), rules)?;
            let held = self.proxied((sandbox, network), captured, None).await?;
            Ok(held.with_rules_seen(seen))
        };
        let begun = begun.await;
        if begun.is_err() {
            clear(&dir)?;
        }
        begun
    }

    /// Writes down what a sandbox is.
    fn note(&self, sandbox: &Sandbox, network: u64) -> Result<(), SandboxError> {
        let dir = self.directory.join(&sandbox.container);
        clear(&dir)?;
        std::fs::create_dir_all(&dir)?;
        let record = serde_json::to_vec(&sandbox).map_err(io::Error::from)?;
        std::fs::write(dir.join(RECORD), record)?;
        Ok(std::fs::write(dir.join(NETWORK), network.to_string())?)
    }

    async fn again(&self, container: &str, there: Option<Child>) -> Result<Held, SandboxError> {
        let dir = self.directory.join(container);
        let record = std::fs::read(dir.join(RECORD))?;
        let sandbox: Sandbox = serde_json::from_slice(&record).map_err(io::Error::from)?;
        let network = std::fs::read_to_string(dir.join(NETWORK))?;
        let network = network.parse().map_err(io::Error::other)?;
        if Mode::of(&sandbox.annotations)? == Mode::InboardCni {
            let annotations = sandbox.annotations.clone();
            let again = blocking(move || {
                let pod = NetNs::pinned(&dir.join(INSIDE))?;
                let generation = Generation::of(&pod)?;
                let inside = Inside::again(pod, &annotations, &dir.join(RULES))?;
                Ok((inside, generation))
            });
            return Ok(inside_of((sandbox, network), again.await?));
        }
        let (captured, there) = blocking(move || {
            let mesh = NetNs::pinned(&dir.join(PIN))?;
            let listeners = there.as_ref().map(listeners_of);
            if let Some(Ok(listeners)) = listeners {
                return Ok((Captured { mesh, listeners }, there));
            }
            // It is ended before others listen in its place.
            drop(there);
            Ok((capture::resume(mesh, &Options::default())?, None))
        })
        .await?;
        self.proxied((sandbox, network), captured, there).await
    }

    async fn proxied(
        &self,
        (sandbox, network): (Sandbox, u64),
        captured: Captured,
        there: Option<Child>,
    ) -> Result<Held, SandboxError> {
        let dir = self.directory.join(&sandbox.container).join(PROXY);
        let captured = Arc::new(captured);
        let (uid, annotations) = (&sandbox.uid, &sandbox.annotations);
        let rules = self.directory.join(&sandbox.container).join(RULES);
        self.processes
            .rules()
            .recall(uid, std::fs::read_to_string(rules)?);
        let mesh = captured.mesh.clone();
        let own = self.directory.join(&sandbox.container);
        let (generation, network_then) = blocking(move || {
            let generation = Generation::of(&mesh)?;
            Ok((generation, Arc::new(Network::again(&mesh, &own)?)))
        })
        .await?;
        let both = (captured.clone(), there);
        let proxy = self.agent.keep(uid, annotations, dir, both).await;
        let proxy = proxy.map_err(|error| SandboxError::Proxy(io::Error::other(error)))?;
        let way = Way::Outboard {
            captured,
            mesh: network_then,
            proxy,
        };
        Ok(Held::new((sandbox, network), way, generation))
    }

    /// What has a directory.
    fn found(&self) -> io::Result<Vec<String>> {
        let entries = std::fs::read_dir(&self.directory)?;
        entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }
}

/// The proxy that an earlier agent started for a sandbox, where it is there still. Nobody else is in the mesh namespace, and whoever is
/// not in it is left alone. Blocks.
fn proxy_there(dir: &Path) -> Option<Child> {
    let found = apart::find(&dir.join(PROXY))?;
    let mesh = NetNs::pinned(&dir.join(PIN));
    if found
        .net()
        .is_ok_and(|net| mesh.is_ok_and(|mesh| net == mesh))
    {
        return Some(found);
    }
    found.leave();
    None
}

/// One that is captured from inside.
fn inside_of(of: (Sandbox, u64), (inside, generation): (Inside, Generation)) -> Held {
    Held::new(of, Way::Inside(Arc::new(inside)), generation)
}

/// How a pod is captured, and who chose that, for its events.
fn chosen(pod: &Sandbox, mode: Mode, others: &[String]) -> String {
    let how = match mode {
        Mode::Outboard => "from outside, by a proxy of its node (outboard)",
        Mode::InboardCni => {
            "inside, by rules of its node for the proxy that is in it (inboard-cni)"
        }
    };
    let by = match pod.annotations.get(CAPTURE_BY).map(String::as_str) {
        Some("pod") => "the pod's annotation maille.io/capture",
        Some("namespace") => "its namespace's label maille.io/capture",
        Some("sandbox") => "what the pod runs on",
        _ => "the installation",
    };
    let but = match others {
        [] => String::new(),
        others => format!(", but for its interfaces {}", others.join(", ")),
    };
    format!("the pod is captured {how}{but}, as {by} says; another capture takes another pod")
}

/// Removes a sandbox's directory, where it is.
fn clear(dir: &Path) -> io::Result<()> {
    NetNs::unpin(&dir.join(PIN))?;
    NetNs::unpin(&dir.join(INSIDE))?;
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
