// SPDX-License-Identifier: Apache-2.0
//! What a pod's fields say about one another.

use crate::error::Problem;
use crate::marks::ACCESS_LOG;
use crate::objects::{ConfigMapVolume, Container, EnvVar, PodSpec, Probe, TextMap};
use crate::walk::suggest;

use super::{Known, Place};

/// Pod fields that a variable may have.
const FIELD_PATHS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.podIP",
    "status.podIPs",
];

pub(super) fn check(place: &mut Place<'_>, path: &str, spec: &PodSpec, known: &Known<'_>) {
    account(place, path, spec, known);
    if spec.containers.is_empty() {
        let what = "give it at least one container";
        place.fail(&format!("{path}.containers"), Problem::Missing { what });
    }
    volumes(place, path, spec, known);
    for (index, container) in spec.containers.iter().enumerate() {
        let path = format!("{path}.containers[{index}]");
        let earlier = spec.containers.get(..index).unwrap_or_default();
        let first = earlier.iter().position(|e| e.name == container.name);
        let first = first.map(|i| format!("containers[{i}]"));
        place.twice(&format!("{path}.name"), &container.name, first);
        self::container(place, &path, container, spec, known);
        ports(place, &path, container, earlier);
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
}

fn account(place: &mut Place<'_>, path: &str, spec: &PodSpec, known: &Known<'_>) {
    let account = spec.service_account();
    let here = place.namespace().to_owned();
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

fn container(
    place: &mut Place<'_>,
    path: &str,
    container: &Container,
    spec: &PodSpec,
    known: &Known<'_>,
) {
    if container.command.is_empty() {
        let what = "images are not run: say which program of this machine to run";
        place.fail(&format!("{path}.command"), Problem::Missing { what });
    }
    for (index, variable) in container.env.iter().enumerate() {
        env(place, &format!("{path}.env[{index}]"), variable, known);
    }
    for (index, from) in container.env_from.iter().enumerate() {
        let path = format!("{path}.envFrom[{index}]");
        match &from.config_map_ref {
            None => place.fail(&path, Problem::ExactlyOne("configMapRef")),
            Some(map) => {
                config_map(
                    place,
                    &format!("{path}.configMapRef.name"),
                    &map.name,
                    map.optional,
                    known,
                );
            }
        }
    }
    for (index, mount) in container.volume_mounts.iter().enumerate() {
        let path = format!("{path}.volumeMounts[{index}]");
        if !spec.volumes.iter().any(|volume| volume.name == mount.name) {
            let suggestion = suggest(&mount.name, spec.volumes.iter().map(|v| v.name.as_str()));
            let name = mount.name.clone();
            place.fail(
                &format!("{path}.name"),
                Problem::UnknownVolume { name, suggestion },
            );
        }
        let earlier = container.volume_mounts.get(..index).unwrap_or_default();
        let first = earlier
            .iter()
            .position(|e| e.mount_path == mount.mount_path);
        let first = first.map(|i| format!("volumeMounts[{i}]"));
        place.twice(&format!("{path}.mountPath"), &mount.mount_path, first);
    }
    if let Some(found) = &container.readiness_probe {
        probe(place, &format!("{path}.readinessProbe"), found, container);
    }
    if let Some(found) = &container.liveness_probe {
        let path = format!("{path}.livenessProbe");
        probe(place, &path, found, container);
        if found.success_threshold != 1 {
            let value = found.success_threshold.to_string();
            let expected = "1, the only success threshold of a liveness probe";
            place.fail(
                &format!("{path}.successThreshold"),
                Problem::Malformed { value, expected },
            );
        }
    }
}

fn ports(place: &mut Place<'_>, path: &str, container: &Container, earlier: &[Container]) {
    for (index, port) in container.ports.iter().enumerate() {
        if port.name.is_empty() {
            continue;
        }
        let before = container.ports.get(..index).unwrap_or_default();
        let first = if before.iter().any(|e| e.name == port.name) {
            Some("the same container".to_owned())
        } else {
            let owner = earlier
                .iter()
                .find(|c| c.ports.iter().any(|e| e.name == port.name));
            owner.map(|c| format!("container {:?}", c.name))
        };
        place.twice(&format!("{path}.ports[{index}].name"), &port.name, first);
    }
}

fn env(place: &mut Place<'_>, path: &str, variable: &EnvVar, known: &Known<'_>) {
    let Some(from) = &variable.value_from else {
        return;
    };
    if variable.value.is_some() {
        place.fail(path, Problem::ExactlyOne("value, valueFrom"));
    }
    match (&from.config_map_key_ref, &from.field_ref) {
        (Some(reference), None) => {
            let path = format!("{path}.valueFrom.configMapKeyRef");
            let data = config_map(
                place,
                &format!("{path}.name"),
                &reference.name,
                reference.optional,
                known,
            );
            if let Some(data) = data
                && !reference.optional
                && !data.contains_key(&reference.key)
            {
                let problem = Problem::UnknownKey {
                    name: reference.name.clone(),
                    key: reference.key.clone(),
                    suggestion: suggest(&reference.key, data.keys().map(String::as_str)),
                };
                place.fail(&format!("{path}.key"), problem);
            }
        }
        (None, Some(reference)) => {
            let field = reference.field_path.as_str();
            let labelled = ["metadata.labels['", "metadata.annotations['"]
                .iter()
                .any(|prefix| field.starts_with(prefix) && field.ends_with("']"));
            if !labelled && !FIELD_PATHS.contains(&field) {
                let value = field.to_owned();
                let expected = "a field that a variable may have: metadata.name, metadata.namespace, metadata.uid, \
                    metadata.labels['KEY'], metadata.annotations['KEY'], spec.nodeName, spec.serviceAccountName, \
                    status.hostIP, status.podIP, status.podIPs";
                place.fail(
                    &format!("{path}.valueFrom.fieldRef.fieldPath"),
                    Problem::Malformed { value, expected },
                );
            }
        }
        _ => place.fail(
            &format!("{path}.valueFrom"),
            Problem::ExactlyOne("configMapKeyRef, fieldRef"),
        ),
    }
}

fn volumes(place: &mut Place<'_>, path: &str, spec: &PodSpec, known: &Known<'_>) {
    for (index, volume) in spec.volumes.iter().enumerate() {
        let path = format!("{path}.volumes[{index}]");
        let earlier = spec.volumes.get(..index).unwrap_or_default();
        let first = earlier.iter().position(|e| e.name == volume.name);
        place.twice(
            &format!("{path}.name"),
            &volume.name,
            first.map(|i| format!("volumes[{i}]")),
        );
        match (&volume.config_map, &volume.empty_dir) {
            (Some(map), None) => items(place, &format!("{path}.configMap"), map, known),
            (None, Some(_)) => {}
            _ => place.fail(&path, Problem::ExactlyOne("configMap, emptyDir")),
        }
    }
}

fn items(place: &mut Place<'_>, path: &str, volume: &ConfigMapVolume, known: &Known<'_>) {
    let data = config_map(
        place,
        &format!("{path}.name"),
        &volume.name,
        volume.optional,
        known,
    );
    let Some(data) = data.filter(|_| !volume.optional) else {
        return;
    };
    for (index, item) in volume.items.iter().enumerate() {
        if !data.contains_key(&item.key) {
            let problem = Problem::UnknownKey {
                name: volume.name.clone(),
                key: item.key.clone(),
                suggestion: suggest(&item.key, data.keys().map(String::as_str)),
            };
            place.fail(&format!("{path}.items[{index}].key"), problem);
        }
    }
}

/// The data of the ConfigMap; says so where it must exist and does not.
fn config_map<'k>(
    place: &mut Place<'_>,
    path: &str,
    name: &str,
    optional: bool,
    known: &Known<'k>,
) -> Option<&'k TextMap> {
    let here = place.namespace().to_owned();
    let mine = || {
        known
            .config_maps
            .iter()
            .filter(|(namespace, ..)| *namespace == here)
    };
    let found = mine()
        .find(|(_, known, _)| *known == name)
        .map(|(_, _, data)| *data);
    if found.is_none() && !optional {
        let suggestion = suggest(name, mine().map(|(_, name, _)| *name));
        let name = name.to_owned();
        place.fail(
            path,
            Problem::UnknownObject {
                kind: "ConfigMap",
                name,
                suggestion,
            },
        );
    }
    found
}

fn probe(place: &mut Place<'_>, path: &str, probe: &Probe, container: &Container) {
    let (port, action) = match (&probe.http_get, &probe.tcp_socket) {
        (Some(get), None) => (&get.port, "httpGet"),
        (None, Some(socket)) => (&socket.port, "tcpSocket"),
        _ => return place.fail(path, Problem::ExactlyOne("httpGet, tcpSocket")),
    };
    if let crate::objects::IntOrText::Name(name) = port
        && !container.ports.iter().any(|p| p.name == *name)
    {
        let suggestion = suggest(name, container.ports.iter().map(|p| p.name.as_str()));
        let name = name.clone();
        place.fail(
            &format!("{path}.{action}.port"),
            Problem::UnknownPort { name, suggestion },
        );
    }
}
