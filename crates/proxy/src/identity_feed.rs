// SPDX-License-Identifier: Apache-2.0
//! The own certificate: a key is made here and never leaves, a certificate for it is asked for, and again at 70 % of its life or when the mesh's
//! anchors changed.
//!
//! Must never take a certificate away: what is in force stays so until a better one came. Read `identity_feed/signer.rs` next.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use maille_chassis::clock::Clock;
use maille_engine::snapshot::Snapshot;
use maille_identity::{Credentials, CredentialsError, KeyError, PrivateKey, rotation};
use tokio::sync::watch;

use crate::control::Backoff;

mod signer;

pub use signer::{Signer, SignerError};

/// Wall time may jump: how long it is not looked at.
const LOOK: Duration = Duration::from_secs(30);

/// The own credentials, whenever they change; `None` before the first.
pub type Feed = watch::Receiver<Option<Credentials>>;

/// Keeps the own certificate fresh: to be run.
#[derive(Debug)]
pub struct IdentityFeed {
    publish: watch::Sender<Option<Credentials>>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    clock: Clock,
}

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
enum RenewError {
    #[error("no key could be made")]
    Key(#[from] KeyError),
    #[error(transparent)]
    Sign(#[from] SignerError),
    #[error("what control signed cannot be used")]
    Unusable(#[from] CredentialsError),
}

/// Both ends of the feed.
pub fn new(snapshots: watch::Receiver<Arc<Snapshot>>, clock: Clock) -> (Feed, IdentityFeed) {
    let (publish, feed) = watch::channel(None);
    (
        feed,
        IdentityFeed {
            publish,
            snapshots,
            clock,
        },
    )
}

// === impl IdentityFeed ===

impl IdentityFeed {
    /// Asks for certificates, for ever.
    pub async fn run(mut self, signer: Signer) {
        let mut backoff = Backoff::new();
        loop {
            let began = self.clock.now();
            match self.renew(&signer).await {
                Ok((credentials, anchors)) => {
                    tracing::info!(
                        identity = %credentials.identity(),
                        generation = credentials.generation(),
                        seconds = life(&credentials).as_secs(),
                        "certificate in force"
                    );
                    let at = rotation::renew_at(
                        credentials.not_before(),
                        credentials.not_after(),
                        fastrand::f64(),
                    );
                    self.publish.send_replace(Some(credentials));
                    self.stale(at, &anchors).await;
                }
                Err(error) => {
                    let left = self.left();
                    maille_chassis::limited!(
                        warn,
                        error = &error as &dyn std::error::Error,
                        seconds_left = left,
                        "no new certificate"
                    );
                }
            }
            // Short after a long life; certificates that are stale when they come are not asked for in a hurry.
            backoff.wait(&self.clock, began).await;
        }
    }

    /// Waits until `at`, or until the mesh's anchors are no longer `anchors`.
    async fn stale(&mut self, at: SystemTime, anchors: &[Vec<u8>]) {
        let told = self.anchors();
        loop {
            let Ok(left) = at.duration_since(self.clock.wall()) else {
                return;
            };
            let now = self.anchors();
            if now != told && now.as_deref().is_some_and(|now| now != anchors) {
                return;
            }
            tokio::select! {
                () = self.clock.wait(left.min(LOOK)) => {}
                changed = self.snapshots.changed() => if changed.is_err() {
                    // Discovery has ended, and with it the process soon.
                    self.clock.wait(left.min(LOOK)).await;
                }
            }
        }
    }

    async fn renew(&self, signer: &Signer) -> Result<(Credentials, Vec<Vec<u8>>), RenewError> {
        let key = PrivateKey::generate()?;
        let held = self.publish.borrow().clone();
        let signed = signer.sign(key.csr(), held.as_ref()).await?;
        let credentials = Credentials::new(key, signed.chain, &signed.trust_anchors)?;
        Ok((credentials, signed.trust_anchors))
    }

    fn anchors(&mut self) -> Option<Vec<Vec<u8>>> {
        let snapshot = self.snapshots.borrow_and_update();
        snapshot.mesh().map(|mesh| mesh.trust_anchors.clone())
    }

    /// Seconds that what is in force is still good for.
    fn left(&self) -> Option<u64> {
        let held = self.publish.borrow();
        let held = held.as_ref()?;
        Some(
            held.not_after()
                .duration_since(self.clock.wall())
                .unwrap_or_default()
                .as_secs(),
        )
    }
}

fn life(credentials: &Credentials) -> Duration {
    credentials
        .not_after()
        .duration_since(credentials.not_before())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
