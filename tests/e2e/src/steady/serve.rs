// SPDX-License-Identifier: Apache-2.0
//! The server. It takes its time to begin, and answers 503 until then; told to stop it takes no new connection, answers what it was
//! asked, says goodbye in each protocol's way, and ends.

use std::convert::Infallible;
use std::future::Future;
use std::net::Ipv6Addr;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::{GRPC, HTTP, WEBSOCKET};

/// How long an answer to `/slow` takes: so that there is always one under way.
const SLOW: Duration = Duration::from_millis(50);
/// How long what is open may take at the end.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// `true`: it is to stop.
type Leaving = watch::Receiver<bool>;

/// Serves until SIGTERM. `warmup`: how long it needs until it can do its work.
pub async fn run(warmup: Duration) -> anyhow::Result<()> {
    let mut term = signal(SignalKind::terminate()).context("failed to watch SIGTERM")?;
    let (leave, leaving) = watch::channel(false);
    let able = Instant::now() + warmup;
    let http = each(HTTP, leaving.clone(), move |socket, leaving| {
        http(socket, leaving, able)
    });
    let grpc = each(GRPC, leaving.clone(), grpc);
    let websocket = each(WEBSOCKET, leaving, websocket);
    let stop = async {
        term.recv().await;
        leave.send_replace(true);
        Ok(())
    };
    tokio::try_join!(http, grpc, websocket, stop).map(drop)
}

/// Waits until it is to stop.
async fn left(leaving: &mut Leaving) {
    // Without a sender the process has ended.
    let _ = leaving.wait_for(|leaving| *leaving).await;
}

async fn each<W>(
    port: u16,
    mut leaving: Leaving,
    work: impl Fn(TcpStream, Leaving) -> W,
) -> anyhow::Result<()>
where
    W: Future<Output: Send> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await;
    let listener = listener.with_context(|| format!("failed to listen on {port}"))?;
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        tokio::select! {
            accepted = listener.accept() => {
                let (socket, _) = accepted.context("failed to accept")?;
                let _ = socket.set_nodelay(true);
                connections.spawn(work(socket, leaving.clone()));
            }
            () = left(&mut leaving) => break,
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    // What is left is cut by leaving.
    let _ = timeout(LAST_WORDS, all).await;
    Ok(())
}

async fn http(socket: TcpStream, mut leaving: Leaving, able: Instant) {
    let service = hyper::service::service_fn(move |request: Request<Incoming>| async move {
        let mut response = Response::new(Full::new(Bytes::from_static(b"here\n")));
        if Instant::now() < able {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        } else if request.uri().path() == "/slow" {
            sleep_until(Instant::now() + SLOW).await;
        }
        Ok::<_, Infallible>(response)
    });
    let builder = hyper::server::conn::http1::Builder::new();
    let connection = builder.serve_connection(TokioIo::new(socket), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // A client that breaks off is its own business.
        _ = connection.as_mut() => return,
        () = left(&mut leaving) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

async fn grpc(socket: TcpStream, mut leaving: Leaving) {
    let Ok(mut connection) = h2::server::handshake(socket).await else {
        return;
    };
    let mut streams = JoinSet::new();
    let mut told = false;
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    streams.spawn(talk(request, respond, leaving.clone()));
                }
                // Over, or broken off.
                Some(Err(_)) | None => break,
            },
            () = left(&mut leaving), if !told => {
                told = true;
                connection.graceful_shutdown();
            }
        }
    }
}

/// Sends back what comes, until the client or this process has had enough; then a status.
async fn talk(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    mut leaving: Leaving,
) {
    let mut head = Response::new(());
    let kind = HeaderValue::from_static("application/grpc");
    head.headers_mut().insert("content-type", kind);
    let Ok(mut send) = respond.send_response(head, false) else {
        return;
    };
    let mut body = request.into_body();
    loop {
        tokio::select! {
            biased;
            data = body.data() => match data {
                Some(Ok(data)) => {
                    // What is held up here is a few bytes a message.
                    let _ = body.flow_control().release_capacity(data.len());
                    if send.send_data(data, false).is_err() {
                        return;
                    }
                }
                Some(Err(_)) => return send.send_reset(Reason::CANCEL),
                None => break,
            },
            () = left(&mut leaving) => break,
        }
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    // The client has gone.
    let _ = send.send_trailers(trailers);
    // What it says until it has heard is not needed any more, and no error.
    let rest = async { while let Some(Ok(_)) = body.data().await {} };
    let _ = timeout(Duration::from_secs(1), rest).await;
}

async fn websocket(socket: TcpStream, mut leaving: Leaving) {
    let Ok(mut talk) = tokio_tungstenite::accept_async(socket).await else {
        return;
    };
    loop {
        tokio::select! {
            biased;
            message = talk.next() => match message {
                Some(Ok(message)) if message.is_text() => {
                    if talk.send(message).await.is_err() {
                        return;
                    }
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {}
            },
            () = left(&mut leaving) => break,
        }
    }
    let farewell = CloseFrame {
        code: CloseCode::Away,
        reason: "leaving".into(),
    };
    if talk.close(Some(farewell)).await.is_ok() {
        while let Some(Ok(_)) = talk.next().await {}
    }
}
