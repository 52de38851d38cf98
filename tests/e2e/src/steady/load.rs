// SPDX-License-Identifier: Apache-2.0
//! The client: an open loop of requests over kept connections, and streams that stay open with a word now and then. It never sends
//! anything twice, and counts what was not answered. That the server ends a stream in order is its right; then there is a next one.
//!
//! It tells on standard output how far it is, one JSON object a line, once a second and at the end, which SIGUSR1 asks for.

use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use h2::RecvStream;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message;

use super::{GRPC, HTTP, METHOD, WEBSOCKET};

/// How long an answer may take, connecting included.
const DEADLINE: Duration = Duration::from_secs(7);
/// Between two words on a stream.
const PAUSE: Duration = Duration::from_millis(50);
/// Different errors that are quoted.
const QUOTED: usize = 8;
/// One request in so many takes a while to be answered.
const SLOW_ONE_IN: u64 = 8;

/// What to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server's name.
    pub host: String,
    /// Requests a second.
    pub rate: u32,
    /// Connections for them.
    pub connections: u32,
    /// Streams of each kind.
    pub streams: u32,
}

#[derive(Debug)]
struct Tally {
    next: u64,
    requests: u64,
    words: u64,
    failed: u64,
    errors: Vec<String>,
    over: bool,
    last_success: Instant,
    longest_gap: Duration,
}

#[derive(Debug)]
struct Plan {
    options: Options,
    begin: Instant,
    tally: Mutex<Tally>,
}

/// How a stream ended.
enum End {
    /// The server wished it, in order.
    Farewell,
    /// The load is over.
    Over,
}

/// Runs until SIGUSR1, sums up, and stays until SIGTERM.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let mut enough = signal(SignalKind::user_defined1()).context("failed to watch SIGUSR1")?;
    let mut term = signal(SignalKind::terminate()).context("failed to watch SIGTERM")?;
    tokio::select! {
        () = served(&options.host) => {}
        _ = term.recv() => return Ok(()),
    }
    let plan = Arc::new(Plan::new(options));
    let mut work = JoinSet::new();
    for _ in 0..plan.options.connections {
        work.spawn(requests(plan.clone()));
    }
    for _ in 0..plan.options.streams {
        let (grpc, websocket) = (plan.clone(), plan.clone());
        work.spawn(async move { held(&grpc, "gRPC stream", || talk(&grpc)).await });
        work.spawn(async move { held(&websocket, "WebSocket", || chat(&websocket)).await });
    }
    let mut tick = interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = tick.tick() => say(&plan.told("progress"))?,
            _ = enough.recv() => break,
            _ = term.recv() => break,
        }
    }
    plan.tally().over = true;
    // What is under way still counts.
    while work.join_next().await.is_some() {}
    say(&plan.told("summary"))?;
    term.recv().await;
    Ok(())
}

fn say(line: &serde_json::Value) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Waits until each protocol has been answered once: nobody promises anything before.
async fn served(host: &str) {
    let mut tick = interval(PAUSE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let once = async {
            ask(&mut None, host, "/").await?;
            let mut talk = Talk::open(host).await?;
            talk.word(b"hello").await?;
            let mut chat = connect_websocket(host).await?;
            chat.send(Message::text("hello")).await?;
            chat.next().await.context("closed")??;
            anyhow::Ok(())
        };
        if matches!(timeout(DEADLINE, once).await, Ok(Ok(()))) {
            return;
        }
    }
}

async fn requests(plan: Arc<Plan>) {
    let mut connection = None;
    while let Some(number) = plan.next() {
        let gap = Duration::from_secs(1) / plan.options.rate;
        let after = gap.as_nanos().saturating_mul(number.into());
        let after = Duration::from_nanos(u64::try_from(after).unwrap_or(u64::MAX));
        sleep_until(plan.begin + after).await;
        let path = if number.is_multiple_of(SLOW_ONE_IN) {
            "/slow"
        } else {
            "/"
        };
        let once = ask(&mut connection, &plan.options.host, path);
        let outcome = match timeout(DEADLINE, once).await {
            Ok(outcome) => outcome,
            Err(_) => Err(anyhow::anyhow!("no answer in {DEADLINE:?}")),
        };
        if outcome.is_err() {
            connection = None;
        }
        plan.count(outcome.map(|()| true).context("request"));
    }
}

type Connection = SendRequest<Empty<Bytes>>;

async fn ask(kept: &mut Option<Connection>, host: &str, path: &str) -> anyhow::Result<()> {
    // One that the other side closed between two requests is no failure of either.
    let usable = match kept {
        Some(connection) => connection.ready().await.is_ok(),
        None => false,
    };
    let connection = match kept {
        Some(connection) if usable => connection,
        _ => {
            let socket = connect(host, HTTP).await?;
            let (sender, connection) = handshake(TokioIo::new(socket)).await?;
            drop(tokio::runtime::Handle::current().spawn(connection));
            kept.insert(sender)
        }
    };
    let request = Request::get(path).header("host", host).body(Empty::new())?;
    let response = connection.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    ensure!(
        status.is_success(),
        "{status}: {}",
        String::from_utf8_lossy(&body).trim()
    );
    ensure!(body == "here\n", "another answer: {body:?}");
    Ok(())
}

async fn connect(host: &str, port: u16) -> anyhow::Result<TcpStream> {
    let socket = TcpStream::connect((host, port))
        .await
        .context("failed to connect")?;
    let _ = socket.set_nodelay(true);
    Ok(socket)
}

/// One stream after another, until the load is over.
async fn held<F: Future<Output = anyhow::Result<End>>>(
    plan: &Plan,
    what: &'static str,
    stream: impl Fn() -> F,
) {
    let mut tick = interval(PAUSE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        match stream().await {
            Ok(End::Farewell) => {}
            Ok(End::Over) => return,
            Err(error) => plan.count(Err(error.context(what))),
        }
        if plan.tally().over {
            return;
        }
        tick.tick().await;
    }
}

/// A gRPC stream.
struct Talk {
    send: h2::SendStream<Bytes>,
    receive: RecvStream,
}

impl Talk {
    async fn open(host: &str) -> anyhow::Result<Self> {
        let socket = connect(host, GRPC).await?;
        let (client, connection) = h2::client::handshake(socket).await?;
        drop(tokio::runtime::Handle::current().spawn(connection));
        let mut client = client.ready().await?;
        let request = Request::post(format!("http://{host}:{GRPC}{METHOD}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        let (response, send) = client.send_request(request, false)?;
        let response = response.await?;
        ensure!(response.status().is_success(), "{}", response.status());
        let receive = response.into_body();
        Ok(Self { send, receive })
    }

    /// Says a word and waits for it to come back. `false`: the server has ended the stream in order instead.
    async fn word(&mut self, word: &'static [u8]) -> anyhow::Result<bool> {
        // That the server has ended meanwhile is told by what it has sent.
        let _ = self.send.send_data(Bytes::from_static(word), false);
        let mut missing = word.len();
        while missing > 0 {
            match self.receive.data().await {
                Some(data) => {
                    let data = data?;
                    self.receive.flow_control().release_capacity(data.len())?;
                    missing = missing.checked_sub(data.len()).context("too many bytes")?;
                }
                None => {
                    let trailers = self.receive.trailers().await?.context("no status")?;
                    ensure!(
                        trailers
                            .get("grpc-status")
                            .is_some_and(|status| status == "0"),
                        "{trailers:?}"
                    );
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

async fn talk(plan: &Plan) -> anyhow::Result<End> {
    let mut talk = timeout(DEADLINE, Talk::open(&plan.options.host)).await??;
    let mut tick = interval(PAUSE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !plan.tally().over {
        tick.tick().await;
        if !timeout(DEADLINE, talk.word(b"a word")).await?? {
            return Ok(End::Farewell);
        }
        plan.count(Ok(false));
    }
    Ok(End::Over)
}

type Chat = tokio_tungstenite::WebSocketStream<TcpStream>;

async fn connect_websocket(host: &str) -> anyhow::Result<Chat> {
    let socket = connect(host, WEBSOCKET).await?;
    let (chat, _) =
        tokio_tungstenite::client_async(format!("ws://{host}:{WEBSOCKET}/"), socket).await?;
    Ok(chat)
}

async fn chat(plan: &Plan) -> anyhow::Result<End> {
    let mut chat = timeout(DEADLINE, connect_websocket(&plan.options.host)).await??;
    let mut tick = interval(PAUSE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !plan.tally().over {
        tick.tick().await;
        // That the server has closed meanwhile is told by what it has sent.
        let _ = chat.send(Message::text("a word")).await;
        match timeout(DEADLINE, chat.next())
            .await?
            .context("ended without a farewell")??
        {
            Message::Text(text) if text.as_str() == "a word" => plan.count(Ok(false)),
            Message::Close(_) => {
                while let Some(Ok(_)) = timeout(DEADLINE, chat.next()).await? {}
                return Ok(End::Farewell);
            }
            other => bail!("another answer: {other:?}"),
        }
    }
    Ok(End::Over)
}

// === impl Plan ===

impl Plan {
    fn new(options: Options) -> Self {
        let begin = Instant::now();
        Self {
            options,
            begin,
            tally: Mutex::new(Tally {
                next: 0,
                requests: 0,
                words: 0,
                failed: 0,
                errors: Vec::new(),
                over: false,
                last_success: begin,
                longest_gap: Duration::ZERO,
            }),
        }
    }

    fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next request's number; `None` when the load is over.
    fn next(&self) -> Option<u64> {
        let mut tally = self.tally();
        tally.next += 1;
        (!tally.over).then_some(tally.next)
    }

    /// `true`: a request was answered; `false`: a word on a stream was.
    fn count(&self, outcome: anyhow::Result<bool>) {
        let mut tally = self.tally();
        match outcome {
            Ok(true) => {
                tally.requests += 1;
                let now = Instant::now();
                tally.longest_gap = tally.longest_gap.max(now - tally.last_success);
                tally.last_success = now;
            }
            Ok(false) => tally.words += 1,
            Err(error) => {
                tally.failed += 1;
                let text = format!("{error:#}");
                if tally.errors.len() < QUOTED && !tally.errors.contains(&text) {
                    tally.errors.push(text);
                }
            }
        }
    }

    fn told(&self, event: &str) -> serde_json::Value {
        let seconds = self.begin.elapsed().as_secs_f64();
        let tally = self.tally();
        json!({
            "event": event,
            "requests": tally.requests,
            "words": tally.words,
            "failed": tally.failed,
            "seconds": seconds,
            "longest_gap_ms": tally.longest_gap.as_secs_f64() * 1000.0,
            "errors": tally.errors,
        })
    }
}
