// SPDX-License-Identifier: Apache-2.0
//! Service addresses as nftables rules: a pure function of services and ready pods, one transaction that replaces the last one.
//!
//! They carry UDP of everybody and TCP of pods outside the mesh, also of those on the node's network; a meshed pod's proxy picks endpoints itself and never dials a
//! service address. A service without a ready pod has no rule: its clients are told that it is unreachable.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use maille_manifest::objects::{EndpointSlice, Pod, Service, Transport, selects};

/// A client of one service is sent to at most so many of its pods.
const MAX_ENDPOINTS: usize = 256;

/// The text for `nft -f`.
pub(crate) fn render(services: &[Service], slices: &[EndpointSlice], pods: &[Pod]) -> String {
    let mut rules = String::new();
    let mut behind = [BTreeSet::new(), BTreeSet::new()];
    for service in services {
        for address in service.addresses() {
            for port in &service.spec.ports {
                let endpoints = endpoints(service, port, address, (slices, pods));
                if endpoints.is_empty() {
                    continue;
                }
                let (family, proto) = (family(address), transport(port.protocol));
                let count = endpoints.len();
                let [v4, v6] = &mut behind;
                let behind = if address.is_ipv4() { v4 } else { v6 };
                behind.extend(endpoints.iter().map(|(ip, _)| *ip));
                let _ = write!(
                    rules,
                    "\t\t{family} daddr {address} {proto} dport {} ",
                    port.port
                );
                let choices: Vec<String> = endpoints
                    .iter()
                    .enumerate()
                    .map(|(index, (ip, port))| format!("{index} : {ip} . {port}"))
                    .collect();
                let _ = writeln!(
                    rules,
                    "dnat {family} to numgen random mod {count} map {{ {} }}",
                    choices.join(", ")
                );
            }
        }
    }
    let back = back(&behind);
    format!(
        "table inet maille_services\n\
         delete table inet maille_services\n\
         table inet maille_services {{\n\
         \tchain services {{\n\
         \t\ttype nat hook prerouting priority dstnat; policy accept;\n\
         {rules}\
         \t}}\n\
         \tchain own {{\n\
         \t\ttype nat hook output priority -100; policy accept;\n\
         {rules}\
         \t}}\n\
         \tchain back {{\n\
         \t\ttype nat hook postrouting priority srcnat; policy accept;\n\
         {back}\
         \t}}\n\
         \tchain nobody {{\n\
         \t\ttype filter hook forward priority filter; policy accept;\n\
         \t\toifname \"lo\" reject\n\
         \t}}\n\
         }}\n"
    )
}

/// A pod that is behind the service it dialled gets its own packet back, from the node: from itself it would not take it.
fn back(behind: &[BTreeSet<IpAddr>; 2]) -> String {
    let mut rules = String::new();
    for (ips, name) in behind.iter().zip(["ip", "ip6"]) {
        let pairs: Vec<String> = ips.iter().map(|ip| format!("{ip} . {ip}")).collect();
        if !pairs.is_empty() {
            let pairs = pairs.join(", ");
            let _ = writeln!(
                rules,
                "\t\t{name} saddr . {name} daddr {{ {pairs} }} masquerade"
            );
        }
    }
    rules
}

/// The ready pods behind a port; where none is, those that go but still answer, as kube-proxy has it (KEP-1669).
fn endpoints(
    service: &Service,
    port: &maille_manifest::objects::ServicePort,
    address: IpAddr,
    (slices, pods): (&[EndpointSlice], &[Pod]),
) -> Vec<(IpAddr, u16)> {
    let written = slices
        .iter()
        .filter(|slice| {
            slice.metadata.namespace == service.metadata.namespace
                && slice.service() == Some(service.metadata.name.as_str())
        })
        .filter_map(|slice| Some((slice, slice.port(&port.name, port.protocol)?)))
        .flat_map(|(slice, target)| slice.ready().map(move |(ip, _)| (ip, target)))
        .filter(|(ip, _)| ip.is_ipv4() == address.is_ipv4());
    let behind = |pod: &&Pod| {
        pod.metadata.namespace == service.metadata.namespace
            && selects(&service.spec.selector, &pod.metadata.labels)
    };
    let selected = || pods.iter().filter(behind);
    let all_go = !selected().any(Pod::is_ready);
    selected()
        .filter(|pod| pod.is_ready() || (all_go && pod.answers()))
        .filter_map(|pod| {
            let target = pod.spec.resolve_port(&port.target(), port.protocol)?;
            let ip = pod
                .addresses()
                .find(|ip| ip.is_ipv4() == address.is_ipv4())?;
            Some((ip, target))
        })
        .chain(written)
        .take(MAX_ENDPOINTS)
        .collect()
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "ip" } else { "ip6" }
}

fn transport(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    }
}

#[cfg(test)]
mod tests;
