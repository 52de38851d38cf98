// SPDX-License-Identifier: Apache-2.0
//! The life of one pod: network, capture, proxy, containers; and the same backwards.
//!
//! A pod meant for the mesh has its containers started only when its namespace is captured and its proxy is ready: there is no
//! moment in which it could talk past it. What fails is undone, said in the status, and tried again, ever more slowly. A pod whose
//! containers have ended for good gives everything back but its place among the pods, until somebody takes that away.
//! Read `container.rs` for one container, `status.rs` for what follows from all.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use maille_chassis::clock::Clock;
use maille_chassis::tasks::Task;
use maille_manifest::objects::{Pod, RestartPolicy};
use tokio::sync::{mpsc, watch};

use super::container::{Farewell, Running};
use super::status::{self, ContainerState, Cut, Parts, Role};
use super::{Readiness, Stop, Surroundings, files, volumes};
use crate::agent::Proxy;
use crate::backoff::Backoff;
use crate::capture::Captured;
use crate::cluster::Capture;
use crate::data::Data;
use crate::host::NODE;
use crate::host::Sandbox;
use crate::network::Attached;

/// How long a pod that was taken out of its services keeps serving: control must have seen it, and every proxy must have heard of it.
/// Control acts within milliseconds; nobody acknowledges, so this is the bound.
const PROPAGATION: Duration = Duration::from_secs(1);

/// The longest grace of a pod when everything ends.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// One pod's life.
#[derive(Debug)]
pub(super) struct Life {
    around: Arc<Surroundings>,
    pod: Pod,
    capture: Capture,
    orders: watch::Receiver<Stop>,
    ready: Readiness,
    parts: Parts,
    /// What its volumes are filled from.
    data: watch::Receiver<Arc<Data>>,
}

/// What a pod has while it runs, in the order in which it ends.
#[derive(Debug, Default)]
struct Possessions {
    /// In the order in which they were started.
    containers: Vec<Contained>,
    proxy: Option<Proxy>,
    sandbox: Option<Arc<Sandbox>>,
    network: Option<Attached>,
}

/// A container's task, and how it is told to end.
#[derive(Debug)]
struct Contained {
    role: Role,
    task: Task,
    stop: watch::Sender<Option<Farewell>>,
}

/// Why a pod is served no more.
enum Served {
    /// It is to end.
    Ordered(Stop),
    /// It has ended by itself, for good.
    Finished,
}

/// Containers tell how they are: which one, and how.
type Tell = mpsc::Sender<(usize, ContainerState)>;

impl Life {
    pub(super) fn new(
        around: Arc<Surroundings>,
        pod: Pod,
        capture: Capture,
        orders: watch::Receiver<Stop>,
        ready: Readiness,
    ) -> Self {
        Self {
            data: around.cluster.data_changes(),
            around,
            pod,
            capture,
            orders,
            ready,
            parts: Parts::default(),
        }
    }

    /// From nothing to nothing.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::pod();
        self.parts.since = Some(self.around.clock.wall());
        loop {
            let mut has = Possessions::default();
            let (tell, mut heard) = mpsc::channel(16);
            let began = self.around.clock.elapsed();
            let Err(error) = self.begin(&mut has).await else {
                let served = self.serve(&mut has, tell, &mut heard).await;
                let stop = match served {
                    Served::Ordered(stop) => stop,
                    Served::Finished => {
                        self.finish(&mut has, &mut heard).await;
                        ordered(&mut self.orders).await
                    }
                };
                // From here on nobody listens to containers that end.
                heard.close();
                return self.end(has, stop).await;
            };
            let wait = backoff.after(self.around.clock.elapsed().saturating_sub(began));
            self.parts = Parts {
                failed: format!("{error:#}; tried again in {} s", wait.as_secs()),
                since: self.parts.since,
                ..Parts::default()
            };
            tracing::error!(pod = %self.pod.metadata.name, error = %format_args!("{error:#}"), ?wait, "pod cannot be set up");
            self.publish();
            self.give_back(has).await;
            let mut orders = self.orders.clone();
            tokio::select! {
                stop = ordered(&mut orders) => return self.end(Possessions::default(), stop).await,
                () = self.around.clock.wait(wait) => {}
            }
        }
    }

    fn dir(&self) -> PathBuf {
        self.around.cluster.pod_dir(&self.pod.metadata.uid)
    }

    async fn begin(&mut self, has: &mut Possessions) -> anyhow::Result<()> {
        use anyhow::Context as _;
        let dir = self.dir();
        std::fs::create_dir_all(&dir).context("its directory cannot be made")?;
        if self.capture == Capture::Outboard {
            self.parts.proxy_ready = Some(false);
            "not started".clone_into(&mut self.parts.proxy_message);
        }
        let captured = self.begin_network(has).await?;
        self.publish();
        files::write(&dir, &self.pod).context("its files cannot be written")?;
        let places = volumes::Places {
            pod: &dir,
            claims: &self.around.claims,
        };
        let data = self.data.borrow_and_update().clone();
        volumes::make(places, &self.pod, &data, !self.around.alias)
            .context("its volumes cannot be made")?;
        self.parts.failed.clear();
        if let (Some(agent), Some(captured)) = (&self.around.agent, captured) {
            let proxy = agent
                .start(
                    &self.pod.metadata.uid,
                    &self.pod.metadata.annotations,
                    dir,
                    captured,
                )
                .await
                .context("its proxy cannot be started")?;
            let mut ready = proxy.ready();
            has.proxy = Some(proxy);
            loop {
                self.parts.proxy_message = self.explain_proxy();
                let second = self.around.clock.wait(Duration::from_secs(1));
                tokio::select! {
                    done = ready.wait_for(|ready| *ready) => if done.is_ok() { break },
                    _ = self.orders.wait_for(|order| *order != Stop::No) => return Ok(()),
                    () = second => {}
                }
                self.publish();
            }
            self.parts.proxy_ready = Some(true);
        }
        self.parts.expect(&self.pod.spec);
        self.publish();
        Ok(())
    }

    /// A network of its own, captured where it is to be; or the node's.
    async fn begin_network(
        &mut self,
        has: &mut Possessions,
    ) -> anyhow::Result<Option<Arc<Captured>>> {
        use anyhow::Context as _;
        let name = files::hostname(&self.pod);
        if self.pod.spec.host_network {
            let sandbox = Sandbox::of_node(&name).context("the node's network cannot be had")?;
            self.parts.addresses = NODE.to_vec();
            has.sandbox = Some(Arc::new(sandbox));
            return Ok(None);
        }
        let sandbox = Sandbox::create(&name).context("its namespaces cannot be made")?;
        self.settings(&sandbox)?;
        let network = self
            .around
            .network
            .attach(sandbox.net(), self.capture)
            .await
            .context("its network cannot be made")?;
        self.parts.addresses = network.addresses().to_vec();
        let captured = has.network.insert(network).captured();
        has.sandbox = Some(Arc::new(sandbox));
        Ok(captured)
    }

    fn explain_proxy(&self) -> String {
        match crate::logs::last_line(&self.dir().join("proxy.log")) {
            Some(line) => format!("not ready; its last line: {line}"),
            None => "not ready, and it has not said why".to_owned(),
        }
    }

    /// The kernel's settings that the manifest asks for, and one that every container runtime makes: low ports are nobody's privilege.
    fn settings(&self, sandbox: &Sandbox) -> anyhow::Result<()> {
        use anyhow::Context as _;
        let security = self.pod.spec.security_context.clone().unwrap_or_default();
        let said = security.sysctls.into_iter();
        let low = (
            "net.ipv4.ip_unprivileged_port_start".to_owned(),
            "0".to_owned(),
        );
        let all = std::iter::once(low).chain(said.map(|one| (one.name, one.value)));
        for (name, value) in all {
            let path = name.replace('.', "/");
            let set = sandbox.net().sysctl(&path, &value);
            set.with_context(|| format!("{name} cannot be set to {value:?}"))?;
        }
        Ok(())
    }

    /// Starts the containers that may be started now: one of init after the other, then all that the pod is for.
    fn start_containers(&mut self, has: &mut Possessions, tell: &Tell) {
        let Some(sandbox) = &has.sandbox else { return };
        let pod = Arc::new(self.pod.clone());
        let all: Vec<_> = self.pod.spec.all_containers().cloned().collect();
        while let Some(container) = all.get(has.containers.len()) {
            let index = has.containers.len();
            let before = self.parts.containers.get(..index).unwrap_or_default();
            let Some(part) = self.parts.containers.get(index) else {
                return;
            };
            if !before.iter().all(status::Part::lets_next) {
                return;
            }
            let role = part.role;
            let policy = match (role, self.pod.spec.restarts()) {
                (Role::Sidecar, _) => RestartPolicy::Always,
                (Role::Init, RestartPolicy::Always) => RestartPolicy::OnFailure,
                (_, policy) => policy,
            };
            let (stop, orders) = watch::channel(None);
            let running = Running {
                around: self.around.clone(),
                sandbox: sandbox.clone(),
                pod: pod.clone(),
                container: container.clone(),
                index,
                policy,
                tell: tell.clone(),
                stop: orders,
                restarts: 0,
            };
            let task = self.around.tasks.spawn("container", running.run());
            has.containers.push(Contained { role, task, stop });
        }
    }

    /// Until it is to end, or has ended by itself.
    async fn serve(
        &mut self,
        has: &mut Possessions,
        tell: Tell,
        heard: &mut mpsc::Receiver<(usize, ContainerState)>,
    ) -> Served {
        let mut proxy = has.proxy.as_ref().map(Proxy::ready);
        let mut orders = self.orders.clone();
        let mut data = self.data.clone();
        let deadline = self.pod.spec.active_deadline_seconds;
        let late = self.around.clock.now() + Duration::from_secs(u64::from(deadline.unwrap_or(0)));
        loop {
            self.start_containers(has, &tell);
            tokio::select! {
                order = ordered(&mut orders) => return Served::Ordered(order),
                Some((index, state)) = heard.recv() => {
                    if let Some(part) = self.parts.containers.get_mut(index) {
                        part.state = state;
                    }
                }
                ready = changed(&mut proxy) => {
                    self.parts.proxy_ready = Some(ready);
                    self.parts.proxy_message = self.explain_proxy();
                }
                Ok(()) = data.changed() => {
                    let now = data.borrow_and_update().clone();
                    self.refresh(&now);
                    continue;
                }
                () = self.around.clock.until(late), if deadline.is_some() => {
                    self.parts.cut = deadline.map(Cut::Deadline);
                }
            }
            if self.parts.outcome().is_some() {
                return Served::Finished;
            }
            self.publish();
        }
    }

    /// Its volumes as `data` is now. What containers have in their environment stays as it was when they started.
    fn refresh(&self, data: &Data) {
        let changed = volumes::refresh(&self.dir(), &self.pod, data, !self.around.alias);
        if !changed.is_empty() {
            tracing::info!(pod = %self.pod.metadata.name, volumes = ?changed, "volumes have other files now");
        }
    }

    /// Ends what still runs of a pod that has ended for good, and gives everything back.
    async fn finish(
        &mut self,
        has: &mut Possessions,
        heard: &mut mpsc::Receiver<(usize, ContainerState)>,
    ) {
        let farewell = Farewell {
            stop: Stop::Deleted,
            grace: self.grace(),
        };
        // Those that end now have nothing to say that matters; but the last words of those that ended before are heard.
        let containers = std::mem::take(&mut has.containers);
        let orders = self.orders.clone();
        let stopped = stop_containers(containers, farewell, orders, self.around.clock);
        tokio::pin!(stopped);
        loop {
            tokio::select! {
                () = &mut stopped => break,
                Some((index, state)) = heard.recv() => {
                    if let Some(part) = self.parts.containers.get_mut(index) {
                        part.state = state;
                    }
                }
            }
        }
        self.give_back(std::mem::take(has)).await;
        self.publish();
        let ended = self.parts.outcome();
        tracing::info!(pod = %self.pod.metadata.name, ?ended, "pod has ended");
    }

    fn grace(&self) -> Duration {
        Duration::from_secs(u64::from(self.pod.spec.grace_seconds()))
    }

    /// Not ready, then the application, then the proxy, then the network.
    async fn end(&mut self, mut has: Possessions, mut stop: Stop) {
        self.parts.stopping = true;
        self.pod.metadata.deletion_timestamp = Some(status::timestamp(self.around.clock.wall()));
        self.publish();
        let mut grace = self.grace();
        if self.around.without.drain || has.containers.is_empty() {
            grace = Duration::ZERO;
        } else if stop == Stop::Deleted {
            let shutdown = self.orders.wait_for(|order| *order == Stop::Shutdown);
            // Either is right: clients have moved, or there will be none.
            let _ = tokio::time::timeout(PROPAGATION, shutdown).await;
        }
        if *self.orders.borrow() == Stop::Shutdown {
            stop = Stop::Shutdown;
            grace = grace.min(SHUTDOWN_GRACE);
        }
        let containers = std::mem::take(&mut has.containers);
        let (farewell, orders) = (Farewell { stop, grace }, self.orders.clone());
        stop_containers(containers, farewell, orders, self.around.clock).await;
        self.give_back(has).await;
        if let Err(error) = self.around.cluster.remove(&self.pod.metadata.uid) {
            tracing::warn!(pod = %self.pod.metadata.name, %error, "its directory cannot be removed");
        }
    }

    /// The proxy, then the network; containers have ended, or were never started.
    async fn give_back(&self, has: Possessions) {
        if let Some(proxy) = has.proxy {
            proxy.stop().await;
        }
        drop(has.sandbox);
        volumes::unmake(&self.dir(), &self.pod);
        if let Some(network) = has.network {
            self.around.network.detach(network).await;
        }
    }

    /// Tells everybody how it is, where that changed.
    fn publish(&mut self) {
        let status = status::of(&self.parts);
        let said = self.pod.metadata.deletion_timestamp.is_some();
        if status == self.pod.status && !said {
            return;
        }
        self.pod.status = status;
        if let Err(error) = self.around.cluster.publish(&self.pod) {
            tracing::error!(pod = %self.pod.metadata.name, %error, "its status cannot be written");
        }
        let outcome = self.parts.outcome();
        self.ready
            .tell(self.pod.is_ready(), outcome, self.around.clock.elapsed());
    }
}

/// Ends containers: what the pod is for first, all at once; then sidecars, the last one first, within what is left of the grace,
/// which becomes short when everything ends meanwhile.
async fn stop_containers(
    all: Vec<Contained>,
    mut farewell: Farewell,
    mut orders: watch::Receiver<Stop>,
    clock: Clock,
) {
    let (sidecars, mains): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|one| one.role == Role::Sidecar);
    let mut until = clock.elapsed() + farewell.grace;
    let groups = std::iter::once(mains).chain(sidecars.into_iter().rev().map(|one| vec![one]));
    for group in groups {
        let parts = group.into_iter().map(|one| (one.stop, one.task.ended()));
        let (stops, tasks): (Vec<_>, Vec<_>) = parts.unzip();
        let mut ended = std::pin::pin!(join_all(tasks));
        farewell.grace = until.saturating_sub(clock.elapsed());
        for stop in &stops {
            stop.send_replace(Some(farewell));
        }
        tokio::select! {
            _ = &mut ended => continue,
            () = everything_ends(&mut orders), if farewell.stop != Stop::Shutdown => {}
        }
        until = until.min(clock.elapsed() + SHUTDOWN_GRACE);
        farewell = Farewell {
            stop: Stop::Shutdown,
            grace: until.saturating_sub(clock.elapsed()),
        };
        for stop in &stops {
            stop.send_replace(Some(farewell));
        }
        ended.await;
    }
}

/// Waits until everything is to end; for ever, where nobody says so any more.
async fn everything_ends(orders: &mut watch::Receiver<Stop>) {
    let heard = orders.wait_for(|order| *order == Stop::Shutdown);
    let is_heard = heard.await.is_ok();
    if !is_heard {
        std::future::pending().await
    }
}

/// Waits until the pod is to end, and says how.
async fn ordered(orders: &mut watch::Receiver<Stop>) -> Stop {
    let order = orders.wait_for(|order| *order != Stop::No).await;
    order.map_or(Stop::Shutdown, |order| *order)
}

/// The next change of a proxy's readiness; never, without a proxy.
async fn changed(proxy: &mut Option<watch::Receiver<bool>>) -> bool {
    if let Some(ready) = proxy
        && ready.changed().await.is_ok()
    {
        return *ready.borrow_and_update();
    }
    std::future::pending().await
}
