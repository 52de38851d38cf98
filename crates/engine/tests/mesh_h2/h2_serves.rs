// SPDX-License-Identifier: Apache-2.0
//! `h2` as server, our side asks.

use std::collections::HashMap;
use std::future::poll_fn;

use bytes::Bytes;
use h2::RecvStream;
use http::{Request, Response};
use maille_engine::http2::{Code, Connection, Settings};
use tokio::io::DuplexStream;
use tokio::task::JoinSet;

use crate::ours::{Ours, Told, pattern};

/// Answers one request by `h2`.
async fn serve(request: Request<RecvStream>, mut respond: h2::server::SendResponse<Bytes>) {
    let (parts, mut body) = request.into_parts();
    if parts.uri.path() == "/reset" {
        return respond.send_reset(h2::Reason::CONNECT_ERROR);
    }
    let mut response = Response::builder().header("x-path", parts.uri.path());
    for (name, value) in &parts.headers {
        response = response.header(name, value);
    }
    let response = response.body(()).unwrap();
    let mut sending = respond.send_response(response, false).unwrap();
    while let Some(bytes) = body.data().await {
        // The client may have gone.
        let Ok(bytes) = bytes else { return };
        let _ = body.flow_control().release_capacity(bytes.len());
        let mut rest = bytes;
        while !rest.is_empty() {
            sending.reserve_capacity(rest.len());
            let Some(Ok(room)) = poll_fn(|cx| sending.poll_capacity(cx)).await else {
                return;
            };
            let now = rest.split_to(room.min(rest.len()));
            if sending.send_data(now, false).is_err() {
                return;
            }
        }
    }
    let _ = sending.send_data(Bytes::new(), true);
}

async fn h2_server(io: DuplexStream, window: u32, streams: u32, leave_after: usize) {
    let builder = h2::server::Builder::new()
        .initial_window_size(window)
        .max_concurrent_streams(streams)
        .to_owned();
    let mut connection = builder.handshake::<_, Bytes>(io).await.unwrap();
    let mut tasks = JoinSet::new();
    let mut accepted = 0;
    while let Some(request) = connection.accept().await {
        let Ok((request, respond)) = request else {
            break;
        };
        tasks.spawn(serve(request, respond));
        accepted += 1;
        if accepted == leave_after {
            connection.graceful_shutdown();
        }
    }
    while tasks.join_next().await.is_some() {}
}

/// One request of ours under way.
struct Asked {
    body: Vec<u8>,
    sent: usize,
    got: Vec<u8>,
    status: String,
    over: Option<Code>,
}

struct Client {
    ours: Ours,
    asked: HashMap<u32, Asked>,
    unprocessed: usize,
    left: bool,
}

impl Client {
    fn new(io: DuplexStream) -> Self {
        let ours = Ours::new(io, |out| Connection::client(Settings::mesh(), out));
        Self {
            ours,
            asked: HashMap::new(),
            unprocessed: 0,
            left: false,
        }
    }

    fn open(&mut self, path: &str, body: Vec<u8>) -> u32 {
        let number = self.asked.len().to_string();
        let fields: [(&[u8], &[u8]); 7] = [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":authority", b"127.0.0.1:80"),
            (b":path", path.as_bytes()),
            (b"x-same", b"always"),
            (b"x-number", number.as_bytes()),
            (b"authorization", b"secret"),
        ];
        let stream = self
            .ours
            .link
            .open_stream(0, fields, false, &mut self.ours.out)
            .unwrap();
        let asked = Asked {
            body,
            sent: 0,
            got: Vec::new(),
            status: String::new(),
            over: None,
        };
        self.asked.insert(stream, asked);
        self.push(stream);
        stream
    }

    fn push(&mut self, stream: u32) {
        let Some(asked) = self.asked.get_mut(&stream) else {
            return;
        };
        let rest = &asked.body[asked.sent..];
        asked.sent += self
            .ours
            .link
            .send_data(stream, rest, true, &mut self.ours.out);
    }

    /// Whether there may be more.
    async fn turn(&mut self) -> bool {
        let Some(told) = self.ours.turn().await else {
            return false;
        };
        for told in told {
            match told {
                Told::Head {
                    stream,
                    line,
                    fields,
                    end,
                } => {
                    assert!(fields.contains(&("x-same".to_owned(), "always".to_owned())));
                    assert!(fields.contains(&("authorization".to_owned(), "secret".to_owned())));
                    let asked = self.asked.get_mut(&stream).unwrap();
                    asked.status = line;
                    asked.over = end.then_some(Code::NO_ERROR);
                }
                Told::Data { stream, bytes, end } => {
                    self.ours
                        .link
                        .consumed(stream, bytes.len(), &mut self.ours.out);
                    let asked = self.asked.get_mut(&stream).unwrap();
                    asked.got.extend(bytes);
                    asked.over = end.then_some(Code::NO_ERROR);
                }
                Told::Reset { stream, code } => {
                    self.asked.get_mut(&stream).unwrap().over = Some(code)
                }
                Told::Unprocessed(stream) => {
                    self.asked.remove(&stream);
                    self.unprocessed += 1;
                }
                Told::Writable(stream) => self.push(stream),
                Told::Goaway => self.left = true,
                Told::Settings | Told::Pong => {}
            }
        }
        true
    }

    async fn until(&mut self, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            assert!(self.turn().await, "the server went away");
        }
    }

    fn over(&self, stream: u32) -> Option<Code> {
        self.asked.get(&stream).and_then(|asked| asked.over)
    }
}

async fn our_client(window: u32, streams: u32) {
    let (near, far) = tokio::io::duplex(100_000);
    let mut tasks = JoinSet::new();
    tasks.spawn(h2_server(far, window, streams, usize::MAX));
    let mut client = Client::new(near);
    client.turn().await;
    for number in 0..20 {
        client.until(|client| client.ours.link.can_open()).await;
        assert!(client.ours.link.streams_open() < 4.max(streams as usize));
        client.open("/echo", pattern(number * 61_001, number));
    }
    client
        .until(|client| client.asked.values().all(|asked| asked.over.is_some()))
        .await;
    for asked in client.asked.values() {
        assert_eq!(
            (asked.over, asked.status.as_str()),
            (Some(Code::NO_ERROR), "200")
        );
        assert!(asked.got == asked.body);
    }
    assert_eq!(client.ours.link.streams_open(), 0);
    // Resets of theirs and of ours, and the windows are whole afterwards.
    for round in 0..60 {
        let reset = client.open("/reset", pattern(50_000, round));
        client.until(|client| client.over(reset).is_some()).await;
        assert_eq!(client.over(reset), Some(Code::CONNECT_ERROR));
        let cancelled = client.open("/echo", pattern(200_000, round));
        client
            .until(|client| client.asked[&cancelled].got.len() > 100)
            .await;
        client
            .ours
            .link
            .reset(cancelled, Code::CANCEL, &mut client.ours.out);
    }
    let last = client.open("/echo", pattern(2_000_000, 3));
    client.until(|client| client.over(last).is_some()).await;
    assert!(client.asked[&last].got == client.asked[&last].body);
    drop(client);
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

#[tokio::test]
async fn h2_as_server_with_small_windows() {
    our_client(1000, 4).await;
}

#[tokio::test]
async fn h2_as_server_with_large_windows() {
    our_client(1 << 20, 1000).await;
}

#[tokio::test]
async fn h2_as_server_that_leaves() {
    let (near, far) = tokio::io::duplex(100_000);
    let mut tasks = JoinSet::new();
    tasks.spawn(h2_server(far, 65_535, 100, 3));
    let mut client = Client::new(near);
    for number in 0..3 {
        client.open("/echo", pattern(300_000, number));
    }
    client.until(|client| client.left).await;
    assert!(!client.ours.link.can_open());
    client
        .until(|client| client.asked.values().all(|asked| asked.over.is_some()))
        .await;
    for asked in client.asked.values() {
        assert!(asked.got == asked.body);
    }
    // The server closes when all is done.
    while client.turn().await {}
    assert_eq!(
        (client.ours.link.streams_open(), client.unprocessed),
        (0, 0)
    );
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}
