// SPDX-License-Identifier: Apache-2.0
//! What is done about a call. Pure: the agent is asked, and files are touched, in `run.rs`.
//!
//! Who is meant for the mesh is what admission wrote on the pod. STATUS never depends on the agent: a node whose STATUS fails takes
//! no pods at all, those outside the mesh included.

use std::collections::BTreeMap;

use crate::call::{Command, Env, Netconf};
use crate::failure::Failure;
use crate::protocol::{Ask, CAPTURE, OURS, Sandbox};

/// What is done about a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Deed {
    /// Nothing is to be done; the result of the plugins before is the answer, if one is due.
    Pass,
    /// The agent has to do it, or the call fails.
    Ask(Ask),
    /// The agent may do it; where it is away, what it left is removed.
    End(Ask),
    /// The versions are the answer.
    Versions,
}

/// Says what is done.
pub fn decide(command: Command, env: &Env, netconf: &Netconf) -> Result<Deed, Failure> {
    match command {
        Command::Version => Ok(Deed::Versions),
        Command::Status => Ok(Deed::Pass),
        Command::Gc => Ok(Deed::End(Ask::Gc {
            keep: netconf.valid.clone(),
        })),
        // Also for pods that were never seen, and where the namespace has gone: the agent knows what there is.
        Command::Del => Ok(Deed::End(Ask::Del {
            container: env.container()?.to_owned(),
        })),
        Command::Add | Command::Check => {
            if netconf.previous.is_none() {
                return Err(Failure::First);
            }
            let annotations = netconf.annotations.as_ref().ok_or(Failure::NoAnnotations)?;
            if !is_meant(annotations, env)? {
                return Ok(Deed::Pass);
            }
            let sandbox = sandbox(annotations, env)?;
            Ok(Deed::Ask(match command {
                Command::Check => Ask::Check(sandbox),
                _ => Ask::Add(sandbox),
            }))
        }
    }
}

/// How people find the pod.
pub fn pod(env: &Env) -> String {
    let [namespace, name] = ["K8S_POD_NAMESPACE", "K8S_POD_NAME"].map(|key| env.argument(key));
    format!("{namespace}/{name}")
}

/// Whether the pod is to be captured here, from outside or inside, which the agent reads again. One that captures itself (inboard) is left alone.
fn is_meant(annotations: &BTreeMap<String, String>, env: &Env) -> Result<bool, Failure> {
    match annotations.get(CAPTURE).map(String::as_str) {
        Some("outboard" | "inboard-cni") => Ok(true),
        None | Some("none" | "inboard") => Ok(false),
        Some(other) => Err(Failure::Capture {
            pod: pod(env),
            value: other.chars().take(80).collect(),
        }),
    }
}

fn sandbox(annotations: &BTreeMap<String, String>, env: &Env) -> Result<Sandbox, Failure> {
    let uid = env.argument("K8S_POD_UID");
    if uid.is_empty() {
        return Err(Failure::Environment { name: "CNI_ARGS" });
    }
    let ours = annotations.iter().filter(|(key, _)| key.starts_with(OURS));
    Ok(Sandbox {
        container: env.container()?.to_owned(),
        interface: env.interface()?.to_owned(),
        namespace: env.argument("K8S_POD_NAMESPACE").to_owned(),
        name: env.argument("K8S_POD_NAME").to_owned(),
        uid: uid.to_owned(),
        annotations: ours
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
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
}
