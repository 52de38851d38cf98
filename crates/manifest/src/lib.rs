// SPDX-License-Identifier: Apache-2.0
//! Kubernetes objects as people write them, read with file, line and field.
//!
//! [`load`] is what an API server's admission is to a cluster: it parses strictly, refuses what it does not understand, fills in
//! defaults (namespace, target ports, cluster addresses) and collects every error of every file before anything starts.
//! [`to_json`] and [`from_json`] carry single objects between processes, lenient as a client of a real API server must be.
//! Read [`objects`] first, then `load.rs`, then `fields.rs` (what is supported, field by field).

#![forbid(unsafe_code)]

/// Service addresses, chosen the same way by everyone who reads the same manifests.
pub mod addresses;
/// What differs between two sets of objects.
pub mod changes;
mod check;
mod error;
mod families;
mod fields;
/// Which program of the machine stands for an image.
pub mod images;
mod json;
mod load;
/// Annotations and labels of our own.
pub mod marks;
/// The objects themselves.
pub mod objects;
mod options;
mod read;
mod reference;
/// When a CronJob is due.
pub mod schedule;
/// How a Service wants to be called.
pub mod terms;
/// As whom a container runs.
pub mod users;
/// `$(VAR)` in commands and environments.
pub mod vars;
mod walk;
/// Text to values that remember their places.
pub mod yaml;

pub use error::{ManifestError, Problem, Warning, printable};
pub use json::{FromJsonError, Resource, from_json, object_json, to_json};
pub use load::{Loaded, load, load_text, load_text_with, load_with};
pub use objects::{
    ConfigMap, Deployment, Namespace, Object, ObjectMeta, Pod, PodTemplate, Service, ServiceAccount,
};
pub use options::{Options, Users};
pub use read::read_files;
pub use reference::reference;
pub use walk::suggest;
