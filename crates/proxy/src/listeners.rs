// SPDX-License-Identifier: Apache-2.0
//! The data plane as a whole: one thread with one runtime, its listeners, what the control thread tells it, and its end.
//!
//! Must never bind anything itself: sockets are given. Read `accept.rs` next.

use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;

use maille_chassis::clock::Clock;
use maille_chassis::drain::{Phase, Watch};
use maille_engine::route::Direction;
use maille_engine::snapshot::{Key, Snapshot};
use maille_identity::Credentials;
use tokio::sync::{mpsc, watch};

use crate::accept::{self, Door};
use crate::forward::{Core, Settings};
use crate::original_dst::OriginalDst;
use crate::tap::{Taps, Told};
use crate::telemetry::Batch;
use crate::worker::Worker;

/// A listening socket and how its connections tell where they wanted to go.
#[derive(Debug)]
pub struct Listener {
    /// The socket, in non-blocking mode.
    pub socket: TcpListener,
    /// What comes through it.
    pub door: Door,
    /// How they tell it.
    pub original: OriginalDst,
}

/// What the control thread and the data plane tell each other.
#[derive(Debug)]
pub struct Links {
    /// What is known, whenever it changes.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// Takes what a decision needs and nobody has said. When it is full the question is lost; the next who needs it asks again.
    pub questions: mpsc::Sender<Key>,
    /// The own certificate and the anchors, whenever they change.
    pub credentials: watch::Receiver<Option<Credentials>>,
    /// Counts, once a second.
    pub counts: mpsc::Sender<Batch>,
    /// Who watches exchanges pass, whenever that changes.
    pub taps: watch::Receiver<Taps>,
    /// Takes what they are told; what finds no room is counted.
    pub told: mpsc::Sender<Told>,
    /// When to stop.
    pub drain: Watch,
}

impl Listener {
    /// A listener for what the own application dials.
    pub fn outbound(socket: TcpListener, original: OriginalDst) -> Self {
        maille_sys::socket::set_near(&socket);
        Self {
            socket,
            door: Door::Plain(Direction::Outbound),
            original,
        }
    }

    /// A listener for what somebody without a proxy dials.
    pub fn inbound(socket: TcpListener, original: OriginalDst) -> Self {
        Self {
            socket,
            door: Door::Plain(Direction::Inbound),
            original,
        }
    }

    /// A listener for other proxies.
    pub fn mesh(socket: TcpListener) -> Self {
        Self {
            socket,
            door: Door::Mesh,
            original: OriginalDst::Socket,
        }
    }
}

/// Runs the data plane on this thread until the drain has ended. An error ends the process: the sockets cannot be used, or a task panicked.
pub fn run(settings: Settings, listeners: Vec<Listener>, links: Links) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build_local(tokio::runtime::LocalOptions::default())?;
    runtime.block_on(serve(settings, listeners, links))
}

async fn serve(settings: Settings, listeners: Vec<Listener>, links: Links) -> io::Result<()> {
    let clock = Clock::start();
    let worker = Worker::new(Core::new(settings, clock.now().into_std()), clock)?;
    let mut doors = Vec::new();
    for listener in listeners {
        let socket = tokio::net::TcpListener::from_std(listener.socket)?;
        let own = worker.clone();
        let room = [Rc::clone(&worker.ended), Rc::clone(&worker.second)];
        let take = move |stream, accepted| own.accept(stream, accepted);
        let run = accept::run(socket, listener.door, listener.original, room, take);
        doors.push(tokio::task::spawn_local(run));
    }
    let mut drain = links.drain.clone();
    // A task of its own: woken by a reader it is queued behind all the readers of the turn. The runtime's first future
    // would be asked only after another look at the sockets, which costs a system call each turn.
    let flusher = tokio::task::spawn_local({
        let worker = worker.clone();
        async move { worker.flush().await }
    });
    let alarm = tokio::task::spawn_local({
        let worker = worker.clone();
        async move { worker.ring().await }
    });
    let work = async {
        tokio::join!(
            snapshots(&worker, links.snapshots.clone()),
            credentials(&worker, links.credentials.clone()),
            questions(&worker, &links.questions),
            counts(&worker, &links),
            taps(&worker, links.taps.clone()),
            told(&worker, &links.told),
        );
    };
    let end = async {
        drain.reached(Phase::Graceful).await;
        for door in &doors {
            door.abort();
        }
        worker.tell(Core::drain);
        tokio::select! {
            () = worker.quiet() => {}
            () = drain.reached(Phase::Immediate) => {
                worker.tell(Core::cut);
                worker.quiet().await;
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = end => {}
        () = worker.broken.notified() => {
            // Only the requests in flight are lost; the supervisor starts another process at once.
            return Err(io::Error::other("a task of the data plane panicked"));
        }
    }
    flusher.abort();
    alarm.abort();
    worker.tell(|core| core.counts(&links.counts));
    Ok(())
}

/// The worker learns what control says. When the control thread has ended, what was said stays in force.
async fn snapshots(worker: &Worker, mut snapshots: watch::Receiver<Arc<Snapshot>>) {
    loop {
        let snapshot = Arc::clone(&snapshots.borrow_and_update());
        worker.learn(snapshot);
        if snapshots.changed().await.is_err() {
            return;
        }
    }
}

async fn credentials(worker: &Worker, mut credentials: watch::Receiver<Option<Credentials>>) {
    loop {
        let new = credentials.borrow_and_update().clone();
        if let Some(new) = new {
            worker.tell(|core| core.renew(new));
        }
        if credentials.changed().await.is_err() {
            return;
        }
    }
}

async fn questions(worker: &Worker, to: &mpsc::Sender<Key>) {
    loop {
        worker.asked.notified().await;
        while let Some(key) = worker.tell(Core::next_question) {
            let _ = to.try_send(key);
        }
    }
}

async fn taps(worker: &Worker, mut taps: watch::Receiver<Taps>) {
    // Before the first tap there is nothing to tell the core.
    while taps.changed().await.is_ok() {
        let now = taps.borrow_and_update().clone();
        worker.tell(|core| core.tap(&now));
    }
    // Whoever asked has gone, and nobody will again.
    std::future::pending::<()>().await;
}

async fn told(worker: &Worker, to: &mpsc::Sender<Told>) {
    loop {
        worker.told.notified().await;
        worker.tell(|core| core.tell(to));
    }
}

/// Once a second.
async fn counts(worker: &Worker, links: &Links) {
    loop {
        worker.second.notified().await;
        worker.tell(|core| {
            core.counts(&links.counts);
            core.tell_untold(&links.told);
        });
        worker.look();
    }
}
