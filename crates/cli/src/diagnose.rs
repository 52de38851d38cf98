// SPDX-License-Identifier: Apache-2.0
//! `maille diagnose`: an archive of what somebody who helps wants to see, of a cluster's mesh or of one on this machine.
//!
//! What cannot be had is named in it, and keeps nothing else out. Must never change anything, nor read a Secret. Read
//! `diagnose/bundle.rs` for what is taken out of what is read.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::args::Diagnose;
use crate::check;
use crate::reach::Reach;
use crate::screen::Screen;
use crate::state::Base;

mod bundle;
mod cluster;
mod local;

use bundle::Bundle;

/// What is in it, for who unpacks it.
const ABOUT: &str = "\
What `maille diagnose` found. No key and no token is in it: Secrets were not read, values of containers' settings are left out, and
so is whatever looks like a key or a token. Names, addresses and numbers are in it, and in logs whatever applications' requests wrote
there: look at it before you pass it on.

check.json       what `maille check -o json` says
versions.json    of this program and of the mesh
api/             pods, traffic, edges and certificates, as control answers
objects/         of the mesh and its namespace, and nodes; in a cluster
logs/            of control, proxies and whatever else is the mesh's
metrics/         of control and proxies
missing.txt      what could not be had, and why
";

/// Questions to control.
const QUESTIONS: [(&str, &str); 4] = [
    ("api/pods.json", "/v1/pods"),
    ("api/stat.json", "/v1/stat?window=600"),
    ("api/edges.json", "/v1/edges?window=600"),
    ("api/identity.json", "/v1/identity?resource=po"),
];

pub(crate) async fn run(args: &Diagnose, base: &Base, screen: Screen) -> anyhow::Result<ExitCode> {
    let reach = Reach::find(&args.which, base).await?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let path = args
        .output
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("maille-diagnose-{now}.tar")));
    let made = Bundle::create(&path, now);
    let mut bundle = made.with_context(|| format!("failed to make {}", path.display()))?;
    let failures = match fill(&mut bundle, &reach).await {
        Ok(()) => bundle.finish(),
        Err(error) => Err(error),
    };
    let failures = failures.with_context(|| format!("failed to write {}", path.display()))?;
    screen.say(&format!(
        "wrote {}: look at it before you pass it on",
        path.display()
    ));
    if !failures.is_empty() {
        screen.say(&format!(
            "{} {} thing(s) could not be had: its missing.txt names them",
            screen.yellow("warning:"),
            failures.len()
        ));
    }
    Ok(ExitCode::SUCCESS)
}

async fn fill(bundle: &mut Bundle, reach: &Reach) -> std::io::Result<()> {
    bundle.text("README.txt", ABOUT.as_bytes())?;
    let checks = check::gather(reach).await;
    let checks = checks.map(|checks| serde_json::to_value(checks).unwrap_or_default());
    bundle.put_json("check.json", checks)?;
    let server = reach.get::<Value>("/v1/version").await;
    let versions = server
        .map(|server| json!({"client": {"version": env!("CARGO_PKG_VERSION")}, "server": server}));
    bundle.put_json("versions.json", versions)?;
    for (name, path) in QUESTIONS {
        bundle.put_json(name, reach.get::<Value>(path).await)?;
    }
    match reach {
        Reach::Local(state) => local::fill(bundle, state).await,
        Reach::Cluster(cluster) => cluster::fill(bundle, cluster).await,
    }
}
