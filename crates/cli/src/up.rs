// SPDX-License-Identifier: Apache-2.0
//! `maille up`: Kubernetes manifests become running, meshed pods on this machine.
//!
//! Must never start anything when a manifest is wrong. Read `mesh.rs` for the life of what it starts.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::Context as _;

use crate::args::Up;
use crate::changes;
use crate::failure::{Expected, Undone};
use crate::launch::Options;
use crate::manifests;
use crate::mesh::{Ended, Mesh, StopSignals};
use crate::reload::Reload;
use crate::screen::{Screen, print};
use crate::state::Base;
use crate::watch::Watcher;

/// What a detached `maille up` tells the one that waits for it.
const READY: &str = "ready";

pub(crate) async fn run(args: &Up, base: &Base, screen: Screen) -> anyhow::Result<ExitCode> {
    if args.detach {
        return detach();
    }
    let state = base.state(&args.which.name)?;
    if args.dry_run {
        return changes::dry_run(&args.manifests, &state, screen).await;
    }
    // Before they are read, so that no change is missed.
    let watcher = Watcher::open(&args.manifests.paths())?;
    let objects = manifests::read(&args.manifests, Undone::Started, screen)?;
    let mut stop = StopSignals::watch()?;
    let options = Options {
        keep: args.keep,
        leaf_lifetime: args.leaf_lifetime.clone(),
        storage: storage(args)?,
        ..Options::default()
    };
    let found = state.is_kept();
    let mut mesh = if found {
        Mesh::find(&state, &objects, screen).await?
    } else {
        Mesh::start(&state, &objects, &options, screen).await?
    };
    let outcome = serve(args, watcher, &mut mesh, &mut stop, screen).await;
    if args.keep && (outcome.is_ok() || found) && mesh.lives() {
        mesh.leave();
        screen.say(&format!(
            "what runs goes on running; `maille down{}` stops it",
            flag(args)
        ));
        outcome?;
        return Ok(ExitCode::SUCCESS);
    }
    mesh.stop(&mut stop, screen).await;
    if outcome.is_err() {
        mesh.tell(screen);
    }
    mesh.remove()?;
    outcome?;
    Ok(ExitCode::SUCCESS)
}

/// The directory of `--storage`, made where there is none.
fn storage(args: &Up) -> anyhow::Result<Option<PathBuf>> {
    let Some(storage) = &args.storage else {
        return Ok(None);
    };
    let made = std::fs::create_dir_all(storage).and_then(|()| storage.canonicalize());
    let failed = |error| Expected::Machine {
        what: format!("failed to make {}: {error}", storage.display()),
        hint: Some("choose another directory with --storage".to_owned()),
    };
    Ok(Some(made.map_err(failed)?))
}

/// How this one is named on a command line.
fn flag(args: &Up) -> String {
    match args.which.name.as_str() {
        "default" => String::new(),
        name => format!(" --name {name}"),
    }
}

async fn serve(
    args: &Up,
    watcher: Option<Watcher>,
    mesh: &mut Mesh,
    stop: &mut StopSignals,
    screen: Screen,
) -> anyhow::Result<()> {
    if mesh.ready(args.timeout, stop, screen).await? == Ended::Stopped {
        return Ok(());
    }
    let took = mesh.began().elapsed().as_secs_f64();
    screen.say(&format!("{} pods ready after {took:.1} s", mesh.pods()));
    if args.announce {
        print(READY)?;
        // Whoever started this gets its terminal and pipes back.
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(mesh.state().dir().join("up.log"))?;
        nix::unistd::dup2_stdout(&log)?;
        nix::unistd::dup2_stderr(&log)?;
    } else {
        let end = if args.keep {
            "leaves everything running"
        } else {
            "stops everything"
        };
        screen.say(&format!(
            "`maille stat{}` shows the traffic; changes of the manifests are followed; Ctrl-C {end}",
            flag(args)
        ));
    }
    let Some(mut watcher) = watcher else {
        return Ok(mesh.run(stop, screen).await?);
    };
    let mut reload = Reload::new(&args.manifests);
    let state = mesh.state().clone();
    loop {
        tokio::select! {
            ended = mesh.run(stop, screen) => return Ok(ended?),
            changed = watcher.changed() => changed?,
        }
        reload.again(&state, screen).await;
    }
}

/// Runs the same command in the background and waits until it is ready or has failed.
fn detach() -> anyhow::Result<ExitCode> {
    let own = std::env::current_exe().context("failed to find this program")?;
    let args = std::env::args_os()
        .skip(1)
        .filter(|arg| arg != "--detach" && arg != "-d");
    let mut child = Command::new(own)
        .args(args)
        .arg("--announce")
        .stdout(Stdio::piped())
        // A Ctrl-C in this terminal is not for it any more.
        .process_group(0)
        .spawn()
        .context("failed to start in the background")?;
    let mut word = String::new();
    let out = child.stdout.take().context("no pipe")?;
    out.take(READY.len() as u64).read_to_string(&mut word)?;
    if word == READY {
        return Ok(ExitCode::SUCCESS);
    }
    // It has told why.
    let code = child
        .wait()?
        .code()
        .and_then(|code| u8::try_from(code).ok());
    let failed = Expected::Found {
        what: "the `maille up` in the background was killed".to_owned(),
    };
    code.map(ExitCode::from).ok_or_else(|| failed.into())
}
