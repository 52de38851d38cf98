// SPDX-License-Identifier: Apache-2.0
//! Changes to a namespace's network, each done or refused by itself. Adding what is there already is no error.

use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd as _, AsRawFd as _};

use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkMessage};
use rtnetlink::packet_route::neighbour::NeighbourState;
use rtnetlink::packet_route::route::{RouteProtocol, RouteScope, RouteType};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::{LinkError, Mac, MarkRule, Net, Route, Veth, any, refused};
use crate::netns::NetNs;

impl Net {
    /// Makes a veth pair: `name` here, `peer` in `peer_namespace`. Both are down.
    pub async fn add_veth(
        &self,
        name: &str,
        peer: &str,
        peer_namespace: &NetNs,
        mtu: u32,
    ) -> Result<(), LinkError> {
        let pair = Veth {
            name,
            peer,
            peer_mac: None,
            mtu,
        };
        self.add_pair(&pair, peer_namespace).await
    }

    /// Makes a veth pair with everything it is to have, in one step: the other end is never anywhere else than in
    /// `peer_namespace`. Both are down.
    pub async fn add_pair(&self, pair: &Veth<'_>, peer_namespace: &NetNs) -> Result<(), LinkError> {
        let mut peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(pair.peer)
            .mtu(pair.mtu)
            .setns_by_fd(peer_namespace.as_fd().as_raw_fd());
        if let Some(mac) = pair.peer_mac {
            peer = peer.address(mac.to_vec());
        }
        let message = LinkVeth::new(pair.name, pair.peer)
            .mtu(pair.mtu)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build())))
            .build();
        let made = self.handle.link().add(message).execute().await;
        made.map_err(|source| {
            refused(
                &format!("making the pair {}, {}", pair.name, pair.peer),
                source,
            )
        })
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
        self.down(name).await?;
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

    /// Takes a link down.
    pub async fn down(&self, name: &str) -> Result<(), LinkError> {
        let index = self.link(name).await?.index;
        let message = LinkUnspec::new_with_index(index).down().build();
        self.set(message, || format!("taking {name} down")).await
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
        for v6 in [false, true] {
            let builder = RouteMessageBuilder::<IpAddr>::new()
                .output_interface(index)
                .table_id(table)
                .kind(RouteType::Local)
                .scope(RouteScope::Host)
                .protocol(RouteProtocol::Static)
                .destination_prefix(any(v6), 0)
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

    /// Makes `table` deliver to this machine itself what came from `link` for a link-local address of IPv6 (`local fe80::/10 dev LINK`): such
    /// addresses are looked up on their own link only, where no default of another holds.
    pub async fn add_local_link(&self, link: &str, table: u32) -> Result<(), LinkError> {
        let index = self.link(link).await?.index;
        let every = IpAddr::from(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0));
        let builder = RouteMessageBuilder::<IpAddr>::new()
            .output_interface(index)
            .table_id(table)
            // Those of two links must differ, or one would take the other's place.
            .priority(index)
            .kind(RouteType::Local)
            .scope(RouteScope::Host)
            .protocol(RouteProtocol::Static)
            .destination_prefix(every, 10)
            .map_err(|_| LinkError::Absent(link.to_owned()))?;
        let made = self.handle.route().add(builder.build()).replace();
        let made = made.execute().await;
        made.map_err(|source| refused("adding the local route of a link", source))
    }

    /// Makes `table` refuse everything of both families that none of its other routes takes.
    pub async fn add_unreachable_default(&self, table: u32) -> Result<(), LinkError> {
        for v6 in [false, true] {
            let builder = RouteMessageBuilder::<IpAddr>::new()
                .table_id(table)
                .kind(RouteType::Unreachable)
                .protocol(RouteProtocol::Static)
                .priority(u32::from(u16::MAX))
                .destination_prefix(any(v6), 0)
                .map_err(|_| LinkError::Unknown("the default route".into()))?;
            let made = self
                .handle
                .route()
                .add(builder.build())
                .replace()
                .execute()
                .await;
            made.map_err(|source| refused("adding an unreachable default route", source))?;
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
