// SPDX-License-Identifier: Apache-2.0
//! Both sides over a pipe: who gets in, as whom, and who does not.

use maille_model::WorkloadUid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

use super::*;
use crate::ca::{Authority, Subject};
use crate::key::PrivateKey;
use crate::testing::{HOUR, Lab, at, identity, now, valid};

const CONTROL: &str = "spiffe://cluster.local/ns/maille-system/sa/maille-control";
const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

fn authority() -> Authority {
    Authority::create(&identity(CONTROL).trust_domain, now()).unwrap()
}

fn signed(authority: &Authority, name: &str, uid: Option<&WorkloadUid>) -> Credentials {
    let key = PrivateKey::generate().unwrap();
    let identity = identity(name);
    let subject = Subject {
        identity: &identity,
        uid,
    };
    let chain = authority.sign(&key.csr(), subject, HOUR, now()).unwrap();
    Credentials::with_clock(key, chain.chain, &authority.trust_anchors(), at(now())).unwrap()
}

fn unproved(anchors: &[Vec<u8>]) -> Connector {
    Connector::with_clock(anchors, &identity(CONTROL), at(now())).unwrap()
}

/// What both sides saw. The client also has one byte answered, as its own certificate is judged only after it is done.
async fn meet(
    control: &Credentials,
    proxy: &Connector,
) -> (Result<Option<Peer>, TlsError>, Result<Option<Peer>, String>) {
    let acceptor = Acceptor::new(control).unwrap();
    let (near, far) = duplex(64 * 1024);
    let serve = async {
        let mut stream = acceptor.accept(far).await?;
        let heard = stream.read_u8().await.map_err(TlsError::Broken)?;
        stream.write_u8(heard).await.map_err(TlsError::Broken)?;
        stream.flush().await.unwrap();
        Ok(stream.peer().cloned())
    };
    let dial = async {
        let mut stream = proxy.connect(near).await.map_err(|error| said(&error))?;
        let talk = async {
            stream.write_u8(7).await?;
            stream.flush().await?;
            stream.read_u8().await
        };
        match talk.await {
            Ok(7) => Ok(stream.peer().cloned()),
            other => Err(format!("{other:?}")),
        }
    };
    tokio::join!(serve, dial)
}

fn said(error: &TlsError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[tokio::test]
async fn a_new_proxy_is_nobody_and_knows_control() {
    let authority = authority();
    let control = signed(&authority, CONTROL, None);
    let (served, dialled) = meet(&control, &unproved(&authority.trust_anchors())).await;
    assert_eq!(served.unwrap(), None);
    assert_eq!(dialled.unwrap().unwrap().identity, identity(CONTROL));
}

#[tokio::test]
async fn a_proved_proxy_is_its_identity_and_its_pod() {
    let authority = authority();
    let control = signed(&authority, CONTROL, None);
    let uid = WorkloadUid::new("pod-7").unwrap();
    let own = signed(&authority, WEB, Some(&uid));
    let proxy = Connector::proved(&own, &identity(CONTROL));
    let (served, dialled) = meet(&control, &proxy).await;
    let peer = served.unwrap().unwrap();
    assert_eq!((peer.identity, peer.uid), (identity(WEB), Some(uid)));
    assert_eq!(peer.not_after, own.not_after());
    assert!(dialled.is_ok());
}

#[tokio::test]
async fn somebody_else_in_control_s_place_is_refused() {
    let (ours, theirs) = (authority(), authority());
    let anchors = ours.trust_anchors();
    // Of our own mesh, but not control; and control of another mesh with the same name.
    for (other, why) in [
        (
            signed(&ours, WEB, None),
            "but spiffe://cluster.local/ns/maille-system",
        ),
        (
            signed(&theirs, CONTROL, None),
            "not from an authority of this mesh",
        ),
    ] {
        let (served, dialled) = meet(&other, &unproved(&anchors)).await;
        let said = dialled.unwrap_err();
        assert!(said.contains(why), "{said}");
        assert!(served.is_err());
    }
}

#[tokio::test]
async fn the_proxy_beside_control_does_not_pass_for_control() {
    let authority = authority();
    let uid = WorkloadUid::new("control-1").unwrap();
    let beside = signed(&authority, CONTROL, Some(&uid));
    let (served, dialled) = meet(&beside, &unproved(&authority.trust_anchors())).await;
    let said = dialled.unwrap_err();
    assert!(said.contains("pod control-1"), "{said}");
    assert!(served.is_err(), "nothing was said to it");
}

#[tokio::test]
async fn a_certificate_that_proves_nothing_is_not_taken_for_none() {
    let lab = Lab::new();
    let control = lab.credentials(CONTROL, &lab.anchors(), |_| {});
    let expired = lab.credentials(WEB, &lab.anchors(), |params| {
        valid(params, now() - HOUR * 2, now() - HOUR);
    });
    let foreign = Lab::new().credentials(WEB, &lab.anchors(), |_| {});
    for (own, why) in [(expired, "expired"), (foreign, "authority")] {
        let proxy = Connector::proved(&own, &identity(CONTROL));
        let (served, dialled) = meet(&control, &proxy).await;
        let said = said(&served.unwrap_err());
        assert!(said.contains(why), "{said}");
        assert!(dialled.is_err());
    }
}

#[tokio::test]
async fn plain_text_and_other_protocols_are_refused() {
    let authority = authority();
    let control = signed(&authority, CONTROL, None);
    let acceptor = Acceptor::new(&control).unwrap();
    let (mut near, far) = duplex(1024);
    near.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    let refused = acceptor.accept(far).await.unwrap_err();
    assert!(
        matches!(refused, TlsError::Handshake(SessionError::NotTls)),
        "{refused:?}"
    );

    // The mesh's own protocol is not this one.
    let web = signed(&authority, WEB, None);
    let mesh = TlsConnector::from(Arc::new(web.dial(&identity(CONTROL))));
    let (near, far) = duplex(64 * 1024);
    let name = ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into());
    let (served, dialled) = tokio::join!(acceptor.accept(far), mesh.connect(name, near));
    assert!(matches!(served, Err(TlsError::Protocol)));
    assert!(dialled.is_err());
}
