// SPDX-License-Identifier: Apache-2.0
//! From whom to whom: texts as people type them, to a pod whose proxy can be asked and an address that it would dial.
//!
//! A host name means what the cluster's DNS makes of it (`api`, `api.shop`, `api.shop.svc.cluster.local`). Must never pick
//! between several namespaces in silence. Next: `steps.rs`.

use std::net::{IpAddr, SocketAddr};

use maille_model::{AddressOwner, ServiceId, WorkloadUid};
use maille_wire::v1;

use super::{ExplainQuery, Party};
use crate::api::ApiError;
use crate::hub::Hub;
use crate::index::{Index, Pod};
use crate::resource::{Kind, Resource};
use crate::stat::Who;

/// What is dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Destination {
    pub(super) address: SocketAddr,
    pub(super) service: Option<ServiceId>,
}

/// A pod, as the answer names it.
pub(super) fn party(hub: &Hub, uid: &WorkloadUid) -> Party {
    let world = hub.world();
    let Some(pod) = world.index.pod(uid) else {
        return Party::default();
    };
    of(pod, &world.mesh)
}

fn of(pod: &Pod, mesh: &maille_model::Mesh) -> Party {
    let who = Who::of(pod);
    Party {
        namespace: pod.workload.namespace.to_string(),
        pod: pod.workload.name.to_string(),
        owner: format!("{}/{}", Kind::short(&who.kind), who.name),
        meshed: who.meshed,
        capture: pod.capture.as_str(),
        identity: if who.meshed {
            pod.workload.identity(&mesh.trust_domain).to_string()
        } else {
            String::new()
        },
    }
}

/// Who asks: a pod of the resource that runs, one that takes connections before others.
pub(super) fn source(query: &ExplainQuery, hub: &Hub) -> Result<(Party, WorkloadUid), ApiError> {
    let resource = super::named(&query.src, query.namespace.as_deref(), hub)?;
    let world = hub.world();
    ApiError::exists(&resource, &world.index)?;
    let pods = one_namespace(&resource, resource.pods(&world.index))?;
    let best = pods
        .into_iter()
        .filter(|pod| pod.has_addresses())
        .max_by_key(|pod| (pod.takes_connections(), !pod.terminating));
    let pod = best.ok_or_else(|| ApiError::missing(format!("no pod of {resource} runs")))?;
    Ok((of(pod, &world.mesh), pod.workload.uid.clone()))
}

fn one_namespace<'a>(resource: &Resource, pods: Vec<&'a Pod>) -> Result<Vec<&'a Pod>, ApiError> {
    let mut namespaces: Vec<String> = pods
        .iter()
        .map(|pod| pod.workload.namespace.to_string())
        .collect();
    namespaces.sort();
    namespaces.dedup();
    if namespaces.len() > 1 {
        return Err(ApiError::bad(
            format!(
                "{resource} is in {} namespaces: {}",
                namespaces.len(),
                namespaces.join(", ")
            ),
            "say which one, with namespace (-n)",
        ));
    }
    Ok(pods)
}

/// What is dialled.
pub(super) fn destination(
    query: &ExplainQuery,
    src: &Party,
    hub: &Hub,
) -> Result<Destination, ApiError> {
    let (host, port) = split(&query.dst);
    let port = query.port.or(port);
    let world = hub.world();
    let index = &world.index;
    if let Ok(ip) = host.parse::<IpAddr>() {
        let port = port.ok_or_else(|| no_port(&query.dst))?;
        let service = match index.owner_of(ip.to_canonical()) {
            Some(AddressOwner::Service(id)) => Some(id),
            _ => None,
        };
        return Ok(Destination {
            address: SocketAddr::new(ip, port),
            service,
        });
    }
    if let Some(id) = by_name(host, src, index) {
        return of_service(&id, port, index);
    }
    drop(world);
    let namespace = query.namespace.as_deref();
    let resource = super::named(host, namespace, hub)?;
    let world = hub.world();
    ApiError::exists(&resource, &world.index)?;
    if resource.kind == Kind::Service {
        let services = resource.services(&world.index);
        let own = services
            .iter()
            .find(|id| id.namespace.as_str() == src.namespace);
        return match own.or_else(|| services.first()) {
            Some(id) => of_service(id, port, &world.index),
            None => Err(ApiError::missing(format!("there is no {resource}"))),
        };
    }
    let pods = one_namespace(&resource, resource.pods(&world.index))?;
    of_pods(&resource, &pods, port, &world.index)
}

/// `host`, and the port behind it; schemes and paths of a URL are left out, and say a port.
fn split(text: &str) -> (&str, Option<u16>) {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (scheme, rest.split('/').next().unwrap_or(rest)),
        None => ("", text),
    };
    let port = match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    if let Some(inside) = rest.strip_prefix('[')
        && let Some((host, after)) = inside.split_once(']')
    {
        let named = after.strip_prefix(':').and_then(|text| text.parse().ok());
        return (host, named.or(port));
    }
    match rest.rsplit_once(':') {
        Some((host, digits)) if !host.contains(':') => match digits.parse() {
            Ok(named) => (host, Some(named)),
            Err(_) => (rest, port),
        },
        _ => (rest, port),
    }
}

/// What the cluster's DNS makes of a name.
fn by_name(host: &str, src: &Party, index: &Index) -> Option<ServiceId> {
    if host.contains('/') {
        return None;
    }
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let host = host.strip_suffix(".cluster.local").unwrap_or(&host);
    let host = host.strip_suffix(".svc").unwrap_or(host);
    let (name, namespace) = match host.split_once('.') {
        Some((name, namespace)) => (name, namespace),
        None => (host, src.namespace.as_str()),
    };
    let id: ServiceId = format!("{namespace}/{name}").parse().ok()?;
    index.service(&id).map(|service| service.facts.id.clone())
}

fn of_service(id: &ServiceId, port: Option<u16>, index: &Index) -> Result<Destination, ApiError> {
    let service = index
        .service(id)
        .ok_or_else(|| ApiError::missing(format!("there is no service {id}")))?;
    let ports: Vec<u16> = service.facts.ports.iter().map(|port| port.port).collect();
    let port = match (port, &ports[..]) {
        (Some(port), _) => port,
        (None, [port]) => *port,
        (None, _) => {
            let ports: Vec<_> = ports.iter().map(ToString::to_string).collect();
            return Err(ApiError::bad(
                format!(
                    "service {id} has {} ports: {}",
                    ports.len(),
                    ports.join(", ")
                ),
                "say which one, with port (--port)",
            ));
        }
    };
    if let Some(address) = service.facts.addresses.first() {
        return Ok(Destination {
            address: SocketAddr::new(*address, port),
            service: Some(id.clone()),
        });
    }
    // Headless: its clients dial a pod.
    let ready = index.pods().filter(|pod| {
        pod.workload.namespace == id.namespace
            && service.selects(&pod.labels)
            && pod.takes_connections()
    });
    let mut addresses = ready.filter_map(|pod| pod.workload.addresses.first());
    let address = addresses.next().ok_or_else(|| {
        ApiError::missing(format!(
            "service {id} has no address of its own, and no pod of it is ready: its name leads nowhere"
        ))
    })?;
    Ok(Destination {
        address: SocketAddr::new(*address, port),
        service: None,
    })
}

fn of_pods(
    resource: &Resource,
    pods: &[&Pod],
    port: Option<u16>,
    index: &Index,
) -> Result<Destination, ApiError> {
    let best = pods
        .iter()
        .filter(|pod| pod.has_addresses())
        .max_by_key(|pod| (pod.takes_connections(), !pod.terminating));
    let pod = best.ok_or_else(|| ApiError::missing(format!("no pod of {resource} runs")))?;
    let address = pod.workload.addresses.first();
    let address =
        address.ok_or_else(|| ApiError::missing(format!("no pod of {resource} has an address")))?;
    let mut served: Vec<u16> = index
        .services()
        .filter(|service| {
            service.facts.id.namespace == pod.workload.namespace && service.selects(&pod.labels)
        })
        .flat_map(|service| service.resolve(pod).map(|(_, target, _)| target))
        .chain(pod.ports.values().copied())
        .collect();
    served.sort_unstable();
    served.dedup();
    let port = match (port, &served[..]) {
        (Some(port), _) => port,
        (None, [port]) => *port,
        (None, _) => return Err(no_port(&resource.to_string())),
    };
    Ok(Destination {
        address: SocketAddr::new(*address, port),
        service: None,
    })
}

fn no_port(text: &str) -> ApiError {
    ApiError::bad(
        format!("nothing says which port of {text} is meant"),
        "say which one, with port (--port)",
    )
}

/// Where a client without a proxy comes out: the kernel's balancing is not the mesh's, any endpoint may be it.
pub(super) fn plain_legs(hub: &Hub, dst: &Destination) -> Vec<v1::Leg> {
    let world = hub.world();
    let leg = |uid: &WorkloadUid, target: SocketAddr| v1::Leg {
        hop: "plain".to_owned(),
        to: target.to_string(),
        target: target.to_string(),
        uid: uid.to_string(),
        identity: String::new(),
    };
    match world.index.owner_of(dst.address.ip().to_canonical()) {
        Some(AddressOwner::Workload(workload)) => vec![leg(&workload.uid, dst.address)],
        Some(AddressOwner::Service(id)) => {
            let endpoints = world.index.endpoints(&id).map(|endpoints| endpoints.0);
            let ready = endpoints.unwrap_or_default().into_iter();
            ready
                .filter(|endpoint| endpoint.ready)
                .filter_map(|endpoint| {
                    let port = endpoint.targets.iter();
                    let mut port = port.filter(|(port, _)| *port == dst.address.port());
                    let (_, target) = port.next()?;
                    let ip = *endpoint.workload.addresses.first()?;
                    Some(leg(&endpoint.workload.uid, SocketAddr::new(ip, *target)))
                })
                .collect()
        }
        None => vec![v1::Leg {
            hop: "plain".to_owned(),
            to: dst.address.to_string(),
            target: dst.address.to_string(),
            ..v1::Leg::default()
        }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_with_and_without_ports() {
        for (text, host, port) in [
            ("api", "api", None),
            ("api.shop:8080", "api.shop", Some(8080)),
            ("http://api/x/y", "api", Some(80)),
            ("https://api:8443/", "api", Some(8443)),
            ("10.96.0.1:80", "10.96.0.1", Some(80)),
            ("[fd00::1]:80", "fd00::1", Some(80)),
            ("fd00::1", "fd00::1", None),
            ("svc/api", "svc/api", None),
            ("svc/api:80", "svc/api", Some(80)),
        ] {
            assert_eq!(split(text), (host, port), "{text}");
        }
    }
}
