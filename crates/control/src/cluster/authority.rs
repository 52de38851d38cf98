// SPDX-License-Identifier: Apache-2.0
//! The certificate authority in the Secret `maille-ca`: made by whoever holds the lease where there is none, read by every
//! replica, replaced whenever the Secret is.
//!
//! A Secret that makes no sense replaces nothing, and is never written over: it may be the only copy of a key. One that was
//! deleted is written again as it was. Read [`super::trust`] next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::PostParams;
use kube::runtime::watcher::Event;
use maille_chassis::clock::Clock;
use maille_chassis::limited;
use maille_identity::{Authority, AuthorityError, Kept, KeptError};
use maille_model::TrustDomain;

use super::leader::Leading;
use super::{CallError, Cluster, MANAGED_BY, call, watch_one};
use crate::causes::with_causes;
use crate::hub::Hub;
use crate::keyring::KeyringWriter;

/// The Secret's name, in control's own namespace.
const NAME: &str = "maille-ca";
/// Its keys, as cert-manager and `kubectl create secret tls` call them.
const ANCHORS: &str = "ca.crt";
const ISSUERS: &str = "tls.crt";
const KEY: &str = "tls.key";
/// Until what could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// Why a Secret holds no authority.
#[derive(Debug, thiserror::Error)]
enum SecretError {
    #[error("it has no {0}")]
    Missing(&'static str),
    #[error(transparent)]
    Kept(#[from] KeptError),
}

/// Why there is no Secret.
#[derive(Debug, thiserror::Error)]
enum CreateError {
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error("it cannot be written")]
    Write(#[from] CallError),
}

struct Keeper {
    secrets: Api<Secret>,
    trust_domain: TrustDomain,
    hub: Arc<Hub>,
    keyring: KeyringWriter,
}

/// Keeps `keyring` as the Secret says, until the process ends.
pub async fn keep(
    cluster: Cluster,
    (hub, clock): (Arc<Hub>, Clock),
    trust_domain: TrustDomain,
    keyring: KeyringWriter,
    mut leading: Leading,
) {
    let keeper = Keeper {
        secrets: Api::namespaced(cluster.client.clone(), &cluster.namespace),
        trust_domain,
        hub,
        keyring,
    };
    let mut steps = watch_one(&cluster, keeper.secrets.clone(), NAME);
    let (mut present, mut listed) = (false, false);
    loop {
        tokio::select! {
            step = steps.next() => match step {
                None => return,
                Some(Err(error)) => limited!(warn, error = %with_causes(&error), "watch on the authority began again"),
                Some(Ok(Event::Init)) => (present, listed) = (false, false),
                Some(Ok(Event::InitApply(secret) | Event::Apply(secret))) => {
                    present = true;
                    keeper.take(&secret);
                }
                Some(Ok(Event::InitDone)) => listed = true,
                Some(Ok(Event::Delete(_))) => present = false,
            },
            () = leading.changed() => {}
            () = clock.wait(AGAIN), if listed && !present && leading.now() => {}
        }
        if listed && !present && leading.now() {
            match keeper.create().await {
                Ok(()) => tracing::info!(secret = NAME, "authority written"),
                Err(error) => {
                    limited!(warn, secret = NAME, error = %with_causes(&error), "authority not written")
                }
            }
        }
    }
}

// === impl Keeper ===

impl Keeper {
    fn take(&self, secret: &Secret) {
        match read(secret, &self.trust_domain) {
            Ok(authority) => self.put(authority),
            Err(error) => limited!(
                error,
                secret = NAME,
                error = %with_causes(&error),
                "the Secret holds no authority: mend it, or delete it; what is in force is then written again, and where nothing is a new one is made"
            ),
        }
    }

    fn put(&self, authority: Authority) {
        let before = self.keyring.current();
        if before.is_some_and(|before| before.kept() == authority.kept()) {
            return;
        }
        self.hub.believe(authority.trust_anchors());
        self.keyring.put(authority);
        tracing::info!("authority in force");
    }

    async fn create(&self) -> Result<(), CreateError> {
        let kept = match self.keyring.current() {
            Some(authority) => authority.kept(),
            None => Authority::create(&self.trust_domain, self.hub.now())?.kept(),
        };
        let post = PostParams::default();
        match call(self.secrets.create(&post, &secret(kept))).await {
            Ok(_) => Ok(()),
            // Another replica was quicker: the watch tells what it wrote.
            Err(error) if error.code() == Some(409) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn secret(kept: Kept) -> Secret {
    let (name, value) = MANAGED_BY;
    let data = [
        (ANCHORS, kept.anchors),
        (ISSUERS, kept.issuers),
        (KEY, kept.key),
    ];
    Secret {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            labels: Some(BTreeMap::from([(name.to_owned(), value.to_owned())])),
            ..ObjectMeta::default()
        },
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(
            data.map(|(name, text)| (name.to_owned(), ByteString(text.into_bytes())))
                .into(),
        ),
        ..Secret::default()
    }
}

fn read(secret: &Secret, trust_domain: &TrustDomain) -> Result<Authority, SecretError> {
    let text = |key: &'static str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(key));
        let text = bytes.and_then(|bytes| String::from_utf8(bytes.0.clone()).ok());
        text.ok_or(SecretError::Missing(key))
    };
    let kept = Kept {
        anchors: text(ANCHORS)?,
        issuers: text(ISSUERS)?,
        key: text(KEY)?,
    };
    Ok(Authority::from_kept(&kept, trust_domain)?)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_secret_is_read_as_it_is_written() {
        let domain = "cluster.local".parse().unwrap();
        let kept = Authority::create(&domain, SystemTime::now())
            .unwrap()
            .kept();
        let mut written = secret(kept.clone());
        assert_eq!(read(&written, &domain).unwrap().kept(), kept);
        let data = written.data.as_mut().unwrap();
        data.remove(KEY);
        let error = read(&written, &domain).unwrap_err();
        assert_eq!(error.to_string(), "it has no tls.key");
    }
}
