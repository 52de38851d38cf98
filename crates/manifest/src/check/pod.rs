// SPDX-License-Identifier: Apache-2.0
//! What a pod's fields say about one another. Read `check/container.rs`, `check/volume.rs` and `check/security.rs` for their parts.

use crate::error::Problem;
use crate::marks::{ACCESS_LOG, INSIDE};
use crate::objects::{Container, PodSpec, TextMap};
use crate::walk::suggest;

use super::{Known, Place, container, security, volume};

pub(super) fn check(place: &mut Place<'_>, path: &str, spec: &PodSpec, known: &Known<'_>) {
    account(place, path, spec, known);
    if spec.containers.is_empty() {
        let what = "give it at least one container";
        place.fail(&format!("{path}.containers"), Problem::Missing { what });
    }
    volume::check(place, path, spec, known);
    security::pod(place, path, spec, known.options);
    let mut earlier = Vec::new();
    for (list, containers) in [
        ("initContainers", &spec.init_containers),
        ("containers", &spec.containers),
    ] {
        for (index, container) in containers.iter().enumerate() {
            let at = format!("{list}[{index}]");
            let path = format!("{path}.{at}");
            let first = earlier.iter().find(|(name, _)| *name == container.name);
            let first = first.map(|(_, at): &(&str, String)| at.clone());
            place.twice(&format!("{path}.name"), &container.name, first);
            let before: Vec<&Container> = spec.all_containers().take(earlier.len()).collect();
            container::check(place, &path, container, spec, known);
            container::ports(place, &path, container, &before);
            match list {
                "containers" => container::no_init(place, &path, container),
                _ => container::init(place, &path, container),
            }
            earlier.push((container.name.as_str(), at));
        }
    }
    if spec.dns_policy.as_deref() == Some("None")
        && spec
            .dns_config
            .as_ref()
            .is_none_or(|dns| dns.nameservers.is_empty())
    {
        let what = "with dnsPolicy None it says which servers to ask";
        place.fail(
            &format!("{path}.dnsConfig.nameservers"),
            Problem::Missing { what },
        );
    }
}

/// Annotations of ours: whoever mistypes one would wait for its effect for ever.
pub(super) fn marks(place: &mut Place<'_>, path: &str, annotations: &TextMap) {
    if let Some(value) = annotations.get(ACCESS_LOG)
        && !["off", "json", "text"].contains(&value.as_str())
    {
        let problem = Problem::Malformed {
            value: value.clone(),
            expected: "off, json or text",
        };
        place.fail(&format!("{path}.annotations.{ACCESS_LOG}"), problem);
    }
    if let Some(value) = annotations.get(INSIDE)
        && !["allowed", "refused"].contains(&value.as_str())
    {
        let problem = Problem::Malformed {
            value: value.clone(),
            expected: "one of the words allowed and refused",
        };
        place.fail(&format!("{path}.annotations.{INSIDE}"), problem);
    }
}

fn account(place: &mut Place<'_>, path: &str, spec: &PodSpec, known: &Known<'_>) {
    let account = spec.service_account();
    let here = place.namespace();
    let mine = || {
        known
            .accounts
            .iter()
            .filter(|(n, _)| *n == here)
            .map(|(_, name)| *name)
    };
    if account != "default" && !mine().any(|name| name == account) {
        let problem = Problem::UnknownObject {
            kind: "ServiceAccount",
            name: account.to_owned(),
            suggestion: suggest(account, mine()),
        };
        place.fail(&format!("{path}.serviceAccountName"), problem);
    }
}
