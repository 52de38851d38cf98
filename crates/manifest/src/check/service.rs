// SPDX-License-Identifier: Apache-2.0
//! Services against the pods that they select, and EndpointSlices against their services.

use crate::error::Problem;
use crate::objects::slice::SERVICE_NAME;
use crate::objects::{EndpointSlice, IpFamily, PodSpec, Service, ServicePort, selects};
use crate::terms;
use crate::walk::suggest;

use super::{Known, Place, label};

pub(super) fn check(place: &mut Place<'_>, service: &Service, known: &Known<'_>) {
    label(place, service.metadata.name.as_str());
    for (key, problem) in terms::read(service).1 {
        place.fail(&format!("metadata.annotations.{key}"), problem);
    }
    let spec = &service.spec;
    if service.is_alias() {
        return;
    }
    if spec.ports.is_empty() && !service.is_headless() {
        place.fail(
            "spec.ports",
            Problem::Missing {
                what: "give it at least one port, or clusterIP: None",
            },
        );
    }
    let (namespace, name) = (service.metadata.namespace(), service.metadata.name.as_str());
    let pods: Vec<&PodSpec> = known
        .pods
        .iter()
        .filter(|(other, labels, _)| *other == namespace && selects(&spec.selector, labels))
        .map(|(_, _, spec)| *spec)
        .collect();
    let mut slices = known.slices.iter();
    let slices = slices.any(|(other, service, _)| *other == namespace && *service == name);
    if pods.is_empty() && !slices {
        let reason = match spec.selector.is_empty() {
            true => {
                "it selects no pods and no EndpointSlice is its own: the service has no endpoint"
            }
            false => "no pod here has these labels: the service has no endpoint",
        };
        place.warn("spec.selector", reason.to_owned());
    }
    for index in 0..spec.ports.len() {
        port(place, service, index, &pods);
    }
}

fn port(place: &mut Place<'_>, service: &Service, index: usize, pods: &[&PodSpec]) {
    let ports = &service.spec.ports;
    let Some(port) = ports.get(index) else { return };
    let path = format!("spec.ports[{index}]");
    let earlier = ports.get(..index).unwrap_or_default();
    if port.name.is_empty() && ports.len() > 1 {
        place.fail(
            &format!("{path}.name"),
            Problem::Missing {
                what: "a service with several ports names each",
            },
        );
    }
    let first = earlier
        .iter()
        .position(|e| !port.name.is_empty() && e.name == port.name);
    place.twice(
        &format!("{path}.name"),
        &port.name,
        first.map(|i| format!("spec.ports[{i}]")),
    );
    let first = earlier
        .iter()
        .position(|e| e.port == port.port && e.protocol == port.protocol);
    place.twice(
        &format!("{path}.port"),
        &port.port.to_string(),
        first.map(|i| format!("spec.ports[{i}]")),
    );
    target(place, &path, port, pods);
}

fn target(place: &mut Place<'_>, path: &str, port: &ServicePort, pods: &[&PodSpec]) {
    let target = port.target();
    let found = |pod: &&PodSpec| pod.resolve_port(&target, port.protocol).is_some();
    if pods.is_empty() || pods.iter().any(found) {
        return;
    }
    let names = pods
        .iter()
        .flat_map(|pod| pod.all_containers())
        .flat_map(|c| &c.ports)
        .map(|p| p.name.as_str());
    let name = target.to_string();
    let suggestion = suggest(
        &name,
        names.filter(|candidate| *candidate != name && !candidate.is_empty()),
    );
    place.fail(
        &format!("{path}.targetPort"),
        Problem::UnknownPort { name, suggestion },
    );
}

pub(super) fn slice(place: &mut Place<'_>, slice: &EndpointSlice, known: &Known<'_>) {
    let here = place.namespace();
    let services: Vec<&(&str, &str, &Service)> = known
        .services
        .iter()
        .filter(|(namespace, ..)| *namespace == here)
        .collect();
    let Some(name) = slice.service() else {
        let what = "the label kubernetes.io/service-name says whose endpoints they are";
        return place.fail("metadata.labels", Problem::Missing { what });
    };
    let service = services.iter().find(|(_, known, _)| *known == name);
    let Some((_, _, service)) = service else {
        let problem = Problem::UnknownObject {
            kind: "Service",
            name: name.to_owned(),
            suggestion: suggest(name, services.iter().map(|(_, name, _)| *name)),
        };
        return place.fail(&format!("metadata.labels.{SERVICE_NAME}"), problem);
    };
    let family = match slice.address_type.as_str() {
        "IPv6" => IpFamily::V6,
        _ => IpFamily::V4,
    };
    for (index, endpoint) in slice.endpoints.iter().enumerate() {
        let path = format!("endpoints[{index}].addresses");
        if endpoint.addresses.is_empty() {
            let what = "give it an address";
            place.fail(&path, Problem::Missing { what });
        }
        for (index, address) in endpoint.addresses.iter().enumerate() {
            let useless =
                address.is_loopback() || address.is_multicast() || address.is_unspecified();
            if IpFamily::of(*address) != family || useless {
                let value = address.to_string();
                let expected = "an address of the slice's addressType that another pod can reach";
                place.fail(
                    &format!("{path}[{index}]"),
                    Problem::Malformed { value, expected },
                );
            }
        }
    }
    for (index, port) in slice.ports.iter().enumerate() {
        let mut ports = service.spec.ports.iter();
        if !ports.any(|known| known.name == port.name && known.protocol == port.protocol) {
            let names = service.spec.ports.iter().map(|port| port.name.as_str());
            let problem = Problem::UnknownServicePort {
                service: name.to_owned(),
                suggestion: suggest(
                    &port.name,
                    names.filter(|n| !n.is_empty() && *n != port.name),
                ),
                name: port.name.clone(),
            };
            place.fail(&format!("ports[{index}].name"), problem);
        }
    }
}
