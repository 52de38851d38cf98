// SPDX-License-Identifier: Apache-2.0
//! Our side of a pipe: a connection, driven by what comes and by what can be written.

use maille_engine::hpack::List;
use maille_engine::http2::{Carried, Code, Connection, Event};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};

/// Our side: a connection, its plaintext, a pipe.
pub(crate) struct Ours {
    pub(crate) link: Connection,
    pub(crate) out: Vec<u8>,
    pub(crate) list: List,
    pub(crate) read: ReadHalf<DuplexStream>,
    pub(crate) write: WriteHalf<DuplexStream>,
}

/// An event that is kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Head {
        stream: u32,
        line: String,
        fields: Vec<(String, String)>,
        end: bool,
    },
    Data {
        stream: u32,
        bytes: Vec<u8>,
        end: bool,
    },
    Reset {
        stream: u32,
        code: Code,
    },
    Unprocessed(u32),
    Writable(u32),
    Goaway,
    Settings,
    Pong,
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn keep(event: Event<'_>) -> Told {
    let list = |fields: maille_engine::http2::Fields<'_>| -> Vec<(String, String)> {
        fields
            .iter()
            .map(|(name, value)| (text(name), text(value)))
            .collect()
    };
    match event {
        Event::Request {
            stream,
            fields,
            end,
        } => {
            let Carried::Http1 { target, .. } = fields.carries else {
                panic!("{fields:?}")
            };
            let line = format!("{} {}", text(fields.method), text(target));
            Told::Head {
                stream,
                line,
                fields: list(fields.fields),
                end,
            }
        }
        Event::Trailers { stream, .. } => panic!("{stream}: there are none"),
        Event::Response {
            stream,
            fields,
            end,
            ..
        } => {
            let line = fields.status.to_string();
            Told::Head {
                stream,
                line,
                fields: list(fields.fields),
                end,
            }
        }
        Event::Data {
            stream, bytes, end, ..
        } => Told::Data {
            stream,
            bytes: bytes.to_vec(),
            end,
        },
        Event::Reset { stream, code, .. } => Told::Reset { stream, code },
        Event::Unprocessed { stream, .. } => Told::Unprocessed(stream),
        Event::Writable { stream, .. } => Told::Writable(stream),
        Event::Goaway { .. } => Told::Goaway,
        Event::Settings => Told::Settings,
        Event::Pong { .. } => Told::Pong,
    }
}

impl Ours {
    pub(crate) fn new(io: DuplexStream, make: impl FnOnce(&mut Vec<u8>) -> Connection) -> Self {
        let mut out = Vec::new();
        let link = make(&mut out);
        let (read, write) = tokio::io::split(io);
        Self {
            link,
            out,
            list: List::default(),
            read,
            write,
        }
    }

    /// Writes what can be written and takes what comes: what that means. `None` at the end.
    pub(crate) async fn turn(&mut self) -> Option<Vec<Told>> {
        let mut buf = [0; 5003];
        let length = loop {
            tokio::select! {
                biased;
                written = self.write.write(&self.out), if !self.out.is_empty() => {
                    // A peer that has gone may have left something to read.
                    self.out.drain(..written.unwrap_or(self.out.len()));
                    self.link.flushed();
                }
                read = self.read.read(&mut buf) => break read.ok()?,
            }
        };
        if length == 0 {
            return None;
        }
        let mut told = Vec::new();
        let mut at = 0;
        loop {
            let rest = &mut buf[at..length];
            let received = self.link.receive(0, rest, &mut self.list, &mut self.out);
            let received = received.expect("h2 keeps to the dialect");
            at += received.taken;
            match received.event {
                Some(event) => told.push(keep(event)),
                None => return Some(told),
            }
        }
    }
}

pub(crate) fn pattern(length: usize, seed: usize) -> Vec<u8> {
    (0..length)
        .map(|n| ((n + seed) % 253).to_le_bytes()[0])
        .collect()
}
