// SPDX-License-Identifier: Apache-2.0
//! gRPC in its four kinds, over HTTP/2 in the clear.
//!
//! The messages are declared here by hand, so that the example needs no generated code. It must never end a call without a
//! status. Read `front.rs` for who calls.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use futures_util::{Stream, StreamExt as _, stream};
use http::uri::PathAndQuery;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::client::Grpc as Client;
use tonic::codec::Streaming;
use tonic::server::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::service_fn;

use crate::client::DEADLINE;
use crate::server::{each, listen};
use crate::stop::{Phase, Stop};

/// One rate for one answer.
const NOW: &str = "/loom.Rates/Now";
/// One question, several answers.
const LATEST: &str = "/loom.Rates/Latest";
/// Several questions, one answer.
const MEAN: &str = "/loom.Rates/Mean";
/// An answer to each question while more are asked.
const FOLLOW: &str = "/loom.Rates/Follow";

/// Messages in a stream.
const COUNT: u32 = 3;

/// Question and answer.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Rate {
    #[prost(uint32, tag = "1")]
    number: u32,
    #[prost(string, tag = "2")]
    marker: String,
}

type Answers = Pin<Box<dyn Stream<Item = Result<Rate, Status>> + Send>>;

/// The service.
#[derive(Clone, Debug)]
struct Rates {
    marker: Arc<str>,
}

/// Serves the rates on `port` until `stop`.
pub(crate) async fn serve(port: u16, marker: String, stop: Stop) -> anyhow::Result<()> {
    let rates = Rates {
        marker: marker.into(),
    };
    each(listen(port).await?, stop, move |socket, stop| {
        connection(socket, rates.clone(), stop)
    })
    .await
}

async fn connection(socket: TcpStream, rates: Rates, mut stop: Stop) {
    let service = hyper::service::service_fn(move |request: http::Request<Incoming>| {
        let rates = rates.clone();
        async move { Ok::<_, Infallible>(rates.answer(request).await) }
    });
    let connection =
        http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // A client that breaks off is its own business.
        _ = connection.as_mut() => return,
        // Says GOAWAY, and answers what was asked before.
        () = stop.reached(Phase::Closing) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

// === impl Rates ===

impl Rates {
    fn rate(&self, number: u32) -> Rate {
        Rate {
            number,
            marker: self.marker.to_string(),
        }
    }

    async fn answer(self, request: http::Request<Incoming>) -> http::Response<Body> {
        let mut grpc = Grpc::new(ProstCodec::<Rate, Rate>::default());
        match request.uri().path() {
            NOW => {
                let now = service_fn(|asked: Request<Rate>| {
                    let answer = self.rate(asked.get_ref().number);
                    async { Ok::<_, Status>(Response::new(answer)) }
                });
                grpc.unary(now, request).await
            }
            LATEST => {
                let latest = service_fn(|asked: Request<Rate>| {
                    let rates: Vec<_> = (0..asked.get_ref().number.min(COUNT))
                        .map(|number| Ok::<_, Status>(self.rate(number)))
                        .collect();
                    async { Ok::<_, Status>(Response::new(stream::iter(rates))) }
                });
                grpc.server_streaming(latest, request).await
            }
            MEAN => {
                let rates = &self;
                let mean = service_fn(|asked: Request<Streaming<Rate>>| async move {
                    let mut asked = asked.into_inner();
                    let (mut sum, mut count) = (0_u32, 0);
                    while let Some(rate) = asked.message().await? {
                        sum = sum.saturating_add(rate.number);
                        count += 1;
                    }
                    Ok::<_, Status>(Response::new(
                        rates.rate(sum.checked_div(count).unwrap_or(0)),
                    ))
                });
                grpc.client_streaming(mean, request).await
            }
            FOLLOW => {
                let follow = service_fn(|asked: Request<Streaming<Rate>>| {
                    let rates = self.clone();
                    let answers = asked
                        .into_inner()
                        .map(move |asked| asked.map(|asked| rates.rate(asked.number)));
                    let answers: Answers = Box::pin(answers);
                    async { Ok::<_, Status>(Response::new(answers)) }
                });
                grpc.streaming(follow, request).await
            }
            other => Status::unimplemented(format!("no method {other}")).into_http(),
        }
    }
}

/// The client: all calls go over one channel.
#[derive(Clone, Debug)]
pub(crate) struct Desk {
    marker: String,
    channel: Channel,
}

// === impl Desk ===

impl Desk {
    /// A client of `to` (host:port). It connects with the first call and again after each loss.
    pub(crate) fn new(marker: String, to: &str) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{to}"))
            .with_context(|| format!("{to} is no host:port"))?;
        let channel = endpoint.tcp_nodelay(true).connect_lazy();
        Ok(Self { marker, channel })
    }

    /// Calls each method once.
    pub(crate) async fn visit(&self) -> anyhow::Result<String> {
        let calls = async {
            self.now().await.context(NOW)?;
            self.latest().await.context(LATEST)?;
            let mean = self.mean().await.context(MEAN)?;
            self.follow().await.context(FOLLOW)?;
            anyhow::Ok(mean)
        };
        let mean = timeout(DEADLINE, calls)
            .await
            .context("the rates did not answer in time")??;
        Ok(format!("rates {} mean {mean}\n", self.marker))
    }

    async fn now(&self) -> anyhow::Result<()> {
        let (mut client, codec) = self.client().await?;
        let asked = Request::new(self.rate(7));
        let answer: Response<Rate> = client.unary(asked, path(NOW), codec).await?;
        self.check(answer.get_ref(), 7)
    }

    async fn latest(&self) -> anyhow::Result<()> {
        let (mut client, codec) = self.client().await?;
        let asked = Request::new(self.rate(COUNT));
        let answers: Response<Streaming<Rate>> =
            client.server_streaming(asked, path(LATEST), codec).await?;
        let mut answers = answers.into_inner();
        for number in 0..COUNT {
            let answer = answers.message().await?.context("too few answers")?;
            self.check(&answer, number)?;
        }
        ensure!(answers.message().await?.is_none(), "too many answers");
        Ok(())
    }

    async fn mean(&self) -> anyhow::Result<u32> {
        let (mut client, codec) = self.client().await?;
        let asked: Vec<_> = (0..COUNT).map(|number| self.rate(number)).collect();
        let answer: Response<Rate> = client
            .client_streaming(Request::new(stream::iter(asked)), path(MEAN), codec)
            .await?;
        let mean = (COUNT - 1) / 2;
        self.check(answer.get_ref(), mean)?;
        Ok(mean)
    }

    /// Asks again only when the last question was answered.
    async fn follow(&self) -> anyhow::Result<()> {
        let (mut client, codec) = self.client().await?;
        let (ask, asked) = mpsc::channel(1);
        ask.send(self.rate(0)).await?;
        let asked = Request::new(ReceiverStream::new(asked));
        let answers: Response<Streaming<Rate>> =
            client.streaming(asked, path(FOLLOW), codec).await?;
        let mut answers = answers.into_inner();
        for number in 0..COUNT {
            let answer = answers.message().await?.context("too few answers")?;
            self.check(&answer, number)?;
            ask.send(self.rate(number + 1)).await?;
        }
        drop(ask);
        let last = answers.message().await?.context("too few answers")?;
        self.check(&last, COUNT)?;
        ensure!(answers.message().await?.is_none(), "too many answers");
        Ok(())
    }

    async fn client(&self) -> anyhow::Result<(Client<Channel>, ProstCodec<Rate, Rate>)> {
        let mut client = Client::new(self.channel.clone());
        client.ready().await?;
        Ok((client, ProstCodec::default()))
    }

    fn rate(&self, number: u32) -> Rate {
        Rate {
            number,
            marker: self.marker.clone(),
        }
    }

    fn check(&self, answer: &Rate, number: u32) -> anyhow::Result<()> {
        ensure!(*answer == self.rate(number), "the answer was {answer:?}");
        Ok(())
    }
}

const fn path(of: &'static str) -> PathAndQuery {
    PathAndQuery::from_static(of)
}
