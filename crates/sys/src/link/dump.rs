// SPDX-License-Identifier: Apache-2.0
//! What a namespace's network is like. Must never leave out in silence what a copy would need: that is [`LinkError::Unknown`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use ipnet::IpNet;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage, State};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourState};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteType,
};

use super::{Link, LinkError, MAIN_TABLE, Mac, Net, Route, Scope, any, refused};

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

    /// Waits until a link is ready to send. The kernel does not make it so at once when its peer comes up, and drops
    /// what is sent before, without a word.
    pub async fn ready(&self, name: &str, patience: Duration) -> Result<(), LinkError> {
        // Changes are listened to before the first look, so that none is missed.
        let groups = [rtnetlink::MulticastGroup::Link];
        let (connection, _, mut changes) =
            rtnetlink::new_multicast_connection(&groups).map_err(LinkError::Open)?;
        #[expect(
            clippy::disallowed_methods,
            reason = "lives and dies with the short runtime of `inside`"
        )]
        tokio::spawn(connection);
        let ready = async {
            while !self.link(name).await?.ready {
                if changes.next().await.is_none() {
                    return Err(LinkError::Late(name.to_owned()));
                }
            }
            Ok(())
        };
        let late = |_| LinkError::Late(name.to_owned());
        tokio::time::timeout(patience, ready).await.map_err(late)?
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
                found.extend(IpNet::new(address, message.header.prefix_len));
            }
        }
        Ok(found)
    }

    /// The routes through a link in the main table that somebody set, on-link ones first. The kernel's own are left out.
    pub async fn routes(&self, name: &str) -> Result<Vec<Route>, LinkError> {
        let index = self.link(name).await?.index;
        let mut found = Vec::new();
        let questions = [
            RouteMessageBuilder::<Ipv4Addr>::new().build(),
            RouteMessageBuilder::<Ipv6Addr>::new().build(),
        ];
        for question in questions {
            let mut stream = self.handle.route().get(question).execute();
            while let Some(message) = stream.next().await {
                let message = message
                    .map_err(|source| refused(&format!("listing routes of {name}"), source))?;
                if is_special(&message, index) {
                    return Err(LinkError::Unknown(format!("a route through {name}")));
                }
                found.extend(route_of(&message, index));
            }
        }
        found.sort_by_key(|route| route.gateway.is_some());
        Ok(found)
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
}

fn link_of(message: &LinkMessage) -> Link {
    let mut link = Link {
        name: String::new(),
        index: message.header.index,
        mac: None,
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        ready: false,
        peer: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(bytes) => link.mac = Mac::try_from(bytes.as_slice()).ok(),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Link(peer) => link.peer = Some(*peer),
            LinkAttribute::OperState(state) => link.ready = *state == State::Up,
            _ => {}
        }
    }
    link
}

/// Whether a route leads through `device` in a way that [`Route`] does not say.
fn is_special(message: &RouteMessage, device: u32) -> bool {
    let through = |attribute: &RouteAttribute| matches!(attribute, RouteAttribute::Oif(index) if *index == device);
    let several = |attribute: &RouteAttribute| match attribute {
        RouteAttribute::MultiPath(hops) => hops.iter().any(|hop| hop.interface_index == device),
        _ => false,
    };
    let encapsulated = |attribute: &RouteAttribute| {
        matches!(
            attribute,
            RouteAttribute::Via(_) | RouteAttribute::Encap(_) | RouteAttribute::NewDestination(_)
        )
    };
    let attributes = &message.attributes;
    attributes.iter().any(several)
        || (attributes.iter().any(through) && attributes.iter().any(encapsulated))
}

fn route_of(message: &RouteMessage, device: u32) -> Option<Route> {
    if u32::from(message.header.table) != MAIN_TABLE
        || message.header.protocol == RouteProtocol::Kernel
        || message.header.kind != RouteType::Unicast
    {
        return None;
    }
    let v6 = message.header.address_family == AddressFamily::Inet6;
    let mut route = Route {
        destination: IpNet::new(any(v6), 0).ok()?,
        gateway: None,
        onlink: message.header.flags.contains(RouteFlags::Onlink),
        table: MAIN_TABLE,
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
