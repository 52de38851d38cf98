// SPDX-License-Identifier: Apache-2.0
//! What a container's fields say about one another, and about their pod.

use crate::error::Problem;
use crate::objects::{Container, EnvFrom, EnvVar, Hook, HttpGet, IntOrText, PodSpec, Probe};
use crate::walk::suggest;

use super::data::{self, Kind};
use super::refs::{keyed, resource};
use super::{Known, Place, security, volume};

/// Pod fields that a variable may have.
const FIELD_PATHS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

pub(super) fn check(
    place: &mut Place<'_>,
    path: &str,
    container: &Container,
    spec: &PodSpec,
    known: &Known<'_>,
) {
    for (index, variable) in container.env.iter().enumerate() {
        env(
            place,
            &format!("{path}.env[{index}]"),
            variable,
            (spec, known),
        );
    }
    for (index, from) in container.env_from.iter().enumerate() {
        env_from(place, &format!("{path}.envFrom[{index}]"), from, known);
    }
    volume::mounts(place, path, container, spec);
    security::container(place, path, container, (spec, known.options));
    for (name, found) in [
        ("startupProbe", &container.startup_probe),
        ("readinessProbe", &container.readiness_probe),
        ("livenessProbe", &container.liveness_probe),
    ] {
        let Some(found) = found else { continue };
        let path = format!("{path}.{name}");
        probe(place, &path, found, container);
        if name != "readinessProbe" && found.success_threshold != 1 {
            let value = found.success_threshold.to_string();
            let expected = "1, the only success threshold of a liveness or startup probe";
            place.fail(
                &format!("{path}.successThreshold"),
                Problem::Malformed { value, expected },
            );
        }
    }
    if let Some(lifecycle) = &container.lifecycle {
        for (name, found) in [
            ("postStart", &lifecycle.post_start),
            ("preStop", &lifecycle.pre_stop),
        ] {
            if let Some(found) = found {
                hook(place, &format!("{path}.lifecycle.{name}"), found, container);
            }
        }
    }
}

/// What only init containers may say.
pub(super) fn no_init(place: &mut Place<'_>, path: &str, container: &Container) {
    if container.restart_policy.is_some() {
        let reason = "only an init container has one; the pod's restartPolicy is for the others";
        place.fail(
            &format!("{path}.restartPolicy"),
            Problem::Unsupported { reason },
        );
    }
}

/// What an init container must not say, unless it goes on beside the others.
pub(super) fn init(place: &mut Place<'_>, path: &str, container: &Container) {
    if container.is_sidecar() {
        return;
    }
    for (name, there) in [
        ("startupProbe", container.startup_probe.is_some()),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("livenessProbe", container.liveness_probe.is_some()),
        ("lifecycle", container.lifecycle.is_some()),
    ] {
        if there {
            let reason = "an init container ends before the others begin; with restartPolicy: Always it goes on";
            place.fail(&format!("{path}.{name}"), Problem::Unsupported { reason });
        }
    }
}

pub(super) fn ports(
    place: &mut Place<'_>,
    path: &str,
    container: &Container,
    earlier: &[&Container],
) {
    for (index, port) in container.ports.iter().enumerate() {
        if port.name.is_empty() {
            continue;
        }
        let before = container.ports.get(..index).unwrap_or_default();
        let first = if before.iter().any(|e| e.name == port.name) {
            Some("the same container".to_owned())
        } else {
            let mut earlier = earlier.iter();
            let owner = earlier.find(|c| c.ports.iter().any(|e| e.name == port.name));
            owner.map(|c| format!("container {:?}", c.name))
        };
        place.twice(&format!("{path}.ports[{index}].name"), &port.name, first);
    }
}

fn env(
    place: &mut Place<'_>,
    path: &str,
    variable: &EnvVar,
    (spec, known): (&PodSpec, &Known<'_>),
) {
    let Some(from) = &variable.value_from else {
        return;
    };
    if variable.value.is_some() {
        place.fail(path, Problem::ExactlyOne("value, valueFrom"));
    }
    let path = format!("{path}.valueFrom");
    let there = [
        from.config_map_key_ref.is_some(),
        from.secret_key_ref.is_some(),
        from.field_ref.is_some(),
        from.resource_field_ref.is_some(),
    ];
    let names = "configMapKeyRef, secretKeyRef, fieldRef, resourceFieldRef";
    if !place.one_of(&path, &there, names) {
        return;
    }
    if let Some(reference) = &from.config_map_key_ref {
        let path = format!("{path}.configMapKeyRef");
        data::key(place, &path, Kind::ConfigMap, reference, known);
    }
    if let Some(reference) = &from.secret_key_ref {
        let path = format!("{path}.secretKeyRef");
        data::key(place, &path, Kind::Secret, reference, known);
    }
    if let Some(reference) = &from.field_ref {
        let path = format!("{path}.fieldRef.fieldPath");
        field(place, &path, &reference.field_path);
    }
    if let Some(reference) = &from.resource_field_ref {
        resource(place, &format!("{path}.resourceFieldRef"), reference, spec);
    }
}

fn field(place: &mut Place<'_>, path: &str, field: &str) {
    if keyed(field) || FIELD_PATHS.contains(&field) {
        return;
    }
    let value = field.to_owned();
    let expected = "a field that a variable may have: metadata.name, metadata.namespace, metadata.uid, \
        metadata.labels['KEY'], metadata.annotations['KEY'], spec.nodeName, spec.serviceAccountName, \
        status.hostIP, status.hostIPs, status.podIP, status.podIPs";
    place.fail(path, Problem::Malformed { value, expected });
}

fn env_from(place: &mut Place<'_>, path: &str, from: &EnvFrom, known: &Known<'_>) {
    let there = [from.config_map_ref.is_some(), from.secret_ref.is_some()];
    if !place.one_of(path, &there, "configMapRef, secretRef") {
        return;
    }
    for (kind, name, reference) in [
        (Kind::ConfigMap, "configMapRef", &from.config_map_ref),
        (Kind::Secret, "secretRef", &from.secret_ref),
    ] {
        if let Some(reference) = reference {
            let path = format!("{path}.{name}.name");
            let wanted = (reference.name.as_str(), reference.optional);
            data::keys(place, &path, kind, wanted, known);
        }
    }
}

fn probe(place: &mut Place<'_>, path: &str, probe: &Probe, container: &Container) {
    let there = [
        probe.http_get.is_some(),
        probe.tcp_socket.is_some(),
        probe.grpc.is_some(),
        probe.exec.is_some(),
    ];
    if !place.one_of(path, &there, "httpGet, tcpSocket, grpc, exec") {
        return;
    }
    if let Some(get) = &probe.http_get {
        http(place, &format!("{path}.httpGet"), get, container);
    }
    if let Some(socket) = &probe.tcp_socket {
        named(
            place,
            &format!("{path}.tcpSocket.port"),
            &socket.port,
            container,
        );
    }
    if let Some(exec) = &probe.exec {
        command(place, &format!("{path}.exec"), &exec.command);
    }
}

fn hook(place: &mut Place<'_>, path: &str, hook: &Hook, container: &Container) {
    let there = [
        hook.exec.is_some(),
        hook.http_get.is_some(),
        hook.sleep.is_some(),
    ];
    if !place.one_of(path, &there, "exec, httpGet, sleep") {
        return;
    }
    if let Some(get) = &hook.http_get {
        http(place, &format!("{path}.httpGet"), get, container);
    }
    if let Some(exec) = &hook.exec {
        command(place, &format!("{path}.exec"), &exec.command);
    }
}

fn http(place: &mut Place<'_>, path: &str, get: &HttpGet, container: &Container) {
    named(place, &format!("{path}.port"), &get.port, container);
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
    if !plain(&get.path) {
        let value = get.path.chars().take(80).collect();
        let expected = "a path of HTTP: printable ASCII, other bytes as %XX";
        place.fail(
            &format!("{path}.path"),
            Problem::Malformed { value, expected },
        );
    }
}

fn command(place: &mut Place<'_>, path: &str, command: &[String]) {
    if command.first().is_none_or(String::is_empty) {
        let what = "say which program to run";
        place.fail(&format!("{path}.command"), Problem::Missing { what });
    }
}

fn named(place: &mut Place<'_>, path: &str, port: &IntOrText, container: &Container) {
    let IntOrText::Name(name) = port else { return };
    if !container.ports.iter().any(|p| p.name == *name) {
        let suggestion = suggest(name, container.ports.iter().map(|p| p.name.as_str()));
        let name = name.clone();
        place.fail(path, Problem::UnknownPort { name, suggestion });
    }
}
