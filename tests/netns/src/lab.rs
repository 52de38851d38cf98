// SPDX-License-Identifier: Apache-2.0
//! Networks of namespaces: a pod whose wire ends in one other namespace ([`Wire`]), and a node that routes between pods as
//! `maille up` does ([`Node`]).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use maille_node::capture::{self, Captured, Options};
use maille_sys::NetNs;
use maille_sys::link::{MAIN_TABLE, Mac, Net, Route, Veth, inside};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::frames::Ends;

/// A pod and, on the same link, everybody else.
#[derive(Debug)]
pub struct Wire {
    /// The other end of the wire: interface `eth0`.
    pub far: NetNs,
    /// The pod: interface `eth0`.
    pub pod: NetNs,
    /// From the pod to the far end.
    pub ends: Ends,
}

const MAC: Mac = [2, 0, 0, 0, 0, 2];
const FAR_MAC: Mac = [2, 0, 0, 0, 0, 1];

impl Wire {
    /// A pod that is not captured.
    pub fn new() -> Self {
        let (far, pod) = (NetNs::create().unwrap(), NetNs::create().unwrap());
        inside(&far, async |net| {
            let pair = Veth {
                name: "eth0",
                peer: "eth0",
                peer_mac: Some(MAC),
                mtu: 1500,
            };
            net.add_pair(&pair, &pod).await?;
            net.set_mac("eth0", FAR_MAC).await?;
            net.up("lo").await?;
            net.up("eth0").await
        })
        .unwrap();
        let ends = Ends {
            mac: MAC,
            to_mac: FAR_MAC,
            v4: Ipv4Addr::new(10, 9, 0, 2),
            to_v4: Ipv4Addr::new(10, 9, 0, 1),
            v6: Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, 2),
            to_v6: Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, 1),
        };
        let wire = Self { far, pod, ends };
        wire.dress(&wire.pod, &ends, true);
        wire.dress(&wire.far, &wire.back(), false);
        wire
    }

    /// From the far end to the pod.
    pub const fn back(&self) -> Ends {
        let ends = self.ends;
        Ends {
            mac: ends.to_mac,
            to_mac: ends.mac,
            v4: ends.to_v4,
            to_v4: ends.v4,
            v6: ends.to_v6,
            to_v6: ends.v6,
        }
    }

    /// Addresses; neighbours that need not be asked for, so that whatever leaks leaks at once.
    fn dress(&self, namespace: &NetNs, ends: &Ends, default: bool) {
        inside(namespace, async |net: Net| {
            net.up("lo").await?;
            net.up("eth0").await?;
            net.add_address("eth0", net_of(ends.v4.into(), 24)).await?;
            net.add_address("eth0", net_of(ends.v6.into(), 64)).await?;
            net.add_neighbour("eth0", ends.to_v4.into(), ends.to_mac)
                .await?;
            net.add_neighbour("eth0", ends.to_v6.into(), ends.to_mac)
                .await?;
            if default {
                net.add_route("eth0", &route("0.0.0.0/0", Some(ends.to_v4.into())))
                    .await?;
                net.add_route("eth0", &route("::/0", Some(ends.to_v6.into())))
                    .await?;
            }
            Ok(())
        })
        .unwrap();
    }

    /// Captures the pod.
    pub fn capture(&self) -> Captured {
        capture::insert(&self.pod, "eth0", &Options::default()).unwrap()
    }

    /// Takes the protection of a captured pod away: everything passes in both directions.
    pub fn open(&self, captured: &Captured) {
        let (wire, pod) = (capture::WIRE, capture::POD);
        let rules = format!(
            "flush ruleset\ntable netdev open {{\n\
             chain a {{\n type filter hook ingress device \"{wire}\" priority 0; policy drop;\n fwd to \"{pod}\"\n }}\n\
             chain b {{\n type filter hook ingress device \"{pod}\" priority 0; policy drop;\n fwd to \"{wire}\"\n }}\n}}\n"
        );
        maille_sys::nft::apply(&captured.mesh, &rules).unwrap();
    }
}

impl Default for Wire {
    fn default() -> Self {
        Self::new()
    }
}

/// A node with pods, each a /32 and a /128 behind the node's link-local gateways.
#[derive(Debug)]
pub struct Node {
    /// Its namespace; interface `m<i>` leads to pod i.
    pub namespace: NetNs,
    /// Its pods.
    pub pods: Vec<Pod>,
}

/// A pod of a [`Node`].
#[derive(Debug)]
pub struct Pod {
    /// Its namespace.
    pub namespace: NetNs,
    /// Its address.
    pub v4: Ipv4Addr,
    /// Its address.
    pub v6: Ipv6Addr,
    /// How it is captured, if it is.
    pub captured: Option<Captured>,
}

/// Whether a pod is in the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Captured.
    Meshed,
    /// Not.
    Plain,
}

const OWN_V4: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
const OWN_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 0xa);
const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The node, to every pod.
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

impl Node {
    /// A node with these pods, whose links carry 1,500 bytes.
    pub fn new(kinds: &[Kind]) -> Self {
        let kinds: Vec<_> = kinds.iter().map(|kind| (*kind, 1500)).collect();
        Self::with_mtus(&kinds)
    }

    /// A node with these pods, each with what its link carries, in bytes.
    pub fn with_mtus(kinds: &[(Kind, u32)]) -> Self {
        let namespace = NetNs::create().unwrap();
        for (name, value) in [
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
            ("net/ipv4/conf/all/rp_filter", "0"),
            ("net/ipv4/conf/default/rp_filter", "0"),
            ("net/ipv6/conf/default/accept_dad", "0"),
        ] {
            namespace.sysctl(name, value).unwrap();
        }
        inside(&namespace, async |net| {
            net.up("lo").await?;
            // What its own processes speak from, as DNS does.
            net.add_address("lo", net_of(OWN_V4.into(), 32)).await?;
            net.add_address("lo", net_of(OWN_V6.into(), 128)).await
        })
        .unwrap();
        let pods = kinds
            .iter()
            .zip(2_u8..)
            .map(|(kind, number)| Pod::new(&namespace, number, *kind))
            .collect();
        Self { namespace, pods }
    }
}

impl Pod {
    fn new(node: &NetNs, number: u8, (kind, mtu): (Kind, u32)) -> Self {
        let namespace = NetNs::create().unwrap();
        namespace
            .sysctl("net/ipv6/conf/default/accept_dad", "0")
            .unwrap();
        let link = format!("m{number}");
        let v4 = Ipv4Addr::new(10, 244, 0, number);
        let v6 = Ipv6Addr::new(0xfd00, 0x244, 0, 0, 0, 0, 0, u16::from(number));
        inside(node, async |net| {
            net.add_veth(&link, "eth0", &namespace, mtu).await?;
            net.add_address(&link, net_of(GATEWAY_V4.into(), 32))
                .await?;
            net.add_address(&link, net_of(GATEWAY_V6.into(), 64))
                .await?;
            net.up(&link).await?;
            net.add_route(&link, &route(&format!("{v4}/32"), None))
                .await?;
            net.add_route(&link, &route(&format!("{v6}/128"), None))
                .await
        })
        .unwrap();
        inside(&namespace, async |net| {
            net.up("lo").await?;
            net.up("eth0").await?;
            net.add_address("eth0", net_of(v4.into(), 32)).await?;
            net.add_address("eth0", net_of(v6.into(), 128)).await?;
            net.add_route("eth0", &route("0.0.0.0/0", Some(GATEWAY_V4.into())))
                .await?;
            net.add_route("eth0", &route("::/0", Some(GATEWAY_V6.into())))
                .await
        })
        .unwrap();
        let captured = (kind == Kind::Meshed)
            .then(|| capture::insert(&namespace, "eth0", &Options::default()).unwrap());
        Self {
            namespace,
            v4,
            v6,
            captured,
        }
    }

    /// Both addresses.
    pub const fn addresses(&self) -> [IpAddr; 2] {
        [IpAddr::V4(self.v4), IpAddr::V6(self.v6)]
    }
}

/// Keeps the calling thread on one CPU, so that frames which it sends stay in order to the end of their way.
pub fn stay_on_one_cpu() {
    let mut one = CpuSet::new();
    one.set(nix::sched::sched_getcpu().unwrap()).unwrap();
    sched_setaffinity(Pid::from_raw(0), &one).unwrap();
}

/// Connections that the namespace's conntrack holds; none where it was never loaded.
pub fn tracked(namespace: &NetNs) -> u64 {
    match namespace.read_sysctl("net/netfilter/nf_conntrack_count") {
        Ok(count) => count.parse().unwrap(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
        Err(error) => panic!("{error}"),
    }
}

fn net_of(address: IpAddr, prefix: u8) -> IpNet {
    IpNet::new(address, prefix).unwrap()
}

fn route(destination: &str, gateway: Option<IpAddr>) -> Route {
    Route {
        destination: destination.parse().unwrap(),
        gateway,
        onlink: gateway.is_some(),
        table: MAIN_TABLE,
        metric: 0,
    }
}
