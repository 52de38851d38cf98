// SPDX-License-Identifier: Apache-2.0
//! What makes up a namespace's network beyond its links: addresses, permanent neighbours, routes of every table and policy rules of both
//! families. Each is kept as the kernel says it, so that it can be compared, written down, and said to the kernel again.
//!
//! Must never leave out what somebody can set: whatever is not known here is kept byte for byte. Read `changes.rs` for who looks often.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use futures_util::{StreamExt as _, TryStreamExt as _};
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST, NetlinkDeserializable as _, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable as _,
};
use rtnetlink::packet_route::RouteNetlinkMessage as Message;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};
use rtnetlink::packet_route::route::{
    RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteType,
};
use rtnetlink::{IpVersion, RouteMessageBuilder};

use super::{LinkError, Net, refused};

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts(BTreeSet<Fact>);

/// One; in the order in which they can be said to the kernel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Fact {
    kind: Kind,
    owner: Owner,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Address,
    Neighbour,
    /// On a link.
    Route,
    /// By another router, which a route on a link leads to.
    Onward,
    Rule,
}

/// Who made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Somebody,
    /// The kernel made it of an address or a link, mostly a moment later.
    Kernel,
}

/// How many facts there are that there were not, and the other way round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// New.
    pub new: usize,
    /// Gone.
    pub gone: usize,
}

/// A text is not one of [`Facts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {0} is no fact of a network")]
pub struct NoFact(usize);

impl Net {
    /// Everything.
    pub async fn facts(&self) -> Result<Facts, LinkError> {
        let mut found = Vec::new();
        let mut addresses = self.handle.address().get().execute();
        while let Some(message) = addresses.next().await {
            let message = message.map_err(|source| refused("listing addresses", source))?;
            found.push(Message::NewAddress(lasting_address(message)));
        }
        let neighbours = self.handle.neighbours().get().execute();
        let neighbours: Result<Vec<_>, _> = neighbours.try_collect().await;
        let neighbours = neighbours.map_err(|source| refused("listing neighbours", source))?;
        let permanent = |one: &NeighbourMessage| one.header.state == NeighbourState::Permanent;
        let neighbours = neighbours.into_iter().filter(permanent);
        found.extend(neighbours.map(|one| Message::NewNeighbour(lasting_neighbour(one))));
        let questions = [
            RouteMessageBuilder::<Ipv4Addr>::new().build(),
            RouteMessageBuilder::<Ipv6Addr>::new().build(),
        ];
        for question in questions {
            let mut routes = self.handle.route().get(question).execute();
            while let Some(message) = routes.next().await {
                let message = message.map_err(|source| refused("listing routes", source))?;
                found.push(Message::NewRoute(lasting_route(message)));
            }
        }
        for family in [IpVersion::V4, IpVersion::V6] {
            let mut rules = self.handle.rule().get(family).execute();
            while let Some(message) = rules.next().await {
                let message = message.map_err(|source| refused("listing policy rules", source))?;
                found.push(Message::NewRule(message));
            }
        }
        Ok(Facts(found.iter().filter_map(Fact::of).collect()))
    }

    /// Makes the network as `facts` say: what is new is removed, what is gone is there again. What is as it was is not touched, so that
    /// connections go on. What the kernel refuses shows in the next [`Self::facts`].
    pub async fn restore(&self, facts: &Facts) -> Result<(), LinkError> {
        let now = self.facts().await?;
        let new: Vec<_> = now.0.difference(&facts.0).collect();
        for fact in new.into_iter().rev() {
            if let Some(message) = fact.message().and_then(removal) {
                self.said(message, 0).await?;
            }
        }
        // With an address the kernel removed more than was new.
        let now = self.facts().await?;
        for fact in facts.0.difference(&now.0) {
            if let Some(message) = fact.message() {
                self.said(message, NLM_F_CREATE).await?;
            }
        }
        Ok(())
    }

    /// Says something, and waits until it is done or refused.
    async fn said(&self, message: Message, flags: u16) -> Result<(), LinkError> {
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let mut handle = self.handle.clone();
        let answers = handle.request(message);
        let mut answers = answers.map_err(|source| refused("a change of the network", source))?;
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::Error(_) = answer.payload {
                break;
            }
        }
        Ok(())
    }
}

// === impl Facts ===

impl Facts {
    /// The same without what the kernel makes itself.
    #[must_use]
    pub fn made(&self) -> Self {
        let made = self.0.iter().filter(|fact| fact.owner == Owner::Somebody);
        Self(made.cloned().collect())
    }

    /// Whether what the kernel makes itself is among them.
    pub fn is_whole(&self) -> bool {
        self.0.iter().any(|fact| fact.owner == Owner::Kernel)
    }

    /// How `now` differs.
    pub fn difference(&self, now: &Self) -> Difference {
        Difference {
            new: now.0.difference(&self.0).count(),
            gone: self.0.difference(&now.0).count(),
        }
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fact in &self.0 {
            for byte in fact.message_type().to_be_bytes().iter().chain(&fact.bytes) {
                write!(f, "{byte:02x}")?;
            }
            f.write_char('\n')?;
        }
        Ok(())
    }
}

impl FromStr for Facts {
    type Err = NoFact;

    fn from_str(text: &str) -> Result<Self, NoFact> {
        let read = |(number, line): (usize, &str)| {
            let bytes: Option<Vec<u8>> = (0..line.len() / 2)
                .map(|at| u8::from_str_radix(line.get(2 * at..2 * at + 2)?, 16).ok())
                .collect();
            let bytes = bytes.filter(|bytes| 2 * bytes.len() == line.len());
            let fact = bytes.and_then(|bytes| {
                let (kind, bytes) = bytes.split_first_chunk::<2>()?;
                Fact::of(&message(u16::from_be_bytes(*kind), bytes)?)
            });
            fact.ok_or(NoFact(number + 1))
        };
        text.lines()
            .enumerate()
            .map(read)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

// === impl Difference ===

impl Difference {
    /// None at all.
    pub fn is_none(self) -> bool {
        self == Self::default()
    }
}

// === impl Fact ===

impl Fact {
    fn of(message: &Message) -> Option<Self> {
        let (kind, owner) = match message {
            Message::NewAddress(_) => (Kind::Address, Owner::Somebody),
            Message::NewNeighbour(_) => (Kind::Neighbour, Owner::Somebody),
            Message::NewRule(_) => (Kind::Rule, Owner::Somebody),
            Message::NewRoute(route) => {
                let onward = |one: &RouteAttribute| matches!(one, RouteAttribute::Gateway(_));
                let onward = route.attributes.iter().any(onward);
                let kind = if onward { Kind::Onward } else { Kind::Route };
                let owner = match route.header.protocol {
                    RouteProtocol::Kernel => Owner::Kernel,
                    _ => Owner::Somebody,
                };
                (kind, owner)
            }
            _ => return None,
        };
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        Some(Self { kind, owner, bytes })
    }

    const fn message_type(&self) -> u16 {
        // RTM_NEWADDR, RTM_NEWNEIGH, RTM_NEWROUTE, RTM_NEWRULE.
        match self.kind {
            Kind::Address => 20,
            Kind::Neighbour => 28,
            Kind::Route | Kind::Onward => 24,
            Kind::Rule => 32,
        }
    }

    fn message(&self) -> Option<Message> {
        message(self.message_type(), &self.bytes)
    }
}

fn message(kind: u16, bytes: &[u8]) -> Option<Message> {
    let mut header = NetlinkHeader::default();
    header.message_type = kind;
    Message::deserialize(&header, bytes).ok()
}

fn removal(message: Message) -> Option<Message> {
    Some(match message {
        Message::NewAddress(one) => Message::DelAddress(one),
        Message::NewNeighbour(one) => Message::DelNeighbour(one),
        Message::NewRoute(one) => Message::DelRoute(one),
        Message::NewRule(one) => Message::DelRule(one),
        _ => return None,
    })
}

/// Without ages, and without whether others were asked for the address yet.
fn lasting_address(mut message: AddressMessage) -> AddressMessage {
    message.header.flags = AddressHeaderFlags::Nodad;
    let ages = |one: &AddressAttribute| {
        !matches!(
            one,
            AddressAttribute::CacheInfo(_) | AddressAttribute::Flags(_)
        )
    };
    message.attributes.retain(ages);
    message
}

/// Without ages, and without what kind of address the kernel found it to be when somebody asked.
fn lasting_neighbour(mut message: NeighbourMessage) -> NeighbourMessage {
    message.header.kind = RouteType::Unspec;
    let ages = |one: &NeighbourAttribute| {
        !matches!(
            one,
            NeighbourAttribute::CacheInfo(_) | NeighbourAttribute::Probes(_)
        )
    };
    message.attributes.retain(ages);
    message
}

/// Without ages, and without how the link is just now.
fn lasting_route(mut message: RouteMessage) -> RouteMessage {
    message.header.flags &= RouteFlags::Onlink;
    let ages = |one: &RouteAttribute| {
        !matches!(
            one,
            RouteAttribute::CacheInfo(_) | RouteAttribute::Expires(_)
        )
    };
    message.attributes.retain(ages);
    debug_assert!(message.header.kind != RouteType::Unspec);
    message
}

#[cfg(test)]
mod tests;
