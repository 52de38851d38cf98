// SPDX-License-Identifier: Apache-2.0
//! HTTP/2 servers that refuse streams, leave, or answer a call with a status of gRPC and nothing else: what is asked again, of whom, and how often.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::{Request, Response, StatusCode};
use maille_engine::balance::Tally;
use maille_model::terms::{Counted, RetryOnGrpc};
use maille_model::{Membership, Protocol, Terms};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::lab::{Lab, Proxy};

/// So many streams at once are more than [`FEW`].
const MANY: usize = 20;
const FEW: u32 = 4;
/// How often everything may be so slow that nothing is refused.
const TRIES: usize = 20;

/// Tasks of a test end with its runtime.
fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::runtime::Handle::current().spawn(task)
}

/// A client's proxy, and servers with or without one.
struct World {
    _lab: Lab,
    client: Proxy,
    servers: Vec<Proxy>,
}

impl World {
    /// `serve` is what each server does with its listener.
    async fn new(
        terms: Terms,
        memberships: &[Membership],
        serve: impl Fn(usize, TcpListener),
    ) -> Self {
        let lab = Lab::new();
        let (mut pods, mut servers) = (Vec::new(), Vec::new());
        for (n, membership) in memberships.iter().enumerate() {
            let pod = lab.pod(u8::try_from(n).unwrap() + 2, *membership);
            let listener = TcpListener::bind(SocketAddr::new(pod.ip, 0)).await.unwrap();
            let address = listener.local_addr().unwrap();
            serve(n, listener);
            if *membership == Membership::Meshed {
                let own = lab.own(&pod, address.port(), Protocol::Grpc);
                servers.push(lab.start(&pod, own, lab.service(), address));
            }
            pods.push((pod, address.port()));
        }
        let app = lab.pod(1, Membership::Meshed);
        let mut snapshot = lab.own(&app, 9, Protocol::Undeclared);
        let backends: Vec<_> = pods.iter().map(|(pod, port)| (pod, *port)).collect();
        lab.add_service_on(&mut snapshot, Protocol::Grpc, terms, &backends);
        let client = lab.start(&app, snapshot, lab.service(), SocketAddr::new(app.ip, 9));
        Self {
            _lab: lab,
            client,
            servers,
        }
    }

    async fn tally(self) -> Tally {
        let count = || {
            let mut sum = Tally::default();
            self.client.batches(|batch| sum.add(&batch.tally));
            sum
        };
        tokio::task::spawn_blocking(count).await.unwrap()
    }
}

fn call() -> Request<()> {
    Request::post("http://web.shop/shop.Web/Call")
        .header("content-type", "application/grpc")
        .body(())
        .unwrap()
}

/// What each of `count` calls at the same time is answered, on one connection to `to`.
async fn calls(to: SocketAddr, count: usize) -> Vec<Result<Response<()>, h2::Error>> {
    let stream = TcpStream::connect(to).await.unwrap();
    let (send, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = spawn(connection);
    let mut tasks = Vec::new();
    for _ in 0..count {
        let mut send = send.clone().ready().await.unwrap();
        let (answer, _) = send.send_request(call(), true).unwrap();
        tasks.push(spawn(async {
            let (head, mut body) = answer.await?.into_parts();
            while let Some(data) = body.data().await {
                data?;
            }
            Ok(Response::from_parts(head, ()))
        }));
    }
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    drop(send);
    connection.await.unwrap().unwrap();
    answers
}

/// What a server does with a call.
type Answer = Arc<dyn Fn(SendResponse<Bytes>) + Send + Sync>;

/// Answers each call of each connection, of which it takes [`FEW`] at once.
async fn serve(listener: TcpListener, answer: Answer) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let answer = Arc::clone(&answer);
        spawn(async move {
            let mut few = h2::server::Builder::new();
            few.max_concurrent_streams(FEW);
            let mut server = few.handshake::<_, Bytes>(stream).await.unwrap();
            while let Some(Ok((_, respond))) = server.accept().await {
                answer(respond);
            }
        });
    }
}

/// Ends a call with this status and nothing else.
fn end(mut respond: SendResponse<Bytes>, status: &str) {
    let head = Response::builder().header("grpc-status", status);
    respond.send_response(head.body(()).unwrap(), true).unwrap();
}

fn is_well(answer: &Result<Response<()>, h2::Error>) -> bool {
    answer.as_ref().is_ok_and(|head| {
        head.status() == StatusCode::OK && head.headers().get("grpc-status").unwrap() == "0"
    })
}

/// A server that answers nobody before all have asked.
fn after_all() -> Answer {
    let (told, _) = watch::channel(0);
    Arc::new(move |respond| {
        told.send_modify(|asked| *asked += 1);
        let mut told = told.subscribe();
        spawn(async move {
            told.wait_for(|asked| *asked >= MANY).await.unwrap();
            end(respond, "0");
        });
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_had_no_room_for_finds_room_on_other_connections() {
    for membership in [Membership::Meshed, Membership::Unmeshed] {
        let mut retries = 0;
        // Where the server's settings are there before the last calls nothing is refused.
        for _ in 0..TRIES {
            let begin = |_, listener| drop(spawn(serve(listener, after_all())));
            let world = World::new(Terms::DEFAULT, &[membership], begin).await;
            let answers = calls(world.client.outbound, MANY).await;
            assert!(answers.iter().all(is_well), "{answers:?}");
            let tally = world.tally().await;
            assert_eq!(tally.retries_refused, 0);
            retries += tally.retries;
            if retries > 0 {
                break;
            }
        }
        assert!(retries > 0, "{membership:?}: nothing was ever refused");
    }
    // From outside the mesh, where nobody else would try again.
    let begin = |_, listener| drop(spawn(serve(listener, after_all())));
    let world = World::new(Terms::DEFAULT, &[Membership::Meshed], begin).await;
    let answers = calls(world.servers[0].inbound, MANY).await;
    assert!(answers.iter().all(is_well), "{answers:?}");
}

/// Refuses every stream, and counts them.
fn refusing(asked: &Arc<AtomicUsize>) -> Answer {
    let asked = Arc::clone(asked);
    Arc::new(move |mut respond| {
        asked.fetch_add(1, Ordering::SeqCst);
        respond.send_reset(Reason::REFUSED_STREAM);
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn who_always_refuses_is_asked_three_times_and_within_the_budget() {
    for membership in [Membership::Meshed, Membership::Unmeshed] {
        for (floor, times) in [(10, 3), (0, 1)] {
            let mut terms = Terms::DEFAULT;
            (terms.retry.budget_percent, terms.retry.budget_floor) = (0, floor);
            let asked = Arc::new(AtomicUsize::new(0));
            let begin = |_, listener| drop(spawn(serve(listener, refusing(&asked))));
            let world = World::new(terms, &[membership], begin).await;
            let answer = calls(world.client.outbound, 1).await.remove(0);
            let reason = answer.unwrap_err().reason();
            assert_eq!(reason, Some(Reason::REFUSED_STREAM));
            assert_eq!(asked.load(Ordering::SeqCst), times, "{membership:?}");
            let tally = world.tally().await;
            let refused = u64::from(floor == 0);
            assert_eq!(
                (tally.retries, tally.retries_refused),
                (times as u64 - 1, refused)
            );
        }
    }
}

/// Takes a first connection, and leaves it without having looked at any of its streams; the others are served.
async fn leaving(listener: TcpListener) {
    let (mut first, _) = listener.accept().await.unwrap();
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    first.write_all(&settings).await.unwrap();
    let mut said = vec![0; 65_536];
    let (mut n, mut head) = (0, false);
    while !head {
        n += first.read(&mut said[n..]).await.unwrap();
        head = has_head(&said[..n]);
    }
    // GOAWAY: nothing was processed, nothing is wrong.
    let goaway = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    first.write_all(&goaway).await.unwrap();
    let others = serve(listener, Arc::new(|respond| end(respond, "0")));
    // Nobody who leaves resets what it did not read.
    let rest = async { while first.read(&mut said).await.is_ok_and(|n| n > 0) {} };
    tokio::join!(others, rest);
}

/// Whether there is a whole HEADERS frame behind the preface.
fn has_head(said: &[u8]) -> bool {
    let mut rest = said.get(24..).unwrap_or_default();
    while let Some((&[a, b, c, kind, _, _, _, _, _], after)) = rest.split_first_chunk() {
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let Some(next) = after.get(length..) else {
            return false;
        };
        if kind == 1 {
            return true;
        }
        rest = next;
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_leaving_server_has_not_looked_at_is_asked_on_its_next_connection() {
    for membership in [Membership::Meshed, Membership::Unmeshed] {
        let begin = |_, listener| drop(spawn(leaving(listener)));
        let world = World::new(Terms::DEFAULT, &[membership], begin).await;
        let answers = calls(world.client.outbound, FEW as usize).await;
        assert!(answers.iter().all(is_well), "{answers:?}");
        assert_eq!(world.tally().await.retries, 0, "the same try goes on");
    }
}

/// How many of 20 calls fail, one after the other, where one of two endpoints ends all with UNAVAILABLE.
async fn failed(terms: Terms, ill: Answer) -> usize {
    let begin = |n, listener| {
        let answer = match n {
            0 => Arc::clone(&ill),
            _ => Arc::new(|respond| end(respond, "0")) as Answer,
        };
        spawn(serve(listener, answer));
    };
    let world = World::new(terms, &[Membership::Meshed, Membership::Unmeshed], begin).await;
    let mut failed = 0;
    for _ in 0..20 {
        let answer = calls(world.client.outbound, 1).await.remove(0).unwrap();
        failed += usize::from(
            answer
                .headers()
                .get("grpc-status")
                .is_none_or(|is| is != "0"),
        );
    }
    failed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_made_again_where_its_service_allows_it_and_no_answer_has_begun() {
    let at_once: Answer = Arc::new(|respond| end(respond, "14"));
    let mut allowed = Terms::DEFAULT;
    allowed.ejection.counts = Counted::Nothing;
    let silent = allowed;
    allowed.retry.on.grpc = RetryOnGrpc {
        unavailable: true,
        ..RetryOnGrpc::default()
    };
    assert_eq!(failed(allowed, Arc::clone(&at_once)).await, 0);
    // Nobody has said that a call may be made twice.
    assert!(failed(silent, Arc::clone(&at_once)).await > 0);
    // Another status is not this one.
    let internal: Answer = Arc::new(|respond| end(respond, "13"));
    assert!(failed(allowed, internal).await > 0);
    // The client has a head already.
    let begun: Answer = Arc::new(|mut respond| {
        let head = Response::new(());
        let mut body = respond.send_response(head, false).unwrap();
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", "14".parse().unwrap());
        body.send_trailers(trailers).unwrap();
    });
    assert!(failed(allowed, begun).await > 0);
}
