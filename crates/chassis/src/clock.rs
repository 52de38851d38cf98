// SPDX-License-Identifier: Apache-2.0
//! The only clock: monotonic time from tokio (so that paused time works in tests) and wall time for certificates.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// Where time comes from.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
        }
    }

    /// Time since the clock started; monotonic.
    pub fn elapsed(&self) -> Duration {
        Instant::now().saturating_duration_since(self.started)
    }

    /// Monotonic now, for deadlines.
    pub fn now(&self) -> Instant {
        Instant::now()
    }

    /// Wall time, for certificates and reports.
    pub fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    /// Waits until `deadline`. The only sleep in production code: for back-off and periodic work, never to synchronise.
    pub async fn until(&self, deadline: Instant) {
        tokio::time::sleep_until(deadline).await;
    }

    /// Waits for `time`; see [`Clock::until`].
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub async fn wait(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}
