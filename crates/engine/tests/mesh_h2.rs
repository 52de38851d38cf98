// SPDX-License-Identifier: Apache-2.0
//! The mesh connection against the `h2` crate, in both roles: as far as the dialect goes it is RFC 9113, and `h2` knows that well.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::collections::HashMap;
use std::future::poll_fn;

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::{Request, Response};
use maille_engine::hpack::List;
use maille_engine::mesh::{Code, Connection, Event, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::task::JoinSet;

/// Our side: a connection, its plaintext, a pipe.
struct Ours {
    link: Connection,
    out: Vec<u8>,
    list: List,
    read: ReadHalf<DuplexStream>,
    write: WriteHalf<DuplexStream>,
}

/// An event that is kept.
#[derive(Debug, PartialEq, Eq)]
enum Told {
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

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn keep(event: Event<'_>) -> Told {
    let list = |fields: maille_engine::mesh::Fields<'_>| -> Vec<(String, String)> {
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
            let line = format!(
                "{} {}",
                text(fields.method),
                text(fields.path.unwrap_or_default())
            );
            Told::Head {
                stream,
                line,
                fields: list(fields.fields),
                end,
            }
        }
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
    fn new(io: DuplexStream, make: impl FnOnce(&mut Vec<u8>) -> Connection) -> Self {
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
    async fn turn(&mut self) -> Option<Vec<Told>> {
        let mut buf = [0; 5003];
        let length = loop {
            tokio::select! {
                biased;
                written = self.write.write(&self.out), if !self.out.is_empty() => {
                    // A peer that has gone may have left something to read.
                    self.out.drain(..written.unwrap_or(self.out.len()));
                }
                read = self.read.read(&mut buf) => break read.ok()?,
            }
        };
        if length == 0 {
            return None;
        }
        let mut told = Vec::new();
        let mut rest = &buf[..length];
        loop {
            let received = self.link.receive(0, rest, &mut self.list, &mut self.out);
            let received = received.expect("h2 keeps to the dialect");
            rest = &rest[received.taken..];
            match received.event {
                Some(event) => told.push(keep(event)),
                None => return Some(told),
            }
        }
    }
}

fn pattern(length: usize, seed: usize) -> Vec<u8> {
    (0..length)
        .map(|n| ((n + seed) % 253).to_le_bytes()[0])
        .collect()
}

/// Answers every request with its own body, as windows allow.
async fn echo(mut ours: Ours) -> Connection {
    let mut pending: HashMap<u32, (Vec<u8>, bool)> = HashMap::new();
    while let Some(told) = ours.turn().await {
        for told in told {
            let stream = match told {
                Told::Head {
                    stream,
                    line,
                    fields,
                    end,
                } => {
                    begin(&mut ours, stream, &line, &fields);
                    if ours.link.is_open(stream) {
                        pending.insert(stream, (Vec::new(), end));
                    }
                    stream
                }
                Told::Data { stream, bytes, end } => {
                    match pending.get_mut(&stream) {
                        Some((queue, ended)) => {
                            queue.extend(bytes);
                            *ended |= end;
                        }
                        None => ours.link.release(stream, &mut ours.out),
                    }
                    stream
                }
                Told::Reset { stream, .. } => {
                    pending.remove(&stream);
                    continue;
                }
                Told::Writable(stream) => stream,
                _ => continue,
            };
            let Some((queue, ended)) = pending.get_mut(&stream) else {
                continue;
            };
            let taken = ours.link.send_data(stream, queue, *ended, &mut ours.out);
            queue.drain(..taken);
            ours.link.consumed(stream, taken, &mut ours.out);
            if *ended && queue.is_empty() {
                pending.remove(&stream);
            }
        }
    }
    ours.link
}

fn begin(ours: &mut Ours, stream: u32, line: &str, fields: &[(String, String)]) {
    let (link, out) = (&mut ours.link, &mut ours.out);
    if line == "POST /reset" {
        return link.reset(stream, Code::CANCEL, out);
    }
    if line == "POST /leave" {
        link.goaway(Code::NO_ERROR, out);
    }
    let early = line == "POST /early";
    let status: (&[u8], &[u8]) = (b":status", if early { b"413" } else { b"200" });
    let line: (&[u8], &[u8]) = (b"x-line", line.as_bytes());
    let fields = fields
        .iter()
        .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    link.send_head(stream, [status, line].into_iter().chain(fields), early, out)
        .unwrap();
    if early {
        link.reset(stream, Code::NO_ERROR, out);
    }
}

/// Sends a body as `h2` allows.
async fn send(stream: &mut SendStream<Bytes>, body: Vec<u8>) -> Result<(), h2::Error> {
    let mut rest = Bytes::from(body);
    while !rest.is_empty() {
        stream.reserve_capacity(rest.len());
        let room = poll_fn(|cx| stream.poll_capacity(cx)).await;
        let Some(room) = room else { return Ok(()) };
        let now = rest.split_to(room?.min(rest.len()));
        stream.send_data(now, false)?;
    }
    stream.send_data(Bytes::new(), true)
}

/// Receives a body, and gives the window back.
async fn receive(stream: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut all = Vec::new();
    while let Some(bytes) = stream.data().await {
        let bytes = bytes?;
        all.extend_from_slice(&bytes);
        stream.flow_control().release_capacity(bytes.len())?;
    }
    Ok(all)
}

type Asker = h2::client::SendRequest<Bytes>;

/// One request by `h2`: the status, the fields, the body.
async fn ask(
    asker: Asker,
    path: &str,
    body: Vec<u8>,
) -> Result<(Response<()>, Vec<u8>), h2::Error> {
    let mut asker = asker.ready().await?;
    let request = Request::post(format!("http://127.0.0.1:80{path}"))
        .header("user-agent", "h2 with Huffman strings {~}")
        .header("x-twice", "one")
        .header("x-twice", "")
        .header("cookie", "secret")
        .body(())
        .unwrap();
    let (response, mut sending) = asker.send_request(request, false)?;
    let writing = async {
        // A server may answer and reset before it has read everything.
        let _ = send(&mut sending, body).await;
    };
    let reading = async {
        let (parts, mut body) = response.await?.into_parts();
        Ok((Response::from_parts(parts, ()), receive(&mut body).await?))
    };
    let (_, answer) = tokio::join!(writing, reading);
    answer
}

async fn h2_client(window: u32) {
    let (near, far) = tokio::io::duplex(100_000);
    let mut tasks = JoinSet::new();
    let ours = Ours::new(far, |out| Connection::server(Settings::default(), out));
    tasks.spawn(async move {
        assert_eq!(echo(ours).await.streams_open(), 0);
    });
    let builder = h2::client::Builder::new()
        .initial_window_size(window)
        .to_owned();
    let (asker, connection) = builder.handshake::<_, Bytes>(near).await.unwrap();
    tasks.spawn(async move { connection.await.unwrap() });

    let mut asking = JoinSet::new();
    for number in 0..20 {
        let asker = asker.clone();
        asking.spawn(async move {
            let body = pattern(number * 61_001, number);
            let path = format!("/echo/{number}?x");
            let (response, echoed) = ask(asker, &path, body.clone()).await.unwrap();
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()["x-line"], format!("POST {path}"));
            assert_eq!(
                response.headers()["user-agent"],
                "h2 with Huffman strings {~}"
            );
            let twice: Vec<_> = response.headers().get_all("x-twice").iter().collect();
            assert_eq!(twice, ["one", ""]);
            assert_eq!(response.headers()["cookie"], "secret");
            assert!(echoed == body, "{number}");
        });
    }
    while let Some(done) = asking.join_next().await {
        done.unwrap();
    }
    // A reset is a reset, an early answer is an answer, and neither leaks a byte of the connection's window.
    for _ in 0..80 {
        let error = ask(asker.clone(), "/reset", pattern(300_000, 0))
            .await
            .unwrap_err();
        assert_eq!(error.reason(), Some(h2::Reason::CANCEL));
        let (response, body) = ask(asker.clone(), "/early", pattern(300_000, 0))
            .await
            .unwrap();
        assert_eq!((response.status().as_u16(), body.len()), (413, 0));
    }
    let (response, _) = ask(asker.clone(), "/echo", pattern(1_000_000, 1))
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    // The last one: what is open is answered, what is new is refused.
    let (response, body) = ask(asker.clone(), "/leave", pattern(400_000, 2))
        .await
        .unwrap();
    assert_eq!((response.status().as_u16(), body.len()), (200, 400_000));
    assert!(ask(asker.clone(), "/late", Vec::new()).await.is_err());
    drop(asker);
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

#[tokio::test]
async fn h2_as_client_with_small_windows() {
    h2_client(1000).await;
}

#[tokio::test]
async fn h2_as_client_with_large_windows() {
    h2_client(1 << 20).await;
}

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
        let ours = Ours::new(io, |out| Connection::client(Settings::default(), out));
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
