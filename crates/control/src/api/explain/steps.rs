// SPDX-License-Identifier: Apache-2.0
//! Each part of an explanation in words, with the object that decided it. Must never say what no proxy said. Next: [`super`].

use maille_model::{Protocol, ServiceId};
use maille_wire::v1;

use super::place::Destination;
use super::{Endpoint, ExplainQuery, Party, Step};
use crate::hub::World;

const BUILT_IN: &str = "built in";

/// Every part, in the order in which it is decided.
pub(super) fn steps(
    world: &World,
    (query, src, dst): (&ExplainQuery, &Party, &Destination),
    said: Option<&v1::Explanation>,
    endpoints: &[Endpoint],
) -> Vec<Step> {
    let mut steps = vec![capture(src), destination(world, dst)];
    if let Some(said) = said {
        steps.push(protocol(world, dst, said));
        steps.push(route(query));
    }
    if let Some(id) = &dst.service {
        steps.push(behind(world, id, dst.address.port(), endpoints));
    }
    if let Some(terms) = said.and_then(|said| said.terms.as_ref()) {
        steps.push(terms_of(query, dst, terms));
    }
    steps.push(Step {
        name: "policy",
        value: "allowed".to_owned(),
        decided_by: format!("{BUILT_IN}: nothing is forbidden, there are no policies yet"),
    });
    if !endpoints.is_empty() {
        steps.push(protection(src, endpoints));
    }
    steps
}

/// What happens, in one sentence.
pub(super) fn sentence(endpoints: &[Endpoint]) -> String {
    let refusing = endpoints
        .iter()
        .filter(|endpoint| endpoint.accepts == "refuse")
        .count();
    let meshed = endpoints.iter().filter(|e| e.hop == "mesh").count();
    let how = match (meshed, endpoints.len()) {
        (_, 0) => return "it goes there".to_owned(),
        (0, _) => "in plain text",
        (meshed, all) if meshed == all => "under mutual TLS",
        _ => "under mutual TLS to those in the mesh, in plain text to others",
    };
    let to = match endpoints {
        [only] if !only.party.pod.is_empty() => {
            format!("{}/{}", only.party.namespace, only.party.pod)
        }
        [only] => only.target.clone(),
        several => format!("one of {} endpoints", several.len()),
    };
    let but = match refusing {
        0 => String::new(),
        count => format!("; {count} of them would refuse it"),
    };
    format!("it goes to {to} {how}{but}")
}

fn capture(src: &Party) -> Step {
    let (value, annotation) = match src.capture {
        "outboard" => ("outboard: its packets pass its own proxy", "capture"),
        "inboard" => (
            "inboard: its connections pass the proxy that is in the pod",
            "injected",
        ),
        "inboard-cni" => (
            "inboard-cni: its connections pass the proxy that is in the pod, by rules of its node",
            "capture",
        ),
        _ => (
            "none: it has no proxy, and the mesh sees nothing of what it sends before the server's",
            "capture",
        ),
    };
    Step {
        name: "capture",
        value: value.to_owned(),
        decided_by: format!(
            "Pod {}/{}, annotation maille.io/{annotation}",
            src.namespace, src.pod
        ),
    }
}

fn destination(world: &World, dst: &Destination) -> Step {
    let ip = dst.address.ip().to_canonical();
    let (value, decided_by) = match (&dst.service, world.index.owner_of(ip)) {
        (Some(id), _) => (
            format!("{} is the service {id}", dst.address),
            format!("Service {id}, spec.clusterIPs"),
        ),
        (None, Some(maille_model::AddressOwner::Workload(workload))) => {
            let pod = format!("{}/{}", workload.namespace, workload.name);
            (
                format!("{} is the pod {pod}", dst.address),
                format!("Pod {pod}, status.podIPs"),
            )
        }
        (None, _) if world.mesh.cluster_ranges.contains(ip) => (
            format!("{} is a cluster address that nobody has", dst.address),
            "the cluster's ranges".to_owned(),
        ),
        (None, _) => (
            format!("{} is outside the cluster", dst.address),
            "the cluster's ranges".to_owned(),
        ),
    };
    Step {
        name: "destination",
        value,
        decided_by,
    }
}

fn protocol(world: &World, dst: &Destination, said: &v1::Explanation) -> Step {
    let service = dst.service.as_ref();
    let port = service.and_then(|id| {
        let service = world.index.service(id)?;
        let mut ports = service.facts.ports.iter();
        let port = ports.find(|port| port.port == dst.address.port())?;
        Some((id, port))
    });
    let (value, decided_by) = match (said.protocol.as_str(), port) {
        ("", Some((id, port))) => (
            "whatever the first bytes are".to_owned(),
            format!(
                "{BUILT_IN}: port {} of Service {id} has no appProtocol and no name that says it",
                port.port
            ),
        ),
        ("", None) => (
            "whatever the first bytes are".to_owned(),
            format!("{BUILT_IN}: nobody declared it"),
        ),
        (word, Some((id, port))) if port.protocol != Protocol::Undeclared => (
            format!("{word}, as declared"),
            format!(
                "Service {id}, port {} ({}): appProtocol or its name",
                port.port,
                if port.name.is_empty() {
                    "no name"
                } else {
                    &port.name
                }
            ),
        ),
        (word, _) => (
            format!("{word}, as declared"),
            "the services in front of the own pod".to_owned(),
        ),
    };
    Step {
        name: "protocol",
        value,
        decided_by,
    }
}

fn route(query: &ExplainQuery) -> Step {
    let asked = [
        query.method.as_ref().map(|_| "method"),
        query.path.as_ref().map(|_| "path"),
        query.headers.as_ref().map(|_| "headers"),
    ];
    let asked: Vec<_> = asked.into_iter().flatten().collect();
    let ignored = if asked.is_empty() {
        String::new()
    } else {
        format!(" ({} decide nothing)", asked.join(", "))
    };
    Step {
        name: "route",
        value: format!("none: every request goes to any ready endpoint, by load{ignored}"),
        decided_by: format!("{BUILT_IN}: there are no routes yet"),
    }
}

fn behind(world: &World, id: &ServiceId, port: u16, endpoints: &[Endpoint]) -> Step {
    let all = world.index.endpoints(id).map_or(0, |all| all.0.len());
    let declared = world.index.service(id).is_some_and(|service| {
        let mut ports = service.facts.ports.iter();
        ports.any(|known| known.port == port)
    });
    let selector = world
        .index
        .service(id)
        .map(|service| {
            let labels = service.selector.iter();
            let labels: Vec<_> = labels
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            labels.join(",")
        })
        .unwrap_or_default();
    let value = if declared {
        format!("{} ready of {all}", endpoints.len())
    } else {
        format!("the service has no port {port}")
    };
    Step {
        name: "endpoints",
        value,
        decided_by: if selector.is_empty() {
            format!("Service {id}, which selects nobody")
        } else {
            format!("Service {id}, selector {selector}; readiness of its pods")
        },
    }
}

fn terms_of(query: &ExplainQuery, dst: &Destination, terms: &v1::Terms) -> Step {
    let mut parts = Vec::new();
    if terms.request_timeout_ms > 0 {
        parts.push(format!("{} ms for a request", terms.request_timeout_ms));
    }
    if terms.response_timeout_ms > 0 {
        parts.push(format!("{} ms for an answer", terms.response_timeout_ms));
    }
    if terms.max_requests > 0 {
        parts.push(format!("{} requests at a time", terms.max_requests));
    }
    if let Some(retry) = terms.retry.as_ref().filter(|retry| retry.limit > 0) {
        let safe = query.method.as_deref().is_none_or(|method| {
            // RFC 9110, section 9.2.2.
            ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"].contains(&method)
        });
        parts.push(if safe {
            format!(
                "sent again up to {} times where the service allows it",
                retry.limit
            )
        } else {
            "never sent again: the method is not idempotent".to_owned()
        });
    }
    let service = dst.service.as_ref().map(ToString::to_string);
    Step {
        name: "terms",
        value: if parts.is_empty() {
            "as the service says".to_owned()
        } else {
            parts.join(", ")
        },
        decided_by: format!(
            "Service {}, annotations maille.io/...",
            service.unwrap_or_default()
        ),
    }
}

fn protection(src: &Party, endpoints: &[Endpoint]) -> Step {
    let mesh = endpoints.iter().filter(|e| e.hop == "mesh").count();
    let local = endpoints.iter().filter(|e| e.hop == "local").count();
    let plain = endpoints.len() - mesh - local;
    let mut parts = Vec::new();
    if mesh > 0 {
        parts.push(format!("mutual TLS to {mesh}"));
    }
    if local > 0 {
        parts.push("its own pod: nothing leaves it".to_owned());
    }
    if plain > 0 {
        parts.push(format!("plain text to {plain}"));
    }
    let why: Vec<String> = endpoints
        .iter()
        .filter(|endpoint| endpoint.hop == "plain" && !endpoint.party.meshed)
        .take(3)
        .map(|endpoint| match endpoint.party.pod.as_str() {
            "" => format!("{} is no workload of the mesh", endpoint.target),
            pod => format!("{}/{pod} is not in the mesh", endpoint.party.namespace),
        })
        .collect();
    Step {
        name: "protection",
        value: parts.join(", "),
        decided_by: match (src.meshed, why.as_slice()) {
            (false, _) => "the client has no proxy".to_owned(),
            (true, []) if src.capture == "inboard" => {
                "annotation maille.io/injected of both pods".to_owned()
            }
            (true, []) => "annotation maille.io/capture of both pods".to_owned(),
            (true, why) => why.join("; "),
        },
    }
}
