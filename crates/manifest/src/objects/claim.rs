// SPDX-License-Identifier: Apache-2.0
//! Claims of storage: on one machine each is a directory. Read [`super::volume`] for who mounts them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ObjectMeta, Quantity};

/// Storage that outlives the pods that mount it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PersistentVolumeClaim {
    /// Name and namespace.
    pub metadata: ObjectMeta,
    /// What was asked for.
    #[serde(default)]
    pub spec: ClaimSpec,
}

/// What was asked for. People are shown it; a directory is all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimSpec {
    /// Who may mount it at a time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub access_modes: Vec<String>,
    /// How much.
    #[serde(default, skip_serializing_if = "ClaimResources::is_empty")]
    pub resources: ClaimResources,
    /// Of which kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<String>,
}

/// How much was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimResources {
    /// `storage` and how many bytes of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<String, Quantity>,
}

impl ClaimResources {
    fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }
}
