// SPDX-License-Identifier: Apache-2.0
//! Certificates that control would not sign, signed with its own key, and peers of TLS that believe anybody.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use maille_identity::{Authority, Credentials, PrivateKey};
use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::version::TLS13;
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName as Name, Error, ServerConfig,
    SignatureScheme,
};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
/// Whom control knows at the two pods.
pub(crate) const CLIENT: &str = "spiffe://cluster.local/ns/shop/sa/client";
pub(crate) const SERVER: &str = "spiffe://cluster.local/ns/shop/sa/server";

/// The authority in a directory, in wrong hands.
pub(crate) struct Signer {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    authority: Authority,
}

/// A chain, leaf first, and its key.
pub(crate) struct Leaf {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Signer {
    /// The one that control keeps in `dir`, or a new one that has everything in common with it but the keys.
    pub(crate) fn open(dir: &Path) -> Self {
        let domain = "cluster.local".parse().unwrap();
        let authority = Authority::open(dir, &domain, SystemTime::now()).unwrap();
        let pem = std::fs::read(dir.join("authority.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_slice(&pem).unwrap();
        let key = KeyPair::try_from(&key).unwrap();
        let certificate = CertificateDer::from_pem_slice(&pem).unwrap();
        Self {
            issuer: Issuer::from_ca_cert_der(&certificate, key).unwrap(),
            certificate,
            authority,
        }
    }

    /// A leaf for whoever is named, valid as it is said.
    pub(crate) fn leaf(&self, name: &str, from: SystemTime, to: SystemTime) -> Leaf {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(name.try_into().unwrap())];
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + from.duration_since(UNIX_EPOCH).unwrap();
        params.not_after = epoch + to.duration_since(UNIX_EPOCH).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        Leaf {
            chain: vec![leaf.der().clone(), self.certificate.clone()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        }
    }

    /// A leaf that is valid now.
    pub(crate) fn valid(&self, name: &str) -> Leaf {
        let now = SystemTime::now();
        self.leaf(name, now - HOUR / 2, now + HOUR)
    }

    pub(crate) fn expired(&self, name: &str) -> Leaf {
        let now = SystemTime::now();
        self.leaf(name, now - HOUR / 2, now - HOUR / 4)
    }

    pub(crate) fn early(&self, name: &str) -> Leaf {
        let now = SystemTime::now();
        self.leaf(name, now + HOUR, now + 2 * HOUR)
    }

    /// What a proxy with this name would hold.
    pub(crate) fn credentials(&self, name: &str) -> Credentials {
        let key = PrivateKey::generate().unwrap();
        let name = name.parse().unwrap();
        let signed = self
            .authority
            .sign(&key.csr(), &name, HOUR, SystemTime::now())
            .unwrap();
        Credentials::new(key, signed.chain, &self.authority.trust_anchors()).unwrap()
    }
}

/// A client that believes anybody, and speaks `protocol`.
pub(crate) fn client(leaf: Option<Leaf>, protocol: Option<&str>) -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody));
    let mut config = match leaf {
        Some(leaf) => config.with_client_auth_cert(leaf.chain, leaf.key).unwrap(),
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = protocols(protocol);
    Arc::new(config)
}

/// A server that believes anybody, and speaks `protocol`.
pub(crate) fn server(leaf: Leaf, protocol: Option<&str>) -> Arc<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_client_cert_verifier(Arc::new(Anybody))
        .with_single_cert(leaf.chain, leaf.key)
        .unwrap();
    config.alpn_protocols = protocols(protocol);
    Arc::new(config)
}

fn protocols(protocol: Option<&str>) -> Vec<Vec<u8>> {
    protocol
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Believes everything.
#[derive(Debug)]
struct Anybody;

fn schemes() -> Vec<SignatureScheme> {
    provider()
        .signature_verification_algorithms
        .supported_schemes()
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}

impl ClientCertVerifier for Anybody {
    fn root_hint_subjects(&self) -> &[Name] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}
