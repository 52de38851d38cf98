// SPDX-License-Identifier: Apache-2.0
//! The access log: one line for each request and each TCP connection, of fields that are declared here, once.
//!
//! `docs/reference/log-fields.md` is made of this file. Whatever a client or a server says is cut and escaped, so that it is never
//! more than a value of one line. Must never block, and must cost nothing where it is off. Next: `maille_chassis::log`, which writes it.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use maille_chassis::log::{self, Format};
use maille_engine::http1::RequestHead;
use maille_engine::route::{Direction, Hop, Plan};

use super::Outcome;
use crate::telemetry::Carries;

/// One field: its name and what it says.
type Field = (&'static str, &'static str);

/// Every field, in the order of the line; those without a value are left out.
pub const FIELDS: [Field; 27] = [
    (
        "time",
        "when the exchange ended, UTC; in text the first word of the line",
    ),
    (
        "log",
        "always `access`; in text the second word of the line",
    ),
    (
        "direction",
        "`outbound`: the own application began it; `inbound`: somebody else did",
    ),
    ("carries", "`http`: one request; `tcp`: one connection"),
    ("src.addr", "the client, as the connection says"),
    (
        "src.claimed",
        "the client's address as a mesh peer tells it, where that differs",
    ),
    ("dst.addr", "what the client dialled"),
    ("dst.endpoint", "where it went"),
    (
        "dst.service",
        "the service that was addressed, `namespace/name`",
    ),
    ("peer.id", "the proven identity of the other side"),
    ("tls", "whether the hop to the other side was mutual TLS"),
    ("sni", "whom a TLS client asked for"),
    ("method", "of the request"),
    ("host", "of the request"),
    (
        "path",
        "the request's target as it was sent, query included",
    ),
    ("user_agent", "of the request"),
    ("traceparent", "of the request (W3C Trace Context)"),
    ("status", "what the client got; 0 where it got none"),
    ("grpc.status", "the same, where it was gRPC"),
    (
        "flag",
        "why the mesh answered, or nobody did (`docs/wire.md`, section 5)",
    ),
    (
        "stage",
        "which stage failed: accept, detect, route, balance, connect, forward",
    ),
    ("blame", "whose fault that is: client, mesh, upstream"),
    ("error", "the same for people"),
    ("first.us", "microseconds to the first byte of the answer"),
    ("dur.us", "microseconds to the end"),
    ("bytes.request", "bytes towards the server, heads included"),
    ("bytes.response", "bytes towards the client, heads included"),
];

/// How much of a value is kept.
const LONGEST: usize = 512;

/// Whether there is an access log, and how it looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// There is none.
    #[default]
    Off,
    /// There is.
    On(Format),
}

/// What a request asked for, as far as a line has room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    method: Cut,
    host: Cut,
    path: Cut,
    user_agent: Cut,
    traceparent: Cut,
}

/// The beginning of a value, and how much was cut off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Cut {
    kept: Box<[u8]>,
    lost: usize,
}

/// A line in the making.
struct Line {
    format: Format,
    out: String,
}

/// Writes a peer's text so that it can end nothing.
struct Harmless<'a>(Format, &'a [u8]);

impl FromStr for Access {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" => Ok(Self::Off),
            "json" => Ok(Self::On(Format::Json)),
            "text" => Ok(Self::On(Format::Text)),
            _ => Err("neither off, json nor text"),
        }
    }
}

// === impl Asked ===

impl Asked {
    /// Takes over what `head`, which was parsed from `bytes`, asks for.
    pub(crate) fn take(&mut self, head: &RequestHead, bytes: &[u8]) {
        self.method = Cut::of(head.method.of(bytes));
        self.path = Cut::of(head.target.of(bytes));
        self.host = head
            .host
            .map_or_else(Cut::default, |host| Cut::of(host.of(bytes)));
        for (name, value) in &head.fields {
            let name = name.of(bytes);
            if name.eq_ignore_ascii_case(b"user-agent") {
                self.user_agent = Cut::of(value.of(bytes));
            } else if name.eq_ignore_ascii_case(b"traceparent") {
                self.traceparent = Cut::of(value.of(bytes));
            }
        }
    }
}

impl Asked {
    /// The same of an HTTP/2 request: its pseudo-fields and fields.
    pub(crate) fn take_message<'f>(&mut self, fields: impl Iterator<Item = (&'f [u8], &'f [u8])>) {
        for (name, value) in fields {
            let slot = match name {
                b":method" => &mut self.method,
                b":path" => &mut self.path,
                b":authority" | b"host" => &mut self.host,
                b"user-agent" => &mut self.user_agent,
                b"traceparent" => &mut self.traceparent,
                _ => continue,
            };
            *slot = Cut::of(value);
        }
    }
}

impl Cut {
    fn of(value: &[u8]) -> Self {
        let kept = &value[..value.len().min(LONGEST)];
        Self {
            kept: kept.into(),
            lost: value.len() - kept.len(),
        }
    }
}

/// Writes the line of an exchange that has ended, where there is an access log.
pub(super) fn write(access: Access, outcome: &Outcome<'_>) {
    if let Access::On(format) = access {
        log::access(format, line(format, outcome).into_bytes());
    }
}

/// The line, but for its time.
fn line(format: Format, outcome: &Outcome<'_>) -> String {
    let facts = outcome.facts;
    let out = String::with_capacity(512);
    let mut line = Line { format, out };
    line.word(
        "direction",
        match facts.direction {
            Direction::Outbound => "outbound",
            Direction::Inbound => "inbound",
        },
    );
    line.word(
        "carries",
        match outcome.carries {
            Carries::Http => "http",
            Carries::Tcp => "tcp",
        },
    );
    line.word("src.addr", facts.client);
    if let Some(claimed) = facts.claim() {
        line.word("src.claimed", claimed);
    }
    line.word("dst.addr", facts.dialled.unwrap_or(facts.destination));
    if let Some(hop) = outcome.hop {
        line.word("dst.endpoint", hop.target());
    }
    if let Some((service, _)) = outcome.plan.and_then(Plan::service) {
        line.word("dst.service", service);
    }
    match (facts.direction, outcome.hop) {
        (Direction::Inbound, _) => {
            if let Some(peer) = facts.peer.as_deref() {
                line.word("peer.id", peer);
            }
        }
        (Direction::Outbound, Some(hop @ Hop::Mesh { .. })) => {
            if let Some(peer) = super::proven(hop, outcome) {
                line.word("peer.id", peer);
            }
        }
        (Direction::Outbound, _) => {}
    }
    line.bare("tls", outcome.protected);
    if let Some(name) = &facts.server_name {
        line.cut("sni", &Cut::of(name.to_string().as_bytes()));
    }
    if let Some(asked) = outcome.asked {
        line.cut("method", &asked.method);
        line.cut("host", &asked.host);
        line.cut("path", &asked.path);
        line.cut("user_agent", &asked.user_agent);
        line.cut("traceparent", &asked.traceparent);
    }
    if outcome.carries == Carries::Http {
        line.bare("status", outcome.response.status);
    }
    if let Some(grpc) = outcome.response.grpc {
        line.bare("grpc.status", grpc);
    }
    if let Some(failure) = outcome.failure {
        line.word("flag", failure.flag());
        line.word("stage", failure.stage().name());
        line.word("blame", failure.blame().name());
        line.cut("error", &Cut::of(failure.to_string().as_bytes()));
    }
    if outcome.carries == Carries::Http {
        line.bare("first.us", outcome.latency.as_micros());
    }
    line.bare("dur.us", outcome.lasted.as_micros());
    line.bare("bytes.request", outcome.request_bytes);
    line.bare("bytes.response", outcome.response_bytes);
    line.out
}

// === impl Line ===

impl Line {
    fn name(&mut self, name: &str) {
        let first = self.out.is_empty();
        // Writing to a String cannot fail, here and below.
        let _ = match (self.format, first) {
            (Format::Json, true) => write!(self.out, "\"{name}\":"),
            (Format::Json, false) => write!(self.out, ",\"{name}\":"),
            (Format::Text, true) => write!(self.out, "{name}="),
            (Format::Text, false) => write!(self.out, " {name}="),
        };
    }

    /// A number, or true or false.
    fn bare(&mut self, name: &str, value: impl fmt::Display) {
        self.name(name);
        let _ = write!(self.out, "{value}");
    }

    /// Our own text, which has nothing that would have to be escaped.
    fn word(&mut self, name: &str, value: impl fmt::Display) {
        self.name(name);
        let _ = match self.format {
            Format::Json => write!(self.out, "\"{value}\""),
            Format::Text => write!(self.out, "{value}"),
        };
    }

    /// A peer's text. Nothing, where there is none.
    fn cut(&mut self, name: &str, value: &Cut) {
        if value.kept.is_empty() {
            return;
        }
        self.name(name);
        let _ = write!(self.out, "\"{}", Harmless(self.format, &value.kept));
        if value.lost > 0 {
            let _ = write!(self.out, "...+{}", value.lost);
        }
        self.out.push('"');
    }
}

impl fmt::Display for Harmless<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(format, bytes) = *self;
        for &byte in bytes {
            match byte {
                b'"' | b'\\' => write!(f, "\\{}", char::from(byte))?,
                b' '..=b'~' => f.write_char(char::from(byte))?,
                // JSON has no escape for bytes: the text that it carries does.
                _ if format == Format::Json => write!(f, "\\\\x{byte:02x}")?,
                _ => write!(f, "\\x{byte:02x}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
