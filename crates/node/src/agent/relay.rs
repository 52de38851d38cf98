// SPDX-License-Identifier: Apache-2.0
//! One pod's way to control: its proxy's RPCs, message by message, with the workload's uid that the agent attested.
//!
//! It reads no message and holds none: both directions are polled by their receiver, so HTTP/2's windows are the only buffers.
//! What the caller says about who it is never passes.

use std::convert::Infallible;
use std::error::Error as _;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes};
use futures_util::{Stream, StreamExt as _};
use maille_chassis::grpc::MESSAGE_LIMIT;
use tonic::body::Body;
use tonic::client::Grpc as Client;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataValue;
use tonic::server::{Grpc as Server, NamedService, StreamingService};
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

/// The metadata that names the workload.
pub(crate) const WORKLOAD: &str = "maille-workload";

/// A gRPC service that is passed on.
pub(crate) trait Passed: Clone + Send + Sync + 'static {
    const NAME: &'static str;
    const PATHS: &'static [&'static str];
}

/// Delta xDS.
#[derive(Clone, Debug)]
pub(crate) struct Discovery;
/// Certificates.
#[derive(Clone, Debug)]
pub(crate) struct Certificates;
/// Reports.
#[derive(Clone, Debug)]
pub(crate) struct Telemetry;
/// Questions to the proxy, and its answers.
#[derive(Clone, Debug)]
pub(crate) struct Questions;

impl Passed for Discovery {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
    const PATHS: &'static [&'static str] =
        &["/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"];
}

impl Passed for Certificates {
    const NAME: &'static str = "maille.v1.Certificates";
    const PATHS: &'static [&'static str] = &["/maille.v1.Certificates/Sign"];
}

impl Passed for Telemetry {
    const NAME: &'static str = "maille.v1.Telemetry";
    const PATHS: &'static [&'static str] = &["/maille.v1.Telemetry/Report"];
}

impl Passed for Questions {
    const NAME: &'static str = "maille.v1.Questions";
    const PATHS: &'static [&'static str] = &["/maille.v1.Questions/Serve"];
}

/// Passes one service on, for one workload.
#[derive(Clone, Debug)]
pub(crate) struct Relay<P> {
    control: Channel,
    workload: MetadataValue<tonic::metadata::Ascii>,
    passed: PhantomData<P>,
}

// === impl Relay ===

impl<P: Passed> Relay<P> {
    /// `workload` is the attested one's uid.
    pub(crate) fn new(control: Channel, workload: &str) -> Option<Self> {
        Some(Self {
            control,
            workload: workload.parse().ok()?,
            passed: PhantomData,
        })
    }
}

impl<P: Passed> NamedService for Relay<P> {
    const NAME: &'static str = P::NAME;
}

impl<P: Passed> tower::Service<http::Request<Body>> for Relay<P> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let path = P::PATHS.iter().find(|path| **path == request.uri().path());
        let Some(path) = path else {
            return Box::pin(async {
                Ok(Status::unimplemented("not a service of control").into_http())
            });
        };
        let call = Call {
            control: self.control.clone(),
            workload: self.workload.clone(),
            path,
        };
        Box::pin(async move {
            let mut server = Server::new(Raw).max_decoding_message_size(MESSAGE_LIMIT);
            Ok(server.streaming(call, request).await)
        })
    }
}

/// One RPC.
struct Call {
    control: Channel,
    workload: MetadataValue<tonic::metadata::Ascii>,
    path: &'static str,
}

/// What control answers, with errors of the transport told apart.
type Answers = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

impl StreamingService<Bytes> for Call {
    type Response = Bytes;
    type ResponseStream = Answers;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answers>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let mut client = Client::new(self.control.clone()).max_decoding_message_size(MESSAGE_LIMIT);
        let workload = self.workload.clone();
        let path = http::uri::PathAndQuery::from_static(self.path);
        Box::pin(async move {
            client
                .ready()
                .await
                .map_err(|error| gone(&error.to_string()))?;
            // An error of the proxy's stream ends the call; control sees a stream that ended.
            let messages = request
                .into_inner()
                .take_while(|message| std::future::ready(message.is_ok()))
                .filter_map(|message| std::future::ready(message.ok()));
            let mut onward = Request::new(messages);
            onward.metadata_mut().insert(WORKLOAD, workload);
            let answers = client
                .streaming(onward, path, Raw)
                .await
                .map_err(unavailable)?;
            let answers = answers
                .into_inner()
                .map(|message| message.map_err(unavailable));
            Ok(Response::new(Box::pin(answers) as Answers))
        })
    }
}

/// Control's own statuses pass; anything that the transport made up is UNAVAILABLE, after which a proxy connects again.
fn unavailable(status: Status) -> Status {
    if status.source().is_some() {
        gone(status.message())
    } else {
        status
    }
}

fn gone(why: &str) -> Status {
    Status::unavailable(format!("control is away: {why}"))
}

/// Messages as bytes.
#[derive(Clone, Copy, Debug)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

#[cfg(test)]
mod tests;
