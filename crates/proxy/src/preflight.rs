// SPDX-License-Identifier: Apache-2.0
//! Before a proxy of the inboard mode takes anything: does this kernel, in this pod, redirect connections to it and remember
//! where they were going? Tried by a connection of its own, which the rules of `maille-init` redirect for this purpose.
//!
//! The try is made in a child, with a deadline: some kernels hang in the question for ever. Must never be told by versions, and
//! must never let a proxy be ready that connections pass by. Read `doors.rs` next, `node::capture::inboard` for the rules.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use maille_model::PROBE_PORT;
use maille_sys::machine;
use maille_sys::socket::redirected_destination;
use socket2::SockRef;

use crate::config::{Capture, Config};
use crate::doors;

/// The argument that makes this program the child.
pub const VERB: &str = "preflight";
/// Between two words of the child, but for the next.
const DEADLINE: Duration = Duration::from_secs(10);
/// For the kernel's answer to the question in which some hang: it has it at hand.
const ANSWER: Duration = Duration::from_millis(1_500);
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
        "this kernel deadlocks: Linux {release} did not say in {:?} where a redirected connection was going (SO_ORIGINAL_DST), in which \
         4.14.22 to 4.14.40 hang for ever; use outboard capture (maille.io/capture: outboard) or a maintained kernel",
        ANSWER
    )]
    Hangs {
        /// Which release runs here.
        release: String,
    },
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

/// What the parent hears of the child.
#[derive(Debug)]
enum Word {
    /// It asks where a connection was going.
    Asks,
    /// It has the answer.
    Knows,
    Ended(io::Result<ExitStatus>),
}

impl Word {
    const ASKS: u8 = b'?';
    const KNOWS: u8 = b'.';
}

/// Tries it, where connections are to be redirected at all. Blocks for [`ANSWER`] in a kernel that hangs, and never for long.
pub fn check(config: &Config) -> Result<(), PreflightError> {
    let (Capture::Redirect, Some(address)) = (config.capture, config.outbound.bind) else {
        return Ok(());
    };
    let own = std::env::current_exe().map_err(|error| untried(&error))?;
    let mut child = Command::new(own);
    let child = child.arg(VERB).stdout(Stdio::piped()).spawn();
    let child = child.map_err(|error| untried(&error))?;
    let (tell, told) = channel();
    // A child that hangs in the kernel cannot be killed either: it and its thread end with this process's pod.
    std::thread::spawn(move || hear(child, &tell));
    verdict(&told, address)
}

fn untried(error: &io::Error) -> PreflightError {
    PreflightError::Untried {
        what: error.to_string(),
    }
}

/// Passes on what the child says, and how it ended.
fn hear(mut child: Child, tell: &Sender<Word>) {
    let said = child.stdout.take().into_iter().flat_map(Read::bytes);
    for byte in said.map_while(Result::ok) {
        let word = match byte {
            Word::ASKS => Word::Asks,
            Word::KNOWS => Word::Knows,
            _ => continue,
        };
        // Nobody listens any more.
        if tell.send(word).is_err() {
            return;
        }
    }
    let _ = tell.send(Word::Ended(child.wait()));
}

/// What the child's words come to.
fn verdict(told: &Receiver<Word>, address: SocketAddr) -> Result<(), PreflightError> {
    let mut asks = false;
    loop {
        match told.recv_timeout(if asks { ANSWER } else { DEADLINE }) {
            Ok(Word::Asks) => asks = true,
            Ok(Word::Knows) => asks = false,
            Ok(Word::Ended(Ok(status))) => return meaning(status, address),
            Ok(Word::Ended(Err(error))) => return Err(untried(&error)),
            Err(RecvTimeoutError::Timeout) if asks => {
                return Err(PreflightError::Hangs {
                    release: machine::release(),
                });
            }
            Err(_) => {
                return Err(PreflightError::Untried {
                    what: format!("nothing was heard for {} s", DEADLINE.as_secs()),
                });
            }
        }
    }
}

/// The child: makes one connection of each family that there is, and looks at what comes. The parent reads its `words`.
pub fn probe(config: &Config, words: &mut impl Write) -> Result<(), PreflightError> {
    let Some(address) = config.outbound.bind else {
        return Ok(());
    };
    let listeners = doors::listen_each(address).map_err(|_| PreflightError::Bind { address })?;
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
        one(&listeners, family, to, words)?;
    }
    Ok(())
}

fn one(
    listeners: &[TcpListener],
    family: Family,
    to: SocketAddr,
    words: &mut impl Write,
) -> Result<(), PreflightError> {
    let missing = PreflightError::NotRedirected { family };
    let is_its = |listener: &&TcpListener| {
        let at = listener.local_addr();
        at.is_ok_and(|at| at.is_ipv6() == to.is_ipv6())
    };
    let its = listeners.iter().find(is_its).or_else(|| listeners.first());
    let listener = its.ok_or_else(|| missing.clone())?;
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
            say(words, Word::ASKS)?;
            let answer = redirected_destination(&taken);
            say(words, Word::KNOWS)?;
            return match answer {
                Ok(destination) if destination == to => Ok(()),
                _ => Err(PreflightError::Forgotten { family }),
            };
        }
    }
    Err(missing)
}

/// One word to the parent, at once.
fn say(words: &mut impl Write, word: u8) -> Result<(), PreflightError> {
    let said = words.write_all(&[word]).and_then(|()| words.flush());
    said.map_err(|error| untried(&error))
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
    use std::time::SystemTime;

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
        let mut words = Vec::new();
        let found = probe(&config(), &mut words);
        assert!(words.is_empty(), "there was nothing to ask of");
        assert_eq!(
            found,
            Err(PreflightError::NotRedirected { family: Family::V4 })
        );
    }

    #[test]
    fn a_kernel_that_does_not_answer_hangs_and_one_that_does_not_come_to_it_does_not() {
        let address = config().outbound.bind.unwrap();
        let (tell, told) = channel();
        for word in [Word::Asks, Word::Knows, Word::Asks] {
            tell.send(word).unwrap();
        }
        let begin = SystemTime::now();
        let found = verdict(&told, address).unwrap_err();
        let took = begin.elapsed().unwrap();
        assert!(took >= ANSWER && took < Duration::from_secs(3), "{took:?}");
        let said = found.to_string();
        assert!(
            said.contains(&machine::release()) && said.contains("this kernel deadlocks"),
            "{said}"
        );
        tell.send(Word::Asks).unwrap();
        tell.send(Word::Knows).unwrap();
        tell.send(Word::Ended(Ok(ExitStatus::from_raw(0)))).unwrap();
        assert_eq!(verdict(&told, address), Ok(()));
        drop(tell);
        let found = verdict(&told, address);
        assert!(matches!(found, Err(PreflightError::Untried { .. })));
    }
}
