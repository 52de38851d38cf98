// SPDX-License-Identifier: Apache-2.0
//! Proxies of captured pods, and their way to control. What is here never sees a key or a byte of tenants' traffic.
//!
//! Read `agent/proxy.rs` for a proxy's life, `agent/attest.rs` for who may ask as whom, `agent/relay.rs` for what passes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use maille_chassis::clock::Clock;
use maille_chassis::tasks::Tasks;
use maille_manifest::marks::{ACCESS_LOG, INSIDE};
use maille_manifest::objects::Pod;
use tonic::transport::Channel;

use crate::capture::Captured;
use crate::processes::Processes;

mod attest;
mod proxy;
mod relay;

pub(crate) use proxy::Proxy;
use proxy::{Keeper, ProxyError};

/// Starts proxies.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    program: PathBuf,
    state_dir: PathBuf,
    /// Passed on to proxies: their log filter and format.
    settings: Vec<(String, String)>,
    control: Channel,
    processes: Arc<Processes>,
    tasks: Tasks,
    clock: Clock,
}

impl Agent {
    /// For the control that listens, or will, on `state_dir/control.sock`.
    pub(crate) fn new(
        bin_dir: &Path,
        state_dir: &Path,
        settings: Vec<(String, String)>,
        processes: Arc<Processes>,
        tasks: Tasks,
        clock: Clock,
    ) -> Self {
        Self {
            program: bin_dir.join("maille-proxy"),
            state_dir: state_dir.to_owned(),
            settings,
            control: maille_chassis::grpc::channel(&state_dir.join("control.sock")),
            processes,
            tasks,
            clock,
        }
    }

    /// Starts the proxy of `pod`, whose directory is `dir`, in its mesh namespace.
    pub(crate) async fn start(
        &self,
        pod: &Pod,
        dir: PathBuf,
        captured: Arc<Captured>,
    ) -> Result<Proxy, ProxyError> {
        let uid = pod.metadata.uid.clone();
        let mut agent = self.clone();
        for (annotation, setting) in [(ACCESS_LOG, "MAILLE_ACCESS_LOG"), (INSIDE, "MAILLE_INSIDE")]
        {
            if let Some(value) = pod.metadata.annotations.get(annotation) {
                agent.settings.push((setting.to_owned(), value.clone()));
            }
        }
        let (processes, mesh, of) = (self.processes.clone(), captured.mesh.clone(), uid.clone());
        self.tasks.spawn("rules", async move {
            // What its rules are, for whoever asks later whether they still are. A pod does not wait for it.
            let read = move || processes.rules().remember(&of, &mesh);
            if tokio::task::spawn_blocking(read).await.is_err() {
                tracing::debug!("a pod's rules were not read");
            }
        });
        Keeper::start(agent, uid, dir, captured).await
    }
}
