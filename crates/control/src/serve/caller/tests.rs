// SPDX-License-Identifier: Apache-2.0
use std::time::{Duration, UNIX_EPOCH};

use maille_manifest::Object;
use maille_model::Membership;
use tonic::Code;

use super::*;
use crate::watch::Event;

fn peer(uid: Option<&str>) -> Peer {
    Peer {
        identity: "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap(),
        uid: uid.and_then(WorkloadUid::new),
        not_after: UNIX_EPOCH + Duration::from_secs(100),
    }
}

fn workload(account: &str) -> Workload {
    Workload {
        uid: WorkloadUid::new("u").unwrap(),
        namespace: "shop".parse().unwrap(),
        name: "web-1".parse().unwrap(),
        service_account: account.parse().unwrap(),
        addresses: Vec::new(),
        owner: None,
        membership: Membership::Meshed,
        zone: None,
    }
}

#[test]
fn a_certificate_is_good_for_its_pod_and_as_long_as_it_lasts() {
    let nothing = MetadataMap::new();
    let caller = by_certificate(&peer(Some("u")), &agents(), &nothing).unwrap();
    let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    assert!(caller.holds(&workload("web"), at(99)).is_ok());
    let code = |held: Result<(), Status>| held.unwrap_err().code();
    assert_eq!(
        code(caller.holds(&workload("web"), at(100))),
        Code::Unauthenticated
    );
    assert_eq!(
        code(caller.holds(&workload("other"), at(1))),
        Code::PermissionDenied
    );
    assert_eq!(
        by_certificate(&peer(None), &agents(), &nothing)
            .unwrap_err()
            .code(),
        Code::Unauthenticated
    );
}

#[test]
fn an_agent_speaks_for_whom_it_names_and_nobody_else_does() {
    let mut metadata = MetadataMap::new();
    let mut agent = peer(Some("agent"));
    agent.identity = agents();
    let own = by_certificate(&agent, &agents(), &metadata).unwrap();
    assert_eq!(
        (own.uid.as_str(), own.proof.unwrap().of),
        ("agent", Proved::Agent)
    );
    metadata.insert(WORKLOAD, "u".parse().unwrap());
    let other = by_certificate(&agent, &agents(), &metadata).unwrap();
    let of = other.proof.unwrap().of;
    assert_eq!(other.uid.as_str(), "u");
    assert_eq!(of, Proved::For(WorkloadUid::new("agent").unwrap()));
    let pod = by_certificate(&peer(Some("own")), &agents(), &metadata).unwrap();
    assert_eq!(
        pod.uid.as_str(),
        "own",
        "what a pod says of itself is not looked at"
    );
}

fn agents() -> Identity {
    "spiffe://cluster.local/ns/mesh/sa/maille-node"
        .parse()
        .unwrap()
}

#[tokio::test]
async fn an_agent_is_told_of_pods_on_its_node_in_the_mesh_or_not() {
    let hub = Hub::of_pods();
    let pod = |name: &str, node: &str| {
        let text = format!(
            r#"{{"metadata":{{"name":"{name}","namespace":"shop","uid":"{name}"}},
                "spec":{{"nodeName":"{node}","containers":[{{"name":"c"}}]}}}}"#
        );
        let object = maille_manifest::from_json(text.as_bytes()).unwrap();
        Event::Apply {
            origin: name.into(),
            object: Box::new(Object::Pod(Box::new(object))),
        }
    };
    hub.apply(vec![
        pod("agent", "one"),
        pod("near", "one"),
        pod("far", "two"),
        Event::InitDone,
    ]);
    let mut agent = peer(Some("agent"));
    agent.identity = agents();
    agent.not_after = SystemTime::now() + Duration::from_secs(60);
    let of = |uid: &str| {
        let mut metadata = MetadataMap::new();
        metadata.insert(WORKLOAD, uid.parse().unwrap());
        by_certificate(&agent, &agents(), &metadata).unwrap()
    };
    assert!(of("near").knows(&hub).await.is_ok());
    let near = of("near").admitted(&hub).await.unwrap_err();
    assert_eq!(near.code(), Code::PermissionDenied, "it is not meshed");
    let far = of("far").knows(&hub).await.unwrap_err();
    assert!(far.message().contains("not on the node"), "{far}");
    let nobody = of("nobody").knows(&hub).await.unwrap_err();
    assert!(nobody.message().contains("not known"), "{nobody}");
}

#[test]
fn tokens_are_where_they_belong() {
    let mut metadata = MetadataMap::new();
    assert!(token(&metadata).is_err());
    for (text, found) in [
        ("Bearer abc", Some("abc")),
        ("Bearer ", None),
        ("abc", None),
    ] {
        metadata.insert("authorization", text.parse().unwrap());
        assert_eq!(token(&metadata).ok(), found, "{text}");
    }
}

#[test]
fn the_agents_word_is_the_metadata() {
    let mut metadata = MetadataMap::new();
    assert_eq!(
        attested(&metadata).unwrap_err().code(),
        Code::InvalidArgument
    );
    metadata.insert(WORKLOAD, "u".parse().unwrap());
    let caller = attested(&metadata).unwrap();
    assert!(caller.holds(&workload("anybody"), UNIX_EPOCH).is_ok());
}
