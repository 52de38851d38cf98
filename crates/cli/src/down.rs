// SPDX-License-Identifier: Apache-2.0
//! `maille down`: asks a running `maille up` to stop, and removes what a killed one left.
//!
//! Must never signal a process that is not the `maille up` it means. Read `state.rs` next.

use std::process::ExitCode;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::args::Down;
use crate::failure::Expected;
use crate::screen::Screen;
use crate::state::{Base, Holder, Process, State};

/// How long an orderly stop may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the kernel may take to end what was killed.
const KILLED: Duration = Duration::from_secs(5);

pub(crate) async fn run(args: &Down, base: &Base, screen: Screen) -> anyhow::Result<ExitCode> {
    let states = if args.all {
        base.all()?
    } else {
        vec![base.state(&args.which.name)?]
    };
    let mut stopped = 0;
    for state in &states {
        stopped += usize::from(stop(state, screen).await?);
    }
    if stopped == 0 {
        screen.say("nothing is running");
    }
    Ok(ExitCode::SUCCESS)
}

/// Stops one; whether there was one.
pub(crate) async fn stop(state: &State, screen: Screen) -> anyhow::Result<bool> {
    let children = match state.holder()? {
        Holder::Absent => return Ok(false),
        Holder::Dead(children) => {
            let what = match state.is_kept() {
                true => "stopping what was kept",
                false => "was killed, cleaning up",
            };
            screen.say(&format!("{}: {what}", state.name()));
            ask(&children).await;
            children
        }
        Holder::Alive(up, children) => {
            screen.say(&format!("{}: stopping", state.name()));
            end(up, state).await?;
            children
        }
    };
    reap(&children, state).await?;
    // An orderly stop has removed the directory itself.
    if state.dir().exists() {
        let held = state.hold()?;
        held.remove()?;
    }
    screen.say(&format!("{}: stopped", state.name()));
    Ok(true)
}

/// Ends what a killed `maille up` has left running, so that a new one meets nobody.
pub(crate) async fn clear(state: &State, screen: Screen) -> anyhow::Result<()> {
    if let Holder::Dead(children) = state.holder()?
        && !children.is_empty()
    {
        screen.say(&format!(
            "{}: ending what a killed `maille up` left",
            state.name()
        ));
        reap(&children, state).await?;
    }
    Ok(())
}

/// Asks those that still run to end, and gives them the time.
async fn ask(children: &[Process]) {
    for child in children {
        child.signal(Signal::SIGTERM);
    }
    wait(PATIENCE, || children.iter().all(|child| !child.alive())).await;
}

async fn reap(children: &[Process], state: &State) -> Result<(), Expected> {
    for child in children {
        child.signal(Signal::SIGKILL);
    }
    let gone = || children.iter().all(|child| !child.alive());
    if wait(KILLED, gone).await {
        return Ok(());
    }
    Err(Expected::Machine {
        what: format!("processes of {} do not end", state.name()),
        hint: Some("the kernel holds them: see `dmesg`".into()),
    })
}

/// Ends a living `maille up`: first politely.
async fn end(up: Process, state: &State) -> anyhow::Result<()> {
    for (signal, patience) in [(Signal::SIGTERM, PATIENCE), (Signal::SIGKILL, KILLED)] {
        up.signal(signal);
        let gone = || !matches!(state.holder(), Ok(Holder::Alive(..)));
        if wait(patience, gone).await {
            return Ok(());
        }
    }
    Err(Expected::Machine {
        what: format!("the `maille up` named {} does not end", state.name()),
        hint: None,
    }
    .into())
}

async fn wait(patience: Duration, done: impl Fn() -> bool) -> bool {
    let end = Instant::now() + patience;
    let mut tick = interval(Duration::from_millis(20));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while Instant::now() < end {
        tick.tick().await;
        if done() {
            return true;
        }
    }
    done()
}
