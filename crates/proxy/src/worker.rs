// SPDX-License-Identifier: Apache-2.0
//! The driver: one thread, one runtime, every socket. It reads what is ready into one shared buffer, feeds the forwarding core,
//! and writes each dirty connection once at the end of the turn.
//!
//! How a turn ends: tokio queues every task that one pass of its event loop made ready before it runs any. The first reader that
//! touches the core wakes the flusher, which is therefore queued behind all of them. There is no timer and no threshold: alone, it runs at once.
//!
//! Must never decide anything about bytes; that is `forward.rs`, to be read next.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use maille_chassis::clock::Clock;
use maille_engine::snapshot::Snapshot;
use maille_sys::alarm::Alarm;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::accept::Accepted;
use crate::connect::tcp;
use crate::forward::{ConnId, Core, Effect};

mod share;

use share::Share;

/// One read of a local connection takes at most this much.
const LOCAL_READ: usize = 64 * 1024;
/// One read of a mesh connection takes at most this much: sixteen records.
const MESH_READ: usize = 256 * 1024;
/// So many panics in one turn are not those of single connections.
const PANICS_A_TURN: u32 = 100;
/// Reads of one connection in one poll, before the others get their turn: one that brings something, and one that finds nothing more.
const READS_A_POLL: usize = 2;
/// How often [`Worker::second`] is told.
const SECOND: Duration = Duration::from_secs(1);

/// What a read tells about the next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum More {
    /// There is nothing now, or nothing is wanted.
    No,
    /// All that was there was taken: the next is most likely to find nothing, and then has the task woken by what comes.
    Perhaps,
    /// As much as was asked for was there.
    Sure,
}

/// Everything of one thread. Cheap to clone; not `Send`.
#[derive(Clone, Debug)]
pub(crate) struct Worker {
    state: Rc<RefCell<State>>,
    /// Told whenever a connection ended: a listener that ran out of descriptors tries again.
    pub(crate) ended: Rc<Notify>,
    /// Told when a panic has left the core in doubt: it cannot go on.
    pub(crate) broken: Rc<Notify>,
    /// Told whenever there is a question for control.
    pub(crate) asked: Rc<Notify>,
    /// Taps are to be told something.
    pub(crate) told: Rc<Notify>,
    /// Told once a second.
    pub(crate) second: Rc<Notify>,
}

#[derive(Debug)]
struct State {
    core: Core,
    clock: Clock,
    /// When the turn began.
    now: Instant,
    /// When [`Worker::second`] is told next.
    next_second: Instant,
    alarm: Alarm,
    sockets: Vec<Option<Socket>>,
    local: Box<[u8]>,
    mesh: Box<[u8]>,
    flusher: Option<Waker>,
    /// The core was touched since the last flush.
    open: bool,
    /// A panic has left the core in doubt: it is not called any more.
    doubtful: bool,
}

#[derive(Debug)]
struct Socket {
    id: ConnId,
    stream: TcpStream,
    phase: Phase,
    /// The last write did not take everything; the connection's task waits for room.
    blocked: bool,
    ended: bool,
    share: Share,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Connecting,
    Open,
}

// === impl Worker ===

impl Worker {
    /// Takes over `core`. Must be called inside the worker's runtime; [`Self::flush`] and [`Self::ring`] must be polled beside, as tasks of their own.
    pub(crate) fn new(core: Core, clock: Clock) -> io::Result<Self> {
        let now = clock.now().into_std();
        Ok(Self {
            state: Rc::new(RefCell::new(State {
                core,
                clock,
                now,
                next_second: now + SECOND,
                alarm: Alarm::new()?,
                sockets: Vec::new(),
                local: vec![0; LOCAL_READ].into_boxed_slice(),
                mesh: vec![0; MESH_READ].into_boxed_slice(),
                flusher: None,
                open: false,
                doubtful: false,
            })),
            ended: Rc::new(Notify::new()),
            broken: Rc::new(Notify::new()),
            asked: Rc::new(Notify::new()),
            told: Rc::new(Notify::new()),
            second: Rc::new(Notify::new()),
        })
    }

    /// Gives an accepted connection to the core. A connection above the bound is closed.
    pub(crate) fn accept(&self, stream: TcpStream, accepted: Accepted) {
        let id = {
            let mut state = self.state.borrow_mut();
            state.touch();
            let accept = |state: &mut State| state.core.accept(accepted);
            let Some(Some(id)) = self.guarded(&mut state, accept) else {
                return;
            };
            state.place(id, stream, Phase::Open);
            id
        };
        self.start(id);
    }

    /// Gives the core a new snapshot. What has ended is counted by the one before.
    pub(crate) fn learn(&self, snapshot: Arc<Snapshot>) {
        let mut state = self.state.borrow_mut();
        state.touch();
        self.guarded(&mut state, |state| state.core.end_turn(true));
        state.core.learn(snapshot);
    }

    /// Calls the core outside of any connection: new credentials, the drain.
    pub(crate) fn tell<T>(&self, tell: impl FnOnce(&mut Core) -> T) -> T {
        let mut state = self.state.borrow_mut();
        state.touch();
        tell(&mut state.core)
    }

    /// Looks for resets on sockets that nobody reads: their side has ended, or is held back. Call it once a second.
    pub(crate) fn look(&self) {
        let mut state = self.state.borrow_mut();
        let State { core, sockets, .. } = &mut *state;
        let unread = sockets.iter().flatten().filter(|socket| {
            socket.phase == Phase::Open && (socket.ended || !core.wants_read(socket.id))
        });
        let broken = |socket: &&Socket| !matches!(socket.stream.take_error(), Ok(None));
        let broken: Vec<ConnId> = unread.filter(broken).map(|socket| socket.id).collect();
        if !broken.is_empty() {
            state.touch();
        }
        for id in broken {
            self.guarded(&mut state, |state| state.core.reset(id));
        }
    }

    /// Waits until no connection is left.
    pub(crate) async fn quiet(&self) {
        loop {
            let ended = self.ended.notified();
            if self.state.borrow().core.is_quiet() {
                return;
            }
            ended.await;
        }
    }

    /// Ends every turn, for ever: writes what is dirty, applies effects, has the alarm set.
    pub(crate) async fn flush(&self) {
        poll_fn(|cx| {
            let mut state = self.state.borrow_mut();
            match &mut state.flusher {
                Some(waker) if waker.will_wake(cx.waker()) => {}
                slot => *slot = Some(cx.waker().clone()),
            }
            // A turn that panicked goes on without whom it was for, but not for ever.
            let mut panics = 0;
            while state.open && !state.doubtful {
                if self.guarded(&mut state, |state| self.turn(state)).is_none() {
                    panics += 1;
                }
                if panics > PANICS_A_TURN {
                    state.doubtful = true;
                }
            }
            if let Err(error) = state.keep_alarm() {
                tracing::error!(%error, "the kernel does not set a timer");
                state.doubtful = true;
            }
            if state.doubtful {
                self.broken.notify_one();
            }
            Poll::<()>::Pending
        })
        .await;
    }

    /// Opens a turn whenever a deadline has come, for ever. A task of its own: a turn that somebody else opened asks nothing of the alarm.
    pub(crate) async fn ring(&self) {
        poll_fn(|cx| {
            let mut state = self.state.borrow_mut();
            while state.alarm.poll(cx).is_ready() {
                state.touch();
            }
            Poll::<()>::Pending
        })
        .await;
    }

    /// Calls the core on behalf of one connection. A panic ends that connection; if that is not enough, it ends the worker.
    fn guarded<T>(&self, state: &mut State, call: impl FnOnce(&mut State) -> T) -> Option<T> {
        if state.doubtful {
            return None;
        }
        // What a panic leaves half done is given up by `recover`.
        if let Ok(value) = catch_unwind(AssertUnwindSafe(|| call(state))) {
            return Some(value);
        }
        let recovered = catch_unwind(AssertUnwindSafe(|| state.core.recover()));
        state.touch();
        if !matches!(recovered, Ok(Ok(()))) {
            state.doubtful = true;
            self.broken.notify_one();
        }
        None
    }

    fn turn(&self, state: &mut State) {
        state.core.finish_turn();
        loop {
            self.apply(state);
            let mut wrote = false;
            while let Some(id) = state.core.next_dirty_plain() {
                state.write(id);
                wrote = true;
            }
            state.core.seal();
            while let Some(id) = state.core.next_dirty_link() {
                state.write(id);
                wrote = true;
            }
            if !wrote && !state.core.has_effects() {
                break;
            }
        }
        let second = state.now >= state.next_second;
        state.core.end_turn(second);
        state.open = false;
        if second {
            state.next_second = state.now + SECOND;
            self.second.notify_waiters();
        }
        if state.core.has_questions() {
            self.asked.notify_one();
        }
        if state.core.has_told() {
            self.told.notify_one();
        }
    }

    fn apply(&self, state: &mut State) {
        while let Some(effect) = state.core.next_effect() {
            match effect {
                Effect::Connect { conn, ref spec } => match tcp::begin(spec) {
                    Ok(stream) => {
                        state.place(conn, stream, Phase::Connecting);
                        self.start(conn);
                    }
                    Err(error) => {
                        tracing::debug!(%error, to = %spec.to, "connect failed at once");
                        state.core.connect_failed(conn, tcp::failure(&error));
                    }
                },
                Effect::Resume(id) => state.wake(id),
                Effect::Shutdown(id) => {
                    if let Some(socket) = state.socket(id) {
                        // A peer that is gone already is noticed by the reader.
                        let _ = socket2::SockRef::from(&socket.stream)
                            .shutdown(std::net::Shutdown::Write);
                    }
                }
                Effect::Close(id) => self.remove(state, id),
                Effect::Reset(id) => {
                    if let Some(socket) = state.socket(id) {
                        // Where it fails the socket is closed in the ordinary way.
                        let _ =
                            socket2::SockRef::from(&socket.stream).set_linger(Some(Duration::ZERO));
                    }
                    self.remove(state, id);
                }
            }
        }
    }

    fn remove(&self, state: &mut State, id: ConnId) {
        if state.socket(id).is_some() {
            state.wake(id);
            state.sockets[id.index()] = None;
        }
        state.core.closed(id);
        self.ended.notify_waiters();
    }

    fn start(&self, id: ConnId) {
        let worker = self.clone();
        tokio::task::spawn_local(poll_fn(move |cx| {
            let mut state = worker.state.borrow_mut();
            let polled = worker.guarded(&mut state, |state| state.poll(id, cx));
            polled.unwrap_or_else(|| {
                // It is asked again, to find that its socket is gone.
                if !state.doubtful {
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            })
        }));
    }
}

// === impl State ===

impl State {
    /// Opens a turn: reads the clock once and queues the flusher behind the readers.
    fn touch(&mut self) {
        if !self.open {
            self.open = true;
            self.now = self.clock.now().into_std();
            self.core.begin_turn(self.now);
            if let Some(waker) = &self.flusher {
                waker.wake_by_ref();
            }
        }
    }

    /// Sets the alarm to the next deadline.
    fn keep_alarm(&mut self) -> io::Result<()> {
        let deadline = self.core.deadline();
        let deadline = deadline.map_or(self.next_second, |at| at.min(self.next_second));
        self.alarm.keep(deadline, self.now)
    }

    fn place(&mut self, id: ConnId, stream: TcpStream, phase: Phase) {
        if self.sockets.len() <= id.index() {
            self.sockets.resize_with(id.index() + 1, || None);
        }
        self.sockets[id.index()] = Some(Socket {
            id,
            stream,
            phase,
            blocked: false,
            ended: false,
            share: Share::FIRST,
            waker: None,
        });
    }

    fn socket(&mut self, id: ConnId) -> Option<&mut Socket> {
        self.sockets
            .get_mut(id.index())?
            .as_mut()
            .filter(|socket| socket.id == id)
    }

    fn wake(&mut self, id: ConnId) {
        if let Some(waker) = self.socket(id).and_then(|socket| socket.waker.as_ref()) {
            waker.wake_by_ref();
        }
    }

    /// Runs one connection: until nothing is ready, or until it had its share of the turn.
    fn poll(&mut self, id: ConnId, cx: &mut Context<'_>) -> Poll<()> {
        let Some(socket) = self.socket(id) else {
            return Poll::Ready(());
        };
        match &mut socket.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            slot => *slot = Some(cx.waker().clone()),
        }
        if socket.phase == Phase::Connecting && !self.poll_connect(id, cx) {
            return Poll::Pending;
        }
        self.poll_room(id, cx);
        for _ in 0..READS_A_POLL {
            match self.poll_read(id, cx) {
                More::No => return Poll::Pending,
                More::Perhaps => {}
                More::Sure => break,
            }
        }
        // Woken at once it would run dozens of times before the runtime looks at the other sockets again: it is, when that was done.
        pin!(tokio::task::yield_now()).poll(cx)
    }

    /// Whether the connection is open now.
    fn poll_connect(&mut self, id: ConnId, cx: &mut Context<'_>) -> bool {
        let Some(socket) = self.socket(id) else {
            return false;
        };
        let outcome = match socket.stream.poll_write_ready(cx) {
            Poll::Pending => return false,
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(())) => match socket.stream.take_error() {
                Ok(None) => Ok(()),
                Ok(Some(error)) | Err(error) => Err(error),
            },
        };
        self.touch();
        match outcome {
            Ok(()) => {
                if let Some(socket) = self.socket(id) {
                    socket.phase = Phase::Open;
                }
                self.core.connected(id);
                true
            }
            Err(error) => {
                self.core.connect_failed(id, tcp::failure(&error));
                false
            }
        }
    }

    fn poll_room(&mut self, id: ConnId, cx: &mut Context<'_>) {
        let Some(socket) = self.socket(id) else {
            return;
        };
        if socket.blocked && socket.stream.poll_write_ready(cx).is_ready() {
            socket.blocked = false;
            self.touch();
            self.core.mark_dirty(id);
        }
    }

    /// Reads once. Whether there is more.
    fn poll_read(&mut self, id: ConnId, cx: &mut Context<'_>) -> More {
        if !self.core.wants_read(id) {
            return More::No;
        }
        let mesh = self.core.is_link(id);
        let Some(socket) = self.sockets.get_mut(id.index()).and_then(Option::as_mut) else {
            return More::No;
        };
        if socket.ended {
            return More::No;
        }
        let buffer = if mesh {
            &mut self.mesh
        } else {
            &mut self.local
        };
        let most = socket.share.bytes().min(buffer.len());
        let mut space = ReadBuf::new(&mut buffer[..most]);
        // Unlike `readable` and `try_read`, this clears the readiness after a short read: no extra call that says EAGAIN.
        let taken = match Pin::new(&mut socket.stream).poll_read(cx, &mut space) {
            Poll::Pending => return More::No,
            Poll::Ready(Ok(())) => Ok(space.filled().len()),
            Poll::Ready(Err(error)) => Err(error),
        };
        if !matches!(taken, Ok(n) if n > 0) {
            socket.ended = true;
        }
        self.touch();
        match taken {
            Ok(0) => self.core.eof(id),
            Ok(n) => {
                let buffer = if mesh {
                    &mut self.mesh
                } else {
                    &mut self.local
                };
                let timed = Share::is_timed(n, most).then(|| self.clock.now());
                let requests = self.core.input(id, &mut buffer[..n]);
                if let (Some(begun), Some(socket)) = (timed, self.socket(id)) {
                    let took = begun.elapsed();
                    socket.share.settle(n, most, took, requests);
                    let share = socket.share.bytes();
                    self.core.share(id, share);
                    self.core.rest(id, took);
                }
                return if n < most { More::Perhaps } else { More::Sure };
            }
            Err(error) => self.broken(id, &error),
        }
        More::No
    }

    fn broken(&mut self, id: ConnId, error: &io::Error) {
        tracing::debug!(%error, conn = ?id, "connection broke");
        self.core.reset(id);
    }

    fn write(&mut self, id: ConnId) {
        let Some(socket) = self.sockets.get_mut(id.index()).and_then(Option::as_mut) else {
            return;
        };
        if socket.id != id || socket.blocked || socket.phase == Phase::Connecting {
            return;
        }
        let out = self.core.output(id);
        if out.is_empty() {
            self.core.wrote(id, 0);
            return;
        }
        let whole = out.len();
        match socket.stream.try_write(out) {
            Ok(n) => {
                if n < whole {
                    self.wait_for_room(id);
                }
                self.core.wrote(id, n);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait_for_room(id),
            Err(error) => self.broken(id, &error),
        }
    }

    fn wait_for_room(&mut self, id: ConnId) {
        let Some(socket) = self.socket(id) else {
            return;
        };
        socket.blocked = true;
        // The waker asks the connection's own task, which polls for room before it reads.
        if let Some(waker) = socket.waker.clone() {
            let mut cx = Context::from_waker(&waker);
            if socket.stream.poll_write_ready(&mut cx).is_ready() {
                waker.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests;
