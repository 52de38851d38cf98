// SPDX-License-Identifier: Apache-2.0
//! Control and the observer: started, waited for until they are ready, started again when they end, stopped last.
//!
//! They run in this process's own namespaces. A proxy is another matter: see `agent/proxy.rs`.

use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use maille_chassis::clock::Clock;
use maille_chassis::tasks::Tasks;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::backoff::Backoff;
use crate::logs;
use crate::notify::Notify;
use crate::processes::{Processes, Role};

/// How long one may take until it is ready.
const READY: Duration = Duration::from_secs(10);

/// What to run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) role: Role,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    /// Its log, and beside it its notification socket.
    pub(crate) log: PathBuf,
    /// From SIGTERM to SIGKILL.
    pub(crate) grace: Duration,
}

/// One that runs.
#[derive(Debug)]
pub(crate) struct Daemon {
    orders: mpsc::Sender<Order>,
    ended: watch::Receiver<bool>,
    grace: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Restart,
    /// The same, but not for so long.
    Away(Duration),
    Stop,
}

/// Why one could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DaemonError {
    #[error("{program} cannot be started")]
    Start {
        program: String,
        #[source]
        source: io::Error,
    },
    #[error("{program} ended before it was ready: {how}; its log: {log}")]
    Ended {
        program: String,
        how: String,
        log: String,
    },
    #[error("{program} is not ready after {seconds} s; its log: {log}")]
    NotReady {
        program: String,
        seconds: u64,
        log: String,
    },
}

impl Daemon {
    /// Starts it and waits until it is ready.
    pub(crate) async fn start(
        plan: Plan,
        processes: Arc<Processes>,
        tasks: &Tasks,
        clock: Clock,
    ) -> Result<Self, DaemonError> {
        let failed = |source| DaemonError::Start {
            program: plan.program.display().to_string(),
            source,
        };
        let notify = Notify::bind(&plan.log.with_extension("notify")).map_err(failed)?;
        let mut child = spawn(&plan, &notify).map_err(failed)?;
        let log = || logs::last_line(&plan.log).unwrap_or_default();
        tokio::select! {
            ready = notify.ready(READY) => if !ready {
                let program = plan.program.display().to_string();
                return Err(DaemonError::NotReady { program, seconds: READY.as_secs(), log: log() });
            },
            status = child.wait() => {
                let program = plan.program.display().to_string();
                return Err(DaemonError::Ended { program, how: describe(&status), log: log() });
            }
        }
        let (orders, queue) = mpsc::channel(4);
        let (ended, watch) = watch::channel(false);
        let grace = plan.grace;
        let keeper = Keeper {
            plan,
            notify,
            processes,
            clock,
            queue,
        };
        tasks.spawn("daemon", async move {
            keeper.run(child).await;
            ended.send_replace(true);
        });
        Ok(Self {
            orders,
            ended: watch,
            grace,
        })
    }

    /// Kills it; it is started again at once. Says nothing where it is busy stopping.
    pub(crate) fn restart(&self) {
        let _ = self.orders.try_send(Order::Restart);
    }

    /// Kills it; it is started again after `time`. For tests: without it everything goes on.
    pub(crate) fn away(&self, time: Duration) {
        let _ = self.orders.try_send(Order::Away(time));
    }

    /// Stops it for good and waits for its end.
    pub(crate) async fn stop(&self) {
        let _ = self.orders.send(Order::Stop).await;
        let mut ended = self.ended.clone();
        let end = ended.wait_for(|ended| *ended);
        let _ = timeout(self.grace + Duration::from_secs(1), end).await;
    }
}

struct Keeper {
    plan: Plan,
    notify: Notify,
    processes: Arc<Processes>,
    clock: Clock,
    queue: mpsc::Receiver<Order>,
}

impl Keeper {
    async fn run(mut self, mut child: Child) {
        let mut backoff = Backoff::mesh();
        loop {
            let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
            self.processes.note(self.plan.role.clone(), pid);
            let began = self.clock.elapsed();
            let mut away = Duration::ZERO;
            let status = tokio::select! {
                status = child.wait() => status,
                order = self.queue.recv() => match order {
                    Some(order @ (Order::Restart | Order::Away(_))) => {
                        if let Order::Away(time) = order {
                            away = time;
                        }
                        signal(pid, Signal::SIGKILL);
                        child.wait().await
                    }
                    Some(Order::Stop) | None => return self.stop(child, pid).await,
                },
            };
            self.processes.note(self.plan.role.clone(), None);
            let wait = backoff
                .after(self.clock.elapsed().saturating_sub(began))
                .max(away);
            let program = self.plan.program.display();
            tracing::warn!(%program, ended = %describe(&status), ?wait, "ended; is started again");
            child = match self.again(wait).await {
                Some(child) => child,
                None => return,
            };
        }
    }

    /// Starts it again after `wait`. `None`: it is to stop.
    async fn again(&mut self, mut wait: Duration) -> Option<Child> {
        loop {
            tokio::select! {
                () = self.clock.wait(wait) => {}
                order = self.queue.recv() => match order {
                    Some(Order::Restart | Order::Away(_)) => {}
                    Some(Order::Stop) | None => return None,
                },
            }
            self.notify.clear();
            match spawn(&self.plan, &self.notify) {
                Ok(child) => return Some(child),
                Err(error) => {
                    tracing::error!(program = %self.plan.program.display(), %error, "cannot be started");
                    wait = Duration::from_secs(1);
                }
            }
        }
    }

    async fn stop(&self, mut child: Child, pid: Option<i32>) {
        signal(pid, Signal::SIGTERM);
        if timeout(self.plan.grace, child.wait()).await.is_err() {
            tracing::warn!(program = %self.plan.program.display(), "did not stop in time: killed");
            signal(pid, Signal::SIGKILL);
            let _ = child.wait().await;
        }
        self.processes.note(self.plan.role.clone(), None);
    }
}

fn spawn(plan: &Plan, notify: &Notify) -> io::Result<Child> {
    let log = logs::open(&plan.log)?;
    let (name, value) = notify.variable();
    Command::new(&plan.program)
        .args(&plan.args)
        .env(name, value)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
}

/// The pid is the child's own until it is waited for, which only the caller does.
fn signal(pid: Option<i32>, signal: Signal) {
    if let Some(pid) = pid {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

fn describe(status: &io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    }
}
