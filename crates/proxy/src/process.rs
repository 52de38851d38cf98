// SPDX-License-Identifier: Apache-2.0
//! The process: one thread for data, this file's second one for control traffic, and the order of starting and stopping.
//!
//! Start: settings, preflight, sockets, certificate and first complete snapshot, ready, data. Until then connections wait in their sockets' queues.
//! Stop: the first signal drains, the second or the deadline ends it; the last counts go out after the last request.
//! The control thread must never hold up the data thread. Read `listeners.rs` for the data plane, `discovery.rs` for control.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use maille_chassis::admin;
use maille_chassis::clock::Clock;
use maille_chassis::drain::{Drain, Signals};
use maille_chassis::notify::{NotifyError, Supervisor};
use maille_chassis::tasks::Tasks;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::admin::{Admin, Public};
use crate::config::Config;
use crate::control::{Caller, Way};
use crate::identity_feed::Signer;
use crate::listeners::Links;
use crate::questions::Sources;
use crate::tap::Taps;
use crate::telemetry::report::{self, Counted};
use crate::{discovery, doors, identity_feed, listeners, preflight, questions};

/// The control thread's futures are small; its deepest stack is a TLS key being made.
const STACK: usize = 512 * 1024;
/// How long the last counts may take.
const LAST_COUNTS: Duration = Duration::from_secs(1);

/// Where people ask, and where everybody does.
type Questions = (
    Option<std::os::unix::net::UnixListener>,
    Option<std::net::TcpListener>,
);

/// Why the process cannot work.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// Connections would not come here.
    #[error("the pod's connections are not captured")]
    Preflight(#[from] preflight::PreflightError),
    /// A listening socket.
    #[error("no listening socket")]
    Door(#[from] doors::DoorError),
    /// The control thread.
    #[error("the control thread does not start")]
    Thread(#[source] io::Error),
    /// Signals, or the runtime of the control thread.
    #[error("the control thread cannot work")]
    Control(#[source] io::Error),
    /// The sockets for questions.
    #[error("the socket for questions cannot be used")]
    Admin(#[source] io::Error),
    /// The uid does not fit into metadata.
    #[error("the workload's uid cannot be said to control")]
    Uid,
    /// The supervisor could not be told.
    #[error("nobody could be told that the proxy is ready")]
    Notify(#[from] NotifyError),
    /// The data thread.
    #[error("the data plane cannot work")]
    Data(#[source] io::Error),
}

/// Runs until a signal came and the drain has ended.
pub fn run(
    config: Config,
    environment: &dyn maille_chassis::config::Source,
) -> Result<(), ProcessError> {
    preflight::check(&config)?;
    let doors = doors::open(&config)?;
    let settings = doors::settings(&config, &doors);
    let supervisor = Supervisor::find(environment).map_err(NotifyError::from)?;
    let (tell, ready) = oneshot::channel();
    let told = (tell, supervisor.clone());
    let control = start(config, (doors.admin, doors.metrics), told)?;
    // The control thread gives up its end without an answer when a signal, or a failure, came first.
    if let Ok(links) = ready.blocking_recv() {
        supervisor.ready()?;
        tracing::info!("ready");
        listeners::run(settings, doors.listeners, links).map_err(ProcessError::Data)?;
    }
    match control.join() {
        Ok(ended) => ended,
        Err(_) => Err(ProcessError::Control(io::Error::other(
            "the control thread panicked",
        ))),
    }
}

fn start(
    config: Config,
    questions: Questions,
    tell: (oneshot::Sender<Links>, Supervisor),
) -> Result<JoinHandle<Result<(), ProcessError>>, ProcessError> {
    let body = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(ProcessError::Control)?;
        runtime.block_on(control(config, questions, tell))
    };
    std::thread::Builder::new()
        .name("control".into())
        .stack_size(STACK)
        .spawn(body)
        .map_err(ProcessError::Thread)
}

/// Everything that talks to control, until the drain has ended.
async fn control(
    config: Config,
    (socket, port): Questions,
    (tell, supervisor): (oneshot::Sender<Links>, Supervisor),
) -> Result<(), ProcessError> {
    let clock = Clock::start();
    let mut signals = Signals::install().map_err(ProcessError::Control)?;
    let (tasks, mut drain, mut last) = (Tasks::new(), Drain::new(), Drain::new());
    let caller = Caller::new(&config.workload).ok_or(ProcessError::Uid)?;
    let (view, discovery) = discovery::new(config.workload.clone(), clock);
    let discovery = if config.without.last_good {
        discovery.forgetting(config.workload.clone())
    } else {
        discovery
    };
    let (credentials, identity) = identity_feed::new(view.snapshots.clone(), clock);
    let channel = config.control.channel(&credentials);
    tasks.spawn("discovery", discovery.run(channel.clone(), caller.clone()));
    let signer = match &config.control {
        Way::Agent(_) => Signer::agent(channel.clone(), caller.clone()),
        Way::Direct(direct) => Signer::direct(direct.clone(), channel.clone()),
    };
    tasks.spawn("identity", identity.run(signer));
    let counted = Counted::default();
    let (counts, batches) = mpsc::channel(report::QUEUE);
    let collected = tasks.spawn("counts", report::collect(counted.clone(), batches));
    let (taps, tapping) = watch::channel(Taps::default());
    let (told, lines) = mpsc::channel(questions::LINES);
    let sources = Sources {
        snapshots: view.snapshots.clone(),
        questions: view.questions.clone(),
        credentials: credentials.clone(),
        taps,
        told: lines,
        inside: config.inside,
    };
    let asked = questions::run(sources, channel.clone(), caller.clone(), clock);
    tasks.spawn("questions", asked);
    tasks.spawn(
        "reports",
        report::run(counted.clone(), channel, caller, clock, last.watch()),
    );
    let answer = Admin {
        snapshots: view.snapshots.clone(),
        credentials: credentials.clone(),
        counted,
        started: clock.wall(),
    };
    let public = Public(answer.clone());
    if let Some(listener) = port {
        let listener = TcpListener::from_std(listener).map_err(ProcessError::Admin)?;
        let serve = admin::serve_port(listener, Arc::new(public), tasks.clone(), last.watch());
        tasks.spawn("metrics", serve);
    }
    if let Some(listener) = bind(&config, socket).map_err(ProcessError::Admin)? {
        let serve = admin::serve(listener, Arc::new(answer), tasks.clone(), last.watch());
        tasks.spawn("admin", serve);
    }

    let links = Links {
        snapshots: view.snapshots.clone(),
        questions: view.questions.clone(),
        credentials: credentials.clone(),
        counts,
        taps: tapping,
        told,
        drain: drain.watch(),
    };
    tokio::select! {
        () = complete(view.snapshots, credentials) => {
            // The data thread waits for this; if it is gone the process is ending.
            drop(tell.send(links));
            signals.next().await;
            tracing::info!("draining");
            // Whoever does not hear it starts nobody in our place before we are gone: later, but as well.
            if let Err(error) = supervisor.stopping() {
                tracing::warn!(error = &error as &dyn std::error::Error, "the supervisor does not hear of the drain");
            }
        }
        () = signals.next() => drop(links),
    }
    let ended = drain.finish(config.drain, signals.next()).await;
    tracing::info!(?ended, "data plane stopped");
    // The data thread has dropped its sender by now, or is about to: what it sent last is in the queue.
    let _ = timeout(LAST_COUNTS, collected.ended()).await;
    last.finish(LAST_COUNTS, std::future::pending()).await;
    Ok(())
}

/// Waits until there is enough to admit anything. If either feed ended it waits for ever, which only a signal ends.
async fn complete(
    mut snapshots: watch::Receiver<Arc<maille_engine::snapshot::Snapshot>>,
    mut credentials: identity_feed::Feed,
) {
    let known = snapshots
        .wait_for(|snapshot| snapshot.is_complete())
        .await
        .is_ok();
    let proven = credentials.wait_for(Option::is_some).await.is_ok();
    if !(known && proven) {
        std::future::pending::<()>().await;
    }
}

/// The admin socket that was passed on, or one at the configured path.
fn bind(
    config: &Config,
    passed: Option<std::os::unix::net::UnixListener>,
) -> io::Result<Option<UnixListener>> {
    if let Some(passed) = passed {
        return UnixListener::from_std(passed).map(Some);
    }
    config.admin.as_deref().map(admin::bind).transpose()
}
