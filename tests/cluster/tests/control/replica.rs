// SPDX-License-Identifier: Apache-2.0
//! A replica of control in the test's own process, on whatever network the calling thread is.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use maille_chassis::drain::Drain;
use maille_chassis::tasks::Tasks;
use maille_control::hub::{Hub, Phase};
use maille_control::run;
use maille_control::settings::{Kubernetes, Settings, Source};
use tokio::time::timeout;

use crate::DEADLINE;

/// Where the API server, and everybody else in the cluster, reaches the control plane's machine.
const ADDRESS: &str = "10.77.0.1";

/// A control that serves.
pub(crate) struct Replica {
    pub(crate) hub: Arc<Hub>,
    pub(crate) grpc: SocketAddr,
    tasks: Tasks,
    drain: Drain,
}

impl Replica {
    /// Starts the replica `name` on ports that begin at `port`, and waits until it serves.
    pub(crate) async fn start(kubeconfig: &Path, name: &str, port: u16) -> Self {
        let at = |offset: u16| SocketAddr::new(ADDRESS.parse().unwrap(), port + offset);
        let place = Kubernetes {
            kubeconfig: Some(kubeconfig.to_owned()),
            namespace: Some("maille-system".parse().unwrap()),
            pod: Some(name.to_owned()),
            image_prefix: "maille.io".to_owned(),
            capture: None,
            anchors_file: None,
            grpc: at(0),
            https: at(1),
            health: at(2),
        };
        let settings = Settings {
            source: Source::Kubernetes(place.clone()),
            trust_domain: "cluster.local".parse().unwrap(),
            leaf_lifetime: Duration::from_secs(3600),
            cluster_ranges: Vec::new(),
        };
        let (tasks, drain) = (Tasks::new(), Drain::new());
        let running = run::cluster::start(&settings, &place, &tasks, &drain);
        let hub = running.await.unwrap().hub;
        let replica = Self {
            hub,
            grpc: at(0),
            tasks,
            drain,
        };
        let mut phase = replica.hub.phase();
        let serving = phase.wait_for(|phase| *phase == Phase::Serving);
        timeout(DEADLINE, serving).await.unwrap().unwrap();
        replica
    }

    /// Waits until what it knows is so.
    pub(crate) async fn until(&self, what: &str, is: impl Fn(&Hub) -> bool) {
        let mut changes = self.hub.changes();
        let known = async {
            while !is(&self.hub) {
                // Having missed some is as good as having heard one.
                drop(changes.recv().await);
            }
        };
        timeout(DEADLINE, known)
            .await
            .unwrap_or_else(|_| panic!("{what}: not in time"));
    }

    /// Ends it as a kubelet would.
    pub(crate) async fn stop(mut self) {
        self.drain.finish(DEADLINE, std::future::pending()).await;
        let joined = timeout(DEADLINE, self.tasks.joined()).await;
        let left = self.tasks.running();
        joined.unwrap_or_else(|_| panic!("{left} of its tasks do not end"));
    }
}
