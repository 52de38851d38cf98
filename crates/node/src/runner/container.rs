// SPDX-License-Identifier: Apache-2.0
//! One container: started, probed, started again when it ends, stopped.
//!
//! It decides nothing about its pod; it tells `pod.rs` how it is.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use maille_manifest::objects::{Container, Pod, Probe, Transport};
use nix::sys::signal::Signal;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::probe::{ProbeError, Verdict, attempt};
use super::status::ContainerState;
use super::{Stop, Surroundings, env, files};
use crate::backoff::Backoff;
use crate::host::{Child, Sandbox, Spec, describe};
use crate::logs::{self, last_line};
use crate::processes::Role;

/// Tries follow one another at most this slowly until the first one succeeds: `periodSeconds` is for something that runs, and
/// everybody waits for something that starts.
const EAGER: Duration = Duration::from_millis(250);

/// One container's life.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) around: Arc<Surroundings>,
    pub(super) sandbox: Arc<Sandbox>,
    pub(super) pod: Arc<Pod>,
    pub(super) index: usize,
    pub(super) tell: mpsc::Sender<(usize, ContainerState)>,
    /// `Some`: stop.
    pub(super) stop: watch::Receiver<Option<Farewell>>,
}

/// How a container is to be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Farewell {
    /// Why.
    pub(super) stop: Stop,
    /// From SIGTERM to SIGKILL.
    pub(super) grace: Duration,
}

/// Why a run ended.
enum End {
    /// By itself, or by a signal.
    Exited(String),
    /// Its liveness probe failed.
    Unwell(String),
    /// It was to stop; it is gone.
    Stopped,
}

impl Running {
    /// Runs until it is to stop.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::container();
        loop {
            let began = self.around.clock.elapsed();
            let why = match self.start() {
                Ok(child) => {
                    self.note(Some(child.pid()));
                    let end = self.live(child).await;
                    self.note(None);
                    match end {
                        End::Stopped => return,
                        End::Exited(how) => how,
                        End::Unwell(why) => format!("killed, its liveness probe failed: {why}"),
                    }
                }
                Err(error) => format!("cannot be started: {error:#}"),
            };
            let wait = backoff.after(self.around.clock.elapsed().saturating_sub(began));
            let mut message = why;
            if let Some(line) = last_line(&self.log()) {
                message.push_str(&format!("; its last line: {line}"));
            }
            if !wait.is_zero() {
                message.push_str(&format!("; started again in {} s", wait.as_secs()));
            }
            tracing::warn!(pod = %self.pod.metadata.name, container = self.container().name, message, "container ended");
            self.say(ContainerState {
                running: false,
                ready: false,
                message,
            })
            .await;
            let stop = self.stop.wait_for(Option::is_some);
            if timeout(wait, stop).await.is_ok() {
                return;
            }
        }
    }

    fn container(&self) -> &Container {
        // The index is that of this pod's container list, which never changes.
        &self.pod.spec.containers[self.index]
    }

    fn log(&self) -> PathBuf {
        let dir = self.around.cluster.pod_dir(&self.pod.metadata.uid);
        dir.join(format!("{}.log", self.container().name))
    }

    fn start(&self) -> anyhow::Result<Child> {
        let container = self.container();
        let launch = env::launch(
            container,
            &self.pod,
            &self.around.cluster.maps(),
            &self.around.path,
        )?;
        let dir = self.around.cluster.pod_dir(&self.pod.metadata.uid);
        let log = logs::begin(&self.log())?;
        let child = self.sandbox.spawn(Spec {
            program: launch.program,
            args: launch.args,
            env: launch.env,
            cwd: container
                .working_dir
                .clone()
                .unwrap_or_else(|| "/".to_owned()),
            log,
            mounts: files::mounts(&dir, &self.pod, container),
            hide: self.around.state_dir.clone(),
        })?;
        Ok(child)
    }

    /// From start to end of one process.
    async fn live(&mut self, mut child: Child) -> End {
        let container = self.container().clone();
        let address = self.pod.addresses().next();
        let mut ready = container.readiness_probe.is_none();
        let waiting = "not ready yet".to_owned();
        let message = if ready { String::new() } else { waiting };
        self.say(ContainerState {
            running: true,
            ready,
            message,
        })
        .await;
        let mut readiness = Prober::new(
            &self.around,
            &self.pod,
            container.readiness_probe.as_ref(),
            address,
            false,
        );
        let mut liveness = Prober::new(
            &self.around,
            &self.pod,
            container.liveness_probe.as_ref(),
            address,
            true,
        );
        let mut stopping = self.stop.clone();
        loop {
            tokio::select! {
                exit = child.exited() => return End::Exited(describe(&exit)),
                farewell = told(&mut stopping) => {
                    finish(&mut child, farewell).await;
                    return End::Stopped;
                }
                (verdict, result) = readiness.next() => {
                    let message = result.err().map(|error| self.explain(&error)).unwrap_or_default();
                    ready = verdict.unwrap_or(ready);
                    self.say(ContainerState { running: true, ready, message }).await;
                }
                (verdict, result) = liveness.next() => {
                    if verdict == Some(false) {
                        stop(&mut child, Duration::from_secs(u64::from(self.pod.spec.grace_seconds()))).await;
                        return End::Unwell(result.err().map(|error| error.to_string()).unwrap_or_default());
                    }
                }
            }
        }
    }

    fn explain(&self, error: &ProbeError) -> String {
        let mut message = error.to_string();
        if let Some(line) = last_line(&self.log()) {
            message.push_str(&format!("; its last line: {line}"));
        }
        message
    }

    async fn say(&self, state: ContainerState) {
        // The pod is gone: nobody needs to know.
        let _ = self.tell.send((self.index, state)).await;
    }

    fn note(&self, pid: Option<i32>) {
        let role = Role::Container(self.pod.metadata.uid.clone(), self.container().name.clone());
        self.around.processes.note(role, pid);
    }
}

/// Waits for the order to stop, and gives it.
async fn told(stop: &mut watch::Receiver<Option<Farewell>>) -> Farewell {
    let order = stop.wait_for(Option::is_some).await;
    // Without anybody to give orders there is nobody to wait for either.
    let alone = Farewell {
        stop: Stop::Shutdown,
        grace: Duration::ZERO,
    };
    order.ok().and_then(|farewell| *farewell).unwrap_or(alone)
}

/// Ends the process. When everything ends, one without a handler for SIGTERM is killed at once: being pid 1 it would ignore the
/// signal (`pid_namespaces(7)`), and nobody is left whom its grace could serve.
async fn finish(child: &mut Child, farewell: Farewell) {
    if farewell.stop == Stop::Shutdown && !handles_sigterm(child.pid()) {
        return stop(child, Duration::ZERO).await;
    }
    stop(child, farewell.grace).await;
}

/// Whether the process catches SIGTERM, from `SigCgt` of `proc_pid_status(5)`; yes, where that cannot be read.
fn handles_sigterm(pid: i32) -> bool {
    const BIT: u64 = 1 << (Signal::SIGTERM as u32 - 1);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_none_or(|mask| mask & BIT != 0)
}

/// SIGTERM, grace, SIGKILL; without grace only the last.
async fn stop(child: &mut Child, grace: Duration) {
    if !grace.is_zero() {
        child.signal(Signal::SIGTERM);
    }
    if timeout(grace, child.exited()).await.is_err() {
        child.signal(Signal::SIGKILL);
        let _ = child.exited().await;
    }
}

/// Makes one probe's tries in time. Without a probe it never has a result.
struct Prober<'a> {
    around: &'a Surroundings,
    probe: Option<&'a Probe>,
    target: Option<(IpAddr, Result<u16, String>)>,
    verdict: Option<Verdict>,
    due: tokio::time::Instant,
    succeeded: bool,
}

impl<'a> Prober<'a> {
    fn new(
        around: &'a Surroundings,
        pod: &Pod,
        probe: Option<&'a Probe>,
        address: Option<IpAddr>,
        well: bool,
    ) -> Self {
        let target = probe.zip(address).and_then(|(probe, address)| {
            let port = probe
                .http_get
                .as_ref()
                .map(|get| &get.port)
                .or_else(|| probe.tcp_socket.as_ref().map(|socket| &socket.port))?;
            let number = pod
                .spec
                .resolve_port(port, Transport::Tcp)
                .ok_or_else(|| port.to_string());
            Some((address, number))
        });
        let delay = probe.map_or(0, |probe| probe.initial_delay_seconds);
        Self {
            around,
            probe,
            target,
            verdict: probe.map(|probe| Verdict::new(probe, well)),
            due: around.clock.now() + Duration::from_secs(u64::from(delay)),
            succeeded: well,
        }
    }

    /// The next try's result, and the verdict where it changed. Cancel-safe: a try that was cut off is made again.
    async fn next(&mut self) -> (Option<bool>, Result<(), ProbeError>) {
        let (Some(probe), Some((address, port)), Some(verdict)) =
            (self.probe, &self.target, &mut self.verdict)
        else {
            return std::future::pending().await;
        };
        self.around.clock.until(self.due).await;
        let result = match port {
            Ok(port) => attempt(probe, *address, *port).await,
            Err(name) => Err(ProbeError::NoPort { name: name.clone() }),
        };
        self.succeeded |= result.is_ok();
        let period = Duration::from_secs(u64::from(probe.period_seconds));
        let period = if self.succeeded {
            period
        } else {
            period.min(EAGER)
        };
        self.due = self.around.clock.now() + period;
        (verdict.count(result.is_ok()), result)
    }
}
