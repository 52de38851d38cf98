// SPDX-License-Identifier: Apache-2.0
use serde_json::json;

use super::*;

fn env() -> Env {
    Env::of([
        ("CNI_CONTAINERID", "c1"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_NETNS", "/run/netns/a"),
        (
            "CNI_ARGS",
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-1;K8S_POD_UID=u-1",
        ),
    ])
}

fn netconf(capture: Option<&str>) -> Netconf {
    let mut annotations = BTreeMap::from([("other".to_owned(), "x".to_owned())]);
    annotations.extend(capture.map(|value| (CAPTURE.to_owned(), value.to_owned())));
    Netconf {
        version: "1.1.0".to_owned(),
        previous: Some(json!({})),
        annotations: Some(annotations),
        valid: vec!["c2".to_owned()],
        state: "/s".into(),
        delegate: false,
    }
}

/// A network of its own: nothing was before it.
fn delegate(capture: Option<&str>) -> Netconf {
    Netconf {
        previous: None,
        delegate: true,
        ..netconf(capture)
    }
}

#[test]
fn pods_are_asked_for_by_their_annotation() {
    for command in [Command::Add, Command::Check] {
        for capture in [None, Some("none"), Some("inboard")] {
            let deed = decide(command, &env(), &netconf(capture));
            assert_eq!(deed.unwrap(), Deed::Pass, "{capture:?}");
        }
        let error = decide(command, &env(), &netconf(Some("outbord"))).unwrap_err();
        assert!(error.to_string().contains("shop/web-1"), "{error}");
    }
    let Deed::Ask(Ask::Add(sandbox)) =
        decide(Command::Add, &env(), &netconf(Some("outboard"))).unwrap()
    else {
        panic!("the agent is to be asked");
    };
    assert_eq!(
        (sandbox.uid.as_str(), sandbox.interface.as_str()),
        ("u-1", "eth0")
    );
    assert_eq!(sandbox.annotations.len(), 1, "{sandbox:?}");
}

#[test]
fn who_cannot_know_whom_it_captures_captures_nobody_and_starts_nobody() {
    let mut silent = netconf(None);
    silent.annotations = None;
    let error = decide(Command::Add, &env(), &silent).unwrap_err();
    assert_eq!(error.code(), 7);
    let mut first = netconf(Some("outboard"));
    first.previous = None;
    assert!(matches!(
        decide(Command::Add, &env(), &first),
        Err(Failure::First)
    ));
    let nameless = Env::of([("CNI_CONTAINERID", "c1"), ("CNI_IFNAME", "eth0")]);
    assert!(decide(Command::Add, &nameless, &netconf(Some("outboard"))).is_err());
}

#[test]
fn ends_and_status_need_nothing_but_a_name() {
    let bare = Netconf {
        previous: None,
        annotations: None,
        ..netconf(None)
    };
    let only = Env::of([("CNI_CONTAINERID", "c1")]);
    let container = "c1".to_owned();
    let deed = decide(Command::Del, &only, &bare).unwrap();
    assert_eq!(deed, Deed::End(Ask::Del { container }));
    let deed = decide(Command::Gc, &Env::default(), &bare).unwrap();
    assert_eq!(
        deed,
        Deed::End(Ask::Gc {
            keep: vec!["c2".to_owned()]
        })
    );
    assert_eq!(
        decide(Command::Status, &Env::default(), &bare).unwrap(),
        Deed::Pass
    );
}

#[test]
fn as_a_network_of_its_own_it_captures_inside_or_says_why_not() {
    let untold = Netconf {
        annotations: None,
        ..delegate(None)
    };
    for command in [Command::Add, Command::Check] {
        let asked = decide(command, &env(), &untold).unwrap();
        let of = match asked {
            Deed::Ask(Ask::AddUntold(of)) if command == Command::Add => of,
            Deed::Ask(Ask::CheckUntold(of)) if command == Command::Check => of,
            other => panic!("the agent has to find it out: {other:?}"),
        };
        assert_eq!((of.uid.as_str(), of.annotations.len()), ("u-1", 0));
        // Some meta-plugins pass annotations on.
        for capture in [None, Some("none"), Some("inboard")] {
            let deed = decide(command, &env(), &delegate(capture));
            assert_eq!(deed.unwrap(), Deed::Pass, "{capture:?}");
        }
        let inside = decide(command, &env(), &delegate(Some(INBOARD_CNI))).unwrap();
        assert!(matches!(inside, Deed::Ask(Ask::Add(_) | Ask::Check(_))));
        let error = decide(command, &env(), &delegate(Some("outboard"))).unwrap_err();
        assert!(error.to_string().contains("shop/web-1"), "{error}");
    }
    assert_eq!(decide(Command::Gc, &env(), &untold).unwrap(), Deed::Pass);
    let ended = decide(Command::Del, &env(), &untold).unwrap();
    assert!(matches!(ended, Deed::End(Ask::Del { .. })), "{ended:?}");
    let nobody = Env::of([("CNI_CONTAINERID", "c1"), ("CNI_IFNAME", "net1")]);
    let error = decide(Command::Add, &nobody, &untold).unwrap_err();
    assert!(error.to_string().contains("CNI_ARGS"), "{error}");
}
