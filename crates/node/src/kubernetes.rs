// SPDX-License-Identifier: Apache-2.0
//! The agent of one node of a cluster, `maille-node --kubernetes`: what is started in which order, and how it ends.
//!
//! Its own certificate, the captures that an earlier agent left, the plugin's socket, and only then the plugin itself: a plugin
//! without an agent lets no pod of the mesh start. Its end ends no capture and no proxy: the next agent takes them up. Read `kubernetes/sandboxes.rs` next.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use maille_chassis::admin::{self, Reply};
use maille_chassis::clock::Clock;
use maille_chassis::config::{Env, Source as _};
use maille_chassis::drain::{Drain, Signals};
use maille_chassis::log::{self, Format};
use maille_chassis::metrics;
use maille_chassis::tasks::Tasks;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::agent::apart::Apart;
use crate::agent::{Agent, Control};
use crate::args::Kubernetes;
use crate::processes::Processes;
use crate::run::LOG;

mod chain;
/// What is counted.
pub mod counts;
mod door;
mod failure;
mod held;
mod host;
mod inside;
mod network;
mod nri;
mod own;
mod sandboxes;
mod seen;
mod shown;

use counts::{Counts, Guarantee};
use host::Host;
use nri::Guard;
use sandboxes::Sandboxes;
use seen::{Chain, Seen};

/// How often everything is looked at: what somebody changed is as it was within five seconds.
const LOOK: Duration = Duration::from_secs(4);

/// How often the control groups of proxies are removed until they are, and how long is waited between.
const TRIES: u32 = 50;
const GROUP: Duration = Duration::from_millis(100);

/// What this process says of itself.
#[derive(Debug)]
struct Own {
    /// The plugin is in place.
    ready: watch::Sender<bool>,
    guarantee: watch::Sender<Guarantee>,
    /// The node's CNI files.
    chain: watch::Sender<Chain>,
    /// The pods that are captured, as they were seen last.
    pods: watch::Sender<Vec<Seen>>,
    counts: Arc<Counts>,
}

/// Writes what the kernel holds of the network that this process is in, as text for people.
///
/// # Errors
///
/// It is not told which that is, or nobody reads.
pub fn here() -> anyhow::Result<()> {
    shown::here().context("this process's network cannot be seen")
}

/// Shows frames of a captured pod until nobody reads them any more.
pub async fn frames(args: crate::args::Frames) -> anyhow::Result<()> {
    shown::run(args).await
}

/// Runs until it is told to stop.
pub async fn run(args: Kubernetes) -> anyhow::Result<()> {
    let env = Env::process();
    let filter: String = LOG.required(&env)?;
    let format: Format = log::FORMAT.required(&env)?;
    log::init(&filter, format)?;
    let mut signals = Signals::install().context("signals cannot be heard")?;
    let (tasks, clock, drain) = (Tasks::new(), Clock::start(), Drain::new());
    let own = Arc::new(Own {
        ready: watch::Sender::new(false),
        guarantee: watch::Sender::new(Guarantee::Plugin),
        chain: watch::Sender::new(Chain::default()),
        pods: watch::Sender::new(Vec::new()),
        counts: Arc::default(),
    });
    health(&args, own.clone(), &tasks, &drain).await?;
    let host = Host {
        programs: args.cni_bin.clone(),
        configurations: args.cni_conf.clone(),
        plugin: bin_dir()?.join("maille-cni"),
        proxy: bin_dir()?.join("maille-proxy"),
        state: args.state.clone(),
        chain: args.chain,
    };
    if args.leave {
        leave(&args, &host, clock).await?;
        tracing::info!("the node is as it was before the mesh");
        own.ready.send_replace(true);
        signals.next().await;
        return Ok(());
    }
    let settings = [LOG, log::FORMAT]
        .into_iter()
        .filter_map(|one| Some((one.key.to_owned(), env.get(one.key)?)))
        .collect();
    let sandboxes = serve(&args, &host, settings, &own, (&tasks, clock)).await?;
    tasks.spawn("host", keep(host, sandboxes.clone(), own, clock));
    signals.next().await;
    sandboxes.leave().await;
    Ok(())
}

/// Takes away what agents of this node made, once no pod is captured any more.
async fn leave(args: &Kubernetes, host: &Host, clock: Clock) -> anyhow::Result<()> {
    host.leave(&args.state.join(maille_cni::protocol::SANDBOXES))?;
    let mut tries = 0;
    // A proxy that was killed is in its group until the kernel has it ended.
    while let Err(error) = Apart::remove(&args.cgroups) {
        tries += 1;
        anyhow::ensure!(tries < TRIES, "control groups of proxies: {error}");
        clock.wait(GROUP).await;
    }
    match std::fs::remove_dir_all(&args.state) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context("the state directory")
        }
        _ => Ok(()),
    }
}

/// Everything that the plugin needs.
async fn serve(
    args: &Kubernetes,
    host: &Host,
    settings: Vec<(String, String)>,
    own: &Own,
    (tasks, clock): (&Tasks, Clock),
) -> anyhow::Result<Arc<Sandboxes>> {
    if std::process::id() == 1 {
        tasks.spawn("orphans", crate::reap::orphans(clock));
    }
    let state = &args.state;
    let directory = state.join(maille_cni::protocol::SANDBOXES);
    std::fs::create_dir_all(&directory)
        .and_then(|()| std::fs::set_permissions(state, Permissions::from_mode(0o700)))
        .context("the state directory cannot be made")?;
    host.keep_proxy()
        .context("the proxies' program cannot be kept on the host")?;
    tasks.spawn("logs", crate::logs::keep_small(state.clone(), clock));
    let (certificate, keeping) = own::keep(args.control.clone(), clock);
    tasks.spawn("own certificate", keeping);
    let processes = Arc::new(Processes::default());
    let agent = Agent::new(
        (&host.kept(), state),
        Control::Afar(Box::new(args.control.clone()), certificate),
        settings,
        processes.clone(),
        tasks.clone(),
        clock,
    );
    let apart = Apart::make(&args.cgroups).context("no control groups for proxies")?;
    let agent = agent.with_proxies_apart(apart.clone());
    let sandboxes = Sandboxes::new(
        agent,
        processes,
        directory,
        own.counts.clone(),
        (tasks.clone(), clock),
    );
    let sandboxes = Arc::new(sandboxes);
    let resumed = sandboxes.resume(&apart).await;
    resumed.context("captures of an earlier agent")?;
    // Who was captured is known from here on: whoever is not has begun uncaptured.
    let guard = Arc::new(Guard {
        socket: args.nri.clone(),
        sandboxes: sandboxes.clone(),
        counts: own.counts.clone(),
        tasks: tasks.clone(),
        clock,
        guarantee: own.guarantee.clone(),
    });
    tasks.spawn("runtime's questions", guard.keep());
    door::serve(state, sandboxes.clone(), tasks, clock).context("the plugin's socket")?;
    Ok(sandboxes)
}

/// Keeps the plugin where the runtime looks for it, and the captures as they were made.
async fn keep(host: Host, sandboxes: Arc<Sandboxes>, own: Arc<Own>, clock: Clock) {
    loop {
        let placed = host.install();
        own.chain.send_modify(|chain| chain.look(&placed));
        match placed {
            Ok(placed) => {
                let is_repair = *own.ready.borrow();
                for what in placed.written {
                    tracing::info!(what, "written to the node");
                    if is_repair {
                        own.counts.written();
                    }
                }
                own.ready
                    .send_if_modified(|ready| !std::mem::replace(ready, true));
            }
            Err(error) => {
                let reason = anyhow::Error::from(error);
                maille_chassis::limited!(warn, reason = %format_args!("{reason:#}"), "the plugin is not in place");
            }
        }
        sandboxes.look().await;
        own.pods.send_replace(sandboxes.seen());
        clock.wait(LOOK).await;
    }
}

/// `/ready`: the plugin is in place, and somebody is behind it. `/metrics`: what was counted. `/pods`: who is captured.
async fn health(
    args: &Kubernetes,
    own: Arc<Own>,
    tasks: &Tasks,
    drain: &Drain,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(args.health).await;
    let listener = listener.with_context(|| format!("cannot listen on {}", args.health))?;
    let answer = move |path: &str, _: &str| match (path, *own.ready.borrow()) {
        ("/live", _) | ("/ready", true) => Reply::text("ok\n"),
        ("/ready", false) => Reply::of(
            http::StatusCode::SERVICE_UNAVAILABLE,
            "text/plain; charset=utf-8",
            "the plugin is not in place\n".to_owned(),
        ),
        ("/metrics", _) => {
            let text = own.counts.text(&own.pods.borrow(), *own.guarantee.borrow());
            Reply::of(http::StatusCode::OK, metrics::CONTENT_TYPE, text)
        }
        ("/pods", _) => {
            let guarantee = own.guarantee.borrow().word();
            let text = seen::document(&own.pods.borrow(), guarantee, &own.chain.borrow());
            Reply::of(http::StatusCode::OK, "application/json", text)
        }
        _ => Reply::not_found(),
    };
    let served = admin::serve_port(listener, Arc::new(answer), tasks.clone(), drain.watch());
    tasks.spawn("health", served);
    Ok(())
}

/// Where this program is, and with it the others.
fn bin_dir() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("this program cannot be found")?;
    let dir = own.parent().context("this program is in no directory")?;
    Ok(dir.to_owned())
}
