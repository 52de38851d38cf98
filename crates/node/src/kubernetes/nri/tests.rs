// SPDX-License-Identifier: Apache-2.0
//! What is answered without a runtime.

use std::collections::HashMap;

use super::*;

fn pod(capture: Option<&str>) -> Pod {
    let mut annotations = HashMap::new();
    annotations.extend(capture.map(|value| (CAPTURE.to_owned(), value.to_owned())));
    Pod {
        annotations,
        ..Pod::default()
    }
}

#[test]
fn who_is_meant_is_what_admission_wrote() {
    for (said, meant) in [
        (None, false),
        (Some("none"), false),
        (Some("inboard"), false),
        (Some("outboard"), true),
        (Some("inboard-cni"), true),
        (Some("something new"), true),
    ] {
        assert_eq!(is_meant(&pod(said)), meant, "{said:?}");
    }
}

#[test]
fn a_network_is_found_where_the_host_has_it() {
    let at = |kind: &str, path: &str| {
        let namespaces = vec![messages::Namespace {
            kind: kind.to_owned(),
            path: path.to_owned(),
        }];
        let linux = Some(messages::Linux { namespaces });
        network(&Pod {
            linux,
            ..Pod::default()
        })
    };
    let found = Some(Path::new("/proc/1/root").join("run/netns/cni-1"));
    assert_eq!(at("network", "/var/run/netns/cni-1"), found);
    assert_eq!(at("network", "/run/netns/cni-1"), found);
    assert_eq!(at("pid", "/run/netns/cni-1"), None);
    assert_eq!(at("network", ""), None);
    assert_eq!(network(&Pod::default()), None);
}

#[test]
fn runtimes_without_validators_are_asked_for_what_they_have() {
    let events = |version: &str| {
        let runtime = Configure {
            nri_version: version.to_owned(),
            ..Configure::default()
        };
        let answer = configured(&runtime);
        Configured::decode(answer.payload.as_slice())
            .unwrap()
            .events
    };
    assert_eq!(events("v0.12.3"), 1 | 1 << 13);
    assert_eq!(events(""), 1 | 1 << 3);
}

#[test]
fn a_plugin_that_is_not_wanted_hears_why() {
    let no = refused(REFUSED, "invalid plugin name".to_owned());
    let error = taken_on(&no.encode_to_vec()).unwrap_err();
    assert!(error.to_string().contains("invalid plugin name"), "{error}");
    taken_on(&Response::default().encode_to_vec()).unwrap();
}

#[test]
fn whoever_runs_as_the_proxys_user_and_is_not_it_does_not_begin() {
    let container = |name: &str, uid: Option<u32>| Container {
        name: name.to_owned(),
        user: uid.map(|uid| messages::User { uid }),
    };
    for (capture, name, uid, refused) in [
        (Some("inboard-cni"), "app", Some(2102), true),
        (Some("inboard"), "app", Some(2102), true),
        (Some("inboard-cni"), "maille-proxy", Some(2102), false),
        (Some("inboard-cni"), "app", Some(1000), false),
        (Some("inboard-cni"), "app", None, false),
        (Some("outboard"), "app", Some(2102), false),
        (None, "app", Some(2102), false),
    ] {
        let said = as_proxy(&pod(capture), &container(name, uid));
        assert_eq!(said.is_some(), refused, "{capture:?} {name} {uid:?}");
    }
}
