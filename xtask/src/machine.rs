// SPDX-License-Identifier: Apache-2.0
//! What the machine must have: programs of the distribution, and what its kernel must allow.
//!
//! Must never install anything without being root already; it prints the one command instead. Read `demo.rs` next.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

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
    ("iptables-legacy-save", "iptables"),
];

/// What the fuzz targets need beyond that: libFuzzer is C++.
pub(crate) const FUZZ: &[Need] = &[("c++", "g++")];

/// What the suites of others need beyond that: servers, their clients, and judges.
pub(crate) const SUITES: &[Need] = &[
    ("nsenter", "util-linux"),
    ("initdb", "postgresql"),
    ("mariadbd", "mariadb-server-core"),
    ("mariadb-slap", "mariadb-client"),
    ("redis-server", "redis-server"),
    ("redis-benchmark", "redis-tools"),
    ("exim4", "exim4-daemon-light"),
    ("swaks", "swaks"),
    ("nginx", "nginx-light"),
    ("ab", "apache2-utils"),
    ("wrk", "wrk"),
    ("h2load", "nghttp2-client"),
    ("rabbitmq-server", "rabbitmq-server"),
    ("amqp-publish", "amqp-tools"),
    ("prometheus", "prometheus"),
    ("tshark", "tshark"),
    ("curl", "curl"),
    ("nc", "netcat-openbsd"),
    ("openssl", "openssl"),
    ("go", "golang-go"),
];

/// What the ring `component` needs beyond that: manifests of well-known applications are in Go modules.
pub(crate) const COMPONENT: &[Need] = &[("go", "golang-go")];

/// What a cluster needs beyond that: runc links the C library for seccomp, and images have programs of the distribution.
pub(crate) const CLUSTER: &[Need] = &[
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("setsid", "util-linux"),
    ("go", "golang-go"),
    ("gcc", "gcc"),
    ("strip", "binutils"),
    (SECCOMP, "libseccomp-dev"),
    ("busybox", "busybox-static"),
    ("tc", "iproute2"),
];

/// What all of its tests need beyond that: demo applications of others, frames that are read, virtual machines.
pub(crate) const SANDBOXES: &[Need] = &[
    ("redis-server", "redis-server"),
    ("redis-cli", "redis-tools"),
    ("curl", "curl"),
    ("tshark", "tshark"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("strace", "strace"),
];

/// A file in place of a program: what libseccomp-dev brings.
const SECCOMP: &str = "/usr/include/seccomp.h";

/// What counting needs beyond that.
pub(crate) const COUNTS: &[Need] = &[
    ("nginx", "nginx-light"),
    ("strace", "strace"),
    ("valgrind", "valgrind"),
];

/// What the benchmark needs beyond that.
pub(crate) const BENCH: &[Need] = &[
    ("haproxy", "haproxy"),
    ("nginx", "nginx-light"),
    (
        "/usr/lib/nginx/modules/ngx_stream_module.so",
        "libnginx-mod-stream",
    ),
    ("wrk", "wrk"),
    ("h2load", "nghttp2-client"),
    ("openssl", "openssl"),
    ("pip3", "python3-pip"),
];

/// Makes sure that the programs are there: as root by installing them, otherwise by saying how.
pub(crate) fn prepare(needs: &[Need]) -> anyhow::Result<()> {
    let mut packages: Vec<&str> = needs
        .iter()
        .filter(|(program, _)| !present(program))
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
            .aside()
            .run()
    };
    // A stale index is the usual reason for a package that cannot be fetched; a broken mirror is said by the second.
    if let Err(error) = apt(&["update", "--quiet"]) {
        say(&format!("{error:#}; going on with the index that is there"));
    }
    // What stands in the way of a package belongs to this machine's owner.
    let mut install = vec!["install", "--yes", "--quiet", "--no-remove"];
    install.push("--no-install-recommends");
    install.extend(&packages);
    let _quiet = NoServices::here()?;
    apt(&install).with_context(|| format!("failed to install what is missing; by hand: {by_hand}"))
}

/// Whether a program (or a file, by its whole path) is there. PostgreSQL's are where PATH never leads.
fn present(program: &str) -> bool {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut versions = versions.flatten().map(|version| version.path().join("bin"));
    Path::new(program).is_file()
        || which(program).is_some()
        || versions.any(|bin| bin.join(program).is_file())
}

/// While it lives, packages that are installed start no service of theirs: tests start their own.
#[derive(Debug)]
struct NoServices {
    /// Whether the machine had a policy of its own, which stands.
    already: bool,
}

/// Where `invoke-rc.d` and `deb-systemd-invoke` look.
const POLICY: &str = "/usr/sbin/policy-rc.d";

impl NoServices {
    fn here() -> anyhow::Result<Self> {
        let already = Path::new(POLICY).exists();
        if !already {
            fs::write(POLICY, "#!/bin/sh\nexit 101\n")?;
            fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))?;
        }
        Ok(Self { already })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if !self.already
            && let Err(error) = fs::remove_file(POLICY)
        {
            say(&format!("{POLICY} is still there: {error}"));
        }
    }
}
