// SPDX-License-Identifier: Apache-2.0
//! The life of one proxy: started with the pod's listening sockets, started again at once when it ends, with the same sockets.
//! One that says that it is stopping has a successor at once, and finishes beside it what it has.
//!
//! The sockets stay open here: connections that come while there is no proxy wait in their queues, and none goes round.
//! Its readiness is taken back only when it stays away for longer than [`AWAY`], so that a restart moves no client.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use maille_chassis::tasks::Task;
use maille_sys::cgroup::Limits;
use nix::sys::signal::Signal;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

use super::Agent;
use super::apart::Apart;
use super::attest::Expected;
use super::relay::{Certificates, Discovery, Questions, Relay, Telemetry};
use crate::backoff::Backoff;
use crate::capture::Captured;
use crate::host::{Child, ProxySpec, describe, spawn_proxy};
use crate::notify::{Notify, Said};
use crate::processes::{Processes, Role};

/// How long clients wait for a proxy that is started again before its pod stops being ready.
const AWAY: Duration = Duration::from_secs(1);
/// How long a proxy may finish what it has when its pod ends; its application has ended by then. `down` waits for it within its 3 s.
const LAST: Duration = Duration::from_millis(1_500);
/// How long it may then take for the rest.
const ABORT: Duration = Duration::from_secs(1);
/// How long a proxy that was told to stop may finish what it has, while its successor serves.
const DRAIN_SECONDS: u64 = 600;
/// Proxies that finish at the same time; beyond that the oldest is ended.
const LEAVING: usize = 4;
/// How long it may take until a message is due about a proxy that does not become ready.
const READY: Duration = Duration::from_secs(30);

/// A proxy that is kept running.
#[derive(Debug)]
pub(crate) struct Proxy {
    stop: mpsc::Sender<Stop>,
    ready: watch::Receiver<bool>,
    keeper: Task,
    relay: Task,
    accept: Task,
    processes: Arc<Processes>,
    uid: String,
}

/// What is to become of one.
#[derive(Clone, Copy, Debug)]
enum Stop {
    /// Its pod ends.
    End,
    /// Its agent ends, and it goes on.
    Leave,
}

/// Why one cannot be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    #[error("its sockets cannot be made")]
    Sockets(#[source] io::Error),
    #[error("uid {0:?} cannot be said to control")]
    Uid(String),
}

/// Keeps one running.
#[derive(Debug)]
pub(super) struct Keeper {
    agent: Agent,
    uid: String,
    dir: PathBuf,
    captured: Arc<Captured>,
    notify: Notify,
    expected: Arc<Expected>,
    ready: watch::Sender<bool>,
    stop: mpsc::Receiver<Stop>,
    /// One that an earlier agent started.
    there: Option<Child>,
    /// Those that finish what they have, oldest first.
    leaving: VecDeque<Leaving>,
}

/// A proxy that finishes what it has.
#[derive(Debug)]
struct Leaving {
    /// Dropped: it is to end now.
    hurry: watch::Sender<()>,
    task: Task,
}

/// How a proxy's time as the pod's proxy ended.
#[derive(Debug)]
enum End {
    /// By itself: how.
    Ended(String),
    /// It finishes what it has.
    Leaves(Child),
    /// It was stopped with its pod.
    Stopped,
    /// It goes on, and nobody keeps it.
    Left,
}

impl Proxy {
    /// Whether it is ready, now and later.
    pub(crate) fn ready(&self) -> watch::Receiver<bool> {
        self.ready.clone()
    }

    /// Lets it finish what it has, then ends it and its way to control.
    pub(crate) async fn stop(self) {
        self.told(Stop::End).await;
    }

    /// Lets it go on without this process. Only for one that outlives it.
    pub(crate) async fn leave(self) {
        self.told(Stop::Leave).await;
    }

    async fn told(self, what: Stop) {
        // Full or closed: it is stopping already.
        let _ = self.stop.try_send(what);
        self.keeper.ended().await;
        self.relay.abort();
        self.accept.abort();
        self.processes.rules().forget(&self.uid);
    }
}

impl Keeper {
    pub(super) async fn start(
        agent: Agent,
        uid: String,
        dir: PathBuf,
        (captured, there): (Arc<Captured>, Option<Child>),
    ) -> Result<Proxy, ProxyError> {
        let listener =
            maille_chassis::grpc::listen(&dir.join("agent.sock")).map_err(ProxyError::Sockets)?;
        let notify = Notify::bind(&dir.join("notify.sock")).map_err(ProxyError::Sockets)?;
        let netns = captured.mesh.inode();
        let expected = Arc::new(Expected {
            pid: tokio::sync::Mutex::new(None),
            netns,
        });
        let control = agent.control.channel();
        let relays = (
            Relay::<Discovery>::new(control.clone(), &uid),
            Relay::<Certificates>::new(control.clone(), &uid),
            Relay::<Telemetry>::new(control.clone(), &uid),
            Relay::<Questions>::new(control, &uid),
        );
        let (Some(discovery), Some(certificates), Some(telemetry), Some(questions)) = relays else {
            return Err(ProxyError::Uid(uid));
        };
        let (pass, callers) = mpsc::channel(4);
        let accept = agent.tasks.spawn(
            "attest",
            attest(listener, expected.clone(), uid.clone(), pass),
        );
        let server = maille_chassis::grpc::server()
            .add_service(discovery)
            .add_service(certificates)
            .add_service(telemetry)
            .add_service(questions)
            .serve_with_incoming(ReceiverStream::new(callers).map(Ok::<_, io::Error>));
        let relay = agent.tasks.spawn("relay", async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "relay ended");
            }
        });
        let (ready, watch) = watch::channel(false);
        let (stop, orders) = mpsc::channel(1);
        let tasks = agent.tasks.clone();
        let (processes, of) = (agent.processes.clone(), uid.clone());
        let keeper = Self {
            agent,
            uid,
            dir,
            captured,
            notify,
            expected,
            ready,
            stop: orders,
            there,
            leaving: VecDeque::new(),
        };
        let keeper = tasks.spawn("proxy", keeper.run());
        Ok(Proxy {
            stop,
            ready: watch,
            keeper,
            relay,
            accept,
            processes,
            uid: of,
        })
    }

    async fn run(mut self) {
        let mut backoff = Backoff::mesh();
        loop {
            let began = self.agent.clock.elapsed();
            let begun = match self.there.take() {
                Some(child) => Ok(self.welcome(child).await),
                None => self.spawn().await,
            };
            let how = match begun {
                Ok(child) => {
                    let how = self.live(child).await;
                    *self.expected.pid.lock().await = None;
                    self.agent
                        .processes
                        .note(Role::Proxy(self.uid.clone()), None);
                    match how {
                        End::Ended(how) => how,
                        End::Leaves(child) => {
                            tracing::info!(
                                pod.uid = self.uid,
                                "proxy is stopping; its successor starts"
                            );
                            self.leave(child).await;
                            continue;
                        }
                        End::Stopped => return self.end_leaving().await,
                        End::Left => return,
                    }
                }
                Err(error) => format!("cannot be started: {error:#}"),
            };
            let wait = backoff.after(self.agent.clock.elapsed().saturating_sub(began));
            tracing::warn!(
                pod.uid = self.uid,
                how,
                ?wait,
                "proxy ended; is started again"
            );
            if timeout(wait, self.stop.recv()).await.is_ok() {
                return self.end_leaving().await;
            }
        }
    }

    /// Lets `child` finish what it has beside its successor.
    async fn leave(&mut self, mut child: Child) {
        let (hurry, mut told) = watch::channel(());
        let uid = self.uid.clone();
        let task = self.agent.tasks.spawn("leaving proxy", async move {
            tokio::select! {
                exit = child.exited() => {
                    tracing::info!(pod.uid = uid, how = describe(&exit), "proxy has finished");
                }
                _ = told.changed() => abort(&mut child).await,
            }
        });
        self.leaving.push_back(Leaving { hurry, task });
        if self.leaving.len() > LEAVING
            && let Some(oldest) = self.leaving.pop_front()
        {
            drop(oldest.hurry);
            oldest.task.ended().await;
        }
    }

    async fn end_leaving(&mut self) {
        for Leaving { hurry, task } in self.leaving.drain(..) {
            drop(hurry);
            task.ended().await;
        }
    }

    /// Takes on one that an earlier agent started: it was ready.
    async fn welcome(&self, child: Child) -> Child {
        *self.expected.pid.lock().await = Some(child.pid());
        self.agent
            .processes
            .note(Role::Proxy(self.uid.clone()), Some(child.pid()));
        self.tell(true);
        child
    }

    async fn spawn(&self) -> anyhow::Result<Child> {
        self.notify.clear();
        // One that finishes what it has may still listen there: its successor answers from now on.
        let admin = self.dir.join("admin.sock");
        match std::fs::remove_file(admin) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let log: File = crate::logs::open(&self.dir.join("proxy.log"))?;
        let path = |name: &str| self.dir.join(name).display().to_string();
        let mut env = vec![
            ("MAILLE_WORKLOAD".to_owned(), self.uid.clone()),
            ("MAILLE_AGENT".to_owned(), path("agent.sock")),
            ("MAILLE_ADMIN".to_owned(), path("admin.sock")),
            ("MAILLE_SOURCE".to_owned(), "keep".to_owned()),
            ("MAILLE_MARK".to_owned(), "2".to_owned()),
            ("MAILLE_DRAIN_SECONDS".to_owned(), DRAIN_SECONDS.to_string()),
            self.notify.variable(),
        ];
        env.extend(self.agent.settings.iter().cloned());
        let mut expected = self.expected.pid.lock().await;
        let spec = ProxySpec {
            program: self.agent.program.clone(),
            env,
            log,
            captured: self.captured.clone(),
            state_dir: self.agent.state_dir.clone(),
            own_dir: self.dir.clone(),
        };
        let (apart, limits) = (self.agent.apart.clone(), self.agent.limits);
        let within = self.agent.within.then(|| self.uid.clone());
        // Whoever waits for an answer of this agent does not wait for proxies.
        let spawned = tokio::task::spawn_blocking(move || {
            born(spec, apart.as_ref(), (limits, within.as_deref()))
        });
        let spawned = spawned.await;
        let child = spawned??;
        *expected = Some(child.pid());
        self.agent
            .processes
            .note(Role::Proxy(self.uid.clone()), Some(child.pid()));
        Ok(child)
    }

    /// Until it ended by itself, said that it stops, or was stopped.
    async fn live(&mut self, mut child: Child) -> End {
        // One that was taken on has said it to somebody else.
        let mut heard = *self.ready.borrow();
        let patience = if *self.ready.borrow() { AWAY } else { READY };
        let mut late = self.agent.clock.now() + patience;
        loop {
            tokio::select! {
                exit = child.exited() => return End::Ended(describe(&exit)),
                what = self.stop.recv() => {
                    if matches!(what, Some(Stop::Leave)) {
                        child.leave();
                        return End::Left;
                    }
                    child.signal(Signal::SIGTERM);
                    if timeout(LAST, child.exited()).await.is_err() {
                        abort(&mut child).await;
                    }
                    return End::Stopped;
                }
                said = self.notify.said() => match said {
                    Said::Ready => {
                        heard = true;
                        self.tell(true);
                    }
                    Said::Stopping => return End::Leaves(child),
                },
                () = self.agent.clock.until(late), if !heard => {
                    tracing::warn!(pod.uid = self.uid, "proxy is not ready");
                    late += READY;
                    self.tell(false);
                }
            }
        }
    }

    fn tell(&self, ready: bool) {
        self.ready
            .send_if_modified(|now| std::mem::replace(now, ready) != ready);
    }
}

/// Starts a proxy, in its pod's control group where it is one of those that go on. Blocks.
fn born(
    spec: ProxySpec,
    apart: Option<&Apart>,
    (limits, within): (Limits, Option<&str>),
) -> anyhow::Result<Child> {
    let Some(apart) = apart else {
        return Ok(spawn_proxy(spec, None)?);
    };
    let dir = spec.own_dir.clone();
    let groups = apart.ready(&dir, limits, within)?;
    let child = spawn_proxy(spec, Some(&groups))?;
    apart.note(&child, &dir)?;
    Ok(child)
}

/// A second signal ends what is left in order; SIGKILL what does not heed it.
async fn abort(child: &mut Child) {
    child.signal(Signal::SIGTERM);
    if timeout(ABORT, child.exited()).await.is_err() {
        tracing::warn!(pid = child.pid(), "proxy did not end in time: killed");
        child.signal(Signal::SIGKILL);
        let _ = child.exited().await;
    }
}

/// Lets the proxy in, and nobody else.
async fn attest(
    listener: UnixListener,
    expected: Arc<Expected>,
    uid: String,
    pass: mpsc::Sender<tokio::net::UnixStream>,
) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        match expected.check(&stream).await {
            Ok(()) => {
                if pass.send(stream).await.is_err() {
                    return;
                }
            }
            Err(refused) => {
                let reason = anyhow::Error::from(refused);
                maille_chassis::limited!(warn, pod.uid = uid, reason = %format_args!("{reason:#}"), "caller refused on a pod's socket");
            }
        }
    }
}
