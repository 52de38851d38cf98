// SPDX-License-Identifier: Apache-2.0
//! What this side says on streams. Each call appends to what a mesh connection will seal at the end of the turn.
//!
//! Must never say anything on a stream that is gone; the codec swallows it. Next: `stream.rs`.

use maille_engine::http1::{Limits, Version, canonical_reason, parse_request};
use maille_engine::mesh::{Code, OpenError};
use maille_engine::route::Hop;

use super::Core;
use super::conns::HIGH;
use super::exchange::{Carries, End, Exchange, Side};
use super::mesh::Mesh;
use super::stream::protocol_name;
use crate::failure::Failure;
use crate::table::{Id, MeshId};

/// Heads that wait for a handshake, or for a slow peer, at most: then new streams are refused.
const HEADS: usize = 4 * 1024 * 1024;

/// Streams of one connection that are reset in a second, so that clients who leave do not spend what a peer bears
/// (`docs/wire.md`, limits: frames without progress; a stream that ends both ways pays for one). One that waits hurts nobody: its
/// exchange is over.
const RESETS: usize = 80;

// === impl Core ===

impl Core {
    /// Opens a stream for an exchange whose endpoint is picked, with its head. The body follows.
    pub(super) fn open_stream(&mut self, id: Id<Exchange>) -> Result<Side, Failure> {
        let Some(exchange) = self.exchanges.get(id) else {
            return Err(Failure::Overloaded);
        };
        let Some(picked) = &exchange.picked else {
            return Err(Failure::NoEndpoint);
        };
        let hop = picked.hop().clone();
        if exchange.carries == Carries::Http && self.parsed != Some(id) {
            let head = &exchange.replay[..exchange.request_head.length];
            let whole = parse_request(head, &Limits::default(), &mut self.request);
            if !matches!(whole, Ok(Some(_))) {
                return Err(Failure::MalformedRequest);
            }
            self.parsed = Some(id);
        }
        // A connection that is full or leaving is passed over the second time.
        for _ in 0..2 {
            let mesh = self.mesh_for(&hop)?;
            match self.open_on(id, mesh, &hop) {
                Ok(stream) => {
                    self.mesh_mark(mesh);
                    return Ok(Side::Stream { mesh, stream });
                }
                Err(OpenError::HeadTooLarge) => return Err(Failure::HeadTooLarge),
                Err(OpenError::Full | OpenError::Leaving) => {}
            }
        }
        Err(Failure::Overloaded)
    }

    fn open_on(&mut self, id: Id<Exchange>, mesh: MeshId, hop: &Hop) -> Result<u32, OpenError> {
        let (Some(exchange), Some(mesh)) =
            (self.exchanges.get(id), self.meshes.table.get_mut(mesh))
        else {
            return Err(OpenError::Leaving);
        };
        if mesh.out.len() > HEADS {
            return Err(OpenError::Full);
        }
        let texts = &mut self.meshes.texts;
        let facts = &exchange.facts;
        let target = hop.target();
        let dialled = (facts.destination != target)
            .then(|| (&b":m-dst"[..], texts.dialled.of(facts.destination)));
        let authority = (&b":authority"[..], texts.authority.of(target));
        let source = (&b":m-src"[..], texts.source.of(facts.client.ip()));
        match exchange.carries {
            Carries::Http => {
                let bytes = &exchange.replay[..exchange.request_head.length];
                let head = &self.request;
                let version =
                    (head.version == Version::Http10).then_some((&b":m-version"[..], &b"1.0"[..]));
                let pseudo = [
                    Some((&b":method"[..], head.method.of(bytes))),
                    Some((&b":path"[..], head.target.of(bytes))),
                    Some(authority),
                    dialled,
                    Some(source),
                    version,
                ];
                let fields = pseudo.into_iter().flatten().chain(head.fields(bytes));
                mesh.link.open_stream(
                    id.to_bits(),
                    fields,
                    exchange.ends_with_head(),
                    &mut mesh.out,
                )
            }
            Carries::Tcp => {
                let protocol = protocol_name(facts.protocol)
                    .map(|name| (&b":m-protocol"[..], name.as_bytes()));
                let name = facts.server_name.as_ref();
                let name = name.map(|name| (&b":m-sni"[..], name.as_str().as_bytes()));
                let method = (&b":method"[..], &b"CONNECT"[..]);
                let pseudo = [
                    Some(method),
                    Some(authority),
                    dialled,
                    Some(source),
                    protocol,
                    name,
                ];
                let fields = pseudo.into_iter().flatten();
                mesh.link
                    .open_stream(id.to_bits(), fields, false, &mut mesh.out)
            }
        }
    }

    /// Names the exchange that a peer's stream began.
    pub(super) fn stream_bind(&mut self, mesh: MeshId, stream: u32, exchange: Id<Exchange>) {
        if let Some(mesh) = self.meshes.get_mut(mesh) {
            mesh.link.set_token(stream, exchange.to_bits());
        }
    }

    /// Sends bytes, as many as may be sent now; `end` goes with the last of them.
    pub(super) fn stream_send(
        &mut self,
        id: Id<Exchange>,
        (mesh, stream): (MeshId, u32),
        bytes: &[u8],
        end: bool,
    ) -> usize {
        let Some(link) = self.meshes.get_mut(mesh) else {
            return bytes.len();
        };
        if link.out.len() > HIGH {
            link.starved.push(id);
            return 0;
        }
        let taken = link.link.send_data(stream, bytes, end, &mut link.out);
        self.mesh_mark(mesh);
        taken
    }

    /// END_STREAM.
    pub(super) fn stream_end(&mut self, mesh: MeshId, stream: u32) {
        self.on_link(mesh, |mesh| {
            mesh.link.send_data(stream, &[], true, &mut mesh.out);
        });
    }

    /// Bytes of the stream were written to a socket.
    pub(super) fn stream_credit(&mut self, mesh: MeshId, stream: u32, n: usize) {
        self.on_link(mesh, |mesh| mesh.link.consumed(stream, n, &mut mesh.out));
    }

    /// Nobody waits for what the stream still brings.
    pub(super) fn stream_release(&mut self, mesh: MeshId, stream: u32) {
        self.on_link(mesh, |mesh| mesh.link.release(stream, &mut mesh.out));
    }

    pub(super) fn stream_code(&mut self, mesh: MeshId, stream: u32, code: Code) {
        self.on_link(mesh, |mesh| {
            if mesh.resets < RESETS {
                mesh.resets += 1;
                mesh.link.reset(stream, code, &mut mesh.out);
            } else {
                mesh.resets_later.push_back((stream, code));
            }
        });
    }

    /// Once a second: resets that waited.
    pub(super) fn stream_codes_later(&mut self, mesh: MeshId) {
        let mut waited = false;
        self.on_link(mesh, |mesh| {
            mesh.resets = mesh.resets_later.len().min(RESETS);
            for (stream, code) in mesh.resets_later.drain(..mesh.resets) {
                waited = true;
                mesh.link.reset(stream, code, &mut mesh.out);
            }
        });
        if waited {
            self.mesh_maybe_over(mesh);
        }
    }

    /// The exchange broke: a stream towards the server is cancelled, one towards the client ends with an error, TCP is reset.
    pub(super) fn stream_reset(&mut self, mesh: MeshId, stream: u32, raw: bool, end: End) {
        let code = match end {
            _ if raw => Code::CONNECT_ERROR,
            End::Up => Code::CANCEL,
            End::Down => Code::INTERNAL_ERROR,
        };
        self.stream_code(mesh, stream, code);
    }

    /// The exchange is over. A request that had not ended need not go on.
    pub(super) fn stream_done(&mut self, mesh: MeshId, stream: u32, end: End, whole: bool) {
        self.stream_release(mesh, stream);
        if whole {
            self.on_link(mesh, |mesh| mesh.resets = mesh.resets.saturating_sub(1));
        } else {
            let code = match end {
                End::Up => Code::CANCEL,
                End::Down => Code::NO_ERROR,
            };
            self.stream_code(mesh, stream, code);
        }
        self.mesh_maybe_over(mesh);
    }

    /// Nobody has said anything on the stream, and nobody will.
    pub(super) fn stream_take_back(&mut self, mesh: MeshId, stream: u32) {
        self.stream_release(mesh, stream);
        self.stream_code(mesh, stream, Code::NO_ERROR);
        self.mesh_maybe_over(mesh);
    }

    /// The mesh's own answer: the request reached nobody.
    pub(super) fn stream_refuse(&mut self, mesh: MeshId, stream: u32, failure: Failure) {
        let status = digits(failure.http_status());
        let fields = [
            (&b":status"[..], &status[..]),
            (&b":m-flag"[..], failure.flag().as_bytes()),
        ];
        self.stream_head(mesh, stream, fields, true);
    }

    /// The application has taken a TCP connection.
    pub(super) fn stream_accepted(&mut self, mesh: MeshId, stream: u32) {
        self.stream_head(mesh, stream, [(&b":status"[..], &b"200"[..])], false);
    }

    /// The response head that was just parsed from `bytes`.
    pub(super) fn stream_respond(&mut self, mesh: MeshId, stream: u32, bytes: &[u8], end: bool) {
        let head = std::mem::take(&mut self.response);
        let status = digits(head.status);
        let reason = head.reason.of(bytes);
        let version =
            (head.version == Version::Http10).then_some((&b":m-version"[..], &b"1.0"[..]));
        let other = (reason != canonical_reason(head.status).as_bytes())
            .then_some((&b":m-reason"[..], reason));
        let pseudo = [Some((&b":status"[..], &status[..])), version, other];
        let fields = pseudo.into_iter().flatten().chain(head.fields(bytes));
        self.stream_head(mesh, stream, fields, end);
        self.response = head;
    }

    fn stream_head<'f>(
        &mut self,
        mesh: MeshId,
        stream: u32,
        fields: impl IntoIterator<Item = (&'f [u8], &'f [u8])>,
        end: bool,
    ) {
        self.on_link(mesh, |mesh| {
            if mesh
                .link
                .send_head(stream, fields, end, &mut mesh.out)
                .is_err()
            {
                // Larger than the peer takes: it cannot be told in any other way.
                mesh.link.reset(stream, Code::INTERNAL_ERROR, &mut mesh.out);
            }
        });
    }

    fn on_link(&mut self, id: MeshId, say: impl FnOnce(&mut Mesh)) {
        if let Some(mesh) = self.meshes.get_mut(id) {
            say(mesh);
            self.mesh_mark(id);
        }
    }
}

fn digits(status: u16) -> [u8; 3] {
    [100, 10, 1].map(|place| b'0' + (status / place % 10).to_le_bytes()[0])
}
