// SPDX-License-Identifier: Apache-2.0
//! Control's own certificates, signed by the authority in force: one that proves its identity to proxies, one with its DNS name
//! for the API server. Renewed before they end, and whenever the authority or the front proxy's is replaced.
//!
//! Connections that are open keep what they began with. Keys are made here and leave nobody. Read [`super::front`] next.

use std::time::{Duration, SystemTime};

use maille_chassis::clock::Clock;
use maille_chassis::limited;
use maille_identity::tls::{Acceptor, TlsError};
use maille_identity::{
    Authority, Credentials, CredentialsError, Front, FrontError, KeyError, PrivateKey, SignError,
    rotation,
};
use maille_model::Identity;
use tokio::sync::watch;

use super::front::FrontProxy;
use crate::causes::with_causes;
use crate::keyring::Keyring;

/// Until it is tried again after a failure.
const AGAIN: Duration = Duration::from_secs(5);

/// Who control is.
#[derive(Clone, Debug)]
pub struct Own {
    /// To proxies.
    pub identity: Identity,
    /// To the API server.
    pub names: Vec<String>,
    /// How long certificates are valid.
    pub lifetime: Duration,
}

/// Where what was made of the certificates is put.
#[derive(Debug)]
pub struct Shelf {
    /// For proxies, and other replicas.
    pub acceptor: watch::Sender<Option<Acceptor>>,
    /// For dialling other replicas.
    pub credentials: watch::Sender<Option<Credentials>>,
    /// For the API server.
    pub front: watch::Sender<Option<Front>>,
}

/// Why control cannot prove itself.
#[derive(Debug, thiserror::Error)]
enum OwnError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("the certificate was not signed")]
    Sign(#[from] SignError),
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Front(#[from] FrontError),
}

/// Keeps `shelf` filled, until the process ends.
pub async fn keep(
    own: Own,
    keyring: Keyring,
    mut front: watch::Receiver<Option<FrontProxy>>,
    shelf: Shelf,
    clock: Clock,
) {
    let mut authorities = keyring.from_now();
    let mut authority = authorities.next().await;
    loop {
        let clients = front.borrow_and_update().clone();
        let made = make(&own, &authority, clients.as_ref(), clock.wall());
        let pause = match made {
            Ok(made) => {
                shelf.acceptor.send_replace(Some(made.acceptor));
                shelf.credentials.send_replace(Some(made.credentials));
                shelf.front.send_replace(Some(made.front));
                let now = clock.wall();
                let renew = rotation::renew_at(now, made.until, fastrand::f64());
                renew
                    .duration_since(now)
                    .unwrap_or(AGAIN)
                    .max(Duration::from_secs(1))
            }
            Err(error) => {
                limited!(error, error = %with_causes(&error), "control cannot prove itself");
                AGAIN
            }
        };
        tokio::select! {
            next = authorities.next() => authority = next,
            changed = front.changed() => if changed.is_err() { return },
            () = clock.wait(pause) => {}
        }
    }
}

/// What is put on the shelf, and until when it is good.
struct Made {
    acceptor: Acceptor,
    credentials: Credentials,
    front: Front,
    until: SystemTime,
}

fn make(
    own: &Own,
    authority: &Authority,
    front: Option<&FrontProxy>,
    now: SystemTime,
) -> Result<Made, OwnError> {
    let key = PrivateKey::generate()?;
    let signed = authority.sign(&key.csr(), &own.identity, own.lifetime, now)?;
    let credentials = Credentials::new(key, signed.chain, &authority.trust_anchors())?;
    let acceptor = Acceptor::new(&credentials)?;
    let serving = authority.serving(&own.names, own.lifetime, now)?;
    let gate = Front::new(&serving, front.map(|front| front.authority.as_str()))?;
    Ok(Made {
        acceptor,
        credentials,
        front: gate,
        until: signed.not_after.min(serving.not_after),
    })
}
