// SPDX-License-Identifier: Apache-2.0
//! The agent as a plugin of the container runtime (NRI): no sandbox and no container begins for a pod that is meant for the mesh and is
//! not captured, whoever removed the CNI plugin, and however early the pod was made.
//!
//! The runtime asks on a socket of its own, one question after the other, each with a deadline; one that it did not get an answer to it
//! takes for a no. While there is no agent, the runtime's own `default_validator` says no, where it is on: the pods carry the
//! annotation that requires this plugin. Must never let such a container pass for want of an answer. Read `nri/codec.rs` for
//! the bytes, `nri/end.rs` for what becomes of a sandbox that has begun uncaptured.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use maille_chassis::clock::Clock;
use maille_chassis::tasks::Tasks;
use maille_cni::protocol::CAPTURE;
use maille_sys::NetNs;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::counts::{Counts, Guarantee};
use super::sandboxes::Sandboxes;
use crate::backoff::Backoff;
use crate::capture::inboard::{PROXY, PROXY_USER};

mod codec;
mod end;
mod messages;

use codec::{CodecError, Decoder, Message, PLUGIN, REQUEST, RESPONSE, RUNTIME};
use messages::{
    About, CREATE_CONTAINER, Configure, Configured, Container, Pod, RUN_POD_SANDBOX,
    RUNTIME_SERVICE, RegisterPlugin, Request, Response, Status, Synchronize, Synchronized,
    VALIDATE, Validate, Validated,
};

/// What pods of the mesh require, and this plugin is called.
const NAME: &str = "maille";
/// After whoever changes containers.
const INDEX: &str = "90";
/// The runtime's own plugin by which a required one that is away is a no.
const VALIDATOR: &str = "default-validator";
/// How long the runtime may take to take this plugin on; it allows five seconds itself.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long an answer may take. The runtime waits for two seconds, and then forgets this plugin.
const ANSWER: Duration = Duration::from_millis(1_500);
/// See [`ANSWER`].
const LATE: &str = "the agent did not find out in time";
/// gRPC's FAILED_PRECONDITION.
const REFUSED: i32 = 9;
/// gRPC's INVALID_ARGUMENT.
const SENSELESS: i32 = 3;

/// What the runtime is answered from.
#[derive(Debug)]
pub(super) struct Guard {
    /// The runtime's socket.
    pub(super) socket: PathBuf,
    /// Who is captured.
    pub(super) sandboxes: Arc<Sandboxes>,
    /// What was refused.
    pub(super) counts: Arc<Counts>,
    /// For what takes longer than an answer may.
    pub(super) tasks: Tasks,
    pub(super) clock: Clock,
    /// What is seen.
    pub(super) guarantee: watch::Sender<Guarantee>,
}

/// Why the runtime does not ask any more.
#[derive(Debug, thiserror::Error)]
enum NriError {
    #[error("{path} cannot be opened: the runtime has no NRI, or another socket for it")]
    Connect {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("the runtime's socket failed")]
    Io(#[from] io::Error),
    #[error("the runtime did not speak in time")]
    Late,
    #[error("the runtime closed its socket")]
    Closed,
    #[error("what the runtime said makes no sense")]
    Codec(#[from] CodecError),
    #[error("what the runtime said cannot be read")]
    Decode(#[from] prost::DecodeError),
    #[error("the runtime did not take this plugin on: {0}")]
    Unwanted(String),
}

// === impl Guard ===

impl Guard {
    /// Answers, as long as the runtime runs and asks; when it comes back, again.
    pub(super) async fn keep(self: Arc<Self>) {
        let mut backoff = Backoff::mesh();
        loop {
            let began = self.clock.elapsed();
            let ended = Self::live(&self).await;
            self.saw(Guarantee::Plugin);
            if let Err(error) = ended {
                let reason = anyhow::Error::from(error);
                maille_chassis::limited!(warn, reason = %format_args!("{reason:#}"), "the runtime does not ask this agent");
            }
            let lasted = self.clock.elapsed().saturating_sub(began);
            self.clock.wait(backoff.after(lasted)).await;
        }
    }

    async fn live(this: &Arc<Self>) -> Result<(), NriError> {
        let connect = timeout(PATIENCE, UnixStream::connect(&this.socket)).await;
        let connect = connect.map_err(|_| NriError::Late)?;
        let mut stream = connect.map_err(|source| NriError::Connect {
            path: this.socket.display().to_string(),
            source,
        })?;
        let register = RegisterPlugin {
            name: NAME.to_owned(),
            index: INDEX.to_owned(),
        };
        let register = Request {
            service: RUNTIME_SERVICE.to_owned(),
            method: "RegisterPlugin".to_owned(),
            payload: register.encode_to_vec(),
        };
        send(&mut stream, (RUNTIME, 1, REQUEST), register.encode_to_vec()).await?;
        let (mut decoder, mut part) = (Decoder::default(), vec![0; 64 * 1024]);
        let mut is_taken_on = false;
        loop {
            let Some(message) = decoder.next()? else {
                let read = stream.read(&mut part);
                // Taken on, it is asked when something begins, and that may be never.
                let length = if is_taken_on {
                    read.await?
                } else {
                    timeout(PATIENCE, read)
                        .await
                        .map_err(|_| NriError::Late)??
                };
                if length == 0 {
                    return Err(NriError::Closed);
                }
                decoder.feed(part.get(..length).unwrap_or_default());
                continue;
            };
            match (message.connection, message.kind) {
                (RUNTIME, RESPONSE) => taken_on(&message.data)?,
                (PLUGIN, REQUEST) => {
                    let request = Request::decode(message.data.as_slice())?;
                    let answer = Self::answer(this, &request).await;
                    let to = (PLUGIN, message.stream, RESPONSE);
                    send(&mut stream, to, answer.encode_to_vec()).await?;
                    is_taken_on |= request.method == "Synchronize";
                }
                // Nothing else is asked for.
                _ => {}
            }
        }
    }

    async fn answer(this: &Arc<Self>, request: &Request) -> Response {
        let payload = request.payload.as_slice();
        let said = match request.method.as_str() {
            "Configure" => Configure::decode(payload).map(|runtime| configured(&runtime)),
            "Synchronize" => match Synchronize::decode(payload) {
                Ok(all) => Ok(Self::synchronized(this, all).await),
                Err(error) => Err(error),
            },
            "RunPodSandbox" => match About::decode(payload) {
                // The runtime removes it, and the kubelet has another made.
                Ok(about) => Ok(match this.sandbox(about.pod.as_ref()).await {
                    Ok(()) => Response::default(),
                    Err(reason) => refused(REFUSED, reason),
                }),
                Err(error) => Err(error),
            },
            "CreateContainer" => match About::decode(payload) {
                Ok(about) => Ok(
                    match Self::container(this, about.pod, about.container).await {
                        Ok(()) => Response::default(),
                        Err(reason) => refused(REFUSED, reason),
                    },
                ),
                Err(error) => Err(error),
            },
            "ValidateContainerAdjustment" => match Validate::decode(payload) {
                Ok(about) => {
                    let required = about.plugins.iter().any(|one| one.name == VALIDATOR);
                    this.saw(if required {
                        Guarantee::Required
                    } else {
                        Guarantee::Asked
                    });
                    let judged = Self::container(this, about.pod, about.container).await;
                    Ok(said(&Validated {
                        reject: judged.is_err(),
                        reason: judged.err().unwrap_or_default(),
                    }))
                }
                Err(error) => Err(error),
            },
            _ => Ok(Response::default()),
        };
        said.unwrap_or_else(|error| refused(SENSELESS, error.to_string()))
    }

    /// Everything that there is. What began uncaptured is made anew.
    async fn synchronized(this: &Arc<Self>, all: Synchronize) -> Response {
        this.saw(Guarantee::Unknown);
        for pod in all.pods.into_iter().filter(|pod| pod.pid != 0) {
            if this.judge(Some(&pod)).await.is_err() {
                Self::end(this, pod);
            }
        }
        said(&Synchronized { more: all.more })
    }

    /// Whether a container of this pod may begin. Its sandbox began uncaptured, while nobody was asked: it is made anew.
    async fn container(
        this: &Arc<Self>,
        pod: Option<Pod>,
        container: Option<Container>,
    ) -> Result<(), String> {
        if let Some(reason) = pod
            .as_ref()
            .zip(container)
            .and_then(|(pod, container)| as_proxy(pod, &container))
        {
            this.counts.refused_runtime();
            return Err(reason);
        }
        let judged = this.judge(pod.as_ref()).await;
        if let (Err(_), Some(pod)) = (&judged, pod) {
            Self::end(this, pod);
        }
        judged
    }

    /// Whether a sandbox may begin, with the interfaces that it has: everybody has added his by now.
    async fn sandbox(&self, pod: Option<&Pod>) -> Result<(), String> {
        self.judge(pod).await?;
        let Some(pod) = pod.filter(|pod| is_meant(pod)) else {
            return Ok(());
        };
        // One without a namespace of its own is none that could be captured.
        let Some(network) = network(pod) else {
            return Ok(());
        };
        let begins = async {
            let network = tokio::task::spawn_blocking(move || NetNs::pinned(&network));
            let network = network.await.map_err(io::Error::other).and_then(|it| it);
            let network = network.map_err(|error| error.to_string())?;
            let may = self.sandboxes.may_begin(&pod.id, network).await;
            may.map_err(|error| error.to_string())
        };
        let why = match timeout(ANSWER, begins).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(why)) => why,
            Err(_) => LATE.to_owned(),
        };
        Err(self.refuse(pod, &why))
    }

    /// Whether this pod may begin.
    async fn judge(&self, pod: Option<&Pod>) -> Result<(), String> {
        let Some(pod) = pod.filter(|pod| is_meant(pod)) else {
            return Ok(());
        };
        let network = network(pod).map(|path| std::fs::metadata(path).map(|file| inode(&file)));
        let held = self.sandboxes.holds(&pod.id, network.and_then(Result::ok));
        let why = match timeout(ANSWER, held).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => LATE.to_owned(),
        };
        Err(self.refuse(pod, &why))
    }

    /// What the runtime is told.
    fn refuse(&self, pod: &Pod, why: &str) -> String {
        self.counts.refused_runtime();
        let name = format!("{}/{}", pod.namespace, pod.name);
        maille_chassis::limited!(warn, pod = %name, pod.uid = pod.uid, why, "the runtime was refused");
        format!(
            "pod {name} is meant for the mesh and does not begin outside of it: {why}; it is made anew"
        )
    }

    fn end(this: &Arc<Self>, pod: Pod) {
        let guard = Arc::clone(this);
        this.tasks.spawn("uncaptured sandbox", async move {
            let name = format!("{}/{}", pod.namespace, pod.name);
            let ended = tokio::task::spawn_blocking(move || {
                let namespace = network(&pod).and_then(|path| NetNs::pinned(&path).ok());
                end::end(&pod.id, pod.pid, namespace.as_ref())
            });
            match ended.await {
                Ok(Ok(())) => {
                    guard.counts.ended();
                    tracing::warn!(pod = %name, "a sandbox that was not captured is cut off and made anew");
                }
                Ok(Err(error)) => {
                    maille_chassis::limited!(warn, pod = %name, %error, "a sandbox that is not captured cannot be ended");
                }
                Err(_) => tracing::debug!("the end of a sandbox was interrupted"),
            }
        });
    }

    fn saw(&self, now: Guarantee) {
        self.guarantee
            .send_if_modified(|seen| std::mem::replace(seen, now) != now);
    }
}

/// Whether admission said that this pod is to be captured by its node; also where it said what nobody understands.
fn is_meant(pod: &Pod) -> bool {
    let said = pod.annotations.get(CAPTURE).map(String::as_str);
    !matches!(said, None | Some("none" | "inboard"))
}

/// Why a container may not begin that runs as the user whose connections are not captured. Admission sees what the pod asks for; an image
/// may say it too, and that is seen here alone.
fn as_proxy(pod: &Pod, container: &Container) -> Option<String> {
    let said = pod.annotations.get(CAPTURE).map(String::as_str);
    let is_inside = matches!(said, Some("inboard" | "inboard-cni"));
    let user = container.user.as_ref()?.uid;
    let is_proxys = user == PROXY_USER && container.name != PROXY;
    (is_inside && is_proxys).then(|| {
        format!(
            "container {} of pod {}/{} runs as user {user}, which is the proxy's: its connections would go round the proxy; give it another user",
            container.name, pod.namespace, pod.name
        )
    })
}

/// The pod's network namespace, as this process finds it: the runtime names it by a path of the host.
fn network(pod: &Pod) -> Option<PathBuf> {
    let all = pod.linux.as_ref()?.namespaces.iter();
    let path = all.filter(|one| one.kind == "network").map(|one| &one.path);
    let path = path.into_iter().find(|path| path.starts_with('/'))?;
    // /var/run is a link that would lead to this process's own.
    let path = path
        .strip_prefix("/var/run/")
        .map(|rest| format!("/run/{rest}"))
        .unwrap_or_else(|| path.clone());
    Some(Path::new("/proc/1/root").join(path.trim_start_matches('/')))
}

fn inode(file: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(file)
}

fn configured(runtime: &Configure) -> Response {
    tracing::info!(
        name = runtime.runtime_name,
        version = runtime.runtime_version,
        nri = runtime.nri_version,
        "the runtime asks this agent"
    );
    // Older runtimes know no validators. An answer that does not come in time lets a container pass there.
    let container = if runtime.nri_version.is_empty() {
        CREATE_CONTAINER
    } else {
        VALIDATE
    };
    said(&Configured {
        events: RUN_POD_SANDBOX | container,
    })
}

fn said(what: &impl prost::Message) -> Response {
    Response {
        status: None,
        payload: what.encode_to_vec(),
    }
}

fn refused(code: i32, message: String) -> Response {
    Response {
        status: Some(Status { code, message }),
        payload: Vec::new(),
    }
}

fn taken_on(data: &[u8]) -> Result<(), NriError> {
    match Response::decode(data)?.status {
        Some(status) if status.code != 0 => Err(NriError::Unwanted(status.message)),
        _ => Ok(()),
    }
}

async fn send(
    stream: &mut UnixStream,
    (connection, number, kind): (u32, u32, u8),
    data: Vec<u8>,
) -> Result<(), NriError> {
    let bytes = codec::encode(&Message {
        connection,
        stream: number,
        kind,
        data,
    })?;
    let sent = timeout(PATIENCE, stream.write_all(&bytes)).await;
    Ok(sent.map_err(|_| NriError::Late)??)
}

#[cfg(test)]
mod tests;
