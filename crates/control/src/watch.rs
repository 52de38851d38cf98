// SPDX-License-Identifier: Apache-2.0
//! Where objects come from. A source tells one story: everything that there is, [`Event::InitDone`], then changes.
//!
//! The only module that knows files and watches: [`dir`] and [`kube`] tell the same events. It must never interpret an object
//! beyond its name: that is [`crate::index`]'s, which is next to read.

use std::sync::Arc;

use maille_manifest::Object;
use maille_model::{ClusterRanges, ServiceId, WorkloadUid};

/// A directory in place of an API server.
pub mod dir;
/// An API server.
pub mod kube;

/// Where objects come from.
#[derive(Debug)]
pub enum Source {
    /// A state directory.
    Dir(Box<dir::DirSource>),
    /// A cluster.
    Kube(Box<kube::KubeSource>),
}

/// What a source tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// There is this object now, in place of the one with the same key.
    Apply {
        /// Where it was read, for reports.
        origin: Origin,
        /// What it says.
        object: Box<Object>,
    },
    /// It is gone.
    Delete {
        /// Where it was.
        origin: Origin,
        /// What it was.
        key: ObjectKey,
    },
    /// What was read there last makes no sense: what it said before holds.
    Broken {
        /// Where.
        origin: Origin,
        /// Why, in one line.
        reason: String,
    },
    /// What was broken there is mended, or gone.
    Mended(Origin),
    /// The pod and service ranges are now these.
    Ranges(ClusterRanges),
    /// Everything that was there when the source was opened has been told.
    InitDone,
}

/// Where something was read: a path below the state directory, or the object's kind, namespace and name.
pub type Origin = Arc<str>;

/// Which object, among those that control reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKey {
    /// A pod, by what tells it from its successor of the same name.
    Pod(WorkloadUid),
    /// A service.
    Service(ServiceId),
    /// An EndpointSlice, by its own namespace and name.
    Slice(ServiceId),
}

// === impl Source ===

impl Source {
    /// Waits until something changed and tells what follows; may tell nothing. Cancel-safe. A cluster that is away tells
    /// nothing until it is back; a directory that cannot be read any more is an error.
    pub async fn next(&mut self) -> Result<Vec<Event>, dir::DirError> {
        match self {
            Self::Dir(source) => source.next().await,
            Self::Kube(source) => Ok(source.next().await),
        }
    }
}
