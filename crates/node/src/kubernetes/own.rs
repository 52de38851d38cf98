// SPDX-License-Identifier: Apache-2.0
//! The agent's own certificate, by which control knows its node: asked for with the pod's token, which the kubelet gives to this pod
//! alone, and renewed by itself.
//!
//! The key is made here and stays here. A pod's key is another matter: only its proxy has it.

use std::time::Duration;

use maille_chassis::clock::Clock;
use maille_identity::{Credentials, CredentialsError, KeyError, PrivateKey, rotation};
use maille_reach::direct::{Direct, TokenError, is_valid};
use maille_wire::v1::SignRequest;
use maille_wire::v1::certificates_client::CertificatesClient;
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::{Request, Status};

use crate::backoff::Backoff;

/// How long control may take to sign.
const SIGN: Duration = Duration::from_secs(10);
/// Wall time may jump: how long it is not looked at.
const GLANCE: Duration = Duration::from_secs(30);

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
enum OwnError {
    #[error("no key could be made")]
    Key(#[from] KeyError),
    #[error("the agent's token cannot be sent")]
    Token(#[from] TokenError),
    #[error("control did not sign in time")]
    Late,
    #[error("control did not sign: {0}")]
    Refused(Box<Status>),
    #[error("what control signed cannot be used")]
    Unusable(#[from] CredentialsError),
}

/// The certificate, whenever it changes, and what keeps it fresh: to be run.
pub(super) fn keep(
    direct: Direct,
    clock: Clock,
) -> (
    watch::Receiver<Option<Credentials>>,
    impl Future<Output = ()>,
) {
    let (publish, feed) = watch::channel(None);
    (feed, renew(direct, publish, clock))
}

async fn renew(direct: Direct, publish: watch::Sender<Option<Credentials>>, clock: Clock) {
    let mut backoff = Backoff::mesh();
    loop {
        let began = clock.elapsed();
        let held = publish.borrow().clone();
        match sign(&direct, held, &publish).await {
            Ok(own) => {
                tracing::info!(identity = %own.identity(), "the agent's own certificate is in force");
                let at = rotation::renew_at(own.not_before(), own.not_after(), fastrand::f64());
                publish.send_replace(Some(own));
                while let Ok(left) = at.duration_since(clock.wall()) {
                    clock.wait(left.min(GLANCE)).await;
                }
            }
            Err(error) => {
                let reason = anyhow::Error::from(error);
                maille_chassis::limited!(warn, reason = %format_args!("{reason:#}"), "no certificate for the agent itself");
            }
        }
        let lasted = clock.elapsed().saturating_sub(began);
        clock.wait(backoff.after(lasted)).await;
    }
}

async fn sign(
    direct: &Direct,
    held: Option<Credentials>,
    publish: &watch::Sender<Option<Credentials>>,
) -> Result<Credentials, OwnError> {
    let key = PrivateKey::generate()?;
    let mut request = Request::new(SignRequest { csr: key.csr() });
    let channel = match held.filter(is_valid) {
        Some(_) => direct.channel(publish.subscribe()),
        None => {
            let bearer = direct.bearer()?;
            request.metadata_mut().insert("authorization", bearer);
            direct.first()
        }
    };
    let mut client = CertificatesClient::new(channel);
    let signed = timeout(SIGN, client.sign(request)).await;
    let signed = signed.map_err(|_| OwnError::Late)?;
    let signed = signed
        .map_err(|status| OwnError::Refused(Box::new(status)))?
        .into_inner();
    Ok(Credentials::new(key, signed.chain, &signed.trust_anchors)?)
}
