// SPDX-License-Identifier: Apache-2.0
//! A mesh on this machine from start to end: state directory, runner, readiness, orderly stop.
//!
//! Must never leave the runner alive or the state directory behind, whatever happens in between. Read `launch.rs` for
//! how the runner is started, `up.rs` and `demo.rs` for the two users.

use std::time::Duration;

use maille_manifest::Object;
use nix::sys::signal::Signal;
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::api::{self, Pod, Pods};
use crate::changes::{self, Ask};
use crate::down;
use crate::failure::Expected;
use crate::launch::{Node, Options};
use crate::manifests;
use crate::node;
use crate::screen::Screen;
use crate::state::{Held, Process, State};
use crate::text::clean;
use crate::trouble::Trouble;

/// How long the runner may take for an orderly stop.
const STOP: Duration = Duration::from_secs(8);

/// How often pods in trouble are looked for while everything runs.
const TROUBLE: Duration = Duration::from_secs(2);
/// The same while pods are waited for, in looks at them.
const TROUBLE_TURNS: u32 = 5;

/// Lines of the runner's log that a failure shows.
const TOLD_LINES: usize = 20;

/// A running mesh. Ends with this process, however that ends.
#[derive(Debug)]
pub(crate) struct Mesh {
    held: Held,
    node: Node,
    pods: usize,
    began: Instant,
    trouble: Trouble,
}

/// Ctrl-C and SIGTERM.
#[derive(Debug)]
pub(crate) struct StopSignals {
    interrupt: Signals,
    terminate: Signals,
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// What was waited for came.
    Done,
    /// Somebody asked to stop.
    Stopped,
}

// === impl StopSignals ===

impl StopSignals {
    /// From now on the two signals are events.
    pub(crate) fn watch() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for one of them. Cancel-safe.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

// === impl Mesh ===

impl Mesh {
    /// Takes the state directory, writes the manifests there and starts the runner.
    pub(crate) async fn start(
        state: &State,
        objects: &[Object],
        options: &Options,
        screen: Screen,
    ) -> anyhow::Result<Self> {
        down::clear(state, screen).await?;
        let mut held = state.hold()?;
        let started = (|| {
            manifests::write(objects, &state.dir().join("manifests"))?;
            let node = Node::start(state, options)?;
            held.note(node.pid())?;
            if options.keep {
                held.keep()?;
            }
            anyhow::Ok(node)
        })();
        match started {
            Ok(node) => Ok(Self {
                held,
                node,
                pods: manifests::pods(objects),
                began: Instant::now(),
                trouble: Trouble::default(),
            }),
            Err(error) => {
                held.remove()?;
                Err(error)
            }
        }
    }

    /// Finds the mesh that an earlier process kept, with its pods, and has it run `objects` from now on.
    pub(crate) async fn find(
        state: &State,
        objects: &[Object],
        screen: Screen,
    ) -> anyhow::Result<Self> {
        let (held, runner) = state.take()?;
        let node = Node::found(runner.pid())?;
        let began = Instant::now();
        for change in changes::ask(state, Ask::Apply, objects).await? {
            screen.say(&change.line());
        }
        // Somebody may have scaled it since.
        let live = node::objects(state).await?;
        let made = |object: &&serde_json::Value| object["metadata"]["ownerReferences"].is_array();
        let files = live.iter().filter(|object| !made(object)).enumerate();
        let files: Vec<(String, String)> = files
            .map(|(number, object)| (format!("{number}.json"), object.to_string()))
            .collect();
        let live = maille_manifest::load_text(&files).unwrap_or_default();
        Ok(Self {
            held,
            node,
            pods: manifests::pods(&live.objects),
            began,
            trouble: Trouble::default(),
        })
    }

    /// Whether the runner does.
    pub(crate) fn lives(&self) -> bool {
        Process::find(self.node.pid()).is_some_and(Process::alive)
    }

    /// Lets it go on without this process.
    pub(crate) fn leave(self) {
        self.node.leave();
    }

    /// Its state directory.
    pub(crate) const fn state(&self) -> &State {
        self.held.state()
    }

    /// How many pods were asked for.
    pub(crate) const fn pods(&self) -> usize {
        self.pods
    }

    /// Since when it runs.
    pub(crate) const fn began(&self) -> Instant {
        self.began
    }

    /// Waits until every pod is ready. A runner that ends meanwhile, or a deadline that passes, is an error.
    pub(crate) async fn ready(
        &mut self,
        within: Duration,
        stop: &mut StopSignals,
        screen: Screen,
    ) -> anyhow::Result<Ended> {
        let end = self.began + within;
        let mut tick = interval(Duration::from_millis(100));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut last, mut turns) = (None, 0_u32);
        loop {
            let state = self.held.state();
            let look = async {
                tick.tick().await;
                api::pods(state).await
            };
            let seen = tokio::select! {
                seen = look => seen,
                () = stop.next() => return Ok(Ended::Stopped),
                error = self.node.died() => return Err(error.into()),
            };
            // The runner needs a moment before it answers; until then there is nothing to show.
            if let Ok(pods) = seen {
                let ready = pods.pods.iter().filter(|pod| is_well(pod)).count();
                screen.progress(&progress(&pods, self.pods));
                if ready >= self.pods {
                    screen.progress("");
                    return Ok(Ended::Done);
                }
                last = Some(pods);
                turns += 1;
                if turns % TROUBLE_TURNS == 0 {
                    self.trouble.look(self.held.state(), screen).await;
                }
            }
            if Instant::now() >= end {
                return Err(self.late(last.as_ref(), screen).into());
            }
        }
    }

    /// Says which pods did not become ready, and why.
    fn late(&self, pods: Option<&Pods>, screen: Screen) -> Expected {
        let pods = pods.map_or(&[][..], |pods| &pods.pods);
        let silent =
            |pod: &&Pod| !is_well(pod) && !is_jobs(pod) && !self.trouble.was_told(&pod.uid);
        for pod in pods.iter().filter(silent) {
            let why = pod.message.as_deref().unwrap_or("no reason given");
            screen.say(&format!(
                "  {}/{}: {}, {}",
                clean(&pod.namespace),
                clean(&pod.name),
                clean(&pod.phase),
                clean(why)
            ));
        }
        let ready = pods.iter().filter(|pod| is_well(pod)).count();
        Expected::Node {
            what: format!("{ready} of {} pods became ready in time", self.pods),
        }
    }

    /// Waits until somebody asks to stop, and tells of pods that cannot start; a runner that ends by itself is an error.
    pub(crate) async fn run(
        &mut self,
        stop: &mut StopSignals,
        screen: Screen,
    ) -> Result<(), Expected> {
        let mut tick = interval(TROUBLE);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.next() => return Ok(()),
                error = self.node.died() => return Err(error),
                _ = tick.tick() => {}
            }
            self.trouble.look(self.held.state(), screen).await;
        }
    }

    /// A runner that ended by itself; otherwise never returns.
    pub(crate) async fn died(&mut self) -> Expected {
        self.node.died().await
    }

    /// Ends the runner, politely unless it is asked twice. The state directory stays until [`Self::remove`].
    pub(crate) async fn stop(&mut self, stop: &mut StopSignals, screen: Screen) {
        screen.progress("stopping");
        self.node.signal(Signal::SIGTERM);
        let exited = timeout(STOP, self.node.exited());
        tokio::select! {
            exited = exited => if exited.is_err() {
                screen.say("the runner did not stop in time: killed");
            },
            () = stop.next() => screen.say("killed"),
        }
        self.node.signal(Signal::SIGKILL);
        self.node.exited().await;
        screen.progress("");
    }

    /// Removes the state directory. The runner must have been stopped.
    pub(crate) fn remove(self) -> Result<(), Expected> {
        self.held.remove()
    }

    /// Shows the end of the runner's log, which goes away with the state directory.
    pub(crate) fn tell(&self, screen: Screen) {
        let log = std::fs::read(self.held.state().dir().join("node.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        for line in &lines[lines.len().saturating_sub(TOLD_LINES)..] {
            screen.say(&format!("  {}", clean(line)));
        }
    }
}

/// Whether it is as it should be at the beginning. A job's pods come and go: nobody waits for them.
fn is_well(pod: &Pod) -> bool {
    !is_jobs(pod) && (pod.ready || pod.phase == "Succeeded")
}

fn is_jobs(pod: &Pod) -> bool {
    let owner = pod.owner.as_ref();
    owner.is_some_and(|owner| owner["kind"] == "Job")
}

fn progress(pods: &Pods, wanted: usize) -> String {
    let ready = pods.pods.iter().filter(|pod| is_well(pod)).count();
    let waiting = pods.pods.iter();
    let waiting = waiting.filter(|pod| !is_well(pod) && !is_jobs(pod));
    let waiting: Vec<_> = waiting.map(|pod| pod.name.as_str()).take(4).collect();
    format!(
        "{ready}/{wanted} pods ready; waiting for {}",
        clean(&waiting.join(", "))
    )
}
