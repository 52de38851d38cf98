// SPDX-License-Identifier: Apache-2.0
//! As whom containers run and how much they may use, against what the machine allows.

use std::collections::BTreeSet;

use crate::error::Problem;
use crate::objects::{Container, PodSpec};
use crate::options::{Options, Users};
use crate::users::{must_not_be_root, user_of};

use super::Place;

/// The rights that a container can have ([`capabilities(7)`](https://man7.org/linux/man-pages/man7/capabilities.7.html)).
const CAPABILITIES: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

pub(super) fn pod(place: &mut Place<'_>, path: &str, spec: &PodSpec, options: &Options) {
    let here = spec.security_context.clone().unwrap_or_default();
    let path = format!("{path}.securityContext");
    for (name, id) in [
        ("runAsUser", here.run_as_user),
        ("runAsGroup", here.run_as_group),
        ("fsGroup", here.fs_group),
    ] {
        known(place, &format!("{path}.{name}"), id, &options.users);
    }
    if options.users == Users::One {
        if here.fs_group.is_some() {
            let reason = "files belong to the user who runs maille, in whatever group";
            place.warn(&format!("{path}.fsGroup"), reason.to_owned());
        }
        if !here.supplemental_groups.is_empty() {
            let reason = "an ordinary user has no other groups to give; run maille as root";
            let path = format!("{path}.supplementalGroups");
            place.fail(&path, Problem::Unsupported { reason });
        }
        let users: BTreeSet<u32> = spec
            .all_containers()
            .map(|container| user_of(spec, container).unwrap_or(0))
            .collect();
        if users.len() > 1 {
            let reason = "several users in one pod: an ordinary user has only one to give; run maille as root, or give all containers the same runAsUser";
            place.fail(&path, Problem::Unsupported { reason });
        }
    }
    for (index, setting) in here.sysctls.iter().enumerate() {
        if !setting.name.replace('/', ".").starts_with("net.") {
            let value = setting.name.clone();
            let expected = "a setting of the network (net.*): others are the machine's";
            place.fail(
                &format!("{path}.sysctls[{index}].name"),
                Problem::Malformed { value, expected },
            );
        }
    }
}

pub(super) fn container(
    place: &mut Place<'_>,
    path: &str,
    container: &Container,
    (spec, options): (&PodSpec, &Options),
) {
    if must_not_be_root(spec, container) && user_of(spec, container) == Some(0) {
        let (value, expected) = (
            "0".to_owned(),
            "another user than root, as runAsNonRoot asks",
        );
        let path = format!("{path}.securityContext.runAsUser");
        place.fail(&path, Problem::Malformed { value, expected });
    }
    if let Some(here) = &container.security_context {
        let path = format!("{path}.securityContext");
        known(
            place,
            &format!("{path}.runAsUser"),
            here.run_as_user,
            &options.users,
        );
        known(
            place,
            &format!("{path}.runAsGroup"),
            here.run_as_group,
            &options.users,
        );
        let added = here.capabilities.iter().flat_map(|c| &c.add).enumerate();
        for (index, name) in added {
            if !CAPABILITIES.contains(&name.as_str()) {
                let path = format!("{path}.capabilities.add[{index}]");
                let reason = "it is a right over the machine or its network, which no pod has";
                let value = name.clone();
                place.fail(&path, Problem::UnsupportedValue { value, reason });
            }
        }
    }
    let Some(resources) = &container.resources else {
        return;
    };
    for name in resources.limits.keys() {
        let path = format!("{path}.resources.limits.{name}");
        match (name.as_str(), &options.no_limits) {
            ("cpu" | "memory", None) => {}
            ("cpu" | "memory", Some(why)) => {
                place.warn(&path, format!("the container is not limited: {why}"));
            }
            ("ephemeral-storage", _) => {
                place.warn(&path, "what it writes is not limited".to_owned());
            }
            _ => {
                let reason = "there is nothing of the kind to give";
                place.fail(&path, Problem::Unsupported { reason });
            }
        }
    }
}

fn known(place: &mut Place<'_>, path: &str, id: Option<u32>, users: &Users) {
    if let Some(id) = id
        && !users.has(id)
    {
        let (value, reason) = (
            id.to_string(),
            "this machine's user namespace has no such user",
        );
        place.fail(path, Problem::UnsupportedValue { value, reason });
    }
}
