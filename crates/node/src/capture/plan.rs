// SPDX-License-Identifier: Apache-2.0
//! What is done to capture a pod, as an ordered list, and what undoes each part. Pure.
//!
//! The order is the argument: the mesh namespace refuses to forward before a link is in it, the sockets listen before a
//! rule sends to them, and the rules are there before a link is up.

use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv6Net};
use maille_sys::link::{MAIN_TABLE, Mac, MarkRule, Route};

use super::{
    INBOUND_PORT, MESH_PORT, METRICS_PORT, OUTBOUND_PORT, Options, POD, PodNet, TO_LISTENER,
    TO_POD, WIRE, rules,
};

/// Which bits of a mark are ours.
const MARKS: u32 = 0xf;
/// Delivers everything locally.
const LISTENER_TABLE: u32 = 101;
/// Leads to the pod.
const POD_TABLE: u32 = 102;

/// In which namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// The pod's.
    Pod,
    /// The proxy's.
    Mesh,
}

/// One listener of the four.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Listener {
    /// For what the pod begins.
    Outbound,
    /// For plain text from outside.
    Inbound,
    /// For other proxies.
    Mesh,
    /// For questions to the proxy itself.
    Metrics,
}

/// One change, done by one call or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Set a sysctl; read back.
    Sysctl {
        /// Where.
        place: Place,
        /// Beneath /proc/sys.
        name: String,
        /// To what.
        value: &'static str,
        /// Whether a kernel that does not offer it is good enough.
        need: Need,
    },
    /// Open a listener in the mesh namespace.
    Listen {
        /// Which.
        listener: Listener,
        /// Its port.
        port: u16,
        /// `SO_MARK`, which its connections inherit.
        mark: Option<u32>,
        /// Waiting connections.
        backlog: u32,
    },
    /// Take a link up.
    Up(Place, String),
    /// Wait until a link sends; until then the kernel drops what is sent on it.
    Ready(Place, String),
    /// Take a link down, and with it its routes.
    Down(Place, String),
    /// Move a link, down, to the other namespace under another name.
    Move {
        /// From.
        from: (Place, String),
        /// To.
        to: (Place, String),
    },
    /// Make the pair: `POD` in the mesh namespace, the pod's new interface in its own.
    Pair {
        /// The new interface's name.
        interface: String,
        /// Its hardware address: the old one's.
        mac: Mac,
        /// MTU of both.
        mtu: u32,
    },
    /// Remove a link.
    Remove(Place, String),
    /// Apply a rule set in the mesh namespace.
    Rules(String),
    /// Give a link an address, without duplicate address detection.
    Address(Place, String, IpNet),
    /// Set a permanent neighbour.
    Neighbour(Place, String, IpAddr, Mac),
    /// Add a route.
    Route(Place, String, Route),
    /// Deliver everything in a table locally, in the mesh namespace.
    LocalDefault(u32),
    /// Deliver what comes from a link for a link-local address locally, in the mesh namespace.
    LocalLink(String, u32),
    /// Refuse what a table has no route for, in the mesh namespace.
    UnreachableDefault(u32),
    /// Add a policy rule in the mesh namespace.
    Rule(MarkRule),
    /// Ask the local table only after the rules on marks.
    LocalRule(u32),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Pages; nft says which line it means.
            Self::Rules(_) => f.write_str("Rules"),
            step => write!(f, "{step:?}"),
        }
    }
}

/// Whether something must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Need {
    /// The capture is unsafe without.
    Must,
    /// The capture is only less good without (user namespaces do not show every sysctl).
    May,
}

/// What to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
    restore: Vec<Step>,
}

impl Plan {
    /// What puts right what the first `done` steps did, in this order. Whatever else they made is in the mesh namespace
    /// and goes with it.
    pub fn undo(&self, done: usize) -> Vec<Step> {
        let mut undo = Vec::new();
        for step in self.steps.iter().take(done).rev() {
            match step {
                Step::Pair { .. } => undo.push(Step::Remove(Place::Mesh, POD.to_owned())),
                Step::Move { from, to } => undo.push(Step::Move {
                    from: to.clone(),
                    to: from.clone(),
                }),
                Step::Down(Place::Pod, _) => undo.extend(self.restore.iter().cloned()),
                // The wire is taken down before it is moved back, by the move.
                _ => {}
            }
        }
        undo
    }
}

/// Plans the capture of a pod.
pub fn plan(pod: &PodNet, options: &Options) -> Plan {
    let eth = &pod.interface;
    let mut steps = quiet_namespace();
    steps.extend(listeners(options));
    steps.extend([
        Step::Down(Place::Pod, eth.clone()),
        Step::Move {
            from: (Place::Pod, eth.clone()),
            to: (Place::Mesh, WIRE.to_owned()),
        },
        Step::Pair {
            interface: eth.clone(),
            mac: pod.mac,
            mtu: pod.mtu,
        },
    ]);
    steps.extend(link_settings(eth));
    steps.push(Step::LocalDefault(LISTENER_TABLE));
    steps.push(Step::UnreachableDefault(POD_TABLE));
    steps.push(Step::Rule(MarkRule {
        preference: 1,
        mark: TO_POD,
        mask: MARKS,
        table: POD_TABLE,
    }));
    steps.push(Step::Rule(MarkRule {
        preference: 2,
        mark: TO_LISTENER,
        mask: MARKS,
        table: LISTENER_TABLE,
    }));
    steps.push(Step::LocalRule(3));
    steps.push(Step::Rules(rules::render(pod)));
    steps.extend([
        up(Place::Mesh, POD),
        up(Place::Mesh, WIRE),
        up(Place::Pod, eth),
    ]);
    steps.extend(dress(Place::Mesh, WIRE, pod));
    // What the pod says on this link is said by its proxy, from the same address.
    steps.push(Step::Address(
        Place::Mesh,
        WIRE.to_owned(),
        Ipv6Net::new_assert(pod.link_local(), 64).into(),
    ));
    for link in [POD, WIRE] {
        steps.push(Step::LocalLink(link.to_owned(), LISTENER_TABLE));
    }
    steps.extend(way_to_pod(pod));
    steps.extend(dress(Place::Pod, eth, pod));
    // The first of a pair to come up sends only once the kernel heard of the second; the others send at once.
    steps.push(Step::Ready(Place::Mesh, POD.to_owned()));
    let mut restore = vec![up(Place::Pod, eth)];
    restore.extend(dress(Place::Pod, eth, pod));
    Plan { steps, restore }
}

/// The mesh namespace before any link is in it. New namespaces inherit some of these from the machine, so all are said.
fn quiet_namespace() -> Vec<Step> {
    let must = [
        ("net/ipv4/ip_forward", "0"),
        ("net/ipv6/conf/all/forwarding", "0"),
        ("net/ipv6/conf/default/forwarding", "0"),
        ("net/ipv4/conf/all/rp_filter", "0"),
        ("net/ipv4/conf/default/rp_filter", "0"),
        ("net/ipv4/conf/all/accept_local", "0"),
        ("net/ipv4/conf/default/accept_local", "0"),
        ("net/ipv4/conf/all/route_localnet", "0"),
        ("net/ipv4/conf/default/route_localnet", "0"),
        ("net/ipv4/conf/all/accept_redirects", "0"),
        ("net/ipv4/conf/default/accept_redirects", "0"),
        ("net/ipv4/conf/all/accept_source_route", "0"),
        ("net/ipv4/conf/default/accept_source_route", "0"),
        ("net/ipv6/conf/default/accept_redirects", "0"),
        ("net/ipv6/conf/default/accept_ra", "0"),
        ("net/ipv6/conf/default/dad_transmits", "0"),
        // No link-local address of the kernel's choice: the pod has one on this wire already, and that is the proxy's.
        ("net/ipv6/conf/default/addr_gen_mode", "1"),
        // Only SYNs are looked up for a listener (rules.rs); the ACK of a cookie would find none. Where the queue is full a
        // SYN is dropped instead, and comes again.
        ("net/ipv4/tcp_syncookies", "0"),
    ];
    let may = [
        ("net/ipv4/tcp_max_syn_backlog", "8192"),
        ("net/core/somaxconn", "8192"),
    ];
    let mut steps: Vec<_> = must
        .map(|(name, value)| sysctl(Place::Mesh, name, value, Need::Must))
        .into();
    steps.extend(may.map(|(name, value)| sysctl(Place::Mesh, name, value, Need::May)));
    steps.push(up(Place::Mesh, "lo"));
    steps
}

pub(super) fn listeners(options: &Options) -> [Step; 4] {
    let listen = |listener, port, mark| Step::Listen {
        listener,
        port,
        mark,
        backlog: options.backlog,
    };
    [
        // Its answers go to the pod, from the first SYN-ACK on.
        listen(Listener::Outbound, OUTBOUND_PORT, Some(TO_POD)),
        listen(Listener::Inbound, INBOUND_PORT, None),
        listen(Listener::Mesh, MESH_PORT, None),
        listen(Listener::Metrics, METRICS_PORT, None),
    ]
}

/// What the links of the capture need before they are up.
fn link_settings(interface: &str) -> Vec<Step> {
    let set = |place, name: String, value| Step::Sysctl {
        place,
        name,
        value,
        need: Need::Must,
    };
    vec![
        // What comes from the pod has our own address as its source.
        set(
            Place::Mesh,
            format!("net/ipv4/conf/{POD}/accept_local"),
            "1",
        ),
        // A link keeps its own settings when it moves.
        set(
            Place::Mesh,
            format!("net/ipv4/conf/{WIRE}/accept_local"),
            "0",
        ),
        set(Place::Mesh, format!("net/ipv4/conf/{WIRE}/rp_filter"), "0"),
        set(
            Place::Mesh,
            format!("net/ipv4/conf/{WIRE}/route_localnet"),
            "0",
        ),
        set(Place::Mesh, format!("net/ipv6/conf/{WIRE}/accept_ra"), "0"),
        set(
            Place::Mesh,
            format!("net/ipv6/conf/{WIRE}/addr_gen_mode"),
            "1",
        ),
        // The rules know the pod by the link-local address that is made of its hardware address.
        set(
            Place::Pod,
            format!("net/ipv6/conf/{interface}/addr_gen_mode"),
            "0",
        ),
    ]
}

/// Addresses, neighbours and routes of the pod, on the link that has its place.
fn dress(place: Place, link: &str, pod: &PodNet) -> Vec<Step> {
    let link = || link.to_owned();
    let addresses = pod
        .addresses
        .iter()
        .map(|net| Step::Address(place, link(), *net));
    let neighbours = pod
        .neighbours
        .iter()
        .map(|(ip, mac)| Step::Neighbour(place, link(), *ip, *mac));
    let routes = pod
        .routes
        .iter()
        .map(|route| Step::Route(place, link(), route.clone()));
    addresses.chain(neighbours).chain(routes).collect()
}

/// The same addresses again, behind the other link, for sockets with the pod's mark. The neighbour is said, because
/// nobody could ask for an address that is also our own.
fn way_to_pod(pod: &PodNet) -> Vec<Step> {
    let mut steps = Vec::new();
    let link_local = IpAddr::from(pod.link_local());
    for ip in pod.addresses.iter().map(IpNet::addr).chain([link_local]) {
        steps.push(Step::Neighbour(Place::Mesh, POD.to_owned(), ip, pod.mac));
        let route = Route {
            destination: ip.into(),
            gateway: None,
            onlink: false,
            table: POD_TABLE,
            metric: 10,
        };
        steps.push(Step::Route(Place::Mesh, POD.to_owned(), route));
    }
    debug_assert!(pod.routes.iter().all(|route| route.table == MAIN_TABLE));
    steps
}

fn up(place: Place, link: &str) -> Step {
    Step::Up(place, link.to_owned())
}

fn sysctl(place: Place, name: &str, value: &'static str, need: Need) -> Step {
    Step::Sysctl {
        place,
        name: name.to_owned(),
        value,
        need,
    }
}

#[cfg(test)]
mod tests;
