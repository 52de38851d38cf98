// SPDX-License-Identifier: Apache-2.0
//! HTTP/2 messages: request and response heads, content and trailers, from whichever link they come to whichever they go.
//!
//! What came through another proxy is checked as strictly as what an application said. Must never let a message's content differ from
//! the length that it declares (RFC 9113, section 8.1.1), nor say anything of HTTP/1 to an application. Next: `flow.rs`.

use maille_engine::http1::{Body, Framing, RequestKind};
use maille_engine::http2::{
    Code, Fields, RequestFields, ResponseFields, Target, check_message, content_length,
};

use super::Core;
use super::exchange::{Carries, End, Exchange, Last, RequestFacts, Side};
use super::fields;
use super::head::{ResponseFacts, idempotent};
use crate::table::Id;
use crate::telemetry::Response;

impl Exchange {
    /// Becomes the exchange of an HTTP/2 request. The error is the code to reset its stream with.
    pub(super) fn take_message(
        &mut self,
        request: &RequestFields<'_>,
        target: Target<'_>,
        end: bool,
    ) -> Result<(), Code> {
        let length = content_length(request.fields.iter())?;
        if end && length.is_some_and(|length| length > 0) {
            return Err(Code::PROTOCOL_ERROR);
        }
        fields::push(&mut self.replay, b":method", request.method);
        for (name, value) in target.fields().chain(request.fields.iter()) {
            self.grpc |= name == b"content-type" && value.starts_with(b"application/grpc");
            fields::push(&mut self.replay, name, value);
        }
        self.request_head = RequestFacts {
            length: self.replay.len(),
            kind: match request.method {
                b"HEAD" => RequestKind::Head,
                _ => RequestKind::Other,
            },
            may_tunnel: false,
            idempotent: idempotent(request.method),
        };
        self.request.body = content(length);
        self.request.ended = end;
        self.request.bytes = self.replay.len() as u64;
        if let Some(asked) = &mut self.asked {
            asked.take_message(fields::iter(&self.replay));
        }
        if let Some(tapped) = &mut self.tapped {
            tapped.take_message(fields::iter(&self.replay));
        }
        Ok(())
    }

    /// The head of the request as it was kept.
    pub(super) fn message_head(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        fields::iter(&self.replay[..self.request_head.length])
    }
}

/// Content that ends with the stream, and is as long as it says.
fn content(length: Option<u64>) -> Body {
    Body::new(length.map_or(Framing::UntilClose, Framing::Length))
}

/// What the end of an answer says of a call's outcome.
fn grpc_status<'f>(mut fields: impl Iterator<Item = (&'f [u8], &'f [u8])>) -> Option<u8> {
    let (_, value) = fields.find(|(name, _)| *name == b"grpc-status")?;
    std::str::from_utf8(value).ok()?.parse().ok()
}

impl Core {
    /// The head of an answer, interim or final.
    pub(super) fn message_response(
        &mut self,
        id: Id<Exchange>,
        answer: &ResponseFields<'_>,
        end: bool,
    ) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        let empty =
            exchange.request_head.kind == RequestKind::Head || matches!(answer.status, 204 | 304);
        let length = content_length(answer.fields.iter());
        let lies = match length {
            Ok(Some(length)) => end && length > 0 && !empty,
            Ok(None) => false,
            Err(_) => true,
        };
        let bad = exchange.status != 0
            || lies
            || answer.status == 101
            || check_message(answer.fields.iter()).is_err();
        if bad {
            return self.stream_bad(id, End::Up);
        }
        let said = Response {
            status: answer.status,
            grpc: end.then(|| grpc_status(answer.fields.iter())).flatten(),
        };
        if !answer.interim() && self.answer_is_retried(id, said) {
            return;
        }
        if let Some(exchange) = self.exchanges.get_mut(id) {
            exchange.grpc_status = said.grpc;
        }
        let down = self.exchanges.get(id).map(|exchange| exchange.down);
        if let Some(Side::Stream { link, stream }) = down {
            self.stream_answer((link, stream), answer.status, answer.fields, end);
        }
        if let Some(exchange) = self.exchanges.get_mut(id) {
            exchange.tap_fields(answer.fields.iter());
        }
        let facts = ResponseFacts {
            status: answer.status,
            interim: answer.interim(),
            tunnel: false,
            keep_alive: true,
            body: Body::new(Framing::UntilClose),
        };
        self.note_response(id, facts);
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        if answer.interim() {
            return;
        }
        exchange.response.body = match length {
            _ if empty => Body::new(Framing::None),
            Ok(length) => content(length),
            Err(_) => return,
        };
        if end {
            exchange.response.last = Last::Sent;
            self.end_flow(id, End::Down, Last::End);
        }
    }

    /// Content of a message.
    pub(super) fn message_data(&mut self, id: Id<Exchange>, from: End, bytes: &[u8], end: bool) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        let flow = exchange.toward(from.other());
        let whole = !flow.ended
            && match flow.body.advance(bytes) {
                Ok(step) => step.taken == bytes.len(),
                Err(_) => false,
            };
        if !whole || end && !flow.body.eof() {
            return self.stream_bad(id, from);
        }
        if from == End::Up {
            self.call_answered(id);
        }
        if !bytes.is_empty() {
            match from {
                End::Down => self.forward_request(id, bytes, end),
                End::Up => self.forward(id, End::Down, bytes, end),
            }
        }
        if end {
            self.end_flow(id, from.other(), Last::End);
        }
    }

    /// The trailers of a message: the end of it. They go out behind all content.
    pub(super) fn message_trailers(&mut self, id: Id<Exchange>, from: End, trailers: Fields<'_>) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        let http2 = exchange.carries == Carries::Http2;
        let flow = exchange.toward(from.other());
        if !http2 || flow.ended || !flow.body.eof() {
            return self.stream_bad(id, from);
        }
        let mut kept = self.conns.spare();
        for (name, value) in trailers.iter() {
            fields::push(&mut kept, name, value);
        }
        if from == End::Up {
            exchange.grpc_status = grpc_status(trailers.iter());
        }
        let flow = exchange.toward(from.other());
        flow.bytes += kept.len() as u64;
        flow.trailers = Some(kept);
        if from == End::Up {
            self.call_answered(id);
        }
        self.end_flow(id, from.other(), Last::End);
    }
}
