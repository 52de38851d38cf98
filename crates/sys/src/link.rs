// SPDX-License-Identifier: Apache-2.0
//! Links, addresses, routes, policy rules and neighbours of one namespace, by rtnetlink, which nobody else names.
//!
//! Facts come out as plain structs that serialise and compare; changes go in one call each, so that a plan of them can be undone.

use std::net::IpAddr;
use std::os::fd::{AsFd as _, AsRawFd as _};

use futures_util::{StreamExt as _, TryStreamExt as _};
use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags};
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourState};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};

use crate::netns::NetNs;

/// A hardware address.
pub type Mac = [u8; 6];

/// The routing table that is asked where no rule says otherwise.
pub const MAIN_TABLE: u32 = 254;

/// Why a change or a question failed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The namespace cannot be entered or netlink not be opened.
    #[error("the namespace's network cannot be reached")]
    Open(#[source] std::io::Error),
    /// The kernel refused.
    #[error("{action} was refused")]
    Refused {
        /// What was asked.
        action: String,
        /// What the kernel said.
        #[source]
        source: rtnetlink::Error,
    },
    /// There is no such interface.
    #[error("there is no interface {0}")]
    Absent(String),
}

/// A link as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its number in this namespace.
    pub index: u32,
    /// Its hardware address, where it has one of six bytes.
    pub mac: Option<Mac>,
    /// Its MTU in bytes.
    pub mtu: u32,
}

/// A route through one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to; a length of 0 is the default route.
    pub destination: IpNet,
    /// The next router; `None`: on the link.
    pub gateway: Option<IpAddr>,
    /// The gateway is taken to be on the link whatever the addresses say.
    pub onlink: bool,
    /// Table; 254 is the main one.
    pub table: u32,
    /// Lower wins; 0 is the kernel's default.
    pub metric: u32,
}

/// A policy rule on the packet mark, for both families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkRule {
    /// Lower is asked first.
    pub preference: u32,
    /// The mark it looks for, under `mask`.
    pub mark: u32,
    /// Which bits of the mark count.
    pub mask: u32,
    /// The table it sends to.
    pub table: u32,
}

/// The network of one namespace; lives inside [`inside`].
#[derive(Clone, Debug)]
pub struct Net {
    handle: Handle,
}

/// Runs `work` with the network of `namespace`. Blocks the caller; make the changes of one step in one call.
pub fn inside<T, F>(namespace: &NetNs, work: F) -> Result<T, LinkError>
where
    T: Send,
    F: AsyncFnOnce(Net) -> Result<T, LinkError> + Send,
{
    namespace
        .run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(LinkError::Open)?;
            runtime.block_on(async {
                let (connection, handle, _) =
                    rtnetlink::new_connection().map_err(LinkError::Open)?;
                #[expect(
                    clippy::disallowed_methods,
                    reason = "lives and dies with this short runtime"
                )]
                tokio::spawn(connection);
                work(Net { handle }).await
            })
        })
        .map_err(LinkError::Open)?
}

impl Net {
    /// Every link.
    pub async fn links(&self) -> Result<Vec<Link>, LinkError> {
        let found: Result<Vec<_>, _> = self
            .handle
            .link()
            .get()
            .execute()
            .map_ok(|m| link_of(&m))
            .try_collect()
            .await;
        found.map_err(|source| refused("listing links", source))
    }

    /// One link by name.
    pub async fn link(&self, name: &str) -> Result<Link, LinkError> {
        self.links()
            .await?
            .into_iter()
            .find(|link| link.name == name)
            .ok_or_else(|| LinkError::Absent(name.into()))
    }

    /// Makes a veth pair: `name` here, `peer` in `peer_namespace`. Both are down.
    pub async fn add_veth(
        &self,
        name: &str,
        peer: &str,
        peer_namespace: &NetNs,
        mtu: u32,
    ) -> Result<(), LinkError> {
        // The peer is made here under a name that nobody else uses, then moved and named: two steps, because rtnetlink's
        // veth message does not carry the peer's namespace.
        let passing = format!("{name}.p");
        let action = || format!("making the pair {name}, {peer}");
        self.handle
            .link()
            .add(LinkVeth::new(name, &passing).mtu(mtu).build())
            .execute()
            .await
            .map_err(|source| refused(&action(), source))?;
        let moved = self.move_renamed(&passing, peer, peer_namespace, mtu).await;
        if moved.is_err() {
            // Nothing half made stays; the first error is the one worth telling.
            drop(self.delete(name).await);
        }
        moved
    }

    async fn move_renamed(
        &self,
        name: &str,
        to: &str,
        namespace: &NetNs,
        mtu: u32,
    ) -> Result<(), LinkError> {
        let index = self.link(name).await?.index;
        let message = LinkUnspec::new_with_index(index)
            .name(to)
            .mtu(mtu)
            .setns_by_fd(namespace.as_fd().as_raw_fd())
            .build();
        self.set(message, || format!("moving {name}")).await
    }

    /// Moves a link, down, into another namespace under a name of its own there.
    pub async fn move_link(
        &self,
        name: &str,
        to: &str,
        namespace: &NetNs,
    ) -> Result<(), LinkError> {
        let link = self.link(name).await?;
        self.set(
            LinkUnspec::new_with_index(link.index).down().build(),
            || format!("taking {name} down"),
        )
        .await?;
        self.move_renamed(name, to, namespace, link.mtu).await
    }

    /// Sets a link's hardware address.
    pub async fn set_mac(&self, name: &str, mac: Mac) -> Result<(), LinkError> {
        let index = self.link(name).await?.index;
        let message = LinkUnspec::new_with_index(index)
            .address(mac.to_vec())
            .build();
        self.set(message, || format!("setting the address of {name}"))
            .await
    }

    /// Takes a link up.
    pub async fn up(&self, name: &str) -> Result<(), LinkError> {
        let index = self.link(name).await?.index;
        self.set(LinkUnspec::new_with_index(index).up().build(), || {
            format!("taking {name} up")
        })
        .await
    }

    /// Removes a link; one that is not there is removed already.
    pub async fn delete(&self, name: &str) -> Result<(), LinkError> {
        match self.link(name).await {
            Err(LinkError::Absent(_)) => Ok(()),
            Err(error) => Err(error),
            Ok(link) => self
                .handle
                .link()
                .del(link.index)
                .execute()
                .await
                .map_err(|source| refused(&format!("removing {name}"), source)),
        }
    }

    async fn set(
        &self,
        message: LinkMessage,
        action: impl Fn() -> String,
    ) -> Result<(), LinkError> {
        self.handle
            .link()
            .set(message)
            .execute()
            .await
            .map_err(|source| refused(&action(), source))
    }

    /// The addresses of a link that are valid everywhere (`Global`) or only on it (`LinkLocal`).
    pub async fn addresses(&self, name: &str, which: Scope) -> Result<Vec<IpNet>, LinkError> {
        let index = self.link(name).await?.index;
        let mut found = Vec::new();
        let mut stream = self
            .handle
            .address()
            .get()
            .set_link_index_filter(index)
            .execute();
        while let Some(message) = stream.next().await {
            let message = message
                .map_err(|source| refused(&format!("listing addresses of {name}"), source))?;
            let local = message.attributes.iter().find_map(|a| {
                if let AddressAttribute::Local(ip) = a {
                    Some(*ip)
                } else {
                    None
                }
            });
            let address = local.or_else(|| {
                message.attributes.iter().find_map(|a| {
                    if let AddressAttribute::Address(ip) = a {
                        Some(*ip)
                    } else {
                        None
                    }
                })
            });
            let Some(address) = address else { continue };
            let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
            if link_local == (which == Scope::LinkLocal) {
                if let Ok(net) = IpNet::new(address, message.header.prefix_len) {
                    found.push(net);
                }
            }
        }
        Ok(found)
    }

    /// Gives a link an address; IPv6 ones are usable at once (no duplicate address detection).
    pub async fn add_address(&self, name: &str, address: IpNet) -> Result<(), LinkError> {
        let index = self.link(name).await?.index;
        let mut request = self
            .handle
            .address()
            .add(index, address.addr(), address.prefix_len())
            .replace();
        if address.addr().is_ipv6() {
            request.message_mut().header.flags = AddressHeaderFlags::Nodad;
        }
        request
            .execute()
            .await
            .map_err(|source| refused(&format!("giving {name} the address {address}"), source))
    }

    /// The routes through a link in the main table that somebody set, on-link ones first. The kernel's own are left out.
    pub async fn routes(&self, name: &str) -> Result<Vec<Route>, LinkError> {
        let index = self.link(name).await?.index;
        let mut found = Vec::new();
        let questions = [
            RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
            RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
        ];
        for question in questions {
            let mut stream = self.handle.route().get(question).execute();
            while let Some(message) = stream.next().await {
                let message = message
                    .map_err(|source| refused(&format!("listing routes of {name}"), source))?;
                found.extend(route_of(&message, index));
            }
        }
        found.sort_by_key(|route| route.gateway.is_some());
        Ok(found)
    }

    /// Adds a route through a link.
    pub async fn add_route(&self, name: &str, route: &Route) -> Result<(), LinkError> {
        let index = self.link(name).await?.index;
        let mut builder = RouteMessageBuilder::<IpAddr>::new()
            .output_interface(index)
            .table_id(route.table)
            .protocol(RouteProtocol::Static);
        let action = || format!("adding the route to {} through {name}", route.destination);
        if route.metric > 0 {
            builder = builder.priority(route.metric);
        }
        if route.onlink {
            builder = builder.onlink();
        }
        let invalid = |_| LinkError::Absent(format!("{name} (route to {})", route.destination));
        builder = builder
            .destination_prefix(route.destination.addr(), route.destination.prefix_len())
            .map_err(invalid)?;
        match route.gateway {
            Some(gateway) => builder = builder.gateway(gateway).map_err(invalid)?,
            None => builder = builder.scope(RouteScope::Link),
        }
        self.handle
            .route()
            .add(builder.build())
            .replace()
            .execute()
            .await
            .map_err(|source| refused(&action(), source))
    }

    /// Makes `table` deliver everything of both families to this machine itself (`local default dev lo`).
    pub async fn add_local_default(&self, table: u32) -> Result<(), LinkError> {
        let index = self.link("lo").await?.index;
        for any in [IpAddr::from([0; 4]), IpAddr::from([0_u8; 16])] {
            let builder = RouteMessageBuilder::<IpAddr>::new()
                .output_interface(index)
                .table_id(table)
                .kind(RouteType::Local)
                .scope(RouteScope::Host)
                .protocol(RouteProtocol::Static)
                .destination_prefix(any, 0)
                .map_err(|_| LinkError::Absent("lo".into()))?;
            self.handle
                .route()
                .add(builder.build())
                .replace()
                .execute()
                .await
                .map_err(|source| refused("adding the local default route", source))?;
        }
        Ok(())
    }

    /// Adds a rule on the packet mark for both families.
    pub async fn add_mark_rule(&self, rule: &MarkRule) -> Result<(), LinkError> {
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = self
                .handle
                .rule()
                .add()
                .priority(rule.preference)
                .fw_mark(rule.mark)
                .table_id(rule.table)
                .action(RuleAction::ToTable);
            let message = request.message_mut();
            message.header.family = family;
            message.attributes.push(RuleAttribute::FwMask(rule.mask));
            request
                .execute()
                .await
                .map_err(|source| refused("adding a rule on the mark", source))?;
        }
        Ok(())
    }

    /// Moves the rule `lookup local`, which the kernel puts first, to `preference`.
    pub async fn move_local_rule(&self, preference: u32) -> Result<(), LinkError> {
        const LOCAL: u8 = 255;
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = self
                .handle
                .rule()
                .add()
                .priority(preference)
                .table_id(u32::from(LOCAL))
                .action(RuleAction::ToTable);
            request.message_mut().header.family = family;
            request
                .execute()
                .await
                .map_err(|source| refused("adding the local rule", source))?;
            let mut first = RuleMessage::default();
            first.header.family = family;
            first.header.table = LOCAL;
            first.header.action = RuleAction::ToTable;
            first.attributes.push(RuleAttribute::Priority(0));
            self.handle
                .rule()
                .del(first)
                .execute()
                .await
                .map_err(|source| refused("removing the first rule", source))?;
        }
        Ok(())
    }

    /// Permanent neighbours of a link.
    pub async fn neighbours(&self, name: &str) -> Result<Vec<(IpAddr, Mac)>, LinkError> {
        let index = self.link(name).await?.index;
        let mut found = Vec::new();
        let mut stream = self.handle.neighbours().get().execute();
        while let Some(message) = stream.next().await {
            let message = message
                .map_err(|source| refused(&format!("listing neighbours of {name}"), source))?;
            if message.header.ifindex != index || message.header.state != NeighbourState::Permanent
            {
                continue;
            }
            let (mut address, mut mac) = (None, None);
            for attribute in &message.attributes {
                match attribute {
                    NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => {
                        address = Some(IpAddr::from(*ip))
                    }
                    NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => {
                        address = Some(IpAddr::from(*ip))
                    }
                    NeighbourAttribute::LinkLayerAddress(bytes) => {
                        mac = Mac::try_from(bytes.as_slice()).ok()
                    }
                    _ => {}
                }
            }
            found.extend(address.zip(mac).filter(|(ip, _)| !ip.is_multicast()));
        }
        Ok(found)
    }

    /// Says for ever which hardware address a neighbour has.
    pub async fn add_neighbour(
        &self,
        name: &str,
        address: IpAddr,
        mac: Mac,
    ) -> Result<(), LinkError> {
        let index = self.link(name).await?.index;
        self.handle
            .neighbours()
            .add(index, address)
            .link_layer_address(&mac)
            .state(NeighbourState::Permanent)
            .replace()
            .execute()
            .await
            .map_err(|source| refused(&format!("naming the neighbour {address} of {name}"), source))
    }
}

/// Which addresses are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Valid everywhere.
    Global,
    /// `fe80::/10`.
    LinkLocal,
}

fn refused(action: &str, source: rtnetlink::Error) -> LinkError {
    LinkError::Refused {
        action: action.to_owned(),
        source,
    }
}

fn link_of(message: &LinkMessage) -> Link {
    let mut link = Link {
        name: String::new(),
        index: message.header.index,
        mac: None,
        mtu: 0,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(bytes) => link.mac = Mac::try_from(bytes.as_slice()).ok(),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            _ => {}
        }
    }
    link
}

fn route_of(message: &RouteMessage, device: u32) -> Option<Route> {
    const MAIN: u8 = 254;
    if message.header.table != MAIN
        || message.header.protocol == RouteProtocol::Kernel
        || message.header.kind != RouteType::Unicast
    {
        return None;
    }
    let v6 = message.header.address_family == AddressFamily::Inet6;
    let mut route = Route {
        destination: IpNet::new(
            if v6 {
                IpAddr::from([0_u8; 16])
            } else {
                IpAddr::from([0; 4])
            },
            0,
        )
        .ok()?,
        gateway: None,
        onlink: message.header.flags.contains(RouteFlags::Onlink),
        table: u32::from(MAIN),
        metric: 0,
    };
    let mut through = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => through = Some(*index),
            RouteAttribute::Priority(metric) => route.metric = *metric,
            RouteAttribute::Gateway(address) => route.gateway = plain(address),
            RouteAttribute::Destination(address) => {
                route.destination =
                    IpNet::new(plain(address)?, message.header.destination_prefix_length).ok()?;
            }
            _ => {}
        }
    }
    (through == Some(device)).then_some(route)
}

fn plain(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::from(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::from(*ip)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn a_routed_pair_reads_back_as_it_was_made() {
        let (node, pod) = (NetNs::create().unwrap(), NetNs::create().unwrap());
        inside(&node, async |net| {
            net.add_veth("m1", "eth0", &pod, 1400).await?;
            net.up("m1").await?;
            inside(&pod, async |inner| {
                inner.set_mac("eth0", [2, 0, 0, 0, 0, 9]).await?;
                inner.up("eth0").await?;
                inner
                    .add_address("eth0", "10.244.0.9/32".parse().unwrap())
                    .await?;
                inner
                    .add_address("eth0", "fd00:244::9/128".parse().unwrap())
                    .await?;
                for (destination, gateway) in [("0.0.0.0/0", "169.254.1.1"), ("::/0", "fe80::1")] {
                    let route = Route {
                        destination: destination.parse().unwrap(),
                        gateway: Some(gateway.parse().unwrap()),
                        onlink: true,
                        table: 254,
                        metric: 0,
                    };
                    inner.add_route("eth0", &route).await?;
                }
                inner
                    .add_neighbour("eth0", "169.254.1.1".parse().unwrap(), [2, 0, 0, 0, 0, 1])
                    .await?;
                let link = inner.link("eth0").await?;
                assert_eq!((link.mac, link.mtu), (Some([2, 0, 0, 0, 0, 9]), 1400));
                assert_eq!(
                    inner.addresses("eth0", Scope::Global).await?,
                    [
                        super::tests::net("10.244.0.9/32"),
                        super::tests::net("fd00:244::9/128")
                    ]
                );
                let routes = inner.routes("eth0").await?;
                assert_eq!(routes.len(), 2, "{routes:?}");
                assert!(
                    routes
                        .iter()
                        .all(|route| route.onlink || route.gateway.is_some_and(|ip| ip.is_ipv6())),
                    "{routes:?}"
                );
                assert_eq!(
                    inner.neighbours("eth0").await?,
                    [("169.254.1.1".parse().unwrap(), [2, 0, 0, 0, 0, 1])]
                );
                inner.add_local_default(101).await?;
                inner
                    .add_mark_rule(&MarkRule {
                        preference: 1,
                        mark: 2,
                        mask: 0xf,
                        table: 102,
                    })
                    .await?;
                inner.move_local_rule(3).await
            })
        })
        .unwrap();
    }

    #[test]
    fn what_is_not_there_is_named() {
        let node = NetNs::create().unwrap();
        let error = inside(&node, async |net| net.up("eth7").await).unwrap_err();
        assert_eq!(error.to_string(), "there is no interface eth7");
        inside(&node, async |net| net.delete("eth7").await).unwrap();
    }
}
