// SPDX-License-Identifier: Apache-2.0
//! Sidecars into pods and out again, and the objects that install a mesh. Pure: no I/O, no clock.
//!
//! [`decide`] looks at one pod template and says what becomes of it, for everybody: the command ([`files`], which edits text and
//! touches nothing else), and the webhook ([`admit`], which answers with a patch). [`install`] makes the mesh's own objects.
//! Must never guess: what cannot work, or is written wrong, is refused with the field and what to do. Read `decide.rs` first.

#![forbid(unsafe_code)]

/// The webhook's answer.
pub mod admit;
/// What becomes of a pod.
pub mod decide;
/// YAML as this crate writes it.
pub mod emit;
/// Whole files: inject and uninject, with a report for each workload.
pub mod files;
/// The objects of a mesh.
pub mod install;
/// Why a pod gets no sidecar.
pub mod refusal;
/// Where control is and what runs beside applications.
pub mod settings;
/// The kinds of objects that have pods.
pub mod workload;

mod addition;
mod choices;
mod documents;
mod edit;
mod names;
mod removal;
mod sandbox;
mod sidecar;

pub use admit::{admit, admit_in};
pub use decide::{Asked, Decision, NamespaceFacts, PodSecurity, Uncaptured, Untouched, decide};
pub use files::{Done, FileError, Report, Said, inject, uninject};
pub use names::{INIT, PROXY, PROXY_UID, TRUST_CONFIG_MAP};
pub use refusal::{Cause, Refusal};
pub use sandbox::Handlers;
pub use settings::{Capture, ControlAddress, Nodes, Settings, SettingsError};
pub use workload::Kind;
