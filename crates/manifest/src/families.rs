// SPDX-License-Identifier: Apache-2.0
//! Which address families a Service has: what `ipFamilyPolicy`, `ipFamilies`, `clusterIP` and `clusterIPs` say together, completed
//! as an API server of a dual-stack cluster does whose first family is IPv4 (KEP-563).
//!
//! Gives out no address: read `addresses.rs` for that.

use std::net::IpAddr;

use crate::addresses::ranges;
use crate::error::Problem;
use crate::objects::{ClusterIp, IpFamily, IpFamilyPolicy, Service};

/// Fills in policy, families, and whichever of `clusterIP` and `clusterIPs` is missing. Gives what contradicts itself, with the
/// path of the field; the service is then of no use.
pub(crate) fn complete(service: &mut Service) -> Vec<(String, Problem)> {
    if service.is_alias() {
        return alias(service);
    }
    let spec = &mut service.spec;
    let single = spec.cluster_ips.is_empty();
    if spec.cluster_ips.is_empty() {
        spec.cluster_ips.extend(spec.cluster_ip);
    } else if spec.cluster_ip.is_none() {
        spec.cluster_ip = spec.cluster_ips.first().copied();
    }
    let headless = spec.cluster_ip == Some(ClusterIp::Headless);
    // Whose endpoints nobody here knows: an API server leaves it to whoever writes them.
    let foreign = headless && spec.selector.is_empty();
    let policy = *spec.ip_family_policy.get_or_insert(if foreign {
        IpFamilyPolicy::RequireDualStack
    } else {
        IpFamilyPolicy::SingleStack
    });

    let mut problems = contradictions(service, policy);
    if !problems.is_empty() {
        return problems;
    }
    let addresses: Vec<IpAddr> = service.addresses().collect();
    let families = &mut service.spec.ip_families;
    for (index, address) in addresses.iter().enumerate() {
        let actual = IpFamily::of(*address);
        match families.get(index) {
            None => families.push(actual),
            Some(said) if *said != actual => problems.push((
                if single {
                    "spec.clusterIP".to_owned()
                } else {
                    format!("spec.clusterIPs[{index}]")
                },
                Problem::AddressFamily {
                    address: address.to_string(),
                    index,
                    family: said.as_str(),
                },
            )),
            Some(_) => {}
        }
    }
    if families.is_empty() {
        families.push(IpFamily::V4);
    }
    if let ([first], true) = (&families[..], policy != IpFamilyPolicy::SingleStack) {
        let second = first.other();
        families.push(second);
    }
    problems
}

/// Addresses that a service asks for and that are not of services here, with the path of their field: they are somebody else's, and a
/// proxy would take what goes to them for the service. To be asked before [`complete`].
pub(crate) fn outside(service: &Service) -> Vec<(String, Problem)> {
    let spec = &service.spec;
    let single = spec
        .cluster_ip
        .iter()
        .map(|ip| ("spec.clusterIP".to_owned(), *ip));
    let several = spec.cluster_ips.iter().enumerate();
    let several = several.map(|(index, ip)| (format!("spec.clusterIPs[{index}]"), *ip));
    let ranges = ranges();
    let mut problems = Vec::new();
    for (field, ip) in single.chain(several) {
        let ClusterIp::Address(address) = ip else {
            continue;
        };
        if !ranges.iter().any(|range| range.contains(&address)) {
            let value = address.to_string();
            let ranges = ranges.map(|range| range.to_string());
            problems.push((field, Problem::OutOfRange { value, ranges }));
        }
    }
    problems
}

/// Another name has no addresses; of a selector it takes no notice.
fn alias(service: &mut Service) -> Vec<(String, Problem)> {
    let spec = &mut service.spec;
    spec.selector.clear();
    let address = spec.cluster_ip.is_some() || !spec.cluster_ips.is_empty();
    let missing = spec.external_name.is_none();
    let problems = [
        missing.then(|| {
            let what = "say which name it stands for";
            ("spec.externalName".to_owned(), Problem::Missing { what })
        }),
        address.then(|| ("spec.clusterIP".to_owned(), Problem::AliasAddress)),
    ];
    problems.into_iter().flatten().collect()
}

/// What cannot hold whatever the families turn out to be.
fn contradictions(service: &Service, policy: IpFamilyPolicy) -> Vec<(String, Problem)> {
    let spec = &service.spec;
    let mut problems = Vec::new();
    if let (Some(single), Some(first)) = (spec.cluster_ip, spec.cluster_ips.first())
        && single != *first
    {
        let problem = Problem::NotFirst {
            value: first.to_string(),
            single: single.to_string(),
        };
        problems.push(("spec.clusterIPs[0]".to_owned(), problem));
    }
    if spec.cluster_ips.len() > 1 && spec.cluster_ips.contains(&ClusterIp::Headless) {
        let problem = Problem::NoneAlone;
        problems.push(("spec.clusterIPs".to_owned(), problem));
    }
    let of_addresses: Vec<IpFamily> = service.addresses().map(IpFamily::of).collect();
    for (name, families) in [
        ("ipFamilies", &spec.ip_families),
        ("clusterIPs", &of_addresses),
    ] {
        let again = (1..families.len()).find_map(|index| {
            let family = families.get(index)?;
            let first = families.iter().take(index).position(|f| f == family)?;
            Some((index, first, family.as_str()))
        });
        if let Some((index, first, family)) = again {
            let problem = Problem::Duplicate {
                value: family.to_owned(),
                first: Some(format!("spec.{name}[{first}]")),
            };
            problems.push((format!("spec.{name}[{index}]"), problem));
        } else if families.len() > 1 && policy == IpFamilyPolicy::SingleStack {
            problems.push((format!("spec.{name}"), Problem::SingleStack));
        }
    }
    problems
}

#[cfg(test)]
mod tests;
