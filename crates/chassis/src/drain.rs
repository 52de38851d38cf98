// SPDX-License-Identifier: Apache-2.0
//! Stopping: gracefully, then at once.
//!
//! The owner of a process holds [`Drain`]; everything that must end before it does holds a [`Watch`]. Dropping the last
//! watch is completion. The first signal starts a graceful drain with a deadline, a second one ends it at once.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

/// How far stopping has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Working.
    Running,
    /// No new work; what is open may end.
    Graceful,
    /// Now.
    Immediate,
}

/// The side that says stop.
#[derive(Debug)]
pub struct Drain {
    phase: watch::Sender<Phase>,
    alive: mpsc::Receiver<()>,
    template: Option<mpsc::Sender<()>>,
}

/// The side that is told, and whose drop says "ended". Cheap to clone.
#[derive(Clone, Debug)]
pub struct Watch {
    phase: watch::Receiver<Phase>,
    _alive: mpsc::Sender<()>,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything ended by itself.
    Gracefully,
    /// The deadline, or a second signal, came first.
    Forced,
}

impl Drain {
    /// A running process.
    pub fn new() -> Self {
        let (template, alive) = mpsc::channel(1);
        Self {
            phase: watch::Sender::new(Phase::Running),
            alive,
            template: Some(template),
        }
    }

    /// A watch for somebody who must end first. After [`Drain::finish`] began, a watch in its present phase.
    pub fn watch(&self) -> Watch {
        let alive = self.template.clone().unwrap_or_else(|| mpsc::channel(1).0);
        Watch {
            phase: self.phase.subscribe(),
            _alive: alive,
        }
    }

    /// Starts draining and waits until every watch is dropped, at most `deadline`, or until `hurry` is done; then says
    /// [`Phase::Immediate`] and waits at most one second more.
    pub async fn finish(&mut self, deadline: Duration, hurry: impl Future<Output = ()>) -> Ended {
        self.template = None;
        self.phase.send_replace(Phase::Graceful);
        tokio::select! {
            _ = self.alive.recv() => return Ended::Gracefully,
            () = hurry => {}
            () = after(deadline) => {}
        }
        self.phase.send_replace(Phase::Immediate);
        tokio::select! {
            _ = self.alive.recv() => {}
            () = after(Duration::from_secs(1)) => {}
        }
        Ended::Forced
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

impl Watch {
    /// The phase now.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Waits until stopping has come at least to `phase`. A drain that was dropped counts as [`Phase::Immediate`].
    pub async fn reached(&mut self, phase: Phase) {
        // The only error is that the sender is gone, which means the same as the last phase.
        drop(self.phase.wait_for(|now| *now >= phase).await);
    }
}

/// Waits for SIGTERM or SIGINT, each call for one of them. `None` where the handlers cannot be installed.
#[derive(Debug)]
pub struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    /// Installs the handlers.
    pub fn install() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The next signal.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a deadline of this module's own")]
async fn after(time: Duration) {
    tokio::time::sleep(time).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ends_when_the_last_watch_is_dropped() {
        let mut drain = Drain::new();
        let mut watch = drain.watch();
        let worker = async move {
            watch.reached(Phase::Graceful).await;
            assert_eq!(watch.phase(), Phase::Graceful);
        };
        let (ended, ()) = tokio::join!(
            drain.finish(Duration::from_secs(10), std::future::pending()),
            worker
        );
        assert_eq!(ended, Ended::Gracefully);
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_forces() {
        let mut drain = Drain::new();
        let mut watch = drain.watch();
        let worker = async move { watch.reached(Phase::Immediate).await };
        let (ended, ()) = tokio::join!(
            drain.finish(Duration::from_secs(10), std::future::pending()),
            worker
        );
        assert_eq!(ended, Ended::Forced);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_forces_at_once() {
        let mut drain = Drain::new();
        let _held = drain.watch();
        assert_eq!(
            drain.finish(Duration::from_secs(3600), async {}).await,
            Ended::Forced
        );
    }
}
