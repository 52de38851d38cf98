// SPDX-License-Identifier: Apache-2.0
//! Everything that can be expected to go wrong, with its exit code and what to do about it.
//!
//! Must never hold a surprise: those travel as plain `anyhow` errors and exit with 1. Read `args.rs` for the documented codes.

use std::io;
use std::path::PathBuf;

/// What was not done with manifests that are wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undone {
    /// No pod.
    Started,
    /// With what runs.
    Compared,
    /// No byte.
    Written,
}

/// An expected failure.
#[derive(Debug, thiserror::Error)]
pub enum Expected {
    /// The command ran and found problems it has already described.
    #[error("{what}")]
    Found {
        /// In a few words.
        what: String,
    },
    /// The mesh says no, in its own words.
    #[error("{what}")]
    Refused {
        /// What it says.
        what: String,
        /// And what to do.
        hint: Option<String>,
        /// The question made no sense.
        wrong: bool,
    },
    /// Manifests that cannot be used; each problem was printed with file, line and field.
    #[error("{count} problem(s) in the manifests; nothing was {}", undone.word())]
    Manifests {
        /// How many.
        count: usize,
        /// What was not done.
        undone: Undone,
    },
    /// Something that was named and is not there.
    #[error("{what}")]
    Unknown {
        /// What.
        what: String,
        /// What was probably meant.
        hint: String,
    },
    /// A command line that nothing could be done with, whatever runs.
    #[error("{what}")]
    Wrong {
        /// What is wrong with it.
        what: String,
        /// What can be said instead.
        hint: String,
    },
    /// A name that `--name` cannot take.
    #[error("{name:?} is no name for a `maille up`")]
    Name {
        /// As given.
        name: String,
    },
    /// Nothing runs under that name.
    #[error("no `maille up` named {name} is running")]
    NotRunning {
        /// The name.
        name: String,
    },
    /// Something runs, but its API does not answer.
    #[error("the mesh named {name} does not answer")]
    Silent {
        /// The name.
        name: String,
        /// Why.
        #[source]
        source: anyhow::Error,
    },
    /// What says how to reach clusters cannot be used.
    #[error("the cluster's configuration cannot be used")]
    Kubeconfig {
        /// Why.
        #[source]
        source: anyhow::Error,
    },
    /// Nothing says where a cluster is.
    #[error("no cluster is known here: there is no kubeconfig")]
    NoCluster,
    /// An API server does not answer.
    #[error("the cluster at {server} does not answer")]
    SilentCluster {
        /// Where it should be.
        server: String,
        /// Why.
        #[source]
        source: anyhow::Error,
    },
    /// A cluster without a mesh, or with one that does not answer.
    #[error("the cluster has no mesh that answers")]
    NoMesh,
    /// Nobody knows where proxies would find control.
    #[error("nobody says where control is: {why}")]
    NoControl {
        /// Why the cluster does not.
        why: String,
    },
    /// The name is taken.
    #[error("a `maille up` named {name} runs already (process {pid})")]
    Running {
        /// The name.
        name: String,
        /// Its process.
        pid: String,
    },
    /// A state directory that somebody else could have made.
    #[error("{} is not safe to use: {why}", path.display())]
    StateNotOurs {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A state directory that cannot be made or read.
    #[error("failed to use {}", path.display())]
    State {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The path of the state directory leaves no room for the sockets in it.
    #[error("{} is too long: the sockets inside would not fit the kernel's 107 bytes", path.display())]
    StateTooLong {
        /// Which.
        path: PathBuf,
    },
    /// A program of ours is not where it should be.
    #[error("{} is missing", path.display())]
    Missing {
        /// Which.
        path: PathBuf,
    },
    /// The machine forbids or lacks something.
    #[error("{what}")]
    Machine {
        /// What, with the setting's name where it is known.
        what: String,
        /// How to mend it.
        hint: Option<String>,
    },
    /// The runner gave up.
    #[error("{what}")]
    Node {
        /// What it said.
        what: String,
    },
    /// Somebody pressed Ctrl-C before there was a result.
    #[error("interrupted")]
    Interrupted,
}

impl Undone {
    const fn word(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Compared => "compared",
            Self::Written => "written",
        }
    }
}

impl Expected {
    /// The documented exit code.
    pub const fn exit(&self) -> u8 {
        match self {
            Self::Refused { wrong: true, .. } => 2,
            Self::Found { .. }
            | Self::Node { .. }
            | Self::Unknown { .. }
            | Self::Refused { .. } => 1,
            Self::Manifests { .. } | Self::Wrong { .. } | Self::Name { .. } => 2,
            Self::NotRunning { .. }
            | Self::Silent { .. }
            | Self::Kubeconfig { .. }
            | Self::NoCluster
            | Self::SilentCluster { .. }
            | Self::NoMesh
            | Self::NoControl { .. } => 3,
            Self::Running { .. } => 4,
            Self::StateNotOurs { .. }
            | Self::State { .. }
            | Self::StateTooLong { .. }
            | Self::Missing { .. }
            | Self::Machine { .. } => 5,
            Self::Interrupted => 130,
        }
    }

    /// What to do about it, where there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Found { .. } | Self::Interrupted => None,
            Self::Node { .. } => Some("the end of the runner's log stands above, if it wrote one".into()),
            Self::Manifests { .. } => Some("correct them and run the same command again".into()),
            Self::Unknown { hint, .. } | Self::Wrong { hint, .. } => Some(hint.clone()),
            Self::Name { .. } => Some("use 1 to 20 lower-case letters, digits and '-'".into()),
            Self::NotRunning { .. } => {
                Some("start one with `maille up DIR`, name a running one with --name, or a cluster with --kubeconfig".into())
            }
            Self::Kubeconfig { .. } => {
                Some("name a file with --kubeconfig and one of its contexts with --context; kubectl must take them, too".into())
            }
            Self::NoCluster => Some("name its file with --kubeconfig, or set KUBECONFIG".into()),
            Self::SilentCluster { .. } => Some("try `kubectl version`, or another --context".into()),
            Self::NoMesh => Some(
                "install one: `maille install | kubectl apply -f -`; if there is one: `kubectl get apiservice v1.api.maille.io`".into(),
            ),
            Self::NoControl { .. } => Some(
                "give --control-address ADDRESS:PORT (of `kubectl get service maille-control -n maille-system`), or install first: `maille install | kubectl apply -f -`".into(),
            ),
            Self::Silent { name, .. } => Some(format!(
                "see its log, or start again: `maille down --name {name}`"
            )),
            Self::Running { name, .. } => Some(format!(
                "stop it with `maille down --name {name}`, or use another --name"
            )),
            Self::StateNotOurs { .. } => {
                Some("remove it, or choose another place with --runtime-dir".into())
            }
            Self::State { .. } => Some("choose another place with --runtime-dir".into()),
            Self::StateTooLong { .. } => Some("choose a shorter place with --runtime-dir".into()),
            Self::Missing { .. } => Some(
                "the programs of one release stand in one directory; in a checkout: cargo build --release".into(),
            ),
            Self::Machine { hint, .. } | Self::Refused { hint, .. } => hint.clone(),
        }
    }
}
