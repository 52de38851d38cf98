// SPDX-License-Identifier: Apache-2.0

use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ClientConfig;
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use tokio_rustls::TlsConnector;

use super::*;
use crate::ca::Authority;

const NAME: &str = "maille-control.maille-system.svc";

/// An authority of the API server's, and a certificate of its front proxy.
struct FrontProxy {
    authority: String,
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

impl FrontProxy {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, "front-proxy-client");
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = params.signed_by(&key, &issuer).unwrap();
        Self {
            authority: authority.pem(),
            chain: vec![leaf.der().clone()],
            key,
        }
    }
}

fn authority() -> Authority {
    Authority::create(&"cluster.local".parse().unwrap(), SystemTime::now()).unwrap()
}

/// Who `front` says that a client with this certificate is, if that client takes `front` for `name`.
async fn meet(
    front: &Front,
    anchors: &[Vec<u8>],
    name: &'static str,
    own: Option<&FrontProxy>,
) -> Result<Option<String>, String> {
    let mut roots = RootCertStore::empty();
    for anchor in anchors {
        roots.add(anchor.as_slice().into()).unwrap();
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let key = PrivatePkcs8KeyDer::from(own.key.serialize_der());
            builder
                .with_client_auth_cert(own.chain.clone(), key.into())
                .unwrap()
        }
    };
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let dialled =
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(name).unwrap(), ours);
    let (dialled, accepted) = tokio::join!(dialled, front.accept(theirs));
    dialled.map_err(|error| error.to_string())?;
    let accepted = accepted.map_err(|error| format!("{error:?}"))?;
    Ok(accepted.client().map(str::to_owned))
}

#[tokio::test]
async fn an_api_server_knows_us_and_we_know_its_front_proxy() {
    let (ours, proxy, stranger) = (authority(), FrontProxy::new(), FrontProxy::new());
    let lifetime = Duration::from_secs(3600);
    let serving = ours
        .serving(&[NAME.to_owned()], lifetime, SystemTime::now())
        .unwrap();
    let front = Front::new(&serving, Some(&proxy.authority)).unwrap();
    let anchors = ours.trust_anchors();
    let known = meet(&front, &anchors, NAME, Some(&proxy)).await;
    assert_eq!(known, Ok(Some("front-proxy-client".to_owned())));
    assert_eq!(meet(&front, &anchors, NAME, None).await, Ok(None));
    assert!(meet(&front, &anchors, NAME, Some(&stranger)).await.is_err());
    assert!(meet(&front, &anchors, "other.test", None).await.is_err());
    let others = authority().trust_anchors();
    assert!(meet(&front, &others, NAME, None).await.is_err());
    let open = Front::new(&serving, None).unwrap();
    assert_eq!(meet(&open, &anchors, NAME, None).await, Ok(None));
    assert!(matches!(
        Front::new(&serving, Some("")),
        Err(FrontError::Clients)
    ));
}
