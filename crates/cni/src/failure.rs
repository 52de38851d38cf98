// SPDX-License-Identifier: Apache-2.0
//! Why a call fails, as the CNI specification wants it said: what people read in the pod's events is made here.

use std::io;

use serde_json::json;

/// Why a call fails.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The runtime left something out.
    #[error("the runtime's {name} is missing or makes no sense")]
    Environment {
        /// Which variable.
        name: &'static str,
    },
    /// The configuration is no JSON, or not of our shape.
    #[error("the network configuration cannot be read")]
    Decode(#[source] serde_json::Error),
    /// The configuration cannot be read at all.
    #[error("the network configuration did not come")]
    Input(#[source] io::Error),
    /// A version that is not spoken.
    #[error("CNI {0:?} is not spoken here: one of 0.3.1, 0.4.0, 1.0.0 and 1.1.0 is")]
    Version(String),
    /// No plugin before this one.
    #[error(
        "maille-cni must be chained behind the plugin that makes the pod's network: there is no prevResult; \
         a network of its own (NetworkAttachmentDefinition) says \"delegate\": true"
    )]
    First,
    /// There is no interface that could be taken.
    #[error(
        "pod {pod} is to be captured from outside (maille.io/capture: outboard), which a network of its own cannot do: \
         it takes maille-cni chained behind the pod's network; inboard-cni can be done here"
    )]
    Delegate {
        /// Which pod.
        pod: String,
    },
    /// The runtime does not tell annotations.
    #[error(
        "the container runtime does not tell pods' annotations (capability io.kubernetes.cri.pod-annotations): \
         nobody could say which pods are meant for the mesh"
    )]
    NoAnnotations,
    /// A decision that is none.
    #[error(
        "pod {pod} has maille.io/capture {value:?}: outboard, inboard-cni, inboard and none are known"
    )]
    Capture {
        /// Which pod.
        pod: String,
        /// What it says.
        value: String,
    },
    /// The namespace that is to be captured cannot be opened.
    #[error("the pod's network namespace cannot be opened")]
    Namespace(#[source] io::Error),
    /// There is no agent, or it does not answer.
    #[error(
        "the mesh's node agent is away, and pod {pod} is meant for the mesh: it does not start outside of it"
    )]
    Away {
        /// Which pod.
        pod: String,
        /// What happened on its socket.
        #[source]
        source: io::Error,
    },
    /// The same where nobody told what the pod is meant for.
    #[error(
        "the mesh's node agent is away, and without it nobody knows whether pod {pod} is meant for the mesh: it does not start"
    )]
    AwayUntold {
        /// Which pod.
        pod: String,
        /// What happened on its socket.
        #[source]
        source: io::Error,
    },
    /// The agent could not do it.
    #[error("pod {pod} cannot be captured for the mesh: {reason}")]
    Refused {
        /// Which pod.
        pod: String,
        /// The agent's reason.
        reason: String,
        /// What else it said.
        details: String,
    },
    /// What an agent that is away left behind cannot be removed.
    #[error("the capture of sandbox {container} cannot be ended")]
    Left {
        /// Which.
        container: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

// === impl Failure ===

impl Failure {
    /// The number that the specification gives it; from 100 on they are the plugin's own.
    pub fn code(&self) -> u32 {
        match self {
            Self::Version(_) => 1,
            Self::Environment { .. } => 4,
            Self::Input(_) | Self::Namespace(_) | Self::Left { .. } => 5,
            Self::Decode(_) => 6,
            Self::First | Self::NoAnnotations | Self::Capture { .. } | Self::Delegate { .. } => 7,
            Self::Away { .. } | Self::AwayUntold { .. } => 11,
            Self::Refused { .. } => 100,
        }
    }

    /// The error object, in the version of the call.
    pub fn object(&self, version: &str) -> String {
        let details = match self {
            Self::Refused { details, .. } => details.clone(),
            Self::Decode(source) => source.to_string(),
            Self::Input(source)
            | Self::Namespace(source)
            | Self::Away { source, .. }
            | Self::AwayUntold { source, .. }
            | Self::Left { source, .. } => source.to_string(),
            Self::Environment { .. }
            | Self::Version(_)
            | Self::First
            | Self::NoAnnotations
            | Self::Delegate { .. }
            | Self::Capture { .. } => String::new(),
        };
        json!({"cniVersion": version, "code": self.code(), "msg": self.to_string(), "details": details})
            .to_string()
    }
}
