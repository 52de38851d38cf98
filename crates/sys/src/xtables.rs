// SPDX-License-Identifier: Apache-2.0
//! Chains of the legacy packet filter's `nat` tables (`ip_tables`, `ip6_tables`), for kernels without nftables: old guests, gVisor.
//!
//! A table is read, changed and replaced whole, so that either all of a change is in force or nothing. Chains of other names stay;
//! only their counts begin anew. Must never need the program `iptables`. Read `xtables/table.rs` for what a table is made of, and
//! `xtables/encode.rs` for what one rule is.

use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd as _, OwnedFd};

use ipnet::IpNet;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

mod encode;
mod table;

use table::{Info, Table};

/// The table that redirects.
const NAT: &str = "nat";
/// The options of `getsockopt` and `setsockopt`, the same for both families.
const GET_INFO: i32 = 64;
const GET_ENTRIES: i32 = 65;
const SET_REPLACE: i32 = 64;
/// Others may change the table between reading and replacing it.
const TRIES: usize = 8;

/// A family of addresses: each has tables of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Where connections are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// As they come in.
    Arriving,
    /// As they are begun here.
    Leaving,
}

/// Rules, and the hook from which they are reached before all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// At most 28 characters; nobody else's.
    pub name: &'static str,
    /// Where connections come from.
    pub hook: Hook,
    /// The first that fits decides.
    pub rules: Vec<Rule>,
}

/// What a rule looks at, all of it at once, and what becomes of what it fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Nothing: it fits everything.
    pub looks: Vec<Look>,
    /// What becomes of it.
    pub then: Then,
}

/// One thing to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// Begun by a process of this user. Only where connections leave.
    User(u32),
    /// To there. In a table of the other family the rule is left out.
    To(IpNet),
    /// By the loopback interface.
    Loopback,
    /// TCP.
    Tcp,
    /// TCP to these ports.
    Ports(Vec<RangeInclusive<u16>>),
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// No rule of this chain touches it.
    Pass,
    /// It goes to this port of this network.
    Redirect(u16),
}

/// Why the tables are not as wanted.
#[derive(Debug, thiserror::Error)]
pub enum XtablesError {
    /// The kernel has no such table.
    #[error(
        "the kernel has no legacy nat table of {family} (CONFIG_IP_NF_NAT, CONFIG_IP6_NF_NAT; gVisor shows its own to CAP_NET_RAW alone, \
         where it runs with --net-raw)"
    )]
    Absent {
        /// Of which family.
        family: Family,
    },
    /// A right is missing.
    #[error("the legacy nat table of {family} may not be {doing}: that needs CAP_NET_ADMIN")]
    Forbidden {
        /// Of which family.
        family: Family,
        /// What was tried.
        doing: &'static str,
    },
    /// The kernel would not.
    #[error("the legacy nat table of {family} cannot be {doing}")]
    Kernel {
        /// Of which family.
        family: Family,
        /// What was tried.
        doing: &'static str,
        /// What it says.
        #[source]
        source: io::Error,
    },
    /// What the kernel gave is no table.
    #[error("the legacy nat table of {family} cannot be understood: {what}")]
    Unreadable {
        /// Of which family.
        family: Family,
        /// What is wrong.
        what: &'static str,
    },
    /// Others change it all the time.
    #[error("the legacy nat table of {family} was changed by somebody else {TRIES} times in a row")]
    Busy {
        /// Of which family.
        family: Family,
    },
}

/// Puts `chains` in force in the namespace that the caller is in, in place of chains of the same names, for every family that the
/// namespace has.
pub fn apply_here(chains: &[Chain]) -> Result<(), XtablesError> {
    for family in [Family::V4, Family::V6] {
        if let Some(socket) = open(family)? {
            apply(&socket, family, chains)?;
        }
    }
    Ok(())
}

fn apply(socket: &OwnedFd, family: Family, chains: &[Chain]) -> Result<(), XtablesError> {
    for _ in 0..TRIES {
        let Some(mut table) = read(socket, family)? else {
            continue;
        };
        let before = table.len();
        for chain in chains {
            table.remove(chain.name);
        }
        for chain in chains {
            let rules = encode::rules(family, chain);
            let unreadable = |what| XtablesError::Unreadable { family, what };
            table.add(chain, rules).map_err(unreadable)?;
        }
        if replace(socket, family, &table, before)? {
            return Ok(());
        }
    }
    Err(XtablesError::Busy { family })
}

/// The table as it is. None: it was changed meanwhile.
fn read(socket: &OwnedFd, family: Family) -> Result<Option<Table>, XtablesError> {
    let doing = "read";
    let mut info = Info::request(NAT);
    ask(socket, family, GET_INFO, &mut info).map_err(|error| named(family, doing, error))?;
    let unreadable = |what| XtablesError::Unreadable { family, what };
    let info = Info::parse(&info).map_err(unreadable)?;
    let mut entries = info.entries_request(NAT);
    match ask(socket, family, GET_ENTRIES, &mut entries) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => return Ok(None),
        Err(error) => return Err(named(family, doing, error)),
    }
    Table::parse(family, &info, &entries)
        .map(Some)
        .map_err(unreadable)
}

/// Exchanges a table of `before` entries. `false`: it was changed meanwhile.
fn replace(
    socket: &OwnedFd,
    family: Family,
    table: &Table,
    before: usize,
) -> Result<bool, XtablesError> {
    let unreadable = |what| XtablesError::Unreadable { family, what };
    // Here the kernel writes how often each entry of the table before had fitted.
    let mut counts = vec![[0_u64; 2]; before];
    let request = table.request(NAT, counts.as_mut_ptr().expose_provenance(), before);
    let request = request.map_err(unreadable)?;
    let size =
        libc::socklen_t::try_from(request.len()).map_err(|_| unreadable("it is too large"))?;
    // SAFETY: the kernel reads `size` bytes of a live vector, and writes `before` pairs of
    // counts, as `request` says, into a live vector of that many.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level(family),
            SET_REPLACE,
            request.as_ptr().cast(),
            size,
        )
    };
    if result == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::EAGAIN) => Ok(false),
        error => Err(named(family, "replaced", error)),
    }
}

fn ask(socket: &OwnedFd, family: Family, option: i32, buffer: &mut [u8]) -> io::Result<()> {
    let mut size = libc::socklen_t::try_from(buffer.len()).map_err(io::Error::other)?;
    // SAFETY: the kernel reads and writes at most `size` bytes of a live buffer of that
    // size, and writes a live socklen_t.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level(family),
            option,
            buffer.as_mut_ptr().cast(),
            &raw mut size,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The socket by which tables are asked for. None: this namespace has no such family.
///
/// gVisor wants a raw one, for which CAP_NET_RAW is needed; Linux takes any.
fn open(family: Family) -> Result<Option<OwnedFd>, XtablesError> {
    let domain = match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    };
    let raw = socket(
        domain,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::Raw,
    );
    let any = raw.or_else(|_| socket(domain, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None));
    match any {
        Ok(socket) => Ok(Some(socket)),
        Err(nix::Error::EAFNOSUPPORT) => Ok(None),
        Err(error) => Err(named(family, "opened", error.into())),
    }
}

fn named(family: Family, doing: &'static str, source: io::Error) -> XtablesError {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => XtablesError::Forbidden { family, doing },
        Some(libc::ENOENT | libc::ENOPROTOOPT) => XtablesError::Absent { family },
        _ => XtablesError::Kernel {
            family,
            doing,
            source,
        },
    }
}

const fn level(family: Family) -> i32 {
    match family {
        Family::V4 => libc::SOL_IP,
        Family::V6 => libc::SOL_IPV6,
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

#[cfg(test)]
mod tests;
