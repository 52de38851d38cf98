// SPDX-License-Identifier: Apache-2.0
//! One side of one HTTP/2 connection as a state machine without I/O or clock: RFC 9113 with an application, the dialect `maille/1`
//! (`docs/wire.md`, section 2) with another proxy.
//!
//! ```text
//! decrypted bytes --> receive(..) --> Event, Event, ...          (what the peer did)
//!                        |
//!                        v  appends
//!                       out  <-- open_stream, send_head, send_data, consumed, reset, goaway, ping   --> to be sealed
//! ```
//!
//! Whoever calls owns `out`, the plaintext to be sealed, and the [`List`](crate::hpack::List) that heads are decoded into: an [`Event`] borrows
//! those and the input only, so that streams may be answered while it is looked at. Everything may append to `out`,
//! [`Connection::receive`] as well; whoever takes bytes from it says so by [`Connection::flushed`]. Must never trust a peer: what it may make us do or hold is bounded.
//! Read `http2/connection.rs`, then `http2/receive.rs` and `http2/send.rs`.

mod budget;
mod closed;
mod connection;
mod control;
mod frame;
mod heads;
mod latest;
mod message;
mod receive;
mod run;
mod send;
mod settings;
mod streams;

use std::fmt;

pub use connection::Connection;
pub use heads::{
    Carried, Fields, HopFields, RequestFields, ResponseFields, Target, check_message,
    content_length,
};
pub use send::{HeadError, OpenError};
pub use settings::Settings;

/// Whose rules hold on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `maille/1`, between proxies: no padding, no priorities, no divided blocks; names as they are written.
    Mesh,
    /// RFC 9113, with an application.
    Rfc9113,
}

/// An error code of RFC 9113, section 7.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(pub u32);

/// The connection is over: GOAWAY with the code was appended, and is the last thing to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} ({code:?})")]
pub struct ConnectionError {
    /// What was told to the peer.
    pub code: Code,
    /// Why, for the log.
    pub reason: &'static str,
}

/// What [`Connection::receive`] took, and what it means.
#[derive(Debug)]
pub struct Received<'a> {
    /// Bytes of the input that are done with.
    pub taken: usize,
    /// What happened. `None`: nothing more until there is more input; all of it was taken.
    pub event: Option<Event<'a>>,
}

/// What the peer did. `token` is what the stream was given when it was opened, or by [`Connection::set_token`].
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The peer opened a stream. Server side.
    Request {
        /// Which.
        stream: u32,
        /// Its head.
        fields: RequestFields<'a>,
        /// It has no body.
        end: bool,
    },
    /// A response head, interim or final. Client side.
    Response {
        /// Of which stream.
        stream: u32,
        /// The stream's token.
        token: u64,
        /// The head.
        fields: ResponseFields<'a>,
        /// Nothing follows.
        end: bool,
    },
    /// The fields behind the body of an HTTP/2 message: the last of it.
    Trailers {
        /// Of which stream.
        stream: u32,
        /// The stream's token.
        token: u64,
        /// What the application wrote.
        fields: Fields<'a>,
    },
    /// Bytes of a stream, as they came: not a whole frame. They count against its window until [`Connection::consumed`].
    Data {
        /// Of which stream.
        stream: u32,
        /// The stream's token.
        token: u64,
        /// Perhaps none, with `end`.
        bytes: &'a [u8],
        /// Nothing follows.
        end: bool,
    },
    /// The stream is gone: the peer reset it, or broke its rules and was told so with this code. What it had received is given back.
    Reset {
        /// Which.
        stream: u32,
        /// The stream's token.
        token: u64,
        /// Why.
        code: Code,
    },
    /// The peer never looked at this stream and never will: it may be opened again elsewhere. Comes after [`Event::Goaway`]. Client side.
    Unprocessed {
        /// Which.
        stream: u32,
        /// The stream's token.
        token: u64,
    },
    /// A stream that took less than it was offered has room again.
    Writable {
        /// Which.
        stream: u32,
        /// The stream's token.
        token: u64,
    },
    /// The peer takes no new streams.
    Goaway {
        /// The last one that it took.
        last: u32,
        /// Why.
        code: Code,
    },
    /// The peer's settings are in force: [`Connection::can_open`] may say something else.
    Settings,
    /// The peer answered [`Connection::ping`].
    Pong {
        /// What was sent with it.
        payload: [u8; 8],
    },
}

// === impl Code ===

impl Code {
    /// Graceful.
    pub const NO_ERROR: Self = Self(0);
    /// The peer broke a rule.
    pub const PROTOCOL_ERROR: Self = Self(1);
    /// We failed.
    pub const INTERNAL_ERROR: Self = Self(2);
    /// More was sent than a window allowed.
    pub const FLOW_CONTROL_ERROR: Self = Self(3);
    /// A frame for a half that had ended.
    pub const STREAM_CLOSED: Self = Self(5);
    /// A frame of the wrong length.
    pub const FRAME_SIZE_ERROR: Self = Self(6);
    /// Not looked at: safe to send again.
    pub const REFUSED_STREAM: Self = Self(7);
    /// No longer wanted.
    pub const CANCEL: Self = Self(8);
    /// The field compression state is lost.
    pub const COMPRESSION_ERROR: Self = Self(9);
    /// A tunnelled TCP connection was reset.
    pub const CONNECT_ERROR: Self = Self(10);
    /// A peer that makes too much work.
    pub const ENHANCE_YOUR_CALM: Self = Self(11);
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 14] = [
            "NO_ERROR",
            "PROTOCOL_ERROR",
            "INTERNAL_ERROR",
            "FLOW_CONTROL_ERROR",
            "SETTINGS_TIMEOUT",
            "STREAM_CLOSED",
            "FRAME_SIZE_ERROR",
            "REFUSED_STREAM",
            "CANCEL",
            "COMPRESSION_ERROR",
            "CONNECT_ERROR",
            "ENHANCE_YOUR_CALM",
            "INADEQUATE_SECURITY",
            "HTTP_1_1_REQUIRED",
        ];
        let name = usize::try_from(self.0).ok().and_then(|at| NAMES.get(at));
        match name {
            Some(name) => f.write_str(name),
            None => write!(f, "{:#x}", self.0),
        }
    }
}

#[cfg(test)]
mod tests;
