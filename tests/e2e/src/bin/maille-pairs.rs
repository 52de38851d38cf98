// SPDX-License-Identifier: Apache-2.0
//! Who talks to whom, in every way: `maille-pairs serve NAME` answers by HTTP/1.1, gRPC and a protocol that nobody knows, each with its name and whom
//! it sees; `maille-pairs ask HOST...` asks each in each way and prints a line of JSON a host, `through BY HOST...` has the server BY do so; `maille-pairs time
//! HOST COUNT` asks one after the other on one connection, then on a new connection each, then for much at once, and prints how long that takes. It knows
//! nothing of a mesh. Read `tests/cluster/tests/sandboxed.rs` for who runs it.

#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::io::Write as _;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

const HTTP: u16 = 8080;
const GRPC: u16 = 8081;
const TCP: u16 = 8082;
/// What nobody takes for another protocol.
const HELLO: &[u8] = b"\0\x01\xffhello\n";
/// Where much is to be had at once, and how many bytes.
const MUCH: (&str, usize) = ("/much", 16 << 20);
/// How long one question may take.
const DEADLINE: Duration = Duration::from_secs(10);

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["serve", name] => serve(name).await,
        ["ask", ref hosts @ ..] => {
            for host in hosts {
                print(&ask(host).await)?;
            }
            Ok(())
        }
        ["through", by, ref hosts @ ..] => {
            let path = format!("/ask/{}", hosts.join(","));
            let told = get(&mut open(by).await?, by, &path).await?;
            Ok(std::io::stdout().write_all(told.as_bytes())?)
        }
        ["time", host, count] => print(&time(host, count.parse()?).await?),
        _ => bail!("serve NAME, ask HOST..., through HOST HOST..., or time HOST COUNT"),
    }
}

fn print(value: &Value) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{value}")?)
}

async fn serve(name: &str) -> anyhow::Result<()> {
    let name: Arc<str> = name.into();
    tokio::try_join!(
        each(HTTP, name.clone(), http),
        each(GRPC, name.clone(), grpc),
        each(TCP, name, tcp)
    )
    .map(drop)
}

/// Who answers, and whom it sees.
fn said(name: &str, socket: &TcpStream) -> anyhow::Result<Bytes> {
    let peer = socket.peer_addr()?.ip().to_canonical();
    Ok(Bytes::from(format!("{name} {peer}\n")))
}

async fn each<W>(port: u16, name: Arc<str>, work: fn(TcpStream, Bytes) -> W) -> anyhow::Result<()>
where
    W: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await?;
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let (socket, _) = listener.accept().await?;
        let _ = socket.set_nodelay(true);
        // Whoever has gone already is told nothing.
        if let Ok(said) = said(&name, &socket) {
            connections.spawn(work(socket, said));
        }
    }
}

async fn http(socket: TcpStream, said: Bytes) -> anyhow::Result<()> {
    let service = service_fn(move |request: Request<Incoming>| {
        let said = said.clone();
        async move {
            let path = request.uri().path();
            let body = match path.strip_prefix("/ask/") {
                Some(hosts) => asked(hosts).await,
                None if path == MUCH.0 => Bytes::from(vec![b'x'; MUCH.1]),
                None => said,
            };
            Ok::<_, Infallible>(Response::new(Full::new(body)))
        }
    });
    let builder = hyper::server::conn::http1::Builder::new();
    Ok(builder
        .serve_connection(TokioIo::new(socket), service)
        .await?)
}

/// What it hears itself from hosts, told to whoever cannot start a program beside it.
async fn asked(hosts: &str) -> Bytes {
    let mut told = String::new();
    for host in hosts.split(',') {
        told.push_str(&format!("{}\n", ask(host).await));
    }
    Bytes::from(told)
}

async fn grpc(socket: TcpStream, said: Bytes) -> anyhow::Result<()> {
    let mut connection = h2::server::handshake(socket).await?;
    while let Some(accepted) = connection.accept().await {
        let (_, mut respond) = accepted?;
        let mut head = Response::new(());
        let kind = HeaderValue::from_static("application/grpc");
        head.headers_mut().insert("content-type", kind);
        let mut send = respond.send_response(head, false)?;
        send.send_data(said.clone(), false)?;
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        send.send_trailers(trailers)?;
    }
    Ok(())
}

async fn tcp(mut socket: TcpStream, said: Bytes) -> anyhow::Result<()> {
    let mut hello = [0; HELLO.len()];
    socket.read_exact(&mut hello).await?;
    ensure!(hello == HELLO, "{hello:?}");
    Ok(socket.write_all(&said).await?)
}

/// What came of each way.
async fn ask(host: &str) -> Value {
    let told = |outcome: Result<anyhow::Result<String>, _>| match outcome {
        Ok(Ok(said)) => json!({ "said": said.trim() }),
        Ok(Err(error)) => json!({ "error": format!("{error:#}") }),
        Err(_) => json!({ "error": format!("no answer in {DEADLINE:?}") }),
    };
    let (http, grpc, tcp) = tokio::join!(
        timeout(DEADLINE, ask_http(host)),
        timeout(DEADLINE, ask_grpc(host)),
        timeout(DEADLINE, ask_tcp(host)),
    );
    json!({"host": host, "http": told(http), "grpc": told(grpc), "tcp": told(tcp)})
}

async fn connect(host: &str, port: u16) -> anyhow::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port))
        .await
        .context("no address")?
        .collect();
    let socket = TcpStream::connect(&addresses[..])
        .await
        .context("failed to connect")?;
    let _ = socket.set_nodelay(true);
    Ok(socket)
}

/// As it stands in a URL.
fn authority(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

type Sender = hyper::client::conn::http1::SendRequest<Empty<Bytes>>;

async fn open(host: &str) -> anyhow::Result<Sender> {
    let socket = connect(host, HTTP).await?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
    drop(tokio::runtime::Handle::current().spawn(connection));
    Ok(sender)
}

async fn get(sender: &mut Sender, host: &str, path: &str) -> anyhow::Result<String> {
    sender.ready().await?;
    let request = Request::get(path).header("host", authority(host, HTTP));
    let response = sender.send_request(request.body(Empty::new())?).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    let body = String::from_utf8_lossy(&body).into_owned();
    ensure!(status.is_success(), "{status}: {}", body.trim());
    Ok(body)
}

async fn ask_http(host: &str) -> anyhow::Result<String> {
    get(&mut open(host).await?, host, "/").await
}

async fn ask_grpc(host: &str) -> anyhow::Result<String> {
    let socket = connect(host, GRPC).await?;
    let (client, connection) = h2::client::handshake(socket).await?;
    drop(tokio::runtime::Handle::current().spawn(connection));
    let mut client = client.ready().await?;
    let uri = format!("http://{}/pairs.Who/Ask", authority(host, GRPC));
    let request = Request::post(uri)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (response, _) = client.send_request(request, true)?;
    let response = response.await?;
    ensure!(response.status().is_success(), "{}", response.status());
    if let Some(status) = response.headers().get("grpc-status") {
        bail!("{status:?}: {:?}", response.headers().get("grpc-message"));
    }
    let mut receive = response.into_body();
    let mut body = Vec::new();
    while let Some(data) = receive.data().await {
        body.extend(data?);
    }
    let trailers = receive.trailers().await?.context("no status")?;
    ensure!(
        trailers.get("grpc-status").is_some_and(|code| code == "0"),
        "{trailers:?}"
    );
    Ok(String::from_utf8(body)?)
}

async fn ask_tcp(host: &str) -> anyhow::Result<String> {
    let mut socket = connect(host, TCP).await?;
    socket.write_all(HELLO).await?;
    let mut said = String::new();
    socket.read_to_string(&mut said).await?;
    ensure!(!said.is_empty(), "closed without a word");
    Ok(said)
}

/// Microseconds of `count` requests, one after the other on one connection; how many of a quarter as many were answered in a second on a connection each; and
/// how many MB came in a second at once.
async fn time(host: &str, count: usize) -> anyhow::Result<Value> {
    ensure!(count > 3, "COUNT is at least four");
    let mut sender = open(host).await?;
    let mut all = Vec::with_capacity(count);
    for _ in 0..count {
        let begin = Instant::now();
        timeout(DEADLINE, get(&mut sender, host, "/")).await??;
        all.push(begin.elapsed().as_micros());
    }
    all.sort_unstable();
    let at = |share: usize| all.get(count * share / 100).copied().unwrap_or_default();
    let [p50, p99] = [at(50), at(99)].map(|value| u64::try_from(value).unwrap_or(u64::MAX));
    let begin = Instant::now();
    for _ in 0..count / 4 {
        timeout(DEADLINE, ask_http(host)).await??;
    }
    let connections = (count / 4) as f64 / begin.elapsed().as_secs_f64();
    let begin = Instant::now();
    let much = timeout(DEADLINE, get(&mut sender, host, MUCH.0)).await??;
    ensure!(much.len() == MUCH.1, "{} bytes", much.len());
    let megabytes = MUCH.1 as f64 / 1e6 / begin.elapsed().as_secs_f64();
    Ok(
        json!({"host": host, "requests": count, "p50_us": p50, "p99_us": p99,
        "connections_per_s": connections.round(), "mb_per_s": megabytes.round()}),
    )
}
