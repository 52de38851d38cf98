// SPDX-License-Identifier: Apache-2.0
//! `maille check`: what works, what does not, and what to do about it. Must never change anything. Read `api.rs` next.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::Value;

use crate::api::{Check, Checks};
use crate::args::{self, Output};
use crate::cluster::{Cluster, Found};
use crate::failure::Expected;
use crate::reach::Reach;
use crate::screen::{Screen, print, print_json};
use crate::state::Base;
use crate::text::clean;

mod cluster;
mod guest;
mod judge;
mod nodes;
mod policies;
mod proxies;

pub(crate) use cluster::NAMESPACE;
use judge::Line;
use proxies::{Detail, Versions};

pub(crate) async fn run(
    args: &args::Check,
    base: &Base,
    screen: Screen,
) -> anyhow::Result<ExitCode> {
    let (json, checks) = if let Some(path) = &args.guest_config {
        let checks = guest(path)?;
        (serde_json::to_value(&checks)?, checks)
    } else if args.pre {
        let found = match &args.which.name {
            // Of this machine, whatever kubectl would ask.
            Some(_) => Found::Nowhere,
            None => Cluster::find(&args.which.cluster).await?,
        };
        let checks = match found {
            Found::Yes(cluster) => cluster::before(&cluster).await?,
            Found::Nowhere => machine(),
        };
        (serde_json::to_value(&checks)?, checks)
    } else {
        let reach = Reach::find(&args.which, base).await?;
        match &reach {
            Reach::Local(_) if args.namespace.is_none() && !args.proxy => {
                let json: Value = reach.get("/v1/check").await?;
                let checks = reach.read(&json)?;
                (json, checks)
            }
            Reach::Local(_) => {
                let checks = local(args, &reach).await?;
                (serde_json::to_value(&checks)?, checks)
            }
            Reach::Cluster(at) => {
                let checks = match args.namespace.as_deref() {
                    None => cluster::after(at, &reach, args.proxy).await?,
                    Some(only) => cluster::within(at, &reach, only, detail(args)).await?,
                };
                (serde_json::to_value(&checks)?, checks)
            }
        }
    };
    match args.output {
        Output::Json => print_json(&json)?,
        Output::Table => print(&text(&checks, screen))?,
    };
    if !checks.ok {
        let failed = checks.checks.iter().filter(|check| !check.ok).count();
        return Err(Expected::Found {
            what: format!("{failed} check(s) failed"),
        }
        .into());
    }
    Ok(ExitCode::SUCCESS)
}

/// What a mesh says of itself, for who wants all of it.
pub(crate) async fn gather(reach: &Reach) -> Result<Checks, Expected> {
    match reach {
        Reach::Local(_) => reach.get("/v1/check").await,
        Reach::Cluster(at) => cluster::after(at, reach, true).await,
    }
}

fn detail(args: &args::Check) -> Detail {
    if args.proxy {
        Detail::Each
    } else {
        Detail::Together
    }
}

/// The mesh of this machine, with its proxies one by one, or those of one namespace alone.
async fn local(args: &args::Check, reach: &Reach) -> anyhow::Result<Checks> {
    let mut checks = Vec::new();
    if args.namespace.is_none() {
        let own: Checks = reach.get("/v1/check").await?;
        checks.extend(own.checks);
    }
    let only = args.namespace.as_deref();
    let lines = proxies::look(reach, only, &Versions::default(), detail(args)).await?;
    checks.extend(lines.into_iter().map(Line::check));
    Ok(all(checks))
}

fn all(checks: Vec<Check>) -> Checks {
    Checks {
        ok: checks.iter().all(|check| check.ok),
        checks,
    }
}

/// A guest's kernel, by its configuration.
fn guest(path: &Path) -> anyhow::Result<Checks> {
    let shown = path.display();
    let reader: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(File::open(path).with_context(|| format!("failed to open {shown}"))?)
    };
    let mut text = String::new();
    let read = reader.take(guest::LONGEST).read_to_string(&mut text);
    read.with_context(|| format!("failed to read {shown}"))?;
    let checks = guest::judge(&text).map_err(|error| Expected::Refused {
        what: format!("{shown}: {error}"),
        hint: Some("it is a file like /boot/config-6.1.0, or what zcat /proc/config.gz prints in the guest".to_owned()),
        wrong: true,
    })?;
    Ok(checks)
}

/// This machine, without a mesh.
fn machine() -> Checks {
    let checks = maille_sys::machine::look().into_iter().map(|fact| Check {
        category: "machine".to_owned(),
        name: fact.name.to_owned(),
        ok: fact.ok,
        message: Some(fact.found),
        hint: Some(fact.hint),
    });
    all(checks.collect())
}

fn text(checks: &Checks, screen: Screen) -> String {
    let mut text = String::new();
    let mut category = None;
    for check in &checks.checks {
        if category != Some(&check.category) {
            let gap = if category.is_some() { "\n" } else { "" };
            text.push_str(&format!("{gap}{}\n", screen.bold(&clean(&check.category))));
            category = Some(&check.category);
        }
        // Well, and with something to say: it is not done.
        let is_open = check.hint.as_ref().is_some_and(|hint| !hint.is_empty());
        let sign = match (check.ok, is_open) {
            (true, false) => screen.green("√"),
            (true, true) => screen.yellow("‼"),
            (false, _) => screen.red("×"),
        };
        text.push_str(&format!("{sign} {}\n", clean(&check.name)));
        let more = [("", &check.message), ("hint: ", &check.hint)];
        for (label, line) in more.iter().filter(|_| !check.ok || is_open) {
            if let Some(line) = line.as_ref().filter(|line| !line.is_empty()) {
                text.push_str(&format!("    {label}{}\n", clean(line)));
            }
        }
    }
    let verdict = if checks.ok {
        screen.green("√")
    } else {
        screen.red("×")
    };
    text.push_str(&format!("\nStatus check results are {verdict}\n"));
    text
}
