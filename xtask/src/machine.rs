// SPDX-License-Identifier: Apache-2.0
//! What the machine must have: programs of the distribution, and what its kernel must allow.
//!
//! Must never install anything without being root already; it prints the one command instead. Read `demo.rs` next.

use anyhow::{Context as _, bail};
use nix::unistd::geteuid;

use crate::shell::{Cmd, say, which};

/// A program, and the package of Debian and Ubuntu that brings it.
type Need = (&'static str, &'static str);

/// What `maille` itself needs.
pub(crate) const RUN: &[Need] = &[("nft", "nftables")];

/// What the tests need beyond that.
pub(crate) const TEST: &[Need] = &[
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
    ("setpriv", "util-linux"),
    ("lsns", "util-linux"),
    ("git", "git"),
];

/// What the fuzz targets need beyond that: libFuzzer is C++.
pub(crate) const FUZZ: &[Need] = &[("c++", "g++")];

/// What the benchmark needs beyond that.
pub(crate) const BENCH: &[Need] = &[
    ("haproxy", "haproxy"),
    ("nginx", "nginx-light"),
    ("wrk", "wrk"),
];

/// Makes sure that the programs are there: as root by installing them, otherwise by saying how.
pub(crate) fn prepare(needs: &[Need]) -> anyhow::Result<()> {
    let mut packages: Vec<&str> = needs
        .iter()
        .filter(|(program, _)| which(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    packages.sort_unstable();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    let by_hand = format!("apt-get update && apt-get install --yes --no-install-recommends {list}");
    if !geteuid().is_root() {
        bail!("this machine lacks {list}\nhint: sudo sh -c '{by_hand}'");
    }
    if which("apt-get").is_none() {
        bail!("this machine lacks {list}, and has no apt-get to install them with");
    }
    say(&format!("installing {list}"));
    let apt = |args: &[&str]| {
        Cmd::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(args)
            .run()
    };
    // A stale index is the usual reason for a package that cannot be fetched; a broken mirror is said by the second.
    if let Err(error) = apt(&["update", "--quiet"]) {
        say(&format!("{error:#}; going on with the index that is there"));
    }
    let mut install = vec!["install", "--yes", "--quiet", "--no-install-recommends"];
    install.extend(&packages);
    apt(&install).with_context(|| format!("failed to install what is missing; by hand: {by_hand}"))
}
