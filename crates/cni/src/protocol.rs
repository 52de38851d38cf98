// SPDX-License-Identifier: Apache-2.0
//! What plugin and node agent say to each other: on a unix socket that only root can open, one question and one answer a
//! connection, each a line of JSON. The file descriptor of the pod's network namespace goes with the question's first byte, so
//! that the agent needs no sight of the runtime's files.
//!
//! Both are of one version, which is said: an agent refuses a question of another. Read `docs/cni.md` for the same in words.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The version of what is said here.
pub const VERSION: u32 = 1;
/// The longest line that is read.
pub const LONGEST: usize = 256 * 1024;
/// The agent's directory on a node, where nobody says otherwise. It ends with the node's boot.
pub const STATE: &str = "/run/maille/node";
/// The agent's socket in its directory.
pub const SOCKET: &str = "cni.sock";
/// The directory beside it with one directory for each captured sandbox, by the runtime's id.
pub const SANDBOXES: &str = "sandboxes";
/// What holds a sandbox's mesh namespace: a file in the sandbox's directory that the namespace is mounted on.
pub const PIN: &str = "mesh";
/// The same for a pod that is captured inside: its own network namespace, which its rules are in.
pub const INSIDE: &str = "inside";
/// The pod's wire in that namespace.
pub const WIRE: &str = "up0";
/// The annotation in which admission wrote its decision.
pub const CAPTURE: &str = "maille.io/capture";
/// What it says where the agent writes rules into the pod's own network.
pub const INBOARD_CNI: &str = "inboard-cni";
/// What the annotations begin with that are told to the agent.
pub const OURS: &str = "maille.io/";
/// The capability by which the runtime tells a pod's annotations.
pub const ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";

/// A question of the plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// [`VERSION`].
    pub version: u32,
    /// What is asked for.
    pub ask: Ask,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// Capture this pod; its network namespace goes with the question.
    Add(Sandbox),
    /// End the capture of a sandbox, if there is one.
    Del {
        /// The runtime's id of it.
        container: String,
    },
    /// Is this pod captured as it was?
    Check(Sandbox),
    /// Capture this pod, if it is meant to be and can be from inside; its network namespace goes with the question. Nobody told its
    /// annotations, so the agent has to find them out.
    AddUntold(Sandbox),
    /// Is it captured as it was, if it is meant to be?
    CheckUntold(Sandbox),
    /// End the capture of every sandbox but these.
    Gc {
        /// The runtime's ids.
        keep: Vec<String>,
    },
}

/// A pod as the runtime calls it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sandbox {
    /// The runtime's id of it.
    pub container: String,
    /// The interface to capture.
    pub interface: String,
    /// The pod's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The annotations that begin with [`OURS`], where somebody told them.
    pub annotations: BTreeMap<String, String>,
}

/// The agent's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// It is as asked for.
    Done,
    /// It is not, and nothing was changed.
    Refused {
        /// Why, in a line.
        reason: String,
        /// What helps whoever looks into it.
        details: String,
    },
}
