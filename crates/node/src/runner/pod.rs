// SPDX-License-Identifier: Apache-2.0
//! The life of one pod: network, capture, proxy, containers; and the same backwards.
//!
//! A pod meant for the mesh has its containers started only when its namespace is captured and its proxy is ready: there is no
//! moment in which it could talk past it. What fails is undone, said in the status, and tried again, ever more slowly.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use maille_chassis::tasks::Task;
use maille_manifest::objects::Pod;
use tokio::sync::{mpsc, watch};

use super::container::{Farewell, Running};
use super::status::{self, ContainerState, Parts};
use super::{Readiness, Stop, Surroundings, files};
use crate::agent::Proxy;
use crate::backoff::Backoff;
use crate::capture::Captured;
use crate::cluster::Capture;
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
}

/// What a pod has while it runs, in the order in which it ends.
#[derive(Debug, Default)]
struct Possessions {
    containers: Vec<Task>,
    stop_containers: Option<watch::Sender<Option<Farewell>>>,
    proxy: Option<Proxy>,
    sandbox: Option<Arc<Sandbox>>,
    network: Option<Attached>,
}

impl Life {
    pub(super) fn new(
        around: Arc<Surroundings>,
        pod: Pod,
        capture: Capture,
        orders: watch::Receiver<Stop>,
        ready: Readiness,
    ) -> Self {
        Self {
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
        let mut backoff = Backoff::container();
        loop {
            let mut has = Possessions::default();
            let (tell, mut heard) = mpsc::channel(16);
            let began = self.around.clock.elapsed();
            let Err(error) = self.begin(&mut has, tell).await else {
                let stop = self.serve(&mut has, &mut heard).await;
                // From here on nobody listens to containers that end.
                heard.close();
                return self.end(has, stop).await;
            };
            let wait = backoff.after(self.around.clock.elapsed().saturating_sub(began));
            self.parts = Parts {
                failed: format!("{error:#}; tried again in {} s", wait.as_secs()),
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

    async fn begin(
        &mut self,
        has: &mut Possessions,
        tell: mpsc::Sender<(usize, ContainerState)>,
    ) -> anyhow::Result<()> {
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
        files::volumes(&dir, &self.pod, &self.around.cluster.maps())
            .context("its volumes cannot be made")?;
        self.parts.failed.clear();
        if let (Some(agent), Some(captured)) = (&self.around.agent, captured) {
            let proxy = agent
                .start(&self.pod, dir, captured)
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
        self.start_containers(has, &tell);
        Ok(())
    }

    /// A network of its own, captured where it is to be; or the node's.
    async fn begin_network(
        &mut self,
        has: &mut Possessions,
    ) -> anyhow::Result<Option<Arc<Captured>>> {
        use anyhow::Context as _;
        let name = self.pod.metadata.name.as_str();
        if self.pod.spec.host_network {
            let sandbox = Sandbox::of_node(name).context("the node's network cannot be had")?;
            self.parts.addresses = NODE.to_vec();
            has.sandbox = Some(Arc::new(sandbox));
            return Ok(None);
        }
        let sandbox = Sandbox::create(name).context("its namespaces cannot be made")?;
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

    fn start_containers(
        &mut self,
        has: &mut Possessions,
        tell: &mpsc::Sender<(usize, ContainerState)>,
    ) {
        let (stop, orders) = watch::channel(None);
        let Some(sandbox) = &has.sandbox else { return };
        let pod = Arc::new(self.pod.clone());
        for (index, container) in self.pod.spec.containers.iter().enumerate() {
            let message = "not started".to_owned();
            let state = ContainerState {
                message,
                ..ContainerState::default()
            };
            self.parts.containers.push((container.name.clone(), state));
            let running = Running {
                around: self.around.clone(),
                sandbox: sandbox.clone(),
                pod: pod.clone(),
                index,
                tell: tell.clone(),
                stop: orders.clone(),
            };
            has.containers
                .push(self.around.tasks.spawn("container", running.run()));
        }
        has.stop_containers = Some(stop);
    }

    /// Until it is to end.
    async fn serve(
        &mut self,
        has: &mut Possessions,
        heard: &mut mpsc::Receiver<(usize, ContainerState)>,
    ) -> Stop {
        let mut proxy = has.proxy.as_ref().map(Proxy::ready);
        let mut orders = self.orders.clone();
        loop {
            tokio::select! {
                order = ordered(&mut orders) => return order,
                Some((index, state)) = heard.recv() => {
                    if let Some((_, known)) = self.parts.containers.get_mut(index) {
                        *known = state;
                    }
                }
                ready = changed(&mut proxy) => {
                    self.parts.proxy_ready = Some(ready);
                    self.parts.proxy_message = self.explain_proxy();
                }
            }
            self.publish();
        }
    }

    /// Not ready, then the application, then the proxy, then the network.
    async fn end(&mut self, mut has: Possessions, stop: Stop) {
        self.parts.stopping = true;
        self.pod.metadata.deletion_timestamp = Some(status::timestamp(self.around.clock.wall()));
        self.publish();
        let mut grace = Duration::from_secs(u64::from(self.pod.spec.grace_seconds()));
        if self.around.without.drain {
            grace = Duration::ZERO;
        } else if stop == Stop::Deleted {
            let shutdown = self.orders.wait_for(|order| *order == Stop::Shutdown);
            // Either is right: clients have moved, or there will be none.
            let _ = tokio::time::timeout(PROPAGATION, shutdown).await;
        } else {
            grace = grace.min(SHUTDOWN_GRACE);
        }
        if let Some(sender) = &has.stop_containers {
            sender.send_replace(Some(Farewell { stop, grace }));
        }
        for container in std::mem::take(&mut has.containers) {
            container.ended().await;
        }
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
        self.ready
            .tell(self.pod.is_ready(), self.around.clock.elapsed());
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
