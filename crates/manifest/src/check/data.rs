// SPDX-License-Identifier: Apache-2.0
//! References to ConfigMaps and Secrets, and to their keys.

use crate::error::Problem;
use crate::walk::suggest;

use super::{Known, Place};

/// Which of the two kinds is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    ConfigMap,
    Secret,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }
}

/// A reference to one key.
pub(super) fn key(
    place: &mut Place<'_>,
    path: &str,
    kind: Kind,
    reference: &crate::objects::KeyRef,
    known: &Known<'_>,
) {
    let name = format!("{path}.name");
    let keys = keys(
        place,
        &name,
        kind,
        (&reference.name, reference.optional),
        known,
    );
    let Some(keys) = keys.filter(|_| !reference.optional) else {
        return;
    };
    has_key(
        place,
        &format!("{path}.key"),
        (kind, &reference.name, &reference.key),
        &keys,
    );
}

/// Which keys a volume takes.
pub(super) fn items(
    place: &mut Place<'_>,
    path: &str,
    (kind, name, optional): (Kind, &str, bool),
    items: &[crate::objects::KeyToPath],
    known: &Known<'_>,
) {
    let field = match (kind, path.ends_with(".secret")) {
        (Kind::Secret, true) if !path.contains(".projected.") => "secretName",
        _ => "name",
    };
    let keys = keys(
        place,
        &format!("{path}.{field}"),
        kind,
        (name, optional),
        known,
    );
    let Some(keys) = keys.filter(|_| !optional) else {
        return;
    };
    for (index, item) in items.iter().enumerate() {
        let path = format!("{path}.items[{index}].key");
        has_key(place, &path, (kind, name, &item.key), &keys);
    }
}

fn has_key(
    place: &mut Place<'_>,
    path: &str,
    (kind, name, key): (Kind, &str, &str),
    keys: &[&str],
) {
    if keys.contains(&key) {
        return;
    }
    let problem = Problem::UnknownKey {
        kind: kind.name(),
        name: name.to_owned(),
        key: key.to_owned(),
        suggestion: suggest(key, keys.iter().copied()),
    };
    place.fail(path, problem);
}

/// The keys of the object; says so where it must exist and does not.
pub(super) fn keys<'k>(
    place: &mut Place<'_>,
    path: &str,
    kind: Kind,
    (name, optional): (&str, bool),
    known: &Known<'k>,
) -> Option<Vec<&'k str>> {
    let here = place.namespace();
    let found: Option<Vec<&str>> = match kind {
        Kind::ConfigMap => known
            .config_maps
            .iter()
            .find(|(namespace, known, _)| *namespace == here && *known == name)
            .map(|(_, _, map)| map.keys().collect()),
        Kind::Secret => known
            .secrets
            .iter()
            .find(|(namespace, known, _)| *namespace == here && *known == name)
            .map(|(_, _, secret)| secret.keys().collect()),
    };
    if found.is_none() && !optional {
        let maps = known.config_maps.iter().map(|(n, name, _)| (*n, *name));
        let secrets = known.secrets.iter().map(|(n, name, _)| (*n, *name));
        let all: Vec<(&str, &str)> = match kind {
            Kind::ConfigMap => maps.collect(),
            Kind::Secret => secrets.collect(),
        };
        let mine = all.iter().filter(|(n, _)| *n == here);
        let problem = Problem::UnknownObject {
            kind: kind.name(),
            suggestion: suggest(name, mine.map(|(_, name)| *name)),
            name: name.to_owned(),
        };
        place.fail(path, problem);
    }
    found
}
