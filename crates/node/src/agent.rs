// SPDX-License-Identifier: Apache-2.0
//! Proxies of captured pods, and their way to control. What is here never sees a key or a byte of tenants' traffic.
//!
//! Read `agent/proxy.rs` for a proxy's life, `agent/attest.rs` for who may ask as whom, `agent/relay.rs` for what passes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use maille_chassis::clock::Clock;
use maille_chassis::tasks::Tasks;
use maille_identity::Credentials;
use maille_manifest::marks::{
    ACCESS_LOG, CPU_LIMIT, INSIDE, LOG_LEVEL, MEMORY_LIMIT, ROOM, ROOM_POD,
};
use maille_manifest::objects::Quantity;
use maille_reach::direct::Direct;
use maille_sys::cgroup::Limits;
use maille_wire::v1::nodes_client::NodesClient;
use maille_wire::v1::{Happening, MeantRequest, MeantResponse, TellRequest};
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;

use crate::capture::Captured;
use crate::host::Child;
use crate::processes::Processes;

/// Proxies that go on without their agent.
pub(crate) mod apart;
mod attest;
mod proxy;
mod relay;

use apart::Apart;
pub(crate) use proxy::Proxy;
use proxy::{Keeper, ProxyError};

/// Starts proxies.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    program: PathBuf,
    state_dir: PathBuf,
    /// Passed on to proxies: their log filter and format.
    settings: Vec<(String, String)>,
    control: Control,
    /// Where proxies are that go on when this process ends; without it they end with it.
    apart: Option<Apart>,
    /// How much a proxy there may use.
    limits: Limits,
    /// Whether it is counted to its pod.
    within: bool,
    processes: Arc<Processes>,
    tasks: Tasks,
    clock: Clock,
}

/// How long control may take to hear of an event.
const TELL: Duration = Duration::from_secs(5);
/// How long it may take to say what a pod is meant for: it waits a moment itself for a pod that it has not heard of yet.
const MEANT: Duration = Duration::from_secs(10);
/// Bytes of memory that a proxy may use unless its pod's annotation says otherwise: as much as one in a pod.
const MEMORY: u64 = 256 << 20;
/// The same in thousandths of a processor.
const CPU_MILLIS: u64 = 1000;
/// Its processes and threads: it is one process of a few.
const PIDS: u32 = 64;

/// Why control did not say what a pod is meant for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MeantError {
    #[error("uid {0:?} cannot be said to control")]
    Uid(String),
    #[error("control did not answer in time")]
    Late,
    #[error("control did not say it: {0}")]
    Refused(Box<tonic::Status>),
}

/// How control is reached.
#[derive(Clone, Debug)]
pub(crate) enum Control {
    /// On a socket of this machine, where it believes whoever can open it.
    Beside(Channel),
    /// In the cluster: with the agent's own certificate, a connection for each pod.
    Afar(Box<Direct>, watch::Receiver<Option<Credentials>>),
}

impl Control {
    /// The one that listens, or will, on `state_dir/control.sock`.
    pub(crate) fn beside(state_dir: &Path) -> Self {
        Self::Beside(maille_chassis::grpc::channel(
            &state_dir.join("control.sock"),
        ))
    }

    fn channel(&self) -> Channel {
        match self {
            Self::Beside(channel) => channel.clone(),
            Self::Afar(direct, own) => direct.channel(own.clone()),
        }
    }
}

impl Agent {
    /// One whose proxies run `program` and reach `control`.
    pub(crate) fn new(
        (program, state_dir): (&Path, &Path),
        control: Control,
        settings: Vec<(String, String)>,
        processes: Arc<Processes>,
        tasks: Tasks,
        clock: Clock,
    ) -> Self {
        Self {
            program: program.to_owned(),
            state_dir: state_dir.to_owned(),
            settings,
            control,
            apart: None,
            limits: Limits::default(),
            within: false,
            processes,
            tasks,
            clock,
        }
    }

    /// The same, whose proxies go on when this process ends, in control groups apart from its own.
    pub(crate) fn with_proxies_apart(self, apart: Apart) -> Self {
        Self {
            apart: Some(apart),
            ..self
        }
    }

    /// Tells control what happened to the capture of the pod `uid`, for its events. Nobody waits for it; what control does not take is lost.
    pub(crate) fn tell(&self, uid: &str, what: Happening, message: String) {
        let Ok(of) = uid.parse::<MetadataValue<_>>() else {
            return;
        };
        let mut client = NodesClient::new(self.control.channel());
        self.tasks.spawn("event", async move {
            let mut request = tonic::Request::new(TellRequest {
                what: what.into(),
                message,
            });
            request.metadata_mut().insert(relay::WORKLOAD, of);
            match timeout(TELL, client.tell(request)).await {
                Ok(Ok(_)) => {}
                Ok(Err(status)) => {
                    maille_chassis::limited!(info, %status, "an event of a pod was not taken");
                }
                Err(_) => tracing::info!("control took no event of a pod in time"),
            }
        });
    }

    /// What admission wrote on the pod `uid`, by control.
    pub(crate) async fn meant(&self, uid: &str) -> Result<MeantResponse, MeantError> {
        let of = uid.parse::<MetadataValue<_>>();
        let of = of.map_err(|_| MeantError::Uid(uid.to_owned()))?;
        let mut client = NodesClient::new(self.control.channel());
        let mut request = tonic::Request::new(MeantRequest {});
        request.metadata_mut().insert(relay::WORKLOAD, of);
        let said = timeout(MEANT, client.meant(request)).await;
        let said = said.map_err(|_| MeantError::Late)?;
        let said = said.map_err(|status| MeantError::Refused(Box::new(status)))?;
        Ok(said.into_inner())
    }

    /// Where proxies are that outlive this process, if they do.
    pub(crate) const fn apart(&self) -> Option<&Apart> {
        self.apart.as_ref()
    }

    /// Starts the proxy of the pod `uid` with these annotations, whose directory is `dir`, in its mesh namespace.
    pub(crate) async fn start(
        &self,
        uid: &str,
        annotations: &BTreeMap<String, String>,
        dir: PathBuf,
        captured: Arc<Captured>,
    ) -> Result<Proxy, ProxyError> {
        self.keep(uid, annotations, dir, (captured, None)).await
    }

    /// The same where the proxy that an earlier agent started is there still.
    pub(crate) async fn keep(
        &self,
        uid: &str,
        annotations: &BTreeMap<String, String>,
        dir: PathBuf,
        (captured, there): (Arc<Captured>, Option<Child>),
    ) -> Result<Proxy, ProxyError> {
        let uid = uid.to_owned();
        let mut agent = self.clone();
        for (annotation, setting) in [
            (ACCESS_LOG, "MAILLE_ACCESS_LOG"),
            (INSIDE, "MAILLE_INSIDE"),
            (LOG_LEVEL, "MAILLE_LOG"),
        ] {
            if let Some(value) = annotations.get(annotation) {
                agent.settings.retain(|(name, _)| name != setting);
                agent.settings.push((setting.to_owned(), value.clone()));
            }
        }
        agent.limits = limits(annotations);
        agent.within = annotations.get(ROOM).is_some_and(|said| said == ROOM_POD);
        // An agent of a node has them written down.
        if self.processes.rules().of(&uid).is_none() {
            self.remember(&uid, &captured);
        }
        Keeper::start(agent, uid, dir, (captured, there)).await
    }

    /// What its rules are, for whoever asks later whether they still are. A pod does not wait for it.
    fn remember(&self, uid: &str, captured: &Captured) {
        let (processes, mesh, of) = (
            self.processes.clone(),
            captured.mesh.clone(),
            uid.to_owned(),
        );
        self.tasks.spawn("rules", async move {
            let read = move || processes.rules().remember(&of, &mesh);
            if tokio::task::spawn_blocking(read).await.is_err() {
                tracing::debug!("a pod's rules were not read");
            }
        });
    }
}

/// What admission said of a pod's proxy, or as usual. What cannot be read was not written by admission, and changes nothing.
pub(crate) fn limits(annotations: &BTreeMap<String, String>) -> Limits {
    let said = |key: &str| {
        let amount = Quantity::parse(annotations.get(key)?)?;
        (amount.millis() > 0).then_some(amount)
    };
    Limits {
        memory: Some(said(MEMORY_LIMIT).map_or(MEMORY, |amount| amount.whole())),
        cpu_millis: Some(said(CPU_LIMIT).map_or(CPU_MILLIS, |amount| amount.millis())),
        pids: Some(PIDS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_those_of_the_annotations() {
        let annotations = |memory: &str, cpu: &str| {
            let all = [(MEMORY_LIMIT, memory), (CPU_LIMIT, cpu)];
            all.map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into()
        };
        let usual = limits(&BTreeMap::new());
        assert_eq!(
            (usual.memory, usual.cpu_millis),
            (Some(256 << 20), Some(1000))
        );
        let said = limits(&annotations("64Mi", "200m"));
        assert_eq!((said.memory, said.cpu_millis), (Some(64 << 20), Some(200)));
        assert_eq!(limits(&annotations("0", "much")), usual);
    }
}
