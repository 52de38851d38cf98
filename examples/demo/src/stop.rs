// SPDX-License-Identifier: Apache-2.0
//! How a role leaves without losing a request: it says so, goes on serving for a moment, then closes.
//!
//! Must never exit with an answer owed. Read `server.rs` next.

use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// How long a leaving role still takes requests: the time that news of its leaving needs to travel.
const LINGER: Duration = Duration::from_secs(1);

/// How far a role is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Serving.
    Serving,
    /// Not ready any more, serves what still comes, and asks each client not to come back on this connection.
    Leaving,
    /// Idle connections are closed, no new ones are taken.
    Closing,
}

/// The phase, for everybody who must act on it.
#[derive(Clone, Debug)]
pub(crate) struct Stop(watch::Receiver<Phase>);

impl Stop {
    /// Leaves on SIGTERM or SIGINT.
    pub(crate) fn on_sigterm() -> anyhow::Result<Self> {
        let mut term = signal(SignalKind::terminate()).context("failed to watch SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("failed to watch SIGINT")?;
        let (set, phase) = watch::channel(Phase::Serving);
        let task = async move {
            tokio::select! {
                _ = term.recv() => {}
                _ = interrupt.recv() => {}
            }
            set.send_replace(Phase::Leaving);
            sleep_until(Instant::now() + LINGER).await;
            set.send_replace(Phase::Closing);
        };
        drop(tokio::runtime::Handle::current().spawn(task));
        Ok(Self(phase))
    }

    /// The phase now.
    pub(crate) fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Waits until the phase is at least `phase`. Never returns if the process stays.
    pub(crate) async fn reached(&mut self, phase: Phase) {
        // The sender lives as long as the task above; when it is gone the last phase was set.
        let _ = self.0.wait_for(|now| *now >= phase).await;
    }
}
