// SPDX-License-Identifier: Apache-2.0
//! The pairs under test: each takes plain bytes at a port of the client's namespace and hands them to the backend over mutual TLS.
//!
//! Must never give one peer what another has not: one thread each, TLS 1.3, certificates of both sides checked, connections kept. Read `peers/maille.rs`.

mod backend;
mod envoy;
mod haproxy;
mod intercepted;
mod maille;
mod nginx;
mod pki;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use maille_chassis::clock::Clock;
use serde::Serialize;

use crate::lab::{Lab, Process};

pub(crate) use intercepted::World;
pub(crate) use maille::{Coming, Looked, soaked, watched};

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Peer {
    /// Two `maille-proxy`, with identity, metrics and control, at explicit ports.
    Maille,
    /// The same two, which take what is dialled in front of the pods (TPROXY), as outboard ones do.
    Outboard,
    /// The same two, to which what is dialled is redirected inside the pods, as it is to inboard ones.
    Inboard,
    /// Two haproxy, HTTP/2 between them where they carry HTTP.
    Haproxy,
    /// Two nginx, HTTP/1.1 between them where they carry HTTP.
    Nginx,
    /// Two Envoy, HTTP/2 between them.
    Envoy,
}

/// What a pair carries, and so what its proxies understand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Carries {
    /// HTTP/1.1, to a backend that speaks it.
    Http1,
    /// HTTP/2 with prior knowledge, to a backend that speaks it.
    Http2,
    /// Bytes: a connection is a connection, or a stream of one.
    Tcp,
}

impl Peer {
    /// Those that are dialled at a port of their own.
    pub(crate) const EXPLICIT: &[Self] = &[Self::Maille, Self::Haproxy, Self::Nginx, Self::Envoy];
}

/// A running pair.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) peer: Peer,
    pub(crate) carries: Carries,
    /// Where the client sends its requests, in its own namespace.
    pub(crate) entry: String,
    /// Since when.
    pub(crate) started: Clock,
    /// The two proxies: their CPU time is what counts.
    pub(crate) proxies: Vec<RefCell<Process>>,
    /// Where it is, if not in everybody's world.
    pub(crate) world: Option<World>,
}

/// A program that starts another one, and looks at it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Under {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
}

/// Pairs that run, by who they are and what they carry.
pub(crate) type Pairs = BTreeMap<(Peer, Carries), Pair>;

impl Carries {
    pub(crate) const ALL: [Self; 3] = [Self::Http1, Self::Http2, Self::Tcp];

    /// As file names have it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Tcp => "tcp",
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Maille => "maille",
            Self::Outboard => "outboard",
            Self::Inboard => "inboard",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Envoy => "envoy",
        })
    }
}

impl Pair {
    /// CPU time of both proxies so far.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let each = self.proxies.iter().map(|one| one.borrow_mut().cpu_nanos());
        Ok(Duration::from_nanos(each.sum::<anyhow::Result<u64>>()?))
    }

    /// Its own world, or everybody's.
    pub(crate) fn lab<'a>(&'a self, everybodys: &'a Lab) -> &'a Lab {
        self.world.as_ref().map_or(everybodys, |world| &world.lab)
    }

    /// What `measure` says of its proxies, added up.
    pub(crate) fn sum(
        &self,
        measure: impl Fn(&Process) -> anyhow::Result<u64>,
    ) -> anyhow::Result<u64> {
        self.proxies.iter().map(|one| measure(&one.borrow())).sum()
    }
}

/// Starts what all pairs need; with control where Maille takes part.
pub(crate) fn support(lab: &Lab, bin_dir: &Path, maille: bool) -> anyhow::Result<Vec<Process>> {
    pki::create(lab)?;
    let mut support = Vec::from(backend::start(lab)?);
    if maille {
        support.push(maille::control(lab, bin_dir, None)?);
    }
    Ok(support)
}

/// Starts one pair, which ends with what is returned.
pub(crate) fn pair(
    lab: &Lab,
    bin_dir: &Path,
    (peer, carries): (Peer, Carries),
) -> anyhow::Result<Pair> {
    match peer {
        Peer::Maille => maille::pair(lab, bin_dir, carries, &Looked::default()),
        Peer::Outboard | Peer::Inboard => intercepted::pair(bin_dir, (peer, carries)),
        Peer::Haproxy => haproxy::pair(lab, carries),
        Peer::Nginx => nginx::pair(lab, carries),
        Peer::Envoy => envoy::pair(lab, carries),
    }
}
