// SPDX-License-Identifier: Apache-2.0
//! Service addresses. Node and control read the same manifests, each on its own, and must give a service the same addresses:
//! so the address is a function of the service's name, and of the others only where two names fall on the same one.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::objects::{ClusterIp, IpFamily, Service};

/// The cluster's DNS, IPv4.
pub const DNS_V4: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// The cluster's DNS, IPv6.
pub const DNS_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 0xa);

/// The service that has these two, as on every cluster: namespace and name.
pub const DNS_SERVICE: (&str, &str) = ("kube-system", "kube-dns");

/// Slots 256 to 65534 of 10.96.0.0/16 and fd00:96::/112 are given out; those below are for the cluster itself.
const FIRST: u32 = 256;
const SLOTS: u32 = 65_535 - FIRST;

/// Where every service's addresses are.
pub fn ranges() -> [IpNet; 2] {
    let v4 = Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 16);
    let v6 = Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 0), 112);
    [v4.into(), v6.into()]
}

/// An address that a service asks for is another's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Index of the service that asked later.
    pub index: usize,
    /// What both want; `None`: no address is left.
    pub address: Option<IpAddr>,
    /// `namespace/name` of the one that has it.
    pub owner: String,
}

/// Gives every service one address of each of its families (`spec.ipFamilies`), and fills in `clusterIP` and `clusterIPs`.
pub fn assign(services: &mut [&mut Service]) -> Vec<Conflict> {
    let mut taken: BTreeMap<IpAddr, String> = BTreeMap::from([
        (DNS_V4.into(), "the cluster's DNS".to_owned()),
        (DNS_V6.into(), "the cluster's DNS".to_owned()),
    ]);
    let mut conflicts = Vec::new();
    for (index, service) in services.iter().enumerate() {
        for address in service.addresses() {
            let dns = address == DNS_V4 || address == DNS_V6;
            if dns && is_dns(service) {
                continue;
            }
            if let Some(owner) = taken.get(&address) {
                conflicts.push(Conflict {
                    index,
                    address: Some(address),
                    owner: owner.clone(),
                });
            } else {
                taken.insert(address, id(service));
            }
        }
    }
    let mut order: Vec<usize> = (0..services.len()).collect();
    order.sort_by_key(|index| services.get(*index).map(|service| id(service)));
    for index in order {
        let Some(service) = services.get_mut(index) else {
            continue;
        };
        if service.is_headless() || service.is_alias() {
            continue;
        }
        let mut addresses: Vec<IpAddr> = service.addresses().collect();
        // Those that are declared are of the first families.
        let missing = service.spec.ip_families.get(addresses.len()..);
        if let Some(missing @ [_, ..]) = missing {
            match free(&id(service), missing, &taken) {
                Some(found) => addresses.extend(found),
                None => conflicts.push(Conflict {
                    index,
                    address: None,
                    owner: String::new(),
                }),
            }
        }
        for address in &addresses {
            taken.insert(*address, id(service));
        }
        service.spec.cluster_ips = addresses.iter().copied().map(ClusterIp::Address).collect();
        service.spec.cluster_ip = service.spec.cluster_ips.first().copied();
    }
    conflicts
}

fn is_dns(service: &Service) -> bool {
    (service.metadata.namespace(), service.metadata.name.as_str()) == DNS_SERVICE
}

fn id(service: &Service) -> String {
    format!("{}/{}", service.metadata.namespace(), service.metadata.name)
}

/// The addresses of `families` in the first slot, from the one that the name falls on, in which they are nobody's.
fn free(id: &str, families: &[IpFamily], taken: &BTreeMap<IpAddr, String>) -> Option<Vec<IpAddr>> {
    let start = fnv(id.as_bytes()) % SLOTS;
    (0..SLOTS)
        .map(|step| slot(FIRST + (start + step) % SLOTS, families))
        .find(|found| !found.iter().any(|ip| taken.contains_key(ip)))
}

fn slot(slot: u32, families: &[IpFamily]) -> Vec<IpAddr> {
    let v4 = Ipv4Addr::new(10, 96, 0, 0).to_bits() | slot;
    let v6 = Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 0).to_bits() | u128::from(slot);
    families
        .iter()
        .map(|family| match family {
            IpFamily::V4 => Ipv4Addr::from_bits(v4).into(),
            IpFamily::V6 => Ipv6Addr::from_bits(v6).into(),
        })
        .collect()
}

/// FNV-1a, 32 bits: the same everywhere and for ever, which std's hashers do not promise.
fn fnv(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}
