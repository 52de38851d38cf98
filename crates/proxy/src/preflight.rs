// SPDX-License-Identifier: Apache-2.0
//! Before a proxy of the inboard mode takes anything: does this kernel, in this pod, redirect connections to it and remember
//! where they were going? Tried by a connection of its own, which the rules of `maille-init` redirect for this purpose.
//!
//! The try is made in a child, with a deadline: some kernels hang in the question for ever. Must never be told by versions, and
//! must never let a proxy be ready that connections pass by. Read `doors.rs` next, `node::capture::inboard` for the rules.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, ExitStatus};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use maille_model::PROBE_PORT;
use maille_sys::socket::redirected_destination;
use socket2::SockRef;

use crate::config::{Capture, Config};
use crate::doors;

/// The argument that makes this program the child.
pub const VERB: &str = "preflight";
/// For the whole child.
const DEADLINE: Duration = Duration::from_secs(10);
/// For each of its waits: on loopback everything is there at once.
const STEP: Duration = Duration::from_secs(2);
/// Connections of others that may come to the socket meanwhile.
const OTHERS: usize = 64;
/// The first of the child's exit codes that mean something.
const FIRST_CODE: u8 = 40;

/// Why connections would not come here. Each says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PreflightError {
    /// A connection that should have come here did not.
    #[error(
        "this pod's rules do not redirect {family} connections to the proxy: the init container maille-init did not run in this pod, or somebody \
         removed its rules (nft list table inet maille_inboard, or iptables-legacy -t nat -S)"
    )]
    NotRedirected {
        /// Of which family.
        family: Family,
    },
    /// It came, and nobody knows where it was going.
    #[error(
        "this kernel redirects {family} connections but does not say where they were going (SO_ORIGINAL_DST): it needs nf_conntrack, \
         which sandboxes without netfilter do not have; capture such pods with maille.io/capture: outboard"
    )]
    Forgotten {
        /// Of which family.
        family: Family,
    },
    /// The kernel hangs.
    #[error(
        "this kernel did not say in {} s where a redirected connection was going: Linux 4.14.22 to 4.14.40 hang there for ever; \
         use another kernel, or capture the pod with maille.io/capture: outboard",
        DEADLINE.as_secs()
    )]
    Hangs,
    /// The port is somebody else's.
    #[error("{address} cannot be bound: does a container of the pod listen there?")]
    Bind {
        /// Which.
        address: SocketAddr,
    },
    /// The child could not be started, or ended as no child does.
    #[error("whether connections are captured could not be tried: {what}")]
    Untried {
        /// What happened.
        what: String,
    },
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Tries it, where connections are to be redirected at all. Blocks for ten seconds at most.
pub fn check(config: &Config) -> Result<(), PreflightError> {
    let (Capture::Redirect, Some(address)) = (config.capture, config.outbound.bind) else {
        return Ok(());
    };
    let untried = |error: &io::Error| PreflightError::Untried {
        what: error.to_string(),
    };
    let own = std::env::current_exe().map_err(|error| untried(&error))?;
    let child = Command::new(own).arg(VERB).spawn();
    let mut child = child.map_err(|error| untried(&error))?;
    let (tell, told) = channel();
    // A child that hangs in the kernel cannot be killed either: it and its thread end with this process's pod.
    std::thread::spawn(move || tell.send(child.wait()));
    match told.recv_timeout(DEADLINE) {
        Ok(Ok(status)) => meaning(status, address),
        Ok(Err(error)) => Err(untried(&error)),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            Err(PreflightError::Hangs)
        }
    }
}

/// The child: makes one connection of each family that there is, and looks at what comes.
pub fn probe(config: &Config) -> Result<(), PreflightError> {
    let Some(address) = config.outbound.bind else {
        return Ok(());
    };
    let listener = doors::listen(address).map_err(|_| PreflightError::Bind { address })?;
    for (family, to) in [
        (
            Family::V4,
            SocketAddr::from((Ipv4Addr::LOCALHOST, PROBE_PORT)),
        ),
        (
            Family::V6,
            SocketAddr::from((Ipv6Addr::LOCALHOST, PROBE_PORT)),
        ),
    ] {
        one(&listener, family, to)?;
    }
    Ok(())
}

fn one(listener: &TcpListener, family: Family, to: SocketAddr) -> Result<(), PreflightError> {
    let missing = PreflightError::NotRedirected { family };
    let client = match TcpStream::connect_timeout(&to, STEP) {
        Ok(client) => client,
        Err(error) if family == Family::V6 && is_absent(&error) => return Ok(()),
        Err(_) => return Err(missing),
    };
    let own = client.local_addr().map_err(|_| missing.clone())?;
    let wait = || {
        listener.set_nonblocking(false)?;
        SockRef::from(listener).set_read_timeout(Some(STEP))
    };
    wait().map_err(|_| missing.clone())?;
    for _ in 0..OTHERS {
        let (taken, peer) = listener.accept().map_err(|_| missing.clone())?;
        if (peer.ip().to_canonical(), peer.port()) == (own.ip(), own.port()) {
            return match redirected_destination(&taken) {
                Ok(destination) if destination == to => Ok(()),
                _ => Err(PreflightError::Forgotten { family }),
            };
        }
    }
    Err(missing)
}

/// The pod has no IPv6: EAFNOSUPPORT, EADDRNOTAVAIL, ENETUNREACH.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(97 | 99 | 101))
}

/// What the child can find, in the order of its exit codes.
fn findings(address: SocketAddr) -> [PreflightError; 5] {
    let (v4, v6) = (Family::V4, Family::V6);
    [
        PreflightError::NotRedirected { family: v4 },
        PreflightError::NotRedirected { family: v6 },
        PreflightError::Forgotten { family: v4 },
        PreflightError::Forgotten { family: v6 },
        PreflightError::Bind { address },
    ]
}

// === impl PreflightError ===

impl PreflightError {
    /// What the child ends with.
    pub fn code(&self, config: &Config) -> u8 {
        let Some(address) = config.outbound.bind else {
            return 1;
        };
        let found = (FIRST_CODE..).zip(findings(address));
        let mut found = found.filter(|(_, finding)| finding == self);
        found.next().map_or(1, |(code, _)| code)
    }
}

fn meaning(status: ExitStatus, address: SocketAddr) -> Result<(), PreflightError> {
    if status.success() {
        return Ok(());
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    let mut findings = (FIRST_CODE..).zip(findings(address));
    match findings.find(|(known, _)| Some(*known) == code) {
        Some((_, finding)) => Err(finding),
        None => Err(PreflightError::Untried {
            what: format!("the child ended with {status}"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    fn config() -> Config {
        let settings = HashMap::from([
            ("MAILLE_WORKLOAD", "uid-1"),
            ("MAILLE_AGENT", "/x"),
            ("MAILLE_CAPTURE", "redirect"),
            ("MAILLE_OUTBOUND", "127.0.0.1:0"),
        ]);
        Config::read(&settings).unwrap()
    }

    #[test]
    fn what_the_child_finds_arrives() {
        let config = config();
        let address = config.outbound.bind.unwrap();
        for finding in findings(address) {
            let code = i32::from(finding.code(&config));
            let status = ExitStatus::from_raw(code << 8);
            assert_eq!(meaning(status, address), Err(finding));
        }
        assert_eq!(meaning(ExitStatus::from_raw(0), address), Ok(()));
        let killed = meaning(ExitStatus::from_raw(9), address);
        assert!(matches!(killed, Err(PreflightError::Untried { .. })));
    }

    #[test]
    fn without_rules_nothing_is_redirected() {
        let found = probe(&config());
        assert_eq!(
            found,
            Err(PreflightError::NotRedirected { family: Family::V4 })
        );
    }
}
