// SPDX-License-Identifier: Apache-2.0
//! HTTP/1.0 and HTTP/1.1 as RFC 9112 has it, strictly: heads are parsed in place, bodies are followed and never copied.
//!
//! Two parsers that disagree about where a message ends are how requests are smuggled; so whatever has a second reading
//! is refused here, on both sides of the mesh. Must never accept a bare CR or LF, a fold, or two ways of saying a length.
//! Read `http1/head.rs`, then `http1/body.rs`.

mod body;
mod chars;
mod facts;
mod head;
mod target;
mod write;

pub use body::{Advance, Body};
pub(crate) use chars::{is_text, is_token};
pub use head::{parse_request, parse_response};
pub use write::{canonical_reason, write_request, write_response};

/// Lengths and chunk sizes above this are refused: they are what others read as negative numbers, or as small ones.
pub const LONGEST_BODY: u64 = i64::MAX as u64;

/// The bytes from `start` to `end` of the buffer that was parsed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One behind the last.
    pub end: u32,
}

/// What is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    #[default]
    Http11,
}

/// How the end of a message is known (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    #[default]
    None,
    /// So many bytes follow.
    Length(u64),
    /// Chunks follow, then a trailer section.
    Chunked,
    /// The body ends with the connection. Responses only.
    UntilClose,
}

/// What was asked, as far as it decides how the answer is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// HEAD: the answer has no body, whatever it says.
    Head,
    /// CONNECT: a 2xx answer begins a tunnel.
    Connect,
    /// An upgrade was asked for: 101 begins a tunnel.
    Upgrade,
    /// Everything else.
    Other,
}

/// How much of a head is read before it is refused with 431.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the whole head.
    pub head: usize,
    /// Fields.
    pub fields: usize,
}

/// Why a message was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    /// The head is longer than [`Limits::head`].
    #[error("head too large")]
    HeadTooLarge,
    /// There are more fields than [`Limits::fields`].
    #[error("too many fields")]
    TooManyFields,
    /// The request line alone is longer than [`Limits::head`].
    #[error("request target too long")]
    TargetTooLong,
    /// The first line is not one of RFC 9112, sections 3 and 4.
    #[error("malformed start line")]
    StartLine,
    /// A target that is none of the four forms, or not the form that the method has (RFC 9112, section 3.2).
    #[error("malformed request target")]
    Target,
    /// What stands in the place of the version is none.
    #[error("malformed version")]
    Version,
    /// A version, but neither HTTP/1.0 nor HTTP/1.1.
    #[error("unsupported version")]
    UnknownVersion,
    /// A line that does not end with CR LF, and with nothing else.
    #[error("malformed line end")]
    LineEnd,
    /// A field name that is no token: a fold, a space before the colon, no colon.
    #[error("malformed field name")]
    FieldName,
    /// A control byte in a field value.
    #[error("malformed field value")]
    FieldValue,
    /// None where one is needed, more than one, or not `host[:port]`.
    #[error("missing, repeated or malformed Host")]
    Host,
    /// More than one, not only digits, larger than [`LONGEST_BODY`], or where there can be no body.
    #[error("malformed Content-Length")]
    ContentLength,
    /// Anything but one `chunked`, at the end, in HTTP/1.1 where it is allowed; or beside Content-Length.
    #[error("unacceptable Transfer-Encoding")]
    TransferEncoding,
    /// A request whose body ends as it should, but in a coding beside `chunked` that its reader may not know.
    #[error("unknown transfer coding")]
    UnknownCoding,
    /// A chunk without a proper size, extension or end.
    #[error("malformed chunk")]
    Chunk,
    /// A malformed or oversized trailer section.
    #[error("malformed trailer section")]
    Trailer,
    /// 101 to a request that asked for no upgrade: what follows would not be HTTP, and requests that wait behind it would be read as something else.
    #[error("switch of protocols that nobody asked for")]
    Switch,
}

/// The head of a request: spans of the parsed buffer, and what follows from them. Kept and filled again, it allocates no more.
#[derive(Debug, Default)]
pub struct RequestHead {
    /// Where the head begins: 2 behind an empty line, which a client may send before a request, else 0.
    pub start: usize,
    /// A token.
    pub method: Span,
    /// The target in whatever form, without spaces and control bytes.
    pub target: Span,
    /// What the client speaks.
    pub version: Version,
    /// Names and values in their order, values without the white space around them.
    pub fields: Vec<(Span, Span)>,
    /// How the body ends; never [`Framing::UntilClose`].
    pub framing: Framing,
    /// The client means to use the connection again.
    pub keep_alive: bool,
    /// The client asks for another protocol: `Connection: upgrade` and an `Upgrade` field, in HTTP/1.1.
    pub upgrade: bool,
    /// The client waits for 100 (Continue) before its body.
    pub expects_continue: bool,
    /// The value of `Host`, which HTTP/1.0 may lack.
    pub host: Option<Span>,
    scanned: usize,
}

/// The head of a response, in the same way.
#[derive(Debug, Default)]
pub struct ResponseHead {
    /// Three digits.
    pub status: u16,
    /// The reason phrase, perhaps empty.
    pub reason: Span,
    /// What the server speaks.
    pub version: Version,
    /// Names and values in their order, values without the white space around them.
    pub fields: Vec<(Span, Span)>,
    /// How the body ends.
    pub framing: Framing,
    /// The server means to use the connection again, and the framing allows it.
    pub keep_alive: bool,
    /// Both ways are raw bytes from here on: 101, or 2xx to CONNECT.
    pub tunnel: bool,
    scanned: usize,
}

// === impl Span ===

impl Span {
    /// The bytes. Empty if `buf` is not the buffer that was parsed.
    #[inline]
    pub fn of(self, buf: &[u8]) -> &[u8] {
        buf.get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "a head is at most Limits::head long"
    )]
    fn new(start: usize, end: usize) -> Self {
        Self {
            start: start as u32,
            end: end as u32,
        }
    }
}

// === impl Version ===

impl Version {
    /// As it stands on the first line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
        }
    }
}

// === impl Limits ===

impl Default for Limits {
    /// `docs/wire.md`: 64 KiB and 256 fields.
    fn default() -> Self {
        Self {
            head: 64 * 1024,
            fields: 256,
        }
    }
}

// === impl RequestKind ===

impl RequestKind {
    /// The kind of a method, whose letters are case-sensitive.
    pub fn of(method: &[u8]) -> Self {
        match method {
            b"HEAD" => Self::Head,
            b"CONNECT" => Self::Connect,
            _ => Self::Other,
        }
    }
}

// === impl Malformed ===

impl Malformed {
    /// The status that a client is answered with: 400 where nothing says it better.
    pub fn status(self) -> u16 {
        match self {
            Self::HeadTooLarge | Self::TooManyFields => 431,
            Self::TargetTooLong => 414,
            Self::UnknownCoding => 501,
            Self::UnknownVersion => 505,
            _ => 400,
        }
    }
}

// === impl RequestHead ===

impl RequestHead {
    /// Names and values out of the buffer that was parsed.
    pub fn fields<'a>(
        &'a self,
        buf: &'a [u8],
    ) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone {
        self.fields
            .iter()
            .map(move |(name, value)| (name.of(buf), value.of(buf)))
    }
}

// === impl ResponseHead ===

impl ResponseHead {
    /// Names and values out of the buffer that was parsed.
    pub fn fields<'a>(
        &'a self,
        buf: &'a [u8],
    ) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone {
        self.fields
            .iter()
            .map(move |(name, value)| (name.of(buf), value.of(buf)))
    }

    /// 1xx other than 101: another head follows.
    pub fn interim(&self) -> bool {
        (100..200).contains(&self.status) && !self.tunnel
    }
}

#[cfg(test)]
mod tests;
