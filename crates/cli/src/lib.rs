// SPDX-License-Identifier: Apache-2.0
//! What people type. `main.rs` calls [`run`]; each verb is a file.
//!
//! Must never need more rights than its verb. Read `args.rs` for the verbs, `up.rs` for the longest of them.

#![forbid(unsafe_code)]

mod api;
mod args;
mod capture;
mod changes;
mod check;
mod cluster;
mod demo;
mod diagnose;
mod down;
mod edges;
mod entered;
mod exec;
mod explain;
mod failure;
mod forward;
mod get;
mod identity;
mod inject;
mod install;
mod launch;
mod logs;
mod manifests;
mod mesh;
mod names;
mod node;
mod nodes;
mod pods_of;
mod query;
mod reach;
mod reference;
mod reload;
mod restart;
mod screen;
mod shapes;
mod stat;
mod state;
mod stream;
mod tap;
mod text;
mod top;
mod trouble;
mod up;
#[cfg(test)]
mod usage;
mod version;
mod watch;
mod written;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::CommandFactory as _;

pub use crate::args::Cli;
use crate::args::Verb;
pub use crate::failure::Expected;
pub use crate::screen::Screen;
pub use crate::text::{clean_lines, guard};
pub use crate::written::{API, shapes};

/// Runs one verb to its end.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let screen = Screen::new(&cli.global);
    if let Verb::Completion { shell } = cli.verb {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "maille", &mut script);
        screen::print(&String::from_utf8(script)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Verb::Man { dir, markdown } = &cli.verb {
        std::fs::create_dir_all(dir)
            .with_context(|| format!("failed to make {}", dir.display()))?;
        let pages = if *markdown {
            let pages = reference::pages().into_iter();
            pages
                .map(|(name, text)| (name, text.into_bytes()))
                .collect()
        } else {
            reference::man()
        };
        for (name, page) in pages {
            let path = dir.join(name);
            std::fs::write(&path, page)
                .with_context(|| format!("failed to write {}", path.display()))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let base = state::Base::find(&cli.global)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the event loop")?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        match cli.verb {
            Verb::Up(args) => up::run(&args, &base, screen).await,
            Verb::Down(args) => down::run(&args, &base, screen).await,
            Verb::Stat(args) => stat::run(&args, &base, screen).await,
            Verb::Get(args) => get::run(&args, &base, screen).await,
            Verb::Logs(args) => logs::run(&args, &base, screen).await,
            Verb::Exec(args) => exec::run(&args, &base, screen).await,
            Verb::PortForward(args) => forward::run(&args, &base, screen).await,
            Verb::Diff(args) => changes::run(&args, &base, screen).await,
            Verb::Restart(args) => restart::restart(&args, &base, screen).await,
            Verb::Scale(args) => restart::scale(&args, &base, screen).await,
            Verb::Tap(args) => tap::run(&args, &base, screen).await,
            Verb::Top(args) => top::run(&args, &base, screen).await,
            Verb::Edges(args) => edges::run(&args, &base, screen).await,
            Verb::Identity(args) => identity::run(&args, &base, screen).await,
            Verb::Explain(args) => explain::run(&args, &base, screen).await,
            Verb::Capture(args) => capture::run(&args, &base, screen).await,
            Verb::Inject(args) => inject::inject(&args, screen).await,
            Verb::Uninject(args) => inject::uninject(&args, screen),
            Verb::Install(args) => install::install(&args),
            Verb::Upgrade(args) => install::upgrade(&args).await,
            Verb::Uninstall(args) => install::uninstall(&args, screen).await,
            Verb::Node(args) => nodes::run(&args).await,
            Verb::Check(args) => check::run(&args, &base, screen).await,
            Verb::Diagnose(args) => diagnose::run(&args, &base, screen).await,
            Verb::Demo(args) => demo::run(&args, &base, screen).await,
            Verb::Version(args) => version::run(&args, &base).await,
            Verb::Completion { .. } | Verb::Man { .. } => Ok(ExitCode::SUCCESS),
        }
    })
}
