// SPDX-License-Identifier: Apache-2.0
//! How people name objects: `pod/web`, `deploy/web`, `svc/web`, or a bare name where a verb knows the kind; `-n` for the namespace.
//!
//! Must never guess: a name that nothing has is an error that says what was probably meant, and a name in several namespaces asks
//! which. Read `node.rs` for where objects come from.

use serde_json::Value;

use crate::failure::Expected;

/// Kind, plural in lower case, API group, short names.
const KINDS: &[(&str, &str, &str, &[&str])] = &[
    ("Pod", "pods", "", &["po"]),
    ("Deployment", "deployments", "apps", &["deploy"]),
    ("StatefulSet", "statefulsets", "apps", &["sts"]),
    ("DaemonSet", "daemonsets", "apps", &["ds"]),
    ("ReplicaSet", "replicasets", "apps", &["rs"]),
    ("Job", "jobs", "batch", &[]),
    ("CronJob", "cronjobs", "batch", &["cj"]),
    ("Service", "services", "", &["svc"]),
    ("Endpoints", "endpoints", "", &["ep"]),
    ("EndpointSlice", "endpointslices", "discovery.k8s.io", &[]),
    ("ConfigMap", "configmaps", "", &["cm"]),
    ("Secret", "secrets", "", &[]),
    (
        "PersistentVolumeClaim",
        "persistentvolumeclaims",
        "",
        &["pvc"],
    ),
    ("ServiceAccount", "serviceaccounts", "", &["sa"]),
    ("Namespace", "namespaces", "", &["ns"]),
];

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    /// `Deployment`
    pub(crate) name: &'static str,
    /// `deployments`
    pub(crate) plural: &'static str,
    group: &'static str,
}

/// An object as it was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) kind: Kind,
    pub(crate) name: String,
}

// === impl Kind ===

impl Kind {
    /// Reads `deployments`, `deployment`, `deploy` or `deployments.apps`, in any case.
    pub(crate) fn parse(text: &str) -> Result<Self, Expected> {
        let lower = text.to_lowercase();
        let word = lower
            .split_once('.')
            .map_or(lower.as_str(), |(word, _)| word);
        let found = KINDS.iter().find(|(kind, plural, _, short)| {
            word == kind.to_lowercase() || word == *plural || short.contains(&word)
        });
        if let Some((name, plural, group, _)) = found {
            return Ok(Self {
                name,
                plural,
                group,
            });
        }
        let plurals = KINDS.iter().map(|(_, plural, _, _)| *plural);
        let hint = match maille_manifest::suggest(word, plurals) {
            Some(suggestion) => format!("did you mean {suggestion}?"),
            None => "known are pods, deployments, services, endpoints and the other kinds of the manifests".to_owned(),
        };
        let what = format!("no kind {text:?}");
        Err(Expected::Wrong { what, hint })
    }

    /// Where a cluster's API server has those of a namespace.
    pub(crate) fn path(self, namespace: &str) -> String {
        let base = match self.group {
            "" => "/api/v1".to_owned(),
            group => format!("/apis/{group}/v1"),
        };
        format!("{base}/namespaces/{namespace}/{}", self.plural)
    }

    /// `deployment.apps/web`, `pod/web`: as kubectl reports.
    pub(crate) fn report(self, name: &str) -> String {
        let kind = self.name.to_lowercase();
        match self.group {
            "" => format!("{kind}/{name}"),
            group => format!("{kind}.{group}/{name}"),
        }
    }
}

// === impl Named ===

impl Named {
    /// Reads `kind/name`, or `name` where `kind` is understood.
    pub(crate) fn parse(text: &str, kind: &str) -> Result<Self, Expected> {
        let (kind, name) = text.split_once('/').unwrap_or((kind, text));
        let kind = Kind::parse(kind)?;
        if name.is_empty() || name.contains('/') {
            let what = format!("{text:?} names no {}", kind.name.to_lowercase());
            let hint = format!("say {}/NAME", kind.name.to_lowercase());
            return Err(Expected::Wrong { what, hint });
        }
        let name = name.to_owned();
        Ok(Self { kind, name })
    }

    /// The one object that is meant.
    pub(crate) fn find<'a>(
        &self,
        objects: &'a [Value],
        namespace: Option<&str>,
    ) -> Result<&'a Value, Expected> {
        let of_kind = || {
            let kind = objects
                .iter()
                .filter(|object| object["kind"] == self.kind.name);
            kind.filter(|object| namespace.is_none_or(|wanted| self::namespace(object) == wanted))
        };
        let found: Vec<&Value> = of_kind()
            .filter(|object| name(object) == self.name)
            .collect();
        let kind = self.kind.name.to_lowercase();
        match found[..] {
            [object] => Ok(object),
            [] => {
                let place = namespace
                    .map(|n| format!(" in namespace {n}"))
                    .unwrap_or_default();
                let what = format!("no {kind} {:?}{place}", self.name);
                let hint = self.hint(of_kind(), objects);
                Err(Expected::Unknown { what, hint })
            }
            _ => {
                let places: Vec<&str> =
                    found.iter().map(|object| self::namespace(object)).collect();
                let what = format!("{kind} {:?} is in several namespaces", self.name);
                let hint = format!("say which with -n: {}", places.join(", "));
                Err(Expected::Unknown { what, hint })
            }
        }
    }

    /// What was probably meant.
    fn hint<'a>(&self, here: impl Iterator<Item = &'a Value>, objects: &[Value]) -> String {
        let mut names: Vec<&str> = here.map(name).collect();
        names.sort_unstable();
        let longer: Vec<&str> = names
            .iter()
            .copied()
            .filter(|name| name.starts_with(&self.name))
            .collect();
        let plural = self.kind.plural;
        match (
            &longer[..],
            maille_manifest::suggest(&self.name, names.iter().copied()),
        ) {
            ([only], _) => return format!("did you mean {only}?"),
            ([first, second], _) => return format!("did you mean {first} or {second}?"),
            ([first, rest @ ..], _) => {
                return format!("did you mean {first}, or one of {} others?", rest.len());
            }
            ([], Some(suggestion)) => return format!("did you mean {suggestion}?"),
            ([], None) => {}
        }
        let elsewhere = objects
            .iter()
            .find(|object| object["kind"] == self.kind.name && name(object) == self.name);
        match elsewhere {
            Some(object) => format!("there is one in namespace {}", namespace(object)),
            None => format!("`maille get {plural}` shows all"),
        }
    }
}

/// The name of an object.
pub(crate) fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// The namespace of an object; empty for one of the whole cluster.
pub(crate) fn namespace(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn objects() -> Vec<Value> {
        let one = |kind: &str, namespace: &str, name: &str| json!({"kind": kind, "metadata": {"namespace": namespace, "name": name}});
        vec![
            one("Pod", "shop", "web-5d7-abc"),
            one("Pod", "shop", "web-5d7-def"),
            one("Deployment", "shop", "web"),
            one("Deployment", "shop", "ledger"),
            one("Deployment", "test", "web"),
        ]
    }

    /// What an error says and advises.
    fn said(text: &str, kind: &str, namespace: Option<&str>) -> String {
        let found = Named::parse(text, kind);
        let error = match &found {
            Ok(named) => named.find(&objects(), namespace).unwrap_err(),
            Err(_) => found.unwrap_err(),
        };
        format!("{error}; {}", error.hint().unwrap_or_default())
    }

    #[test]
    fn names_are_those_of_kubectl() {
        for text in [
            "deployment/ledger",
            "deploy/ledger",
            "deployments/ledger",
            "Deployment.apps/ledger",
            "ledger",
        ] {
            let named = Named::parse(text, "deployment").unwrap();
            let all = objects();
            assert_eq!(name(named.find(&all, None).unwrap()), "ledger", "{text}");
            assert_eq!(named.kind.report("ledger"), "deployment.apps/ledger");
        }
        let web = Named::parse("deploy/web", "pod").unwrap();
        assert_eq!(
            namespace(web.find(&objects(), Some("test")).unwrap()),
            "test"
        );
    }

    #[test]
    fn nothing_is_guessed() {
        for (text, kind, namespace, words) in [
            (
                "web",
                "pod",
                None,
                "no pod \"web\"; did you mean web-5d7-abc or web-5d7-def?",
            ),
            (
                "web-5d7-a",
                "pod",
                None,
                "no pod \"web-5d7-a\"; did you mean web-5d7-abc?",
            ),
            (
                "deploy/leger",
                "pod",
                None,
                "no deployment \"leger\"; did you mean ledger?",
            ),
            (
                "deploy/web",
                "pod",
                None,
                "deployment \"web\" is in several namespaces; say which with -n: shop, test",
            ),
            (
                "deploy/ledger",
                "pod",
                Some("test"),
                "no deployment \"ledger\" in namespace test; there is one in namespace shop",
            ),
            (
                "deploy/xyzzy",
                "pod",
                None,
                "no deployment \"xyzzy\"; `maille get deployments` shows all",
            ),
            (
                "deploymnt/web",
                "pod",
                None,
                "no kind \"deploymnt\"; did you mean deployments?",
            ),
            (
                "deploy/",
                "pod",
                None,
                "\"deploy/\" names no deployment; say deployment/NAME",
            ),
        ] {
            assert_eq!(said(text, kind, namespace), words);
        }
    }
}
