// SPDX-License-Identifier: Apache-2.0
//! Bytes from one end of an exchange to the other, and the back-pressure between them.
//!
//! A plain destination takes everything and holds its plain source back above a mark. A stream takes what its window
//! allows; the rest waits here and the source is held. A stream as source is held by not giving its window back before
//! the bytes were written. Must never drop or reorder a byte. Next: `attempt.rs`.

use maille_engine::balance::Heard;

use super::Core;
use super::conns::{HIGH, Hold};
use super::exchange::{Carries, End, Exchange, Flow, Last, REPLAY, Side};
use crate::table::Id;

// === impl Flow ===

impl Flow {
    /// Nothing of it is left to do.
    pub(super) fn done(&self) -> bool {
        self.ended && self.pending.is_empty() && matches!(self.last, Last::Open | Last::Sent)
    }
}

// === impl Exchange ===

impl Exchange {
    pub(super) fn side(&self, end: End) -> Side {
        match end {
            End::Down => self.down,
            End::Up => self.up,
        }
    }

    /// The flow towards `end`.
    pub(super) fn toward(&mut self, end: End) -> &mut Flow {
        match end {
            End::Down => &mut self.response,
            End::Up => &mut self.request,
        }
    }
}

impl End {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Down => Self::Up,
            Self::Up => Self::Down,
        }
    }
}

// === impl Core ===

impl Core {
    /// Takes bytes of the request: kept while it may be sent again, and sent on where there is somebody to send to.
    pub(super) fn forward_request(&mut self, id: Id<Exchange>, bytes: &[u8], end: bool) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        if exchange.replayable {
            exchange.replay.extend_from_slice(bytes);
            if exchange.replay.len() > REPLAY {
                if exchange.established {
                    exchange.replayable = false;
                    let replay = std::mem::take(&mut exchange.replay);
                    self.conns.store(replay);
                } else if let Side::Plain(source) = exchange.down {
                    self.conns.hold(source, Hold::Undecided);
                }
            }
        }
        self.forward(id, End::Up, bytes, end);
    }

    /// The upstream has taken the connection: what was held back while it might refuse may come.
    pub(super) fn established(&mut self, id: Id<Exchange>) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        if exchange.established {
            return;
        }
        exchange.established = true;
        if exchange.carries == Carries::Tcp || exchange.replay.len() > REPLAY {
            exchange.replayable = false;
            let replay = std::mem::take(&mut exchange.replay);
            self.conns.store(replay);
        }
        if let Side::Plain(source) = exchange.down {
            self.conns.release(source, Hold::Undecided);
        }
        self.pass_credit(id, End::Down, 0);
        if self.is_tcp(id) {
            self.heard(id, Heard::Connected);
        }
        self.report_opened(id);
    }

    /// Sends bytes to `toward`; `end` says that they are the last, which [`Self::end_flow`] has to follow up. Without a side there
    /// (a request that is not decided) they stay in the replay.
    pub(super) fn forward(&mut self, id: Id<Exchange>, toward: End, bytes: &[u8], end: bool) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        let source = exchange.side(toward.other());
        let target = exchange.side(toward);
        let end = end && !(toward == End::Up && exchange.request_head.may_tunnel);
        let flow = exchange.toward(toward);
        flow.bytes += bytes.len() as u64;
        match target {
            Side::None => {}
            Side::Plain(conn) => {
                self.conns.put(conn, bytes);
                self.after_put(conn, source, bytes.len());
            }
            Side::Stream { link, stream } => {
                let taken = if flow.pending.is_empty() {
                    self.stream_send(id, (link, stream), bytes, end)
                } else {
                    0
                };
                self.pass_credit(id, toward.other(), taken);
                if taken < bytes.len() {
                    self.wait_for_window(id, toward, &bytes[taken..]);
                } else if end && let Some(exchange) = self.exchanges.get_mut(id) {
                    exchange.toward(toward).last = Last::Sent;
                }
            }
        }
    }

    fn after_put(&mut self, conn: super::ConnId, source: Side, length: usize) {
        let Some(target) = self.conns.get_mut(conn) else {
            return;
        };
        match source {
            Side::Stream { .. } => target.owed += length,
            Side::Plain(source) if target.unsent() > HIGH => self.conns.hold(source, Hold::Full),
            Side::Plain(_) | Side::None => {}
        }
    }

    fn wait_for_window(&mut self, id: Id<Exchange>, toward: End, rest: &[u8]) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        let source = exchange.side(toward.other());
        let flow = exchange.toward(toward);
        if flow.pending.capacity() == 0 {
            flow.pending = self.conns.spare();
        }
        flow.pending.extend_from_slice(rest);
        if let Side::Plain(source) = source {
            self.conns.hold(source, Hold::Full);
        }
    }

    /// A stream has room again: sends what waits for it, then its end.
    pub(super) fn stream_writable(&mut self, id: Id<Exchange>, toward: End) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        let source = exchange.side(toward.other());
        let Side::Stream { link, stream } = exchange.side(toward) else {
            return;
        };
        let mut pending = std::mem::take(&mut exchange.toward(toward).pending);
        let taken = self.stream_send(id, (link, stream), &pending, false);
        self.pass_credit(id, toward.other(), taken);
        if taken < pending.len() {
            pending.drain(..taken);
            if let Some(exchange) = self.exchanges.get_mut(id) {
                exchange.toward(toward).pending = pending;
            }
            return;
        }
        self.conns.store(pending);
        self.send_last(id, toward);
        if let Side::Plain(source) = source {
            self.conns.release(source, Hold::Full);
        }
    }

    /// The source of the flow has said its last: END_STREAM or FIN follows what is queued, where the framing does not say it already.
    pub(super) fn end_flow(&mut self, id: Id<Exchange>, toward: End, last: Last) {
        self.spoken(id);
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        let raw = exchange.raw;
        let target = exchange.side(toward);
        let undecided = toward == End::Up && !raw && exchange.request_head.may_tunnel;
        let flow = exchange.toward(toward);
        flow.ended = true;
        if undecided {
            // What ends is the request; the stream may become a tunnel yet.
            return;
        }
        match target {
            Side::Stream { .. } => {
                if flow.last == Last::Open {
                    flow.last = last;
                }
                self.send_last(id, toward);
            }
            Side::Plain(conn) if raw => self.conns.finish_output(conn),
            Side::Plain(_) | Side::None => {}
        }
        self.finish_if_done(id);
    }

    pub(super) fn send_last(&mut self, id: Id<Exchange>, toward: End) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        let Side::Stream { link, stream } = exchange.side(toward) else {
            return;
        };
        let flow = exchange.toward(toward);
        if !flow.pending.is_empty() {
            return;
        }
        match flow.last {
            Last::Open | Last::Sent => {}
            Last::End => {
                flow.last = Last::Sent;
                // Kept: the request may have to be sent again.
                match flow.trailers.take() {
                    None => self.stream_end(link, stream),
                    Some(trailers) => {
                        self.stream_trailers(link, stream, &trailers);
                        if let Some(exchange) = self.exchanges.get_mut(id) {
                            exchange.toward(toward).trailers = Some(trailers);
                        }
                    }
                }
                self.finish_if_done(id);
            }
            Last::Broken(code) => {
                flow.last = Last::Sent;
                self.stream_code(link, stream, code);
                self.finish(id);
            }
        }
    }

    pub(super) fn finish_if_done(&mut self, id: Id<Exchange>) {
        let done = self
            .exchanges
            .get(id)
            .is_some_and(|exchange| exchange.request.done() && exchange.response.done());
        if done {
            self.finish(id);
        }
    }

    /// `n` bytes of a stream were passed on to a stream: its window is given back, but for a request that may have to be sent again
    /// as long as nobody has taken it.
    fn pass_credit(&mut self, id: Id<Exchange>, from: End, n: usize) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        let kept = from == End::Down && !exchange.established && exchange.replay.len() > REPLAY;
        let source = exchange.side(from);
        let flow = exchange.toward(from.other());
        flow.uncredited += n;
        if let Side::Stream { link, stream } = source
            && !kept
        {
            let n = std::mem::take(&mut flow.uncredited);
            self.stream_credit(link, stream, n);
        }
    }

    /// `n` bytes of a stream were written to a socket: its window is given back.
    pub(super) fn credit(&mut self, id: Id<Exchange>, from: End, n: usize) {
        let Some(exchange) = self.exchanges.get(id) else {
            return;
        };
        let source = exchange.side(from);
        if let Side::Stream { link, stream } = source {
            self.stream_credit(link, stream, n);
        }
    }
}
