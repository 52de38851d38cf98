// SPDX-License-Identifier: Apache-2.0
//! The question of gRPC's health protocol (`grpc.health.v1.Health/Check`), asked over a connection that is there already.
//!
//! The two messages are so small that they are declared here.

use std::net::SocketAddr;

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::client::Grpc;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;
use tower::service_fn;

/// `HealthCheckRequest`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Question {
    #[prost(string, tag = "1")]
    service: String,
}

/// `HealthCheckResponse`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
struct Answer {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// `ServingStatus.SERVING`.
const SERVING: i32 = 1;

/// Whether `service` (all, where it is empty) serves; otherwise why not.
pub(super) async fn check(
    stream: TcpStream,
    address: SocketAddr,
    service: &str,
) -> Result<(), String> {
    let uri: Uri = format!("http://{address}").parse().map_err(text)?;
    let mut stream = Some(TokioIo::new(stream));
    let connect = service_fn(move |_: Uri| {
        let stream = stream.take().ok_or("the connection was used up");
        std::future::ready(stream)
    });
    let endpoint = Endpoint::from(uri);
    let channel = endpoint.connect_with_connector(connect).await;
    let mut client = Grpc::new(channel.map_err(text)?);
    client.ready().await.map_err(text)?;
    let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let question = tonic::Request::new(Question {
        service: service.to_owned(),
    });
    let codec: ProstCodec<Question, Answer> = ProstCodec::default();
    let answer = client.unary(question, path, codec).await;
    let answer = answer.map_err(|status| match status.message() {
        "" => format!("{:?}", status.code()),
        said => format!("{:?}: {said}", status.code()),
    })?;
    match answer.into_inner().status {
        SERVING => Ok(()),
        0 => Err("UNKNOWN".to_owned()),
        2 => Err("NOT_SERVING".to_owned()),
        3 => Err("SERVICE_UNKNOWN".to_owned()),
        other => Err(format!("status {other}")),
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
