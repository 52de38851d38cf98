// SPDX-License-Identifier: Apache-2.0
//! haproxy: what it needs to do the same job. Used by `peers.rs`.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use maille_chassis::clock::Clock;

use super::{Carries, Pair, Peer};
use crate::lab::{Core, Lab, SERVER, Side};

pub(super) fn pair(lab: &Lab, carries: Carries) -> anyhow::Result<Pair> {
    let started = Clock::start();
    let directory = lab.scratch().display();
    let name = carries.name();
    let (entry, between, backend) = match carries {
        Carries::Http1 => (4150, 4151, "8080"),
        Carries::Http2 => (4152, 4153, "8082 proto h2"),
        Carries::Tcp => (4154, 4155, "8080"),
    };
    let (mode, alpn) = match carries {
        Carries::Tcp => ("tcp", ""),
        Carries::Http1 | Carries::Http2 => ("http\n  http-reuse always", " alpn h2"),
    };
    let most = lab.most_connections();
    let common = format!(
        "global\n  nbthread 1\n  maxconn {most}\n  ssl-default-bind-options ssl-min-ver TLSv1.3\n  \
         ssl-default-server-options ssl-min-ver TLSv1.3\n  tune.h2.max-concurrent-streams 1000\n\
         defaults\n  mode {mode}\n  timeout connect 5s\n  timeout client 600s\n  timeout server 600s\n"
    );
    let client = lab.write(
        &format!("haproxy-client-{name}.cfg"),
        &format!(
            "{common}frontend in\n  bind 127.0.0.1:{entry}\n  default_backend out\nbackend out\n  \
             server s {SERVER}:{between} ssl verify required ca-file {directory}/ca.pem crt {directory}/leaf.pem{alpn} verifyhost bench.local\n"
        ),
    )?;
    let server = lab.write(
        &format!("haproxy-server-{name}.cfg"),
        &format!(
            "{common}frontend in\n  bind {SERVER}:{between} ssl crt {directory}/leaf.pem ca-file {directory}/ca.pem verify required{alpn}\n  \
             default_backend out\nbackend out\n  server s {SERVER}:{backend}\n"
        ),
    )?;
    let start = |side, which: &str, config: PathBuf| {
        let mut command = lab.command(side, Core::Pair, Path::new("haproxy"));
        lab.start(
            &format!("haproxy-{which}-{name}"),
            command.arg("-db").arg("-f").arg(config),
        )
        .map(RefCell::new)
    };
    Ok(Pair {
        started,
        peer: Peer::Haproxy,
        carries,
        entry: format!("127.0.0.1:{entry}"),
        proxies: vec![
            start(Side::Server, "server", server)?,
            start(Side::Client, "client", client)?,
        ],
        world: None,
    })
}
