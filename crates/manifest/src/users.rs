// SPDX-License-Identifier: Apache-2.0
//! As whom a container runs: its own context over its pod's. Pure.

use crate::objects::{Container, PodSpec};

/// The user of those who must not be root and say no more.
pub const NOBODY_IN_PARTICULAR: u32 = 65_532;

/// The user that `container` runs as. `None`: whoever runs the pods.
pub fn user_of(spec: &PodSpec, container: &Container) -> Option<u32> {
    let (own, pod) = (&container.security_context, &spec.security_context);
    let own = own.as_ref();
    let pod = pod.as_ref();
    let user = own
        .and_then(|own| own.run_as_user)
        .or_else(|| pod.and_then(|pod| pod.run_as_user));
    match user {
        None if must_not_be_root(spec, container) => Some(NOBODY_IN_PARTICULAR),
        user => user,
    }
}

/// Whether `container` says, or its pod for it, that it must not be root.
pub fn must_not_be_root(spec: &PodSpec, container: &Container) -> bool {
    let own = container.security_context.as_ref();
    let pod = spec.security_context.as_ref();
    own.and_then(|own| own.run_as_non_root)
        .or_else(|| pod.and_then(|pod| pod.run_as_non_root))
        .unwrap_or(false)
}

/// The group that `container` runs as. `None`: that of whoever runs the pods.
pub fn group_of(spec: &PodSpec, container: &Container) -> Option<u32> {
    let (own, pod) = (&container.security_context, &spec.security_context);
    let own = own.as_ref().and_then(|own| own.run_as_group);
    own.or_else(|| pod.as_ref().and_then(|pod| pod.run_as_group))
}
