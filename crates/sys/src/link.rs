// SPDX-License-Identifier: Apache-2.0
//! Links, addresses, routes, policy rules and neighbours of one namespace, by rtnetlink, which nobody else names.
//!
//! Facts come out as plain structs that compare (`link/dump.rs`); changes go in one call each, so that a plan of them can
//! be undone (`link/change.rs`). What makes up a network is kept and made so again whole (`link/facts.rs`).

use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::Handle;
use tokio::runtime::Runtime;

use crate::netns::NetNs;

mod change;
mod changes;
mod dump;
mod facts;
mod inside;

pub use changes::Changes;
pub use facts::{Difference, Facts, NoFact};
pub use inside::Inside;

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
        source: Box<rtnetlink::Error>,
    },
    /// There is no such interface.
    #[error("there is no interface {0}")]
    Absent(String),
    /// It is not ready to send in time.
    #[error("{0} was not ready to send in time")]
    Late(String),
    /// There is something that this crate does not know how to say.
    #[error("{0} is of a kind that cannot be copied")]
    Unknown(String),
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
    /// Whether somebody took it up.
    pub up: bool,
    /// Whether it sends: it is up, and so is what it is connected to.
    pub ready: bool,
    /// The number of what it is connected to, in the namespace where that is: of a veth its other end.
    pub peer: Option<u32>,
}

/// A veth pair to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Veth<'a> {
    /// The end in the namespace of the call.
    pub name: &'a str,
    /// The other end's name, in its own namespace.
    pub peer: &'a str,
    /// The other end's hardware address; a random one otherwise.
    pub peer_mac: Option<Mac>,
    /// MTU of both, in bytes.
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
    /// Table; [`MAIN_TABLE`] mostly.
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

/// Which addresses are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Valid everywhere.
    Global,
    /// `fe80::/10`.
    LinkLocal,
}

/// The network of one namespace; lives inside [`inside`].
#[derive(Clone, Debug)]
pub struct Net {
    handle: Handle,
}

/// Runs `work` with the network of `namespace`. Blocks the caller; make the changes of one step in one call, those of many with [`Inside`].
pub fn inside<T, F>(namespace: &NetNs, work: F) -> Result<T, LinkError>
where
    T: Send,
    F: AsyncFnOnce(Net) -> Result<T, LinkError> + Send,
{
    namespace
        .run(|| {
            let (runtime, net) = open()?;
            runtime.block_on(work(net))
        })
        .map_err(LinkError::Open)?
}

/// Opens the network of the namespace that the caller is in.
fn open() -> Result<(Runtime, Net), LinkError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(LinkError::Open)?;
    let within = runtime.enter();
    let (connection, handle, _) = rtnetlink::new_connection().map_err(LinkError::Open)?;
    drop(within);
    runtime.spawn(connection);
    Ok((runtime, Net { handle }))
}

fn refused(action: &str, source: rtnetlink::Error) -> LinkError {
    LinkError::Refused {
        action: action.to_owned(),
        source: Box::new(source),
    }
}

fn any(v6: bool) -> IpAddr {
    if v6 {
        IpAddr::from([0_u8; 16])
    } else {
        IpAddr::from([0; 4])
    }
}

#[cfg(test)]
mod tests;
