// SPDX-License-Identifier: Apache-2.0
//! Volumes, what they are filled from, and their mounts.

use std::fs::File;
use std::io::ErrorKind;

use crate::error::Problem;
use crate::objects::{
    Container, DownwardVolume, HostPath, Object, PodSpec, ProjectedVolume, Volume,
};
use crate::walk::suggest;

use super::data::{self, Kind};
use super::refs::{keyed, resource};
use super::{Known, Place};

/// Pod fields that a file may have.
const FIELD_PATHS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "metadata.labels",
    "metadata.annotations",
];

pub(super) fn check(place: &mut Place<'_>, path: &str, spec: &PodSpec, known: &Known<'_>) {
    let claims = claimed(place);
    for (index, volume) in spec.volumes.iter().enumerate() {
        if claims.contains(&volume.name.as_str()) {
            continue;
        }
        let path = format!("{path}.volumes[{index}]");
        let earlier = spec.volumes.get(..index).unwrap_or_default();
        let first = earlier.iter().position(|e| e.name == volume.name);
        place.twice(
            &format!("{path}.name"),
            &volume.name,
            first.map(|i| format!("volumes[{i}]")),
        );
        self::volume(place, &path, volume, (spec, known));
    }
}

/// The volumes of a StatefulSet's pods that are claims of their own, whatever the template says of them.
fn claimed<'a>(place: &Place<'a>) -> Vec<&'a str> {
    let Object::StatefulSet(set) = &place.source.object else {
        return Vec::new();
    };
    let claims = set.spec.volume_claim_templates.iter();
    claims.map(|claim| claim.metadata.name.as_str()).collect()
}

fn volume(
    place: &mut Place<'_>,
    path: &str,
    volume: &Volume,
    (spec, known): (&PodSpec, &Known<'_>),
) {
    let there = [
        volume.config_map.is_some(),
        volume.secret.is_some(),
        volume.downward_api.is_some(),
        volume.projected.is_some(),
        volume.empty_dir.is_some(),
        volume.host_path.is_some(),
        volume.persistent_volume_claim.is_some(),
    ];
    let names =
        "configMap, secret, downwardAPI, projected, emptyDir, hostPath, persistentVolumeClaim";
    if !place.one_of(path, &there, names) {
        return;
    }
    if let Some(map) = &volume.config_map {
        let wanted = (Kind::ConfigMap, map.name.as_str(), map.optional);
        data::items(
            place,
            &format!("{path}.configMap"),
            wanted,
            &map.items,
            known,
        );
    }
    if let Some(secret) = &volume.secret {
        let wanted = (Kind::Secret, secret.secret_name.as_str(), secret.optional);
        data::items(
            place,
            &format!("{path}.secret"),
            wanted,
            &secret.items,
            known,
        );
    }
    if let Some(downward) = &volume.downward_api {
        self::downward(place, &format!("{path}.downwardAPI"), downward, spec);
    }
    if let Some(projected) = &volume.projected {
        self::projected(
            place,
            &format!("{path}.projected"),
            projected,
            (spec, known),
        );
    }
    if let Some(empty) = &volume.empty_dir
        && empty.size_limit.is_some()
        && empty.medium.as_deref() != Some("Memory")
    {
        let reason = "the directory may become larger: only one of medium: Memory has a limit";
        place.warn(&format!("{path}.emptyDir.sizeLimit"), reason.to_owned());
    }
    if let Some(claim) = &volume.persistent_volume_claim {
        let path = format!("{path}.persistentVolumeClaim.claimName");
        self::claim(place, &path, &claim.claim_name, known);
    }
    if let Some(host) = &volume.host_path {
        host_path(place, &format!("{path}.hostPath"), host, known);
    }
}

fn claim(place: &mut Place<'_>, path: &str, name: &str, known: &Known<'_>) {
    let here = place.namespace();
    let claims = known
        .claims
        .iter()
        .filter(|(namespace, _)| *namespace == here);
    let names: Vec<&str> = claims.map(|(_, name)| name.as_str()).collect();
    if !names.contains(&name) {
        let problem = Problem::UnknownObject {
            kind: "PersistentVolumeClaim",
            name: name.to_owned(),
            suggestion: suggest(name, names.into_iter()),
        };
        place.fail(path, problem);
    }
}

fn downward(place: &mut Place<'_>, path: &str, volume: &DownwardVolume, spec: &PodSpec) {
    for (index, item) in volume.items.iter().enumerate() {
        let path = format!("{path}.items[{index}]");
        let there = [item.field_ref.is_some(), item.resource_field_ref.is_some()];
        if !place.one_of(&path, &there, "fieldRef, resourceFieldRef") {
            continue;
        }
        if let Some(reference) = &item.field_ref
            && !keyed(&reference.field_path)
            && !FIELD_PATHS.contains(&reference.field_path.as_str())
        {
            let value = reference.field_path.clone();
            let expected = "a field that a file may have: metadata.name, metadata.namespace, metadata.uid, metadata.labels, \
                metadata.annotations, metadata.labels['KEY'], metadata.annotations['KEY']";
            place.fail(
                &format!("{path}.fieldRef.fieldPath"),
                Problem::Malformed { value, expected },
            );
        }
        if let Some(reference) = &item.resource_field_ref {
            let path = format!("{path}.resourceFieldRef");
            if reference.container_name.is_none() {
                let what = "say which container";
                place.fail(&format!("{path}.containerName"), Problem::Missing { what });
            }
            resource(place, &path, reference, spec);
        }
    }
}

fn projected(
    place: &mut Place<'_>,
    path: &str,
    volume: &ProjectedVolume,
    (spec, known): (&PodSpec, &Known<'_>),
) {
    for (index, source) in volume.sources.iter().enumerate() {
        let path = format!("{path}.sources[{index}]");
        let there = [
            source.config_map.is_some(),
            source.secret.is_some(),
            source.downward_api.is_some(),
        ];
        if !place.one_of(&path, &there, "configMap, secret, downwardAPI") {
            continue;
        }
        for (kind, name, keys) in [
            (Kind::ConfigMap, "configMap", &source.config_map),
            (Kind::Secret, "secret", &source.secret),
        ] {
            if let Some(keys) = keys {
                let wanted = (kind, keys.name.as_str(), keys.optional);
                data::items(place, &format!("{path}.{name}"), wanted, &keys.items, known);
            }
        }
        if let Some(downward) = &source.downward_api {
            self::downward(place, &format!("{path}.downwardAPI"), downward, spec);
        }
    }
}

/// Only with consent, and only what this user can read.
fn host_path(place: &mut Place<'_>, path: &str, host: &HostPath, known: &Known<'_>) {
    if !known.options.host_path {
        let named = host.path.clone();
        return place.fail(path, Problem::Consent { path: named });
    }
    if !known.options.look {
        return;
    }
    let kind = host.kind.as_deref().unwrap_or_default();
    let why = match (
        File::open(&host.path).and_then(|file| file.metadata()),
        kind,
    ) {
        (Err(error), "DirectoryOrCreate" | "FileOrCreate")
            if error.kind() == ErrorKind::NotFound =>
        {
            None
        }
        (Err(error), _) if error.kind() == ErrorKind::PermissionDenied => {
            Some("belongs to another user, who does not let you read it".to_owned())
        }
        // A socket cannot be opened, only connected to.
        (Err(error), "" | "Socket") if error.raw_os_error() == Some(6) => None,
        (Err(error), _) => Some(error.to_string()),
        (Ok(data), "Directory" | "DirectoryOrCreate") if !data.is_dir() => {
            Some("is no directory".to_owned())
        }
        (Ok(data), "File" | "FileOrCreate") if !data.is_file() => Some("is no file".to_owned()),
        (Ok(_), "Socket" | "CharDevice" | "BlockDevice") if kind == "Socket" => {
            Some("is no socket".to_owned())
        }
        _ => None,
    };
    if let Some(why) = why {
        let named = host.path.clone();
        place.fail(
            &format!("{path}.path"),
            Problem::HostPath { path: named, why },
        );
    }
}

/// Where a container mounts them.
pub(super) fn mounts(place: &mut Place<'_>, path: &str, container: &Container, spec: &PodSpec) {
    let mut known: Vec<&str> = spec.volumes.iter().map(|v| v.name.as_str()).collect();
    known.extend(claimed(place));
    for (index, mount) in container.volume_mounts.iter().enumerate() {
        let path = format!("{path}.volumeMounts[{index}]");
        if !known.contains(&mount.name.as_str()) {
            let suggestion = suggest(&mount.name, known.iter().copied());
            let name = mount.name.clone();
            place.fail(
                &format!("{path}.name"),
                Problem::UnknownVolume { name, suggestion },
            );
        }
        let earlier = container.volume_mounts.get(..index).unwrap_or_default();
        let first = earlier.iter().position(|e| {
            e.mount_path.trim_end_matches('/') == mount.mount_path.trim_end_matches('/')
        });
        let first = first.map(|i| format!("volumeMounts[{i}]"));
        place.twice(&format!("{path}.mountPath"), &mount.mount_path, first);
        let real = mount.mount_path.trim_end_matches('/');
        if ["", "/proc", "/sys", "/dev"].contains(&real) {
            let value = mount.mount_path.clone();
            let expected = "a place for a volume: /, /proc, /sys and /dev are the machine's own";
            place.fail(
                &format!("{path}.mountPath"),
                Problem::Malformed { value, expected },
            );
        }
        if mount.sub_path.is_some() && mount.sub_path_expr.is_some() {
            place.fail(&path, Problem::AtMostOne("subPath, subPathExpr"));
        }
    }
}
