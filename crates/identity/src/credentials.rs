// SPDX-License-Identifier: Apache-2.0
//! What a proxy proves itself with (key and chain) and whom it believes (anchors): one value, checked once, replaced whole at
//! each rotation. Sessions that were made with an older value keep it. Next: `session.rs`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use maille_model::Identity;
use rustls::crypto::aws_lc_rs::kx_group::{SECP256R1, X25519, X25519MLKEM768};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, InconsistentKeys, ServerConfig};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::clock::{WallClock, from_seconds, unix};
use crate::key::PrivateKey;
use crate::peer::{PeerError, Side, identity_of};
use crate::trust::{Anchors, AnchorsError, Trust};
use crate::verifier::{Clients, Verifier};

/// The application protocol of `docs/wire.md`: the dialect that two Maille proxies speak.
pub const ALPN: &[u8] = b"maille/1";

static GENERATIONS: AtomicU64 = AtomicU64::new(1);

/// Key, chain, anchors, and the TLS configurations made of them. Cheap to clone.
#[derive(Clone)]
pub struct Credentials(Arc<Parts>);

struct Parts {
    identity: Identity,
    not_before: SystemTime,
    not_after: SystemTime,
    generation: u64,
    chain: Vec<Vec<u8>>,
    own: Arc<SingleCertAndKey>,
    verifier: Verifier,
    client: ClientConfig,
    server: Arc<ServerConfig>,
    clock: WallClock,
}

/// Why key, chain and anchors do not fit together.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// There is no certificate.
    #[error("certificate chain is empty")]
    NoCertificate,
    /// There is nobody to believe.
    #[error("trust anchors cannot be used")]
    Anchors(#[from] AnchorsError),
    /// The certificate was made for another key.
    #[error("certificate belongs to another key")]
    Key,
    /// Our own peers would refuse it.
    #[error("own certificate would be refused")]
    Certificate(#[from] PeerError),
    /// The TLS library does not take them.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

// === impl Credentials ===

impl Credentials {
    /// Checks that `chain` (DER, leaf first, without the anchor) belongs to `key`, is valid now for both sides of a
    /// connection, names exactly one identity and ends in one of `anchors` (DER); then prepares TLS.
    pub fn new(
        key: PrivateKey,
        chain: Vec<Vec<u8>>,
        anchors: &[Vec<u8>],
    ) -> Result<Self, CredentialsError> {
        Self::with_clock(key, chain, anchors, WallClock::system())
    }

    /// [`Credentials::new`] by another clock than the machine's.
    pub fn with_clock(
        key: PrivateKey,
        chain: Vec<Vec<u8>>,
        anchors: &[Vec<u8>],
        clock: WallClock,
    ) -> Result<Self, CredentialsError> {
        let chain: Vec<_> = chain.into_iter().map(CertificateDer::from).collect();
        let (leaf, above) = chain.split_first().ok_or(CredentialsError::NoCertificate)?;
        let identity = identity_of(leaf)?;
        let trust = trust(&identity, anchors)?;
        for side in [Side::Client, Side::Server] {
            trust.judge(leaf, above, side, unix(clock.now()))?;
        }
        let certified = CertifiedKey::new(chain, key.signer());
        certified.keys_match().map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => CredentialsError::Key,
            other => CredentialsError::Tls(other),
        })?;
        Self::assemble(identity, certified, trust, &clock)
    }

    /// Prepares TLS, without any check.
    pub(crate) fn assemble(
        identity: Identity,
        certified: CertifiedKey,
        trust: Trust,
        clock: &WallClock,
    ) -> Result<Self, CredentialsError> {
        let chain = certified.cert.iter().map(|one| one.to_vec()).collect();
        let leaf = certified.cert.first();
        let (not_before, not_after) = validity(leaf.ok_or(CredentialsError::NoCertificate)?)?;
        let verifier = Verifier {
            trust,
            expected: None,
            clients: Clients::Proved,
        };
        let certified = Arc::new(SingleCertAndKey::from(certified));
        Ok(Self(Arc::new(Parts {
            identity,
            not_before,
            not_after,
            generation: GENERATIONS.fetch_add(1, Ordering::Relaxed),
            client: client(&verifier, &certified, clock).map_err(CredentialsError::Tls)?,
            server: server(&verifier, &certified, clock).map_err(CredentialsError::Tls)?,
            own: certified,
            chain,
            verifier,
            clock: clock.clone(),
        })))
    }

    /// Who we are.
    pub fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// From when our certificate is valid.
    pub fn not_before(&self) -> SystemTime {
        self.0.not_before
    }

    /// Until when.
    pub fn not_after(&self) -> SystemTime {
        self.0.not_after
    }

    /// Our certificate and those above it (DER, leaf first, without the anchor).
    pub fn chain(&self) -> Vec<Vec<u8>> {
        self.0.chain.clone()
    }

    /// Tells these credentials from all others of this process; later ones have a higher number.
    pub fn generation(&self) -> u64 {
        self.0.generation
    }

    /// The configuration for one session with `expected`.
    pub(crate) fn dial(&self, expected: &Identity) -> ClientConfig {
        let mut config = self.0.client.clone();
        let verifier = Verifier {
            expected: Some(expected.clone()),
            ..self.0.verifier.clone()
        };
        config
            .dangerous()
            .set_certificate_verifier(Arc::new(verifier));
        config
    }

    /// The configuration for who may come to ask for its first certificate.
    pub(crate) fn accept_new(&self) -> Result<ServerConfig, rustls::Error> {
        let verifier = Verifier {
            clients: Clients::ProvedOrNew,
            ..self.0.verifier.clone()
        };
        server(&verifier, &self.0.own, &self.0.clock).map(Arc::unwrap_or_clone)
    }

    /// What we would believe if `anchors` were all.
    pub(crate) fn trust_in(&self, anchors: &Anchors) -> Trust {
        Trust {
            anchors: anchors.clone(),
            ..self.0.verifier.trust.clone()
        }
    }

    /// The time that certificates are judged by.
    pub(crate) fn clock(&self) -> &WallClock {
        &self.0.clock
    }

    pub(crate) fn accept(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.server)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("identity", &self.0.identity)
            .field("generation", &self.0.generation)
            .field("not_after", &self.0.not_after)
            .finish_non_exhaustive()
    }
}

/// The only cryptography: aws-lc-rs, with the key exchanges of `docs/wire.md` in its order.
pub(crate) fn provider() -> CryptoProvider {
    CryptoProvider {
        kx_groups: vec![X25519MLKEM768, X25519, SECP256R1],
        ..aws_lc_rs::default_provider()
    }
}

pub(crate) fn trust(identity: &Identity, anchors: &[Vec<u8>]) -> Result<Trust, AnchorsError> {
    Ok(Trust {
        anchors: Anchors::new(anchors)?,
        trust_domain: identity.trust_domain.clone(),
        provider: Arc::new(provider()),
    })
}

/// From when to when a certificate is valid.
pub(crate) fn validity(leaf: &CertificateDer<'_>) -> Result<(SystemTime, SystemTime), PeerError> {
    let certificate = X509Certificate::from_der(leaf)
        .map_err(|_| PeerError::Malformed)?
        .1;
    let validity = certificate.validity();
    Ok((
        from_seconds(validity.not_before.timestamp()),
        from_seconds(validity.not_after.timestamp()),
    ))
}

fn client(
    verifier: &Verifier,
    own: &Arc<SingleCertAndKey>,
    clock: &WallClock,
) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::clone(&verifier.trust.provider);
    let mut config = ClientConfig::builder_with_details(provider, Arc::new(clock.clone()))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier.clone()))
        .with_client_cert_resolver(Arc::clone(own) as _);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_sni = false;
    config.enable_early_data = false;
    Ok(config)
}

fn server(
    verifier: &Verifier,
    own: &Arc<SingleCertAndKey>,
    clock: &WallClock,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::clone(&verifier.trust.provider);
    let mut config = ServerConfig::builder_with_details(provider, Arc::new(clock.clone()))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(verifier.clone()))
        .with_cert_resolver(Arc::clone(own) as _);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Lab, at, identity, now};

    const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

    fn made(
        key: PrivateKey,
        chain: Vec<Vec<u8>>,
        anchors: &[Vec<u8>],
    ) -> Result<Credentials, CredentialsError> {
        Credentials::with_clock(key, chain, anchors, at(now()))
    }

    #[test]
    fn what_fits_together_is_taken() {
        let lab = Lab::new();
        let (key, chain) = lab.leaf(|params| lab.workload(params, WEB));
        let first = made(key, chain, &lab.anchors()).unwrap();
        assert_eq!(*first.identity(), identity(WEB));
        assert!(first.not_before() < now() && now() < first.not_after());
        let (key, chain) = lab.leaf(|params| lab.workload(params, WEB));
        let second = made(key, chain, &lab.anchors()).unwrap();
        assert!(second.generation() > first.generation());
        assert!(!format!("{second:?}").to_lowercase().contains("key"));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (lab, other) = (Lab::new(), Lab::new());
        let leaf = || lab.leaf(|params| lab.workload(params, WEB));
        let (key, _) = leaf();
        let (_, chain) = leaf();
        assert!(matches!(
            made(key, chain, &lab.anchors()),
            Err(CredentialsError::Key)
        ));
        let (key, chain) = leaf();
        assert!(matches!(
            made(key, chain, &other.anchors()),
            Err(CredentialsError::Certificate(PeerError::UnknownCa))
        ));
        let (key, chain) = leaf();
        assert!(matches!(
            made(key, chain, &[]),
            Err(CredentialsError::Anchors(AnchorsError::None))
        ));
        let (key, chain) = leaf();
        assert!(matches!(
            made(key, chain, &[vec![1, 2, 3]]),
            Err(CredentialsError::Anchors(AnchorsError::Unreadable {
                index: 0,
                ..
            }))
        ));
        let (key, _) = leaf();
        assert!(matches!(
            made(key, vec![], &lab.anchors()),
            Err(CredentialsError::NoCertificate)
        ));
        let (key, _) = leaf();
        assert!(matches!(
            made(key, vec![vec![48, 1]], &lab.anchors()),
            Err(CredentialsError::Certificate(PeerError::Malformed))
        ));
    }
}
