// SPDX-License-Identifier: Apache-2.0
//! One side of a connection: what it holds, what can be asked of it. Read `receive.rs` and `send.rs` for what it does.

use std::collections::VecDeque;

use super::budget::{Budget, MOST, MOST_OF_MESH, MOST_WINDOWS, MOST_WINDOWS_OF_MESH, SHORT};
use super::closed::{By, Closed};
use super::frame::{self, Header, Kind};
use super::heads::Addresses;
use super::latest::Latest;
use super::settings::{INITIAL_WINDOW, Peer, Role, Settings};
use super::streams::{Stream, Streams};
use super::{Code, ConnectionError, Dialect};
use crate::hpack::{Decoder, Encoder, INITIAL_TABLE};

/// Where the input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// So many bytes of the client's preface were seen.
    Preface(usize),
    /// At a frame's header, some of which may be in `partial`. The first frame must be SETTINGS.
    Header { first: bool },
    /// In a frame that is wanted whole; what there is of it is in `partial`.
    Whole(Header),
    /// At the length of the padding of DATA, of which there are `left` bytes in all.
    PadLength { stream: u32, left: usize, end: bool },
    /// In DATA, with so much padding behind it.
    Data {
        stream: u32,
        left: usize,
        pad: usize,
        end: bool,
    },
    /// In the padding behind DATA.
    Padding { stream: u32, left: usize },
    /// In a frame of a type that is not known.
    Skip(usize),
}

/// A header block that goes on in CONTINUATION frames.
#[derive(Debug)]
pub(super) struct Block {
    /// Of the HEADERS frame that began it.
    pub(super) header: Header,
    pub(super) bytes: Vec<u8>,
    /// It was said to depend on itself.
    pub(super) looped: bool,
}

/// One side of a connection.
#[derive(Debug)]
pub struct Connection {
    pub(super) role: Role,
    pub(super) settings: Settings,
    pub(super) peer: Peer,
    pub(super) reading: Reading,
    /// A frame that came in pieces.
    pub(super) partial: Vec<u8>,
    /// Frames that began outside of a divided header block: the number of what is being received.
    pub(super) begun: u64,
    /// Whatever is not its continuation is an error.
    pub(super) block: Option<Block>,
    pub(super) encoder: Encoder,
    pub(super) decoder: Decoder,
    pub(super) streams: Streams,
    pub(super) closed: Closed,
    /// The highest stream id so far: ours as a client, the peer's as a server.
    pub(super) highest: u32,
    /// What we may send.
    pub(super) send_window: i64,
    /// What the peer may send.
    pub(super) recv_window: i64,
    /// What was consumed and not given back yet.
    pub(super) returned: u32,
    /// The most that a stream is given back to have on its way.
    pub(super) grant: u32,
    pub(super) latest: Latest,
    /// What heads of the peer said of their way.
    pub(super) addresses: Addresses,
    /// Streams that wait for the connection's window, the longest waiting first.
    pub(super) blocked: VecDeque<u32>,
    /// Streams above the peer's GOAWAY.
    pub(super) unprocessed: VecDeque<u32>,
    pub(super) goaway_sent: bool,
    pub(super) goaway_received: bool,
    /// Frames without progress.
    pub(super) budget: Budget,
    /// Streams that were reset.
    pub(super) resets: Budget,
    pub(super) windows: Budget,
    /// Frames of streams that this side reset: they may have crossed with the reset, and are not the peer's fault.
    pub(super) crossing: u32,
    pub(super) now: u64,
    pub(super) failed: Option<ConnectionError>,
}

// === impl Reading ===

impl Reading {
    pub(super) fn begin(role: Role) -> Self {
        match role {
            Role::Client => Self::Header { first: true },
            Role::Server => Self::Preface(0),
        }
    }
}

// === impl Connection ===

impl Connection {
    /// The side that dialled. Appends the preface and the settings.
    pub fn client(settings: Settings, out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(frame::PREFACE);
        Self::new(Role::Client, settings, out)
    }

    /// The side that was dialled. Appends the settings.
    pub fn server(settings: Settings, out: &mut Vec<u8>) -> Self {
        Self::new(Role::Server, settings, out)
    }

    fn new(role: Role, settings: Settings, out: &mut Vec<u8>) -> Self {
        settings.announce(role, out);
        let more = settings.connection_window.saturating_sub(INITIAL_WINDOW);
        if more > 0 {
            frame::window_update(out, 0, more);
        }
        Self {
            role,
            settings,
            peer: Peer::before(settings.dialect),
            reading: Reading::begin(role),
            partial: Vec::new(),
            begun: 0,
            block: None,
            encoder: Encoder::new(INITIAL_TABLE),
            decoder: Decoder::new(settings.header_table, settings.list),
            streams: Streams::default(),
            closed: Closed::default(),
            highest: 0,
            send_window: INITIAL_WINDOW.into(),
            recv_window: settings.connection_window.max(INITIAL_WINDOW).into(),
            returned: 0,
            grant: settings.stream_window,
            latest: Latest::default(),
            addresses: Addresses::default(),
            blocked: VecDeque::new(),
            unprocessed: VecDeque::new(),
            goaway_sent: false,
            goaway_received: false,
            budget: Budget::new(MOST),
            windows: Budget::new(match settings.dialect {
                Dialect::Mesh => MOST_WINDOWS_OF_MESH,
                Dialect::Rfc9113 => MOST_WINDOWS,
            }),
            resets: match settings.dialect {
                Dialect::Mesh => Budget::new(MOST_OF_MESH),
                Dialect::Rfc9113 => Budget::each(SHORT, MOST),
            },
            crossing: 0,
            now: 0,
            failed: None,
        }
    }

    /// Whether [`Self::open_stream`] can succeed now.
    pub fn can_open(&self) -> bool {
        self.refusal().is_none()
    }

    /// How many streams the peer takes at once: what it has said, or what is taken for it until then.
    pub fn most_streams(&self) -> u32 {
        self.peer.max_streams
    }

    /// Until the peer says something else it takes `most` streams at once, as it did on another connection.
    pub fn assume_streams(&mut self, most: u32) {
        if !self.peer.settled {
            self.peer.max_streams = most;
        }
    }

    /// Streams that have not ended, and those that ended with bytes not [`consumed`](Self::consumed) yet.
    pub fn streams_open(&self) -> usize {
        self.streams.len()
    }

    /// Whether this stream is one of them.
    pub fn is_open(&self, stream: u32) -> bool {
        self.streams.get(stream).is_some()
    }

    /// How many bytes of this stream could be sent now.
    pub fn send_window(&self, stream: u32) -> usize {
        self.streams
            .get(stream)
            .map_or(0, |open| room(self.send_window, open.send))
    }

    /// What [`Self::set_token`] or [`Self::open_stream`] said.
    pub fn token(&self, stream: u32) -> Option<u64> {
        self.streams.get(stream).map(|open| open.token)
    }

    /// Gives the stream a name that its events carry from now on.
    pub fn set_token(&mut self, stream: u32, token: u64) {
        if let Some(open) = self.streams.get_mut(stream) {
            open.token = token;
        }
    }

    /// The highest stream id that was opened.
    pub fn last_stream(&self) -> u32 {
        self.highest
    }

    /// Whether the peer has said that CONNECT may name a protocol (RFC 8441).
    pub fn takes_protocols(&self) -> bool {
        self.peer.protocols
    }

    /// Whether the peer's first SETTINGS have come.
    pub fn is_settled(&self) -> bool {
        self.peer.settled
    }

    /// The number of what the peer has begun to say and not ended: its preface, its first SETTINGS, a frame but for DATA, a header block, of
    /// which each CONTINUATION is a part. `None` between two of them, and in content, which may take its time.
    pub fn unfinished(&self) -> Option<u64> {
        let inside = match self.reading {
            Reading::Preface(_) | Reading::Whole(_) | Reading::Header { first: true } => true,
            Reading::Header { first: false } => !self.partial.is_empty(),
            Reading::PadLength { .. }
            | Reading::Data { .. }
            | Reading::Padding { .. }
            | Reading::Skip(_) => false,
        };
        (inside || self.block.is_some()).then_some(self.begun)
    }

    /// Whether GOAWAY was sent or received: the connection ends with its last stream.
    pub fn is_leaving(&self) -> bool {
        self.goaway_sent || self.goaway_received
    }

    /// A stream that exists no more: what it received and nobody consumed is given back.
    pub(super) fn remove(&mut self, stream: u32, by: By, out: &mut Vec<u8>) -> Option<Stream> {
        let gone = self.streams.remove(stream)?;
        if gone.waits_for_connection() {
            self.blocked.retain(|&id| id != stream);
        }
        self.remember(stream, by);
        self.give_back(gone.owed, out);
        Some(gone)
    }

    /// Removes a stream that has ended both ways, and of which nothing is left to consume.
    pub(super) fn settle(&mut self, stream: u32) {
        if self.streams.get(stream).is_some_and(Stream::done) {
            self.streams.remove(stream);
            self.remember(stream, By::Peer);
            self.budget.progress();
            self.resets.progress();
            self.windows.pay(4);
        }
    }

    /// Between proxies whatever comes late is ignored; applications are told what they did wrong.
    fn remember(&mut self, stream: u32, by: By) {
        if self.settings.dialect == Dialect::Rfc9113 && self.role == Role::Server {
            self.closed.put(stream, by);
        }
    }

    /// Returns bytes to the connection's window, at half of it.
    pub(super) fn give_back(&mut self, n: u32, out: &mut Vec<u8>) {
        self.returned += n;
        if self.returned > 0 && self.returned >= self.settings.connection_window / 2 {
            frame::window_update(out, 0, self.returned);
            self.recv_window += i64::from(self.returned);
            self.returned = 0;
        }
    }

    /// Resets a stream of ours or of the peer, known or not.
    pub(super) fn write_reset(stream: u32, code: Code, out: &mut Vec<u8>) {
        frame::header(out, 4, Kind::RST_STREAM, 0, stream);
        out.extend_from_slice(&code.0.to_be_bytes());
    }
}

/// What both windows allow.
pub(super) fn room(connection: i64, stream: i64) -> usize {
    usize::try_from(connection.min(stream)).unwrap_or(0)
}
