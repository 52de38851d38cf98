// SPDX-License-Identifier: Apache-2.0
//! References to facts about a pod.

use crate::error::Problem;
use crate::objects::{PodSpec, ResourceFieldRef};
use crate::walk::suggest;

use super::Place;

/// What a container may be asked about.
const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.memory",
    "requests.cpu",
    "requests.memory",
];

/// Whether `field` is one label, or one annotation.
pub(super) fn keyed(field: &str) -> bool {
    ["metadata.labels['", "metadata.annotations['"]
        .iter()
        .any(|prefix| field.starts_with(prefix) && field.ends_with("']"))
}

pub(super) fn resource(
    place: &mut Place<'_>,
    path: &str,
    reference: &ResourceFieldRef,
    spec: &PodSpec,
) {
    if !RESOURCES.contains(&reference.resource.as_str()) {
        let value = reference.resource.clone();
        let expected = "limits.cpu, limits.memory, requests.cpu or requests.memory";
        place.fail(
            &format!("{path}.resource"),
            Problem::Malformed { value, expected },
        );
    }
    let Some(name) = &reference.container_name else {
        return;
    };
    let names = || spec.all_containers().map(|c| c.name.as_str());
    if !names().any(|known| known == name) {
        let problem = Problem::UnknownObject {
            kind: "container",
            name: name.clone(),
            suggestion: suggest(name, names()),
        };
        place.fail(&format!("{path}.containerName"), problem);
    }
}
