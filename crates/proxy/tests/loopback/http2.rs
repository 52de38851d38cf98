// SPDX-License-Identifier: Apache-2.0
//! HTTP/2 with prior knowledge through a pair: independent client and server (`h2`), judged by what they see.

use std::future::{pending, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response, StatusCode};
use maille_model::{Membership, Protocol};
use maille_proxy::telemetry::Carries;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::lab::{Counted, Lab, Proxy};
use crate::origin::patterned;

/// How long an endpoint takes that nobody would ask if there were a better one.
const SLOW: Duration = Duration::from_millis(20);
/// How late a client is on a busy machine.
const LATE: Duration = Duration::from_millis(50);
/// How often that may turn out otherwise.
const TRIES: usize = 20;

/// Tasks of a test end with its runtime.
fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::runtime::Handle::current().spawn(task)
}

/// A client's proxy, and servers with or without one.
struct World {
    lab: Lab,
    client: Proxy,
    servers: Vec<Proxy>,
    /// Streams that servers have seen end early: the code.
    resets: mpsc::UnboundedReceiver<Option<Reason>>,
    /// Connections that servers have accepted.
    accepted: mpsc::UnboundedReceiver<()>,
}

impl World {
    /// One server for each membership.
    async fn new(protocol: Protocol, servers: &[Membership]) -> Self {
        Self::declared(protocol, protocol, servers).await
    }

    /// What clients know of the port, and what servers' own proxies do.
    async fn declared(protocol: Protocol, own: Protocol, servers: &[Membership]) -> Self {
        let lab = Lab::new();
        let (tell, resets) = mpsc::unbounded_channel();
        let (accept, accepted) = mpsc::unbounded_channel();
        let mut pods = Vec::new();
        let mut proxies = Vec::new();
        for (n, membership) in servers.iter().enumerate() {
            let pod = lab.pod(u8::try_from(n).unwrap() + 2, *membership);
            let listener = TcpListener::bind(SocketAddr::new(pod.ip, 0)).await.unwrap();
            let address = listener.local_addr().unwrap();
            spawn(serve(listener, tell.clone(), accept.clone()));
            if *membership == Membership::Meshed {
                let own = lab.own(&pod, address.port(), own);
                proxies.push(lab.start(&pod, own, lab.service(), address));
            }
            pods.push((pod, address.port()));
        }
        let app = lab.pod(1, Membership::Meshed);
        let mut snapshot = lab.own(&app, 9, Protocol::Undeclared);
        let backends: Vec<_> = pods.iter().map(|(pod, port)| (pod, *port)).collect();
        lab.add_service(&mut snapshot, protocol, &backends);
        let client = lab.start(&app, snapshot, lab.service(), SocketAddr::new(app.ip, 9));
        Self {
            lab,
            client,
            servers: proxies,
            resets,
            accepted,
        }
    }

    /// Its port is declared: a client on a busy machine may take longer to its first byte than an undeclared one is waited for.
    async fn meshed() -> Self {
        Self::new(Protocol::Http2, &[Membership::Meshed]).await
    }

    async fn dial(&self) -> SendRequest<Bytes> {
        let stream = TcpStream::connect(self.client.outbound).await.unwrap();
        let (send, connection) = h2::client::handshake(stream).await.unwrap();
        spawn(connection);
        send.ready().await.unwrap()
    }

    /// The proxies are drained on threads of their own: they wait for their sockets.
    async fn stop(self) -> Counted {
        let counted = tokio::task::spawn_blocking(move || self.client.stop());
        counted.await.unwrap()
    }
}

/// Answers by path.
async fn serve(
    listener: TcpListener,
    tell: mpsc::UnboundedSender<Option<Reason>>,
    accept: mpsc::UnboundedSender<()>,
) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let _ = accept.send(());
        let own = stream.local_addr().unwrap().ip();
        let tell = tell.clone();
        spawn(async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((request, respond))) = connection.accept().await {
                if request.uri().path() == "/leave" {
                    connection.graceful_shutdown();
                }
                spawn(answer(request, respond, own, tell.clone()));
            }
        });
    }
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    own: IpAddr,
    tell: mpsc::UnboundedSender<Option<Reason>>,
) {
    let path = request.uri().path().to_owned();
    let authority = request.uri().authority().map(ToString::to_string);
    let mut head = Response::builder()
        .header("x-authority", authority.unwrap_or_default())
        .header("x-method", request.method().as_str());
    for value in request.headers().get_all("x-echo") {
        head = head.header("x-echo", value);
    }
    let head = head.body(()).unwrap();
    let mut body = request.into_body();
    match path.as_str() {
        // Everything back as it comes, trailers too.
        "/echo" => {
            let mut send = respond.send_response(head, false).unwrap();
            while let Some(data) = body.data().await {
                let Ok(data) = data else {
                    let _ = tell.send(data.err().and_then(|error| error.reason()));
                    return;
                };
                body.flow_control().release_capacity(data.len()).unwrap();
                send_all(&mut send, data, false).await;
            }
            match body.trailers().await.unwrap() {
                Some(trailers) => send.send_trailers(trailers).unwrap(),
                None => send.send_data(Bytes::new(), true).unwrap(),
            }
        }
        "/grpc" => {
            let mut send = respond.send_response(head, false).unwrap();
            send_all(&mut send, Bytes::from_static(b"message"), false).await;
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "7".parse().unwrap());
            send.send_trailers(trailers).unwrap();
        }
        // The first endpoint is not well, and says so in the words of gRPC alone: with its head, behind it, or behind a message. It is the quicker one.
        "/ill-at-once" | "/ill" | "/ill-later" => {
            let ill = own.to_string().ends_with(".2");
            let status = if ill { "14" } else { "0" };
            if !ill {
                let _ = timeout(SLOW, pending::<()>()).await;
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", status.parse().unwrap());
            if path == "/ill-at-once" {
                let mut head = head;
                head.headers_mut().extend(trailers);
                respond.send_response(head, true).unwrap();
                return;
            }
            let mut send = respond.send_response(head, false).unwrap();
            if path == "/ill-later" {
                send_all(&mut send, Bytes::from_static(b"message"), false).await;
            }
            send.send_trailers(trailers).unwrap();
        }
        "/reset" => respond.send_reset(Reason::ENHANCE_YOUR_CALM),
        "/refuse" => respond.send_reset(Reason::REFUSED_STREAM),
        "/half" => {
            let mut send = respond.send_response(head, false).unwrap();
            send_all(&mut send, Bytes::from_static(b"half"), false).await;
            // The client has it: a reset may overtake what is still on its way.
            assert!(body.data().await.is_some());
            send.send_reset(Reason::INTERNAL_ERROR);
        }
        "/wait" => {
            let mut send = respond.send_response(head, false).unwrap();
            let code = poll_fn(|cx| send.poll_reset(cx)).await;
            let _ = tell.send(code.ok());
        }
        // Before the request has ended.
        _ => drop(respond.send_response(head, true)),
    }
}

async fn send_all(send: &mut SendStream<Bytes>, mut data: Bytes, end: bool) {
    while !data.is_empty() {
        send.reserve_capacity(data.len());
        let Some(Ok(room)) = poll_fn(|cx| send.poll_capacity(cx)).await else {
            return;
        };
        let now = data.split_to(room.min(data.len()));
        let last = end && data.is_empty();
        if send.send_data(now, last).is_err() {
            return;
        }
    }
}

async fn all(body: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut whole = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        whole.extend_from_slice(&data);
    }
    Ok(whole)
}

fn request(path: &str) -> Request<()> {
    Request::post(format!("http://web.shop:8080{path}"))
        .header("x-echo", "1")
        .header("x-echo", "2")
        .body(())
        .unwrap()
}

/// A message with trailers, there and back. What it was counted as.
async fn echoed(protocol: Protocol, membership: Membership) -> Carries {
    let world = World::new(protocol, &[membership]).await;
    let mut send = world.dial().await;
    let (response, mut body) = send.send_request(request("/echo"), false).unwrap();
    let text = Bytes::from(patterned(100_000));
    send_all(&mut body, text.clone(), false).await;
    let mut trailers = HeaderMap::new();
    trailers.insert("sum", "1".parse().unwrap());
    body.send_trailers(trailers.clone()).unwrap();
    let response = response.await.unwrap();
    let values: Vec<_> = response.headers().get_all("x-echo").iter().collect();
    assert_eq!(values, ["1", "2"]);
    assert_eq!(response.headers()["x-authority"], "web.shop:8080");
    assert_eq!(response.headers()["x-method"], "POST");
    let mut answer = response.into_body();
    assert_eq!(all(&mut answer).await.unwrap(), text);
    assert_eq!(answer.trailers().await.unwrap(), Some(trailers));
    drop((send, body, answer));
    let counted = world.stop().await;
    let (edge, sum) = counted.only();
    assert_eq!(edge.protected, membership == Membership::Meshed);
    if edge.carries == Carries::Http {
        assert_eq!((sum.requests, sum.failures), (1, 0));
    }
    edge.carries
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_with_trailers_both_ways() {
    for membership in [Membership::Meshed, Membership::Unmeshed] {
        for protocol in [Protocol::Http1, Protocol::Http2, Protocol::Grpc] {
            assert_eq!(echoed(protocol, membership).await, Carries::Http);
        }
        let carried = echoed(Protocol::Undeclared, membership).await;
        assert_eq!(carried, Carries::Http);
    }
}

/// What a client says that is later than its server, which speaks as soon as it is dialled: an answer with trailers, and a reset. Gives what both
/// sides counted.
async fn late(membership: Membership, own: Protocol) -> Vec<Counted> {
    let mut world = World::declared(Protocol::Undeclared, own, &[membership]).await;
    let stream = TcpStream::connect(world.client.outbound).await.unwrap();
    world.accepted.recv().await.unwrap();
    // What it says is none of the client's before that has said its preface.
    let heard = timeout(LATE, stream.peek(&mut [0])).await;
    assert!(heard.is_err(), "{heard:?}");
    let (mut send, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = spawn(connection);
    for _ in 0..2 {
        let (response, mut body) = send.send_request(request("/echo"), false).unwrap();
        let text = Bytes::from(patterned(300_000));
        let feed = text.clone();
        spawn(async move {
            send_all(&mut body, feed, false).await;
            let mut trailers = HeaderMap::new();
            trailers.insert("sum", "1".parse().unwrap());
            body.send_trailers(trailers).unwrap();
        });
        let mut answer = response.await.unwrap().into_body();
        assert_eq!(all(&mut answer).await.unwrap(), text);
        assert!(answer.trailers().await.unwrap().is_some());
        send = send.ready().await.unwrap();
    }
    let (response, body) = send.send_request(request("/reset"), true).unwrap();
    let error = response.await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM));
    // The connection ends with the last of its streams.
    drop((send, body));
    connection.await.unwrap().unwrap();
    let mut proxies = vec![world.client];
    proxies.extend(world.servers);
    let mut counted = Vec::new();
    for proxy in proxies {
        let stopped = tokio::task::spawn_blocking(move || proxy.stop());
        counted.push(stopped.await.unwrap());
    }
    counted
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_be_later_than_its_server() {
    for (membership, own) in [
        (Membership::Meshed, Protocol::Undeclared),
        (Membership::Unmeshed, Protocol::Undeclared),
        // A client that dials a pod by its address does not know what the pod's services declare.
        (Membership::Meshed, Protocol::Grpc),
    ] {
        let counted = late(membership, own).await;
        assert_eq!(
            counted.len(),
            1 + usize::from(membership == Membership::Meshed)
        );
        for counted in counted {
            let (edge, sum) = counted.only();
            assert_eq!(edge.carries, Carries::Http);
            assert_eq!(edge.protected, membership == Membership::Meshed);
            assert_eq!((sum.opened, sum.closed, sum.requests), (0, 0, 3));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn much_at_the_same_time() {
    let world = World::meshed().await;
    let send = world.dial().await;
    let mut tasks = Vec::new();
    for n in 0..300_usize {
        let send = send.clone();
        tasks.push(spawn(async move {
            let mut send = send.ready().await.unwrap();
            let (response, mut body) = send.send_request(request("/echo"), false).unwrap();
            let text = Bytes::from(patterned(n * 997 % 300_000));
            let feed = text.clone();
            spawn(async move {
                send_all(&mut body, feed, false).await;
                body.send_data(Bytes::new(), true).unwrap();
            });
            let mut body = response.await.unwrap().into_body();
            assert_eq!(all(&mut body).await.unwrap(), text);
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn codes_travel() {
    let mut world = World::meshed().await;
    let mut send = world.dial().await;
    let (response, _body) = send.send_request(request("/reset"), true).unwrap();
    let error = response.await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM));
    // Nobody else would take it: the client may ask again.
    let (response, _body) = send.send_request(request("/refuse"), true).unwrap();
    let error = response.await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::REFUSED_STREAM));
    let (response, mut more) = send.send_request(request("/half"), false).unwrap();
    let mut body = response.await.unwrap().into_body();
    let first = body.data().await.unwrap().unwrap();
    assert_eq!(first, "half");
    more.send_data(Bytes::from_static(b"x"), false).unwrap();
    let error = body.data().await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
    // And the other way.
    let (response, mut body) = send.send_request(request("/wait"), false).unwrap();
    let _response = response.await.unwrap();
    body.send_reset(Reason::HTTP_1_1_REQUIRED);
    let told = world.resets.recv().await.unwrap();
    assert_eq!(told, Some(Reason::HTTP_1_1_REQUIRED));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_before_the_request_has_ended() {
    let world = World::meshed().await;
    let mut send = world.dial().await;
    let (response, mut body) = send.send_request(request("/early"), false).unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.into_body().is_end_stream());
    // The connection goes on, whatever became of the rest.
    let _ = body.send_data(Bytes::from_static(b"late"), true);
    let (response, _body) = send.send_request(request("/other"), true).unwrap();
    assert_eq!(response.await.unwrap().status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_leave_lose_nothing() {
    let world = World::new(
        Protocol::Grpc,
        &[Membership::Meshed, Membership::Meshed, Membership::Unmeshed],
    )
    .await;
    let mut send = world.dial().await;
    for n in 0..300 {
        let path = if n % 7 == 0 { "/leave" } else { "/other" };
        let (response, _body) = send.send_request(request(path), true).unwrap();
        assert_eq!(response.await.unwrap().status(), StatusCode::OK);
        send = send.ready().await.unwrap();
    }
}

/// How many of 100 calls of `path`, one after the other, were answered with UNAVAILABLE, by the one of two endpoints that is not well.
async fn unavailable(path: &str) -> usize {
    let endpoints = [Membership::Unmeshed; 2];
    let world = World::new(Protocol::Grpc, &endpoints).await;
    let mut send = world.dial().await;
    let mut count = 0;
    for _ in 0..100 {
        let mut call = request(path);
        let value = "application/grpc".parse().unwrap();
        call.headers_mut().insert("content-type", value);
        let (response, _body) = send.send_request(call, true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let mut status = response.headers().get("grpc-status").cloned();
        let mut body = response.into_body();
        all(&mut body).await.unwrap();
        if let Some(trailers) = body.trailers().await.unwrap() {
            status = trailers.get("grpc-status").cloned();
        }
        count += usize::from(status.unwrap() == "14");
        send = send.ready().await.unwrap();
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_whose_calls_fail_is_left_alone() {
    // After seven in a row, but for a probe each second. An endpoint that was slow once is asked less, on a busy machine either of them.
    for path in ["/ill-at-once", "/ill"] {
        let mut count = 0;
        for _ in 0..TRIES {
            count = count.max(unavailable(path).await);
            assert!(count <= 15, "{path}: {count}");
            if count >= 7 {
                break;
            }
        }
        assert!(count >= 7, "{path}: {count}");
    }
    // What has sent a message works, whatever came of the call.
    let mut count = 0;
    for _ in 0..TRIES {
        count = count.max(unavailable("/ill-later").await);
        if count > 50 {
            return;
        }
    }
    panic!("{count}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_meshs_own_answers() {
    let lab = Lab::new();
    let gone = lab.pod(3, Membership::Meshed);
    let app = lab.pod(1, Membership::Meshed);
    let mut snapshot = lab.own(&app, 9, Protocol::Undeclared);
    lab.add_service(&mut snapshot, Protocol::Http2, &[(&gone, 7)]);
    let client = lab.start(&app, snapshot, lab.service(), SocketAddr::new(app.ip, 9));
    let stream = TcpStream::connect(client.outbound).await.unwrap();
    let (send, connection) = h2::client::handshake(stream).await.unwrap();
    spawn(connection);
    let mut send = send.ready().await.unwrap();
    let (response, _body) = send.send_request(request("/"), true).unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let mut body = response.into_body();
    let text = String::from_utf8(all(&mut body).await.unwrap()).unwrap();
    assert!(text.starts_with("maille: connect-refused: "), "{text}");
    let mut call = request("/");
    let value = "application/grpc+proto".parse().unwrap();
    call.headers_mut().insert("content-type", value);
    let (response, _body) = send.send_request(call, true).unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["grpc-status"], "14");
    let message = response.headers()["grpc-message"].to_str().unwrap();
    assert!(message.contains("connect-refused"), "{message}");
    assert!(response.into_body().is_end_stream());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_lets_streams_end_and_loses_none() {
    let mut world = World::meshed().await;
    let mut send = world.dial().await;
    let (response, mut body) = send.send_request(request("/echo"), false).unwrap();
    let response = response.await.unwrap();
    let client = tokio::task::spawn_blocking(move || world.client.stop());
    // The client is told to go, and what it began still ends.
    send_all(&mut body, Bytes::from_static(b"late"), false).await;
    body.send_data(Bytes::new(), true).unwrap();
    let mut body = response.into_body();
    assert_eq!(all(&mut body).await.unwrap(), b"late");
    drop(send);
    client.await.unwrap();
    world.servers.clear();
    drop(world.lab);
}
