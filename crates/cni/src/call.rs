// SPDX-License-Identifier: Apache-2.0
//! A call of the container runtime: its environment and its configuration, parsed once and never looked at again.
//!
//! What a version of the specification adds and this plugin does not need is not looked at, so that it cannot be in the way. Read
//! `decide.rs` next.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

use crate::failure::Failure;
use crate::protocol::{ANNOTATIONS, STATE};

/// The versions of the specification that are spoken, all of whose results are passed on as they are.
pub const VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// The newest.
pub const NEWEST: &str = VERSIONS[VERSIONS.len() - 1];

/// The variables of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Env(BTreeMap<String, String>);

/// What is called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// A pod begins.
    Add,
    /// A pod ends.
    Del,
    /// Is it as it should be?
    Check,
    /// Could pods begin?
    Status,
    /// Whatever is not listed is to end.
    Gc,
    /// Which versions are spoken?
    Version,
}

/// A configuration as it is written, but for what is not ours.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    cni_version: Option<String>,
    prev_result: Option<Value>,
    #[serde(default)]
    runtime_config: BTreeMap<String, Value>,
    #[serde(rename = "cni.dev/valid-attachments", default)]
    valid: Vec<Attachment>,
    state: Option<PathBuf>,
    #[serde(default)]
    delegate: bool,
}

/// A sandbox that is still there.
#[derive(Debug, Deserialize)]
struct Attachment {
    #[serde(rename = "containerID")]
    container: String,
}

/// A configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Netconf {
    /// In which version answers are.
    pub version: String,
    /// The result of the plugins before this one.
    pub previous: Option<Value>,
    /// The pod's annotations; `None`: the runtime does not tell them.
    pub annotations: Option<BTreeMap<String, String>>,
    /// The sandboxes that are still there.
    pub valid: Vec<String>,
    /// The agent's directory.
    pub state: PathBuf,
    /// It is a network of its own, beside the pod's, which a meta-plugin has it add: nothing was before it.
    pub delegate: bool,
}

// === impl Env ===

impl Env {
    /// This process's.
    pub fn process() -> Self {
        let all = std::env::vars_os();
        let ours = all.filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            name.starts_with("CNI_")
                .then(|| Some((name, value.into_string().ok()?)))?
        });
        Self(ours.collect())
    }

    /// These.
    pub fn of<const N: usize>(all: [(&str, &str); N]) -> Self {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Self(all.map(owned).into())
    }

    /// What is called for.
    pub fn command(&self) -> Result<Command, Failure> {
        match self.get("CNI_COMMAND") {
            "ADD" => Ok(Command::Add),
            "DEL" => Ok(Command::Del),
            "CHECK" => Ok(Command::Check),
            "STATUS" => Ok(Command::Status),
            "GC" => Ok(Command::Gc),
            "VERSION" => Ok(Command::Version),
            _ => Err(Failure::Environment {
                name: "CNI_COMMAND",
            }),
        }
    }

    /// The runtime's id of the sandbox: by the specification it begins with a letter or a digit, so it is never a way out of a
    /// directory.
    pub fn container(&self) -> Result<&str, Failure> {
        let id = self.get("CNI_CONTAINERID");
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        let whole = id.starts_with(|c: char| c.is_ascii_alphanumeric()) && id.bytes().all(fits);
        (whole && id.len() <= 200)
            .then_some(id)
            .ok_or(Failure::Environment {
                name: "CNI_CONTAINERID",
            })
    }

    /// The interface in the sandbox.
    pub fn interface(&self) -> Result<&str, Failure> {
        let name = self.get("CNI_IFNAME");
        let fits = |b: u8| b.is_ascii_graphic() && !b"/:\"".contains(&b);
        (!name.is_empty() && name.len() < 16 && name.bytes().all(fits))
            .then_some(name)
            .ok_or(Failure::Environment { name: "CNI_IFNAME" })
    }

    /// Where the sandbox's network namespace is; empty where it has none any more.
    pub fn namespace(&self) -> &str {
        self.get("CNI_NETNS")
    }

    /// One of the runtime's arguments, `K8S_POD_NAME` say; empty where there is none.
    pub fn argument(&self, name: &str) -> &str {
        let mut pairs = self.get("CNI_ARGS").split(';');
        let value = pairs.find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_default()
    }

    fn get(&self, name: &str) -> &str {
        self.0.get(name).map(String::as_str).unwrap_or_default()
    }
}

// === impl Netconf ===

impl Netconf {
    /// Reads it.
    pub fn read(input: &[u8]) -> Result<Self, Failure> {
        let written: Written = serde_json::from_slice(input).map_err(Failure::Decode)?;
        let version = written.cni_version.unwrap_or_default();
        if !VERSIONS.contains(&version.as_str()) {
            return Err(Failure::Version(version));
        }
        let annotations = written.runtime_config.get(ANNOTATIONS);
        Ok(Self {
            version,
            previous: written.prev_result.filter(|result| !result.is_null()),
            annotations: annotations.map(|all| texts(all).collect()),
            valid: written.valid.into_iter().map(|one| one.container).collect(),
            state: written.state.unwrap_or_else(|| PathBuf::from(STATE)),
            delegate: written.delegate,
        })
    }
}

/// The entries of a map that are texts; annotations have no others.
fn texts(map: &Value) -> impl Iterator<Item = (String, String)> {
    let entries = map.as_object().into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_lead_elsewhere() {
        for (id, good) in [
            ("0a1b", true),
            ("a-b_c.d", true),
            ("", false),
            ("..", false),
            ("a/b", false),
            ("-a", false),
        ] {
            let env = Env::of([("CNI_CONTAINERID", id), ("CNI_IFNAME", id)]);
            assert_eq!(env.container().is_ok(), good, "{id:?}");
        }
        assert!(Env::of([("CNI_IFNAME", "a/b")]).interface().is_err());
        assert!(
            Env::of([("CNI_IFNAME", "sixteen-letters-")])
                .interface()
                .is_err()
        );
    }

    #[test]
    fn arguments_are_found_by_their_whole_name() {
        let env = Env::of([(
            "CNI_ARGS",
            "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-1;K8S_POD=x",
        )]);
        assert_eq!(env.argument("K8S_POD_NAME"), "web-1");
        assert_eq!(env.argument("K8S_POD_NAMESPACE"), "shop");
        assert_eq!(env.argument("K8S_POD_UID"), "");
    }

    #[test]
    fn a_configuration_is_read() {
        let text = r#"{"cniVersion":"1.1.0","name":"n","type":"maille-cni","new":{},"prevResult":{"ips":[]},
            "runtimeConfig":{"io.kubernetes.cri.pod-annotations":{"a":"b"}},
            "cni.dev/valid-attachments":[{"containerID":"c","ifname":"eth0"}]}"#;
        let read = Netconf::read(text.as_bytes()).unwrap();
        assert_eq!(read.annotations.unwrap()["a"], "b");
        assert_eq!(read.valid, ["c"]);
        assert_eq!(read.state, PathBuf::from(STATE));
        assert!(read.previous.is_some());
        let null = br#"{"cniVersion":"1.0.0","prevResult":null,"runtimeConfig":{"io.kubernetes.cri.pod-annotations":null}}"#;
        let read = Netconf::read(null).unwrap();
        assert_eq!(
            (read.previous, read.annotations),
            (None, Some(BTreeMap::new()))
        );
        assert!(matches!(Netconf::read(b"{}"), Err(Failure::Version(_))));
        assert!(matches!(Netconf::read(b"[]"), Err(Failure::Decode(_))));
    }
}
