// SPDX-License-Identifier: Apache-2.0
//! As whom a container runs, and with which rights, from its manifest. Pure. `maille_manifest` has refused what cannot be.

use maille_manifest::objects::{Container, PodSpec};
use maille_manifest::users::{group_of, user_of};

use crate::host::{CapSet, Rights, User};

/// The rights of `container`. `alias`: numbers are only names for the one user there is.
pub(crate) fn of(spec: &PodSpec, container: &Container, alias: bool) -> Rights {
    let own = container.security_context.clone().unwrap_or_default();
    Rights {
        user: user(spec, container, alias),
        capabilities: own.capabilities.map_or(CapSet::CONTAINER, |said| {
            let dropped = set(&said.drop);
            let added = set(&said.add);
            CapSet(CapSet::CONTAINER.0 & !dropped.0 | added.0)
        }),
        no_new_privileges: own.allow_privilege_escalation == Some(false),
        read_only_root: own.read_only_root_filesystem == Some(true),
    }
}

fn user(spec: &PodSpec, container: &Container, alias: bool) -> Option<User> {
    let (user, group) = (user_of(spec, container), group_of(spec, container));
    let pod = spec.security_context.clone().unwrap_or_default();
    let mut groups = pod.supplemental_groups;
    groups.extend(pod.fs_group);
    if alias {
        groups.clear();
    }
    let plain = user.unwrap_or(0) == 0 && group.unwrap_or(0) == 0 && groups.is_empty();
    if plain {
        return None;
    }
    Some(User {
        id: user.unwrap_or(0),
        // As an image has it that names a user and no group.
        group: group.unwrap_or(0),
        groups,
        alias,
    })
}

fn set(names: &[String]) -> CapSet {
    let one = |name: &String| match name.as_str() {
        "ALL" => CapSet::CONTAINER,
        name => CapSet::named(name).unwrap_or(CapSet::NONE),
    };
    names.iter().map(one).fold(CapSet::NONE, CapSet::with)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pod: &str, container: &str, alias: bool) -> Rights {
        let container: Container =
            serde_json::from_str(&format!(r#"{{"name":"c","securityContext":{container}}}"#))
                .unwrap();
        let spec: PodSpec =
            serde_json::from_str(&format!(r#"{{"containers":[],"securityContext":{pod}}}"#))
                .unwrap();
        super::of(&spec, &container, alias)
    }

    #[test]
    fn the_containers_word_stands_over_the_pods() {
        let rights = of("{}", "{}", false);
        assert_eq!(
            (rights.user, rights.capabilities),
            (None, CapSet::CONTAINER)
        );
        let pod = r#"{"runAsUser":1000,"runAsGroup":2000,"fsGroup":3000,"supplementalGroups":[4]}"#;
        let user = |id, group, groups: &[u32], alias| User {
            id,
            group,
            groups: groups.to_vec(),
            alias,
        };
        assert_eq!(
            of(pod, "{}", false).user,
            Some(user(1000, 2000, &[4, 3000], false))
        );
        assert_eq!(
            of(pod, r#"{"runAsUser":7}"#, true).user,
            Some(user(7, 2000, &[], true))
        );
        assert_eq!(
            of(r#"{"runAsNonRoot":true}"#, "{}", false).user,
            Some(user(65_532, 0, &[], false))
        );
    }

    #[test]
    fn rights_are_taken_before_they_are_given() {
        let all = r#"{"capabilities":{"drop":["ALL"],"add":["NET_BIND_SERVICE"]},
            "allowPrivilegeEscalation":false,"readOnlyRootFilesystem":true}"#;
        let rights = of("{}", all, false);
        assert_eq!(Some(rights.capabilities), CapSet::named("NET_BIND_SERVICE"));
        assert!(rights.no_new_privileges && rights.read_only_root);
        let some = of("{}", r#"{"capabilities":{"drop":["NET_RAW"]}}"#, false).capabilities;
        assert!(!some.has(CapSet::named("NET_RAW").unwrap()));
        // Servers that lock themselves in.
        for name in ["CHOWN", "SYS_CHROOT"] {
            assert!(some.has(CapSet::named(name).unwrap()));
        }
    }
}
