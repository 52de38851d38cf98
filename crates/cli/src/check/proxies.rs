// SPDX-License-Identifier: Apache-2.0
//! `maille check --proxy`, and what `-n` says of proxies: each one's connection, configuration, certificate and version. Pure but for
//! the questions. Read `judge.rs` for everything else.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use maille_manifest::marks::INJECTED;
use serde::Deserialize;
use serde_json::Value;

use super::judge::Line;
use crate::failure::Expected;
use crate::query::Query;
use crate::reach::Reach;
use crate::shapes::text;

/// What control says of pods.
#[derive(Debug, Default, Deserialize)]
struct Pods {
    pods: Vec<Pod>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
struct Pod {
    namespace: String,
    name: String,
    capture: String,
    phase: String,
    reporting: bool,
    connected: bool,
    rejection: String,
}

/// What proxies say of their certificates.
#[derive(Debug, Default, Deserialize)]
struct Identities {
    pods: Vec<Identity>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
struct Identity {
    namespace: String,
    name: String,
    not_before: i64,
    not_after: i64,
    error: String,
}

/// Which version sidecars have, by `namespace/name`, and which they should have.
#[derive(Debug, Default)]
pub(super) struct Versions {
    wanted: String,
    found: BTreeMap<String, String>,
}

/// How many lines there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// One for each proxy.
    Each,
    /// One for all.
    Together,
}

// === impl Versions ===

impl Versions {
    /// What the cluster's pods say.
    pub(super) fn of(pods: &[Value], config: &BTreeMap<String, String>) -> Self {
        let one = |pod: &Value| {
            let version = pod["metadata"]["annotations"][INJECTED].as_str()?;
            let (namespace, name) = (
                text(pod, "/metadata/namespace"),
                text(pod, "/metadata/name"),
            );
            Some((format!("{namespace}/{name}"), version.to_owned()))
        };
        Self {
            wanted: config.get("version").cloned().unwrap_or_default(),
            found: pods.iter().filter_map(one).collect(),
        }
    }
}

/// Asks the mesh about its proxies, in one namespace or in all.
pub(super) async fn look(
    reach: &Reach,
    namespace: Option<&str>,
    versions: &Versions,
    detail: Detail,
) -> Result<Vec<Line>, Expected> {
    let pods = Query::of("/v1/pods").maybe("namespace", namespace);
    let pods: Pods = reach.get(pods.path()).await?;
    let identities = Query::of("/v1/identity")
        .with("resource", "po")
        .maybe("namespace", namespace);
    // Of nobody there is nothing to ask.
    let identities = if pods.pods.iter().any(is_meshed) {
        reach.get(identities.path()).await?
    } else {
        Identities::default()
    };
    Ok(lines(&pods.pods, &identities.pods, versions, detail))
}

fn is_meshed(pod: &Pod) -> bool {
    pod.capture != "none" && pod.phase != "Finished"
}

fn lines(pods: &[Pod], identities: &[Identity], versions: &Versions, detail: Detail) -> Vec<Line> {
    let now = now();
    let mut judged = Vec::new();
    for pod in pods.iter().filter(|pod| is_meshed(pod)) {
        let name = format!("{}/{}", pod.namespace, pod.name);
        let same = |one: &&Identity| one.namespace == pod.namespace && one.name == pod.name;
        let mut trouble = connection(pod);
        // Of very many pods control asks only some.
        if let Some(identity) = identities.iter().find(same) {
            trouble.extend(certificate(identity, now));
        }
        let found = versions.found.get(&name);
        if let Some(found) = found.filter(|found| **found != versions.wanted) {
            trouble.push(format!(
                "it has version {found}, the mesh {}",
                versions.wanted
            ));
        }
        judged.push((name, trouble));
    }
    let hint = "see the log of its container maille-proxy (on one machine proxy.log); one of another version is renewed by `kubectl rollout restart`";
    match detail {
        Detail::Each => judged
            .into_iter()
            .map(|(name, trouble)| Line::new("proxies", name, &trouble, hint))
            .collect(),
        Detail::Together => {
            let all = judged.len();
            let one = |(name, trouble): (String, Vec<String>)| {
                (!trouble.is_empty()).then(|| format!("{name}: {}", trouble.join(", ")))
            };
            let trouble: Vec<_> = judged.into_iter().filter_map(one).collect();
            let name = format!("every proxy works ({all})");
            vec![Line::new("proxies", name, &trouble, hint)]
        }
    }
}

fn connection(pod: &Pod) -> Vec<String> {
    let mut trouble = Vec::new();
    if !pod.connected {
        trouble.push("it is not connected to control".to_owned());
    } else if !pod.reporting {
        trouble.push("it reports nothing".to_owned());
    }
    if !pod.rejection.is_empty() {
        trouble.push(format!("it is not in sync: {}", pod.rejection));
    }
    trouble
}

fn certificate(identity: &Identity, now: i64) -> Option<String> {
    if !identity.error.is_empty() {
        return Some(identity.error.clone());
    }
    if identity.not_after <= now {
        return Some(format!(
            "its certificate ended {} s ago",
            now - identity.not_after
        ));
    }
    (identity.not_before > now)
        .then(|| "its certificate is not valid yet: a clock is wrong".to_owned())
}

fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str) -> Pod {
        Pod {
            namespace: "shop".to_owned(),
            name: name.to_owned(),
            capture: "inboard".to_owned(),
            phase: "Running".to_owned(),
            reporting: true,
            connected: true,
            rejection: String::new(),
        }
    }

    fn identity(name: &str, not_after: i64) -> Identity {
        Identity {
            namespace: "shop".to_owned(),
            name: name.to_owned(),
            not_after,
            ..Identity::default()
        }
    }

    #[test]
    fn each_proxy_is_judged_by_what_is_known_of_it() {
        let future = now() + 1000;
        let pods = [
            pod("well"),
            Pod {
                connected: false,
                ..pod("away")
            },
            Pod {
                rejection: "no such field".to_owned(),
                ..pod("behind")
            },
            pod("ended"),
            pod("old"),
            Pod {
                capture: "none".to_owned(),
                ..pod("outside")
            },
        ];
        let identities = [
            identity("well", future),
            identity("ended", 7),
            identity("old", future),
        ];
        let versions = Versions {
            wanted: "2".to_owned(),
            found: [("shop/old".to_owned(), "1".to_owned())].into(),
        };
        let lines_of = |detail| lines(&pods, &identities, &versions, detail);
        let each = lines_of(Detail::Each);
        let well: Vec<bool> = each.iter().map(|line| line.ok).collect();
        assert_eq!(well, [true, false, false, false, false]);
        let said = |at: usize| each[at].clone().check().message.unwrap();
        assert!(said(1).contains("not connected"));
        assert!(said(2).contains("no such field"));
        assert!(said(3).contains("ended"));
        assert_eq!(said(4), "it has version 1, the mesh 2");
        let together = lines_of(Detail::Together);
        assert!(together.len() == 1 && !together[0].ok);
    }
}
