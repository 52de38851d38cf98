// SPDX-License-Identifier: Apache-2.0
//! `h2` as client, our side answers every request with its own body.

use std::collections::HashMap;
use std::future::poll_fn;

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::{Request, Response};
use maille_engine::http2::{Code, Connection, Settings};
use tokio::task::JoinSet;

use crate::ours::{Ours, Told, pattern};

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
    let ours = Ours::new(far, |out| Connection::server(Settings::mesh(), out));
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
