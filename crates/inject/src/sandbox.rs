// SPDX-License-Identifier: Apache-2.0
//! What a pod runs on: its node's kernel, or a sandbox with a kernel of its own. The one place where names of runtimes are read.
//!
//! A RuntimeClass is a name that anybody may choose; its handler is what the node knows it by, and says more where it is known. Must
//! never take a pod that its node may not look into for one of the others. Read `decide.rs` for what comes of it.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

/// By which containerd was told of pods that nobody trusts, before there were runtime classes.
pub(crate) const UNTRUSTED: &str = "io.kubernetes.cri.untrusted-workload";
/// The same of CRI-O.
pub(crate) const TRUSTED: &str = "io.kubernetes.cri-o.TrustedSandbox";

/// Annotations by which a pod has Kata connect its machine, each with the values that do not lead past the pod's own network.
pub(crate) const WIRED: [(&str, &[&str]); 2] = [
    (
        "io.katacontainers.config.runtime.internetworking_model",
        &["tcfilter", "macvtap", "l3forwarding"],
    ),
    (
        "io.katacontainers.config.runtime.disable_new_netns",
        &["false", "False", "FALSE", "f", "F", "0"],
    ),
];

/// What runtime classes run their pods by, as far as that is known.
pub type Handlers = BTreeMap<String, String>;

/// Words in runtimes' names, as Kata, gVisor, Firecracker and the clouds have them.
const GVISOR: [&str; 2] = ["gvisor", "runsc"];
const MACHINE: [&str; 8] = [
    "kata",
    "firecracker",
    "clh",
    "hypervisor",
    "dragonball",
    "stratovirt",
    "microvm",
    "qemu",
];
/// Machines whose memory is kept from the node that they run on.
const CONFIDENTIAL: [&str; 9] = [
    "cc",
    "coco",
    "tdx",
    "snp",
    "sev",
    "se",
    "cca",
    "enclave",
    "confidential",
];
/// Machines that run elsewhere, at the other end of a tunnel.
const REMOTE: [&str; 2] = ["remote", "peerpods"];

/// A pod's sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sandbox {
    pub(crate) kind: Kind,
    /// Who says so, for people.
    said: String,
}

/// What a sandbox is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A kernel that is a program of the node.
    Gvisor,
    /// A machine of the node: Kata, Firecracker.
    Machine,
    /// A machine of somewhere else.
    Remote,
    /// A machine that its node must not look into.
    Confidential,
}

/// The sandbox of a pod, if it has one.
pub(crate) fn of(
    template: &Value,
    annotations: &Map<String, Value>,
    handlers: &Handlers,
) -> Option<Sandbox> {
    if let Some(class) = class(template) {
        let by_name = kind(class);
        let kind = match handlers.get(class) {
            // Whoever called it confidential knows what the handler's name may not say.
            Some(handler) => kind(handler).max(by_name.filter(|kind| kind.is_closed())),
            None => by_name,
        };
        let class: String = class.chars().take(40).collect();
        let said = format!("RuntimeClass {class:?}");
        return kind.map(|kind| Sandbox { kind, said });
    }
    let says = |key: &str, value| annotations.get(key).is_some_and(|said| *said == value);
    let said = if says(UNTRUSTED, "true") {
        UNTRUSTED
    } else if says(TRUSTED, "false") {
        TRUSTED
    } else {
        return None;
    };
    Some(Sandbox {
        kind: Kind::Machine,
        said: said.to_owned(),
    })
}

/// The name of a pod's RuntimeClass.
pub(crate) fn class(template: &Value) -> Option<&str> {
    let class = template["spec"]["runtimeClassName"].as_str();
    class.filter(|name| !name.is_empty())
}

/// What a name says.
fn kind(name: &str) -> Option<Kind> {
    let name = name.to_ascii_lowercase();
    let has = |those: &[&str]| {
        let mut words = name.split(|sign: char| !sign.is_ascii_alphanumeric());
        words.any(|word| those.contains(&word))
    };
    let begins = |those: &[&str]| those.iter().any(|one| name.starts_with(one));
    let machine = has(&MACHINE) || begins(&MACHINE);
    if has(&["enclave", "coco", "confidential"]) || machine && has(&CONFIDENTIAL) {
        Some(Kind::Confidential)
    } else if has(&["peerpods"]) || machine && has(&REMOTE) {
        Some(Kind::Remote)
    } else if has(&GVISOR) || begins(&GVISOR) {
        Some(Kind::Gvisor)
    } else {
        machine.then_some(Kind::Machine)
    }
}

// === impl Kind ===

impl Kind {
    /// Whether the node has no business with what is inside, or cannot have any.
    pub(crate) const fn is_closed(self) -> bool {
        matches!(self, Self::Remote | Self::Confidential)
    }
}

impl fmt::Display for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.said)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_as_kata_gvisor_and_clouds_have_them() {
        for (name, expected) in [
            ("gvisor", Some(Kind::Gvisor)),
            ("runsc", Some(Kind::Gvisor)),
            ("runsc-debug", Some(Kind::Gvisor)),
            ("kata", Some(Kind::Machine)),
            ("kata-qemu", Some(Kind::Machine)),
            ("kata-qemu-runtime-rs", Some(Kind::Machine)),
            ("kata-qemu-nvidia-gpu", Some(Kind::Machine)),
            ("kata-clh", Some(Kind::Machine)),
            ("kata-fc", Some(Kind::Machine)),
            ("kata-dragonball", Some(Kind::Machine)),
            ("kata-cloud-hypervisor", Some(Kind::Machine)),
            ("kata2", Some(Kind::Machine)),
            ("kata-mshv-vm-isolation", Some(Kind::Machine)),
            ("firecracker", Some(Kind::Machine)),
            ("aws.firecracker", Some(Kind::Machine)),
            ("cloud-hypervisor", Some(Kind::Machine)),
            ("kata-cc", Some(Kind::Confidential)),
            ("kata-cc-isolation", Some(Kind::Confidential)),
            ("kata-qemu-coco-dev", Some(Kind::Confidential)),
            ("kata-qemu-snp", Some(Kind::Confidential)),
            ("kata-qemu-tdx", Some(Kind::Confidential)),
            ("kata-clh-tdx", Some(Kind::Confidential)),
            ("kata-qemu-sev", Some(Kind::Confidential)),
            ("kata-qemu-se-runtime-rs", Some(Kind::Confidential)),
            ("kata-qemu-cca", Some(Kind::Confidential)),
            ("kata-qemu-nvidia-gpu-tdx", Some(Kind::Confidential)),
            ("enclave-cc", Some(Kind::Confidential)),
            ("kata-remote", Some(Kind::Remote)),
            ("peerpods", Some(Kind::Remote)),
            ("runc", None),
            ("crun", None),
            ("nvidia", None),
            ("nvidia-cc", None),
            ("wasmtime", None),
            ("", None),
        ] {
            assert_eq!(kind(name), expected, "{name}");
        }
    }

    #[test]
    fn the_handler_says_more_than_the_name_and_the_more_careful_one_wins() {
        for (class, handler, expected) in [
            ("gvisor", Some("runsc"), Some(Kind::Gvisor)),
            ("gvisor", Some("runc"), None),
            ("strict", Some("kata-qemu"), Some(Kind::Machine)),
            ("strict", Some("kata-qemu-tdx"), Some(Kind::Confidential)),
            ("strict", None, None),
            ("kata-cc", Some("kata-qemu"), Some(Kind::Confidential)),
            ("kata-qemu", Some("kata-remote"), Some(Kind::Remote)),
        ] {
            let handlers = handler.map(|handler| (class.to_owned(), handler.to_owned()));
            let template = json!({"spec": {"runtimeClassName": class}});
            let found = of(&template, &Map::new(), &handlers.into_iter().collect());
            let kind = found.map(|sandbox| sandbox.kind);
            assert_eq!(kind, expected, "{class} by {handler:?}");
        }
    }

    #[test]
    fn annotations_from_before_runtime_classes() {
        for (key, value, sandboxed) in [
            (UNTRUSTED, "true", true),
            (UNTRUSTED, "false", false),
            (TRUSTED, "false", true),
            (TRUSTED, "true", false),
        ] {
            let annotations = Map::from_iter([(key.to_owned(), json!(value))]);
            let found = of(&json!({"spec": {}}), &annotations, &Handlers::new());
            assert_eq!(found.is_some(), sandboxed, "{key}: {value}");
        }
    }
}
