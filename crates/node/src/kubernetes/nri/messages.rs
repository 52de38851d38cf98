// SPDX-License-Identifier: Apache-2.0
//! What a container runtime and its plugin say, as far as it is looked at (NRI v1alpha1 in ttrpc): fields that are not here are passed over.

use std::collections::HashMap;

use prost::Message;

/// The service of the runtime.
pub(super) const RUNTIME_SERVICE: &str = "nri.pkg.api.v1alpha1.Runtime";

/// A sandbox is there, with its network, and nothing of the pod runs in it.
pub(super) const RUN_POD_SANDBOX: i32 = 1 << 0;
/// A container is about to be made.
pub(super) const CREATE_CONTAINER: i32 = 1 << 3;
/// The same, and whoever says no, or says nothing in time, is heeded.
pub(super) const VALIDATE: i32 = 1 << 13;

/// A question.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Request {
    #[prost(string, tag = "1")]
    pub(super) service: String,
    #[prost(string, tag = "2")]
    pub(super) method: String,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) payload: Vec<u8>,
}

/// An answer.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Response {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<Status>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) payload: Vec<u8>,
}

/// Why there is none.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Status {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    #[prost(string, tag = "2")]
    pub(super) message: String,
}

/// The plugin says who it is.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RegisterPlugin {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) index: String,
}

/// The runtime says who it is.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Configure {
    #[prost(string, tag = "2")]
    pub(super) runtime_name: String,
    #[prost(string, tag = "3")]
    pub(super) runtime_version: String,
    /// Since 0.10, when there began to be validators.
    #[prost(string, tag = "6")]
    pub(super) nri_version: String,
}

/// What the plugin wants to be asked.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Configured {
    #[prost(int32, tag = "2")]
    pub(super) events: i32,
}

/// Everything that there is.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Synchronize {
    #[prost(message, repeated, tag = "1")]
    pub(super) pods: Vec<Pod>,
    #[prost(bool, tag = "3")]
    pub(super) more: bool,
}

/// It was heard.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Synchronized {
    #[prost(bool, tag = "2")]
    pub(super) more: bool,
}

/// A question about a pod: a sandbox or a container of it is to begin.
#[derive(Clone, PartialEq, Message)]
pub(super) struct About {
    #[prost(message, optional, tag = "1")]
    pub(super) pod: Option<Pod>,
    /// Where it is one.
    #[prost(message, optional, tag = "2")]
    pub(super) container: Option<Container>,
}

/// A container that is to begin.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Container {
    #[prost(string, tag = "3")]
    pub(super) name: String,
    /// As whom it runs, where the runtime tells (NRI 0.10 and newer).
    #[prost(message, optional, tag = "21")]
    pub(super) user: Option<User>,
}

/// As whom.
#[derive(Clone, PartialEq, Message)]
pub(super) struct User {
    #[prost(uint32, tag = "1")]
    pub(super) uid: u32,
}

/// May this container begin?
#[derive(Clone, PartialEq, Message)]
pub(super) struct Validate {
    #[prost(message, optional, tag = "1")]
    pub(super) pod: Option<Pod>,
    #[prost(message, optional, tag = "2")]
    pub(super) container: Option<Container>,
    /// Who was asked.
    #[prost(message, repeated, tag = "6")]
    pub(super) plugins: Vec<Plugin>,
}

/// Who was asked.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Plugin {
    #[prost(string, tag = "1")]
    pub(super) name: String,
}

/// Whether it may.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Validated {
    #[prost(bool, tag = "1")]
    pub(super) reject: bool,
    #[prost(string, tag = "2")]
    pub(super) reason: String,
}

/// A pod's sandbox.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Pod {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    #[prost(string, tag = "3")]
    pub(crate) uid: String,
    #[prost(string, tag = "4")]
    pub(crate) namespace: String,
    #[prost(map = "string, string", tag = "6")]
    pub(crate) annotations: HashMap<String, String>,
    #[prost(message, optional, tag = "8")]
    pub(crate) linux: Option<Linux>,
    /// The sandbox's process; 0 where it has none.
    #[prost(uint32, tag = "9")]
    pub(crate) pid: u32,
}

/// What is Linux' of it.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Linux {
    #[prost(message, repeated, tag = "5")]
    pub(crate) namespaces: Vec<Namespace>,
}

/// One of its namespaces.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Namespace {
    #[prost(string, tag = "1")]
    pub(crate) kind: String,
    #[prost(string, tag = "2")]
    pub(crate) path: String,
}
