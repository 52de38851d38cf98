// SPDX-License-Identifier: Apache-2.0
//! How this proxy talks to control: by which way, as which workload, and how soon again after a failure. Used by discovery, identity,
//! questions and telemetry. Read `maille_reach::direct` next.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use maille_chassis::clock::Clock;
use maille_chassis::grpc;
use maille_identity::Credentials;
use maille_model::WorkloadUid;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::Channel;
use tonic::{Request, Status};

pub use maille_reach::direct;
use maille_reach::direct::Direct;

/// The metadata that names the asking workload. The agent overwrites it with what it attested.
const WORKLOAD: &str = "maille-workload";
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);
/// A stream that lived so long was a good one: the next attempt comes soon again.
const GOOD: Duration = Duration::from_secs(10);

/// The way to control.
#[derive(Clone, Debug)]
pub enum Way {
    /// By the node agent's socket: it knows who asks.
    Agent(PathBuf),
    /// Control itself.
    Direct(Direct),
}

/// Adds to every call who is asking.
#[derive(Clone, Debug)]
pub struct Caller(MetadataValue<Ascii>);

/// Exponential waiting with jitter: 0.1 s to 5 s.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
}

// === impl Way ===

impl Way {
    /// What everything but the first certificate is asked on. It connects with the first call and again after each loss.
    pub fn channel(&self, credentials: &watch::Receiver<Option<Credentials>>) -> Channel {
        match self {
            Self::Agent(path) => grpc::channel(path),
            Self::Direct(direct) => direct.channel(credentials.clone()),
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(path) => write!(f, "agent at {}", path.display()),
            Self::Direct(direct) => write!(f, "control at {direct}"),
        }
    }
}

// === impl Caller ===

impl Caller {
    /// Calls for `uid`. `None` if that cannot be said in metadata, which visible ASCII always can.
    pub fn new(uid: &WorkloadUid) -> Option<Self> {
        uid.as_str().parse().ok().map(Self)
    }
}

impl Interceptor for Caller {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert(WORKLOAD, self.0.clone());
        Ok(request)
    }
}

// === impl Backoff ===

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

impl Backoff {
    /// The first wait is short.
    pub fn new() -> Self {
        Self { next: FIRST }
    }

    /// How long to wait after an attempt that lasted for `lasted`; `share` (0 to 1) is random.
    pub fn after(&mut self, lasted: Duration, share: f64) -> Duration {
        if lasted >= GOOD {
            self.next = FIRST;
        }
        let wait = self.next.mul_f64(0.5 + share.clamp(0.0, 1.0) / 2.0);
        self.next = (self.next * 2).min(LONGEST);
        wait
    }

    /// Waits after an attempt that began at `began`.
    pub async fn wait(&mut self, clock: &Clock, began: Instant) {
        let lasted = clock.now().saturating_duration_since(began);
        clock.wait(self.after(lasted, fastrand::f64())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_begin_again_after_a_good_stream() {
        let mut backoff = Backoff::new();
        let waits: Vec<_> = (0..10)
            .map(|_| backoff.after(Duration::ZERO, 1.0))
            .collect();
        assert_eq!(waits[..3], [100, 200, 400].map(Duration::from_millis));
        assert_eq!(waits[9], LONGEST);
        assert_eq!(backoff.after(GOOD, 0.0), FIRST / 2);
    }
}
