// SPDX-License-Identifier: Apache-2.0
//! What the cluster's names mean: one question and the cluster's names in, one message out. No socket, no clock.
//!
//! The schema is Kubernetes' (DNS-based service discovery 1.1). There is no upstream: a name outside the zone does not exist
//! (NXDOMAIN, not REFUSED, with which resolvers would try again and again before they say so).

use std::collections::BTreeMap;
use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, SOA, SRV};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

/// Seconds that an answer may be kept, also a negative one: clients follow changes within these.
const TTL: u32 = 5;
/// The largest answer over UDP, RFC 9715.
const UDP_LIMIT: usize = 1232;
/// Records in one answer; a headless service with more pods is cut.
const MAX_RECORDS: usize = 256;
/// Names that are other names for other names.
const MAX_ALIASES: usize = 8;
const ZONE: [&str; 2] = ["cluster", "local"];

/// Every name of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    /// Namespace -> service -> what its name means.
    pub(crate) services: BTreeMap<String, BTreeMap<String, ServiceNames>>,
    /// Namespace -> addresses of its pods.
    pub(crate) pods: BTreeMap<String, Vec<IpAddr>>,
}

/// What a service's name means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServiceNames {
    /// Its cluster addresses, or its ready pods' when it is headless; of its own families only.
    pub(crate) addresses: Vec<IpAddr>,
    /// Those of `addresses` that have a name of their own below it.
    pub(crate) hosts: BTreeMap<String, Vec<IpAddr>>,
    pub(crate) headless: bool,
    /// It is another name for this one, and has nothing else.
    pub(crate) alias: Option<String>,
    /// Named ports: name, `tcp` or `udp`, number.
    pub(crate) ports: Vec<(String, &'static str, u16)>,
}

/// How the question came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// What a name has.
enum Found {
    /// No such name.
    Nothing,
    /// The name exists; these are its records of the type that was asked for, perhaps none.
    Records(Vec<RData>),
    /// It is another name for this one.
    Alias(String),
}

/// The answer to `bytes`. `None`: it is no question, and answering would help an attacker only.
pub(crate) fn answer(bytes: &[u8], names: &Names, transport: Transport) -> Option<Vec<u8>> {
    let Ok(request) = Message::from_vec(bytes) else {
        return malformed(bytes);
    };
    if request.metadata.message_type != MessageType::Query {
        return None;
    }
    let mut response = Message::response(request.metadata.id, request.metadata.op_code);
    response.metadata.recursion_desired = request.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    let limit = match (&request.edns, transport) {
        (_, Transport::Tcp) => usize::from(u16::MAX),
        (Some(edns), Transport::Udp) => usize::from(edns.max_payload()).clamp(512, UDP_LIMIT),
        (None, Transport::Udp) => 512,
    };
    if request.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(1232);
        response.set_edns(edns);
    }
    match &request.queries[..] {
        _ if request.metadata.op_code != OpCode::Query => {
            response.metadata.response_code = ResponseCode::NotImp;
        }
        [query] => respond(query, names, request.metadata.id, &mut response),
        _ => response.metadata.response_code = ResponseCode::FormErr,
    }
    let whole = response.to_vec().ok()?;
    if whole.len() <= limit {
        return Some(whole);
    }
    response.truncate().to_vec().ok()
}

/// FORMERR with the id, for something that at least has a header of a question.
fn malformed(bytes: &[u8]) -> Option<Vec<u8>> {
    let [high, low, flags, ..] = bytes else {
        return None;
    };
    if bytes.len() < 12 || flags & 0x80 != 0 {
        return None;
    }
    let id = u16::from_be_bytes([*high, *low]);
    Message::error_msg(id, OpCode::Query, ResponseCode::FormErr)
        .to_vec()
        .ok()
}

fn respond(query: &Query, names: &Names, id: u16, response: &mut Message) {
    response.add_query(query.clone());
    if query.query_class() != DNSClass::IN {
        response.metadata.response_code = ResponseCode::Refused;
        return;
    }
    if matches!(
        query.query_type(),
        RecordType::ANY | RecordType::AXFR | RecordType::IXFR
    ) {
        response.metadata.response_code = ResponseCode::NotImp;
        return;
    }
    let mut name = query.name().clone();
    // One that goes round in circles is cut: it has no address.
    for _ in 0..=MAX_ALIASES {
        let Some(next) = respond_with(&name, query.query_type(), names, id, response) else {
            return;
        };
        name = next;
    }
}

/// Adds what is known of `name`. The name that it stands for, if there is one to go on with.
fn respond_with(
    name: &Name,
    kind: RecordType,
    names: &Names,
    id: u16,
    response: &mut Message,
) -> Option<Name> {
    let labels: Vec<String> = name
        .iter()
        .map(|label| String::from_utf8_lossy(label).to_ascii_lowercase())
        .collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let Some(inside) = labels.strip_suffix(&ZONE) else {
        response.metadata.response_code = ResponseCode::NXDomain;
        return None;
    };
    response.metadata.authoritative = true;
    match find(inside, kind, names) {
        Found::Records(mut records) if !records.is_empty() => {
            // Clients take the first: the id spreads them over all.
            let middle = usize::from(id) % records.len();
            records.rotate_left(middle);
            for data in records.into_iter().take(MAX_RECORDS) {
                response.add_answer(Record::from_rdata(name.clone(), TTL, data));
            }
        }
        Found::Records(_) => add_soa(response),
        Found::Alias(other) => {
            let mut other = Name::from_ascii(&other).ok()?;
            other.set_fqdn(true);
            let data = RData::CNAME(CNAME(other.clone()));
            response.add_answer(Record::from_rdata(name.clone(), TTL, data));
            return (kind != RecordType::CNAME).then_some(other);
        }
        Found::Nothing => {
            response.metadata.response_code = ResponseCode::NXDomain;
            add_soa(response);
        }
    }
    None
}

/// `labels` are those before `cluster.local`.
fn find(labels: &[&str], kind: RecordType, names: &Names) -> Found {
    match labels {
        [] if kind == RecordType::SOA => {
            soa().map_or(Found::Nothing, |soa| Found::Records(vec![RData::SOA(soa)]))
        }
        [] | ["svc"] | ["pod"] => Found::Records(Vec::new()),
        [rest @ .., namespace, "svc"] => match names.services.get(*namespace) {
            Some(services) => in_namespace(rest, namespace, kind, services),
            None if names.pods.contains_key(*namespace) && rest.is_empty() => {
                Found::Records(Vec::new())
            }
            None => Found::Nothing,
        },
        [namespace, "pod"] if names.pods.contains_key(*namespace) => Found::Records(Vec::new()),
        [dashed, namespace, "pod"] => {
            let pods = names.pods.get(*namespace).into_iter().flatten();
            let matching: Vec<IpAddr> = pods.copied().filter(|ip| dashes(*ip) == *dashed).collect();
            if matching.is_empty() {
                Found::Nothing
            } else {
                addresses(&matching, kind)
            }
        }
        _ => Found::Nothing,
    }
}

fn in_namespace(
    labels: &[&str],
    namespace: &str,
    kind: RecordType,
    services: &BTreeMap<String, ServiceNames>,
) -> Found {
    let Some((name, rest)) = labels.split_last() else {
        return Found::Records(Vec::new());
    };
    let Some(service) = services.get(*name) else {
        return Found::Nothing;
    };
    match rest {
        [] => match &service.alias {
            Some(other) => Found::Alias(other.clone()),
            None => addresses(&service.addresses, kind),
        },
        [transport @ ("_tcp" | "_udp")] => {
            let any = service.ports.iter().any(|(_, t, _)| *t == &transport[1..]);
            if any {
                Found::Records(Vec::new())
            } else {
                Found::Nothing
            }
        }
        [port, transport @ ("_tcp" | "_udp")] => {
            let wanted = port.strip_prefix('_').unwrap_or(port);
            let found = service
                .ports
                .iter()
                .find(|(n, t, _)| n == wanted && *t == &transport[1..]);
            match found {
                None => Found::Nothing,
                Some((_, _, number)) if kind == RecordType::SRV => Found::Records(srv(
                    service,
                    &format!("{name}.{namespace}.svc.cluster.local."),
                    *number,
                )),
                Some(_) => Found::Records(Vec::new()),
            }
        }
        [host] if service.hosts.contains_key(*host) => {
            let own = service.hosts.get(*host);
            addresses(own.map(Vec::as_slice).unwrap_or_default(), kind)
        }
        [dashed] if service.headless => {
            let matching: Vec<IpAddr> = service
                .addresses
                .iter()
                .copied()
                .filter(|ip| dashes(*ip) == *dashed)
                .collect();
            if matching.is_empty() {
                Found::Nothing
            } else {
                addresses(&matching, kind)
            }
        }
        _ => Found::Nothing,
    }
}

fn srv(service: &ServiceNames, name: &str, port: u16) -> Vec<RData> {
    let targets: Vec<String> = if service.headless {
        let own = |ip: &IpAddr| {
            let mut hosts = service.hosts.iter();
            let host = hosts.find(|(_, ips)| ips.contains(ip));
            host.map_or_else(|| dashes(*ip), |(host, _)| host.clone())
        };
        let mut all: Vec<String> = service
            .addresses
            .iter()
            .map(|ip| format!("{}.{name}", own(ip)))
            .collect();
        // One host with addresses of two families is one target.
        all.sort();
        all.dedup();
        all
    } else {
        vec![name.to_owned()]
    };
    targets
        .iter()
        .filter_map(|target| Name::from_ascii(target).ok())
        .map(|target| RData::SRV(SRV::new(0, 100, port, target)))
        .collect()
}

fn addresses(addresses: &[IpAddr], kind: RecordType) -> Found {
    Found::Records(
        addresses
            .iter()
            .filter_map(|address| match (address, kind) {
                (IpAddr::V4(address), RecordType::A) => Some(RData::A(A(*address))),
                (IpAddr::V6(address), RecordType::AAAA) => Some(RData::AAAA(AAAA(*address))),
                _ => None,
            })
            .collect(),
    )
}

/// `10-244-0-2`, `fd00-244--2`.
fn dashes(address: IpAddr) -> String {
    address.to_string().replace(['.', ':'], "-")
}

fn soa() -> Option<SOA> {
    let ttl = TTL.cast_signed();
    let name = |text| Name::from_ascii(text).ok();
    Some(SOA::new(
        name("ns.dns.cluster.local.")?,
        name("hostmaster.cluster.local.")?,
        1,
        7200,
        1800,
        86_400,
        TTL,
    ))
    .filter(|_| ttl > 0)
}

fn add_soa(response: &mut Message) {
    if let (Some(soa), Ok(zone)) = (soa(), Name::from_ascii("cluster.local.")) {
        response.add_authority(Record::from_rdata(zone, TTL, RData::SOA(soa)));
    }
}

#[cfg(test)]
mod tests;
