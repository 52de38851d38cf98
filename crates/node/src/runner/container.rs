// SPDX-License-Identifier: Apache-2.0
//! One container: started, probed, started again when it ends and its policy says so, stopped.
//!
//! It decides nothing about its pod; it tells `pod.rs` how it is. Read `action.rs` for probes and hooks, `status.rs` for what is told.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use maille_manifest::objects::{Container, Pod, RestartPolicy};
use nix::sys::signal::Signal;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::action::{Action, ActionError, Subject};
use super::probe::{Prober, Purpose};
use super::status::{ContainerPhase, ContainerState};
use super::{Stop, Surroundings, env, files, rights};
use crate::backoff::Backoff;
use crate::host::{Child, Exit, Group, Inside, Sandbox, Spec, code, describe};
use crate::logs::{self, last_line};
use crate::processes::Role;

/// A hook has no time of its own; one that hangs must not do so for ever.
const HOOK: Duration = Duration::from_secs(600);
/// What is left of a grace when the hook before SIGTERM has used it up, as Kubernetes has it.
const LEAST: Duration = Duration::from_secs(2);

/// The code of a process that SIGKILL ended.
const KILLED: i32 = 137;
/// Why, in Kubernetes' words, where the kernel did it because the container used too much memory.
const OOM_KILLED: &str = "OOMKilled";

/// One container's life.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) around: Arc<Surroundings>,
    pub(super) sandbox: Arc<Sandbox>,
    pub(super) pod: Arc<Pod>,
    pub(super) container: Container,
    /// Its place among all containers of the pod, those of init first.
    pub(super) index: usize,
    /// Whether it is started again.
    pub(super) policy: RestartPolicy,
    pub(super) tell: mpsc::Sender<(usize, ContainerState)>,
    /// `Some`: stop.
    pub(super) stop: watch::Receiver<Option<Farewell>>,
    pub(super) restarts: u32,
}

/// How a container is to be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Farewell {
    /// Why.
    pub(super) stop: Stop,
    /// From the order to SIGKILL.
    pub(super) grace: Duration,
}

/// Why a run ended.
enum End {
    /// By itself, by a signal, or because it was unwell: with this code, for this reason.
    Exited(i32, String),
    /// It was to stop; it is gone.
    Stopped,
}

/// What one run of the process has.
struct Run {
    child: Child,
    subject: Subject,
    startup: Prober,
    readiness: Prober,
    liveness: Prober,
    since: SystemTime,
    started: bool,
    ready: bool,
}

impl Running {
    /// Runs until it is to stop, or has ended for good.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::container();
        loop {
            let began = self.around.clock.elapsed();
            let mut reason = None;
            let (code, mut message) = match self.start() {
                Ok((child, group)) => {
                    self.note(Some(child.pid()));
                    let end = Box::pin(self.live(child, group.as_ref())).await;
                    self.note(None);
                    let killed = group.is_some_and(|group| self.ungroup(&group));
                    match end {
                        End::Exited(code, why) if killed && code == KILLED => {
                            reason = Some(OOM_KILLED);
                            (
                                code,
                                format!(
                                    "{OOM_KILLED}: {why}, it needed more memory than {}",
                                    self.memory()
                                ),
                            )
                        }
                        End::Stopped => return,
                        End::Exited(code, why) => (code, why),
                    }
                }
                Err(error) => (128, format!("cannot be started: {error:#}")),
            };
            if code != 0
                && let Some(line) = last_line(&self.log())
            {
                message.push_str(&format!("; its last line: {line}"));
            }
            let again = match self.policy {
                RestartPolicy::Always => true,
                RestartPolicy::OnFailure => code != 0,
                RestartPolicy::Never => false,
            };
            tracing::info!(pod = %self.pod.metadata.name, container = self.container.name, message, again, "container ended");
            if !again {
                let at = self.around.clock.wall();
                let phase = ContainerPhase::Ended { code, at, reason };
                return self.say(phase, false, message).await;
            }
            let wait = backoff.after(self.around.clock.elapsed().saturating_sub(began));
            self.restarts = self.restarts.saturating_add(1);
            let mut waits = "ContainerCreating";
            if !wait.is_zero() {
                waits = "CrashLoopBackOff";
                message = format!("{waits}: {message}; started again in {} s", wait.as_secs());
            }
            let phase = ContainerPhase::Waiting(waits);
            self.say(phase, false, message).await;
            let stop = self.stop.wait_for(Option::is_some);
            if timeout(wait, stop).await.is_ok() {
                return;
            }
        }
    }

    fn dir(&self) -> PathBuf {
        self.around.cluster.pod_dir(&self.pod.metadata.uid)
    }

    fn log(&self) -> PathBuf {
        self.dir().join(format!("{}.log", self.container.name))
    }

    fn start(&self) -> anyhow::Result<(Child, Option<Group>)> {
        let launch = self.launch()?;
        let log = logs::begin(&self.log())?;
        let mounts = files::mounts(&self.dir(), &self.pod, &self.container, &launch.env)?;
        let limiter = &self.around.limiter;
        let group = limiter
            .begin(&self.pod.metadata.uid, &self.container)
            .context("its limits cannot be set")?;
        let child = self.sandbox.spawn(Spec {
            group: group.clone(),
            program: launch.program,
            args: launch.args,
            env: launch.env,
            cwd: self.cwd(),
            log,
            mounts,
            hide: self.around.state_dir.clone(),
            rights: rights::of(&self.pod.spec, &self.container, self.around.alias),
        });
        match child {
            Ok(child) => Ok((child, group)),
            Err(error) => {
                group.map(|group| self.ungroup(&group));
                Err(error.into())
            }
        }
    }

    /// Gives the group of a process that has ended back; whether the kernel killed somebody in it for want of memory.
    fn ungroup(&self, group: &Group) -> bool {
        let killed = group.killed() > 0;
        if let Err(error) = group.remove() {
            tracing::warn!(pod = %self.pod.metadata.name, container = self.container.name, %error, "its control group cannot be removed");
        }
        killed
    }

    /// How much memory it may use, for people.
    fn memory(&self) -> String {
        let resources = self.container.resources.as_ref();
        let limit = resources.and_then(|resources| resources.limits.get("memory"));
        limit.map_or_else(
            || "there is".to_owned(),
            |limit| format!("its limit of {limit}"),
        )
    }

    fn launch(&self) -> Result<env::Launch, env::LaunchError> {
        env::launch(
            &self.container,
            &self.pod,
            &self.around.cluster.data(),
            &self.around.path,
        )
    }

    fn cwd(&self) -> String {
        let dir = self.container.working_dir.clone();
        dir.unwrap_or_else(|| "/".to_owned())
    }

    /// Whom probes and hooks ask.
    fn subject(&self, child: &Child, group: Option<&Group>) -> anyhow::Result<Subject> {
        let launch = self.launch()?;
        Ok(Subject {
            pod: (*self.pod).clone(),
            address: self.pod.addresses().next(),
            net: self.sandbox.net().clone(),
            process: child.handle()?,
            inside: Inside {
                env: launch.env,
                cwd: self.cwd(),
                rights: rights::of(&self.pod.spec, &self.container, self.around.alias),
                group: group.cloned(),
            },
            output: self.dir().join(format!("{}.exec", self.container.name)),
        })
    }

    /// From start to end of one process.
    async fn live(&mut self, mut child: Child, group: Option<&Group>) -> End {
        let subject = match self.subject(&child, group) {
            Ok(subject) => subject,
            Err(error) => {
                stop(&mut child, Duration::ZERO).await;
                return End::Exited(128, format!("cannot be watched: {error:#}"));
            }
        };
        let clock = self.around.clock;
        let own = &self.container;
        let mut run = Run {
            child,
            subject,
            startup: Prober::new(clock, own.startup_probe.as_ref(), Purpose::Startup),
            // Both begin anew once it has started.
            readiness: Prober::new(clock, None, Purpose::Readiness),
            liveness: Prober::new(clock, None, Purpose::Liveness),
            since: clock.wall(),
            started: false,
            ready: false,
        };
        self.say_running(&run, "starting".to_owned()).await;
        if let Some(end) = self.post_start(&mut run).await {
            return end;
        }
        if !run.startup.exists() {
            self.begin(&mut run).await;
        }
        let mut stopping = self.stop.clone();
        loop {
            tokio::select! {
                exit = run.child.exited() => return ended(&exit),
                farewell = told(&mut stopping) => {
                    self.finish(&mut run, farewell).await;
                    return End::Stopped;
                }
                (verdict, result) = run.startup.next(clock, &run.subject), if !run.started => {
                    if verdict == Some(true) {
                        self.begin(&mut run).await;
                    } else if run.startup.is_hopeless(clock) {
                        let grace = run.startup.grace();
                        return self.unwell(&mut run, "startup", (grace, result)).await;
                    } else {
                        let message = self.explain(result);
                        self.say_running(&run, message).await;
                    }
                }
                (verdict, result) = run.readiness.next(clock, &run.subject), if run.started => {
                    run.ready = verdict.unwrap_or(run.ready);
                    let message = self.explain(result);
                    self.say_running(&run, message).await;
                }
                (verdict, result) = run.liveness.next(clock, &run.subject), if run.started => {
                    if verdict == Some(false) {
                        let grace = run.liveness.grace();
                        return self.unwell(&mut run, "liveness", (grace, result)).await;
                    }
                }
            }
        }
    }

    /// It has started: from now on the other probes ask.
    async fn begin(&self, run: &mut Run) {
        let clock = self.around.clock;
        let (ready, live) = (
            self.container.readiness_probe.as_ref(),
            self.container.liveness_probe.as_ref(),
        );
        run.readiness = Prober::new(clock, ready, Purpose::Readiness);
        run.liveness = Prober::new(clock, live, Purpose::Liveness);
        run.started = true;
        run.ready = ready.is_none();
        let message = if run.ready { "" } else { "not ready yet" };
        self.say_running(run, message.to_owned()).await;
    }

    /// The first hook, if there is one. `Some`: nothing more is to be done with this run.
    async fn post_start(&self, run: &mut Run) -> Option<End> {
        let hook = self.container.lifecycle.as_ref()?.post_start.as_ref()?;
        let action = Action::of_hook(hook);
        let mut stopping = self.stop.clone();
        let failed = tokio::select! {
            exit = run.child.exited() => return Some(ended(&exit)),
            farewell = told(&mut stopping) => {
                self.finish(run, farewell).await;
                return Some(End::Stopped);
            }
            done = action.run(&run.subject, HOOK) => done.err()?,
        };
        stop(&mut run.child, self.grace()).await;
        let why = format!("killed, its postStart hook failed: {failed}");
        Some(End::Exited(137, why))
    }

    /// Ends a run whose probe failed.
    async fn unwell(
        &self,
        run: &mut Run,
        which: &str,
        (grace, result): (Option<Duration>, Result<(), ActionError>),
    ) -> End {
        let stop = Stop::Deleted;
        let grace = grace.unwrap_or_else(|| self.grace());
        self.finish(run, Farewell { stop, grace }).await;
        let why = result.err().map(|error| error.to_string());
        let why = why.unwrap_or_default();
        End::Exited(137, format!("killed, its {which} probe failed: {why}"))
    }

    /// Ends the process; at once more quickly when everything ends meanwhile, and then without a hook.
    async fn finish(&self, run: &mut Run, farewell: Farewell) {
        let mut stop = self.stop.clone();
        let hurried = tokio::select! {
            () = Box::pin(self.leave(run, farewell)) => return,
            hurried = hurry(&mut stop), if farewell.stop != Stop::Shutdown => hurried,
        };
        let grace = within(run.child.pid(), hurried.grace);
        self::stop(&mut run.child, grace).await;
    }

    /// The hook, SIGTERM, grace, SIGKILL. When everything ends nobody is left to be waited for: a hook that only
    /// sleeps is left out, and a process without a handler for SIGTERM is killed at once, as being pid 1 it would ignore the signal
    /// (`pid_namespaces(7)`).
    async fn leave(&self, run: &mut Run, farewell: Farewell) {
        let began = self.around.clock.elapsed();
        let shutdown = farewell.stop == Stop::Shutdown;
        let lifecycle = self.container.lifecycle.as_ref();
        let hook = lifecycle.and_then(|lifecycle| lifecycle.pre_stop.as_ref());
        let action = hook.map(Action::of_hook);
        let action = action.filter(|action| !(shutdown && matches!(action, Action::Sleep(_))));
        let mut left = farewell.grace;
        if let Some(action) = action {
            tokio::select! {
                _ = run.child.exited() => return,
                done = action.run(&run.subject, farewell.grace) => if let Err(error) = done {
                    tracing::warn!(pod = %self.pod.metadata.name, container = self.container.name, %error, "its preStop hook failed");
                }
            }
            let used = self.around.clock.elapsed().saturating_sub(began);
            let least = if shutdown { Duration::ZERO } else { LEAST };
            left = left.saturating_sub(used).max(least.min(left));
        }
        if shutdown {
            left = within(run.child.pid(), left);
        }
        stop(&mut run.child, left).await;
    }

    fn grace(&self) -> Duration {
        Duration::from_secs(u64::from(self.pod.spec.grace_seconds()))
    }

    fn explain(&self, result: Result<(), ActionError>) -> String {
        let Err(error) = result else {
            return String::new();
        };
        let mut message = error.to_string();
        if let Some(line) = last_line(&self.log()) {
            message.push_str(&format!("; its last line: {line}"));
        }
        message
    }

    async fn say_running(&self, run: &Run, message: String) {
        let phase = ContainerPhase::Running {
            since: run.since,
            started: run.started,
        };
        self.say(phase, run.ready, message).await;
    }

    async fn say(&self, phase: ContainerPhase, ready: bool, message: String) {
        let state = ContainerState {
            phase,
            ready,
            message,
            restarts: self.restarts,
        };
        // The pod is gone: nobody needs to know.
        let _ = self.tell.send((self.index, state)).await;
    }

    fn note(&self, pid: Option<i32>) {
        let role = Role::Container(self.pod.metadata.uid.clone(), self.container.name.clone());
        self.around.processes.note(role, pid);
    }
}

fn ended(exit: &std::io::Result<Exit>) -> End {
    End::Exited(code(exit), describe(exit))
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

/// Waits until everything ends; for ever, where nobody says so any more.
async fn hurry(stop: &mut watch::Receiver<Option<Farewell>>) -> Farewell {
    let everything = |farewell: &Farewell| farewell.stop == Stop::Shutdown;
    let heard = stop.wait_for(|farewell| farewell.as_ref().is_some_and(everything));
    let heard = heard.await.ok().and_then(|farewell| *farewell);
    match heard {
        Some(farewell) => farewell,
        None => std::future::pending().await,
    }
}

/// How long a process is waited for when everything ends.
fn within(pid: i32, grace: Duration) -> Duration {
    if handles_sigterm(pid) {
        grace
    } else {
        Duration::ZERO
    }
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
