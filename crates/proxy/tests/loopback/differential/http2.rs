// SPDX-License-Identifier: Apache-2.0
//! HTTP/2 with prior knowledge, un-meshed and meshed: the same heads, content, trailers and codes of resets on both sides, but that a stream
//! which the server refused may have been asked for up to three times (`docs/wire.md`, section 3a).
//!
//! Numbers and seeds as in `../differential.rs`, whose half this is. Next: `http2/calls.rs`.

mod calls;
mod talk;

use std::net::SocketAddr;
use std::rc::Rc;

use futures_util::stream::{self, StreamExt as _};
use maille_model::{Membership, Protocol};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::{AT_ONCE, BATCH, PATIENCE, number};
use crate::lab::{Lab, Proxy};
use calls::{Call, Conversation, Ending};
use talk::{ClientSeen, Origin, ServerSeen};

#[test]
fn meshed_calls_are_the_same() {
    compared(10, Protocol::Undeclared);
}

#[test]
fn and_so_are_those_of_a_declared_port() {
    compared(11, Protocol::Grpc);
}

/// A server, and where clients dial it.
struct Way {
    origin: Rc<Origin>,
    dial: SocketAddr,
    _proxies: Option<(Proxy, Proxy)>,
}

/// A quarter of the traffic.
fn compared(quarter: u64, protocol: Protocol) {
    let seed = number("MAILLE_TEST_SEED").unwrap_or_else(|| fastrand::u64(..));
    let count = number("MAILLE_TEST_EXCHANGES").unwrap_or(10_000) / 4;
    let seed = seed.wrapping_add(quarter << 32);
    eprintln!("seed {seed}, {count} exchanges");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let (direct, meshed) = (Way::direct(), Way::meshed(protocol));
        let mut done = 0;
        while done < count {
            let seed = seed.wrapping_add(done / BATCH);
            let some = calls::generate(seed, done, BATCH.min(count - done));
            let plain = direct.run(&some).await;
            let through = meshed.run(&some).await;
            if let Err(why) = compare(&some, &plain, &through) {
                panic!(
                    "MAILLE_TEST_SEED={} (batch {seed}): {why}",
                    seed - (quarter << 32)
                );
            }
            done += some.iter().map(|some| some.calls.len() as u64).sum::<u64>();
        }
        eprintln!("{done} exchanges were the same");
    });
}

/// What both sides saw, by conversation and by call.
struct Seen {
    clients: Vec<Vec<ClientSeen>>,
    server: std::collections::HashMap<u64, Vec<ServerSeen>>,
}

impl Way {
    fn direct() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let dial = listener.local_addr().unwrap();
        Self {
            origin: serve(listener),
            dial,
            _proxies: None,
        }
    }

    fn meshed(protocol: Protocol) -> Self {
        let lab = Lab::new();
        let web = lab.pod(2, Membership::Meshed);
        let listener = std::net::TcpListener::bind((web.ip, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let own = lab.own(&web, address.port(), protocol);
        let server = lab.start(&web, own, lab.service(), address);
        let app = lab.pod(1, Membership::Meshed);
        let mut snapshot = lab.own(&app, 9, Protocol::Undeclared);
        lab.add_service(&mut snapshot, protocol, &[(&web, address.port())]);
        let client = lab.start(&app, snapshot, lab.service(), SocketAddr::new(app.ip, 9));
        Self {
            origin: serve(listener),
            dial: client.outbound,
            _proxies: Some((client, server)),
        }
    }

    /// All conversations, some at a time.
    async fn run(&self, some: &[Conversation]) -> Seen {
        let origin = &*self.origin;
        let calls = || some.iter().flat_map(|some| &some.calls);
        origin.plan(calls().map(Rc::clone));
        let clients = stream::iter(some)
            .map(|conversation| async move {
                let said = timeout(PATIENCE, talk::converse(self.dial, conversation, origin)).await;
                said.unwrap_or_else(|_| panic!("never over: {:?}", conversation.calls))
            })
            .buffered(AT_ONCE)
            .collect()
            .await;
        // The server may see the end later than the client its answer.
        let all = origin.until(|origin| {
            let seen = origin.seen.borrow();
            calls().all(|call| seen.contains_key(&call.id))
        });
        // What is missing then is found by the comparison.
        let _ = timeout(PATIENCE, all).await;
        Seen {
            clients,
            server: origin.seen.take(),
        }
    }
}

/// A server that stays: connections are used again by later conversations.
fn serve(listener: std::net::TcpListener) -> Rc<Origin> {
    listener.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    let origin = Rc::new(Origin::default());
    tokio::task::spawn_local(talk::serve(listener, Rc::clone(&origin)));
    origin
}

fn compare(some: &[Conversation], plain: &Seen, through: &Seen) -> Result<(), String> {
    for (at, conversation) in some.iter().enumerate() {
        for (nth, call) in conversation.calls.iter().enumerate() {
            let (one, other) = (&plain.clients[at][nth], &through.clients[at][nth]);
            if one != other {
                return Err(format!(
                    "the client of {}: {}",
                    shown(call),
                    differ(one, other)
                ));
            }
            let list = |seen: &Seen| seen.server.get(&call.id).cloned().unwrap_or_default();
            let (one, other) = (list(plain), list(through));
            if !servers_agree(call, &one, &other) {
                let bytes = |seen: &[ServerSeen]| -> Vec<usize> {
                    seen.iter().map(|seen| seen.rest.content.len()).collect()
                };
                return Err(format!(
                    "the server of {}, which had {:?} and {:?} bytes: {}",
                    shown(call),
                    bytes(&one),
                    bytes(&other),
                    differ(&one, &other)
                ));
            }
        }
    }
    Ok(())
}

fn servers_agree(call: &Call, plain: &[ServerSeen], through: &[ServerSeen]) -> bool {
    match call.ending {
        Ending::Refused => {
            plain.len() == 1
                && (1..=3).contains(&through.len())
                && through.iter().all(|seen| *seen == plain[0])
        }
        _ if plain.len() == 1 && plain == through => true,
        // Seen of an answer that came before the end of its request: without the mesh the server read a part of it. Through the mesh it may
        // have had all that was said, to the byte, and nothing else.
        _ => {
            let ([one], [other]) = (plain, through) else {
                return false;
            };
            let same = one.line == other.line && one.fields == other.fields;
            let part = other.rest.content.starts_with(&one.rest.content);
            call.reply.early && same && part && other.rest.is_all_of(&call.content)
        }
    }
}

/// A call without its bytes.
fn shown(call: &Call) -> String {
    let lengths = |content: &calls::Content| {
        let pieces: Vec<_> = content.pieces.iter().map(Vec::len).collect();
        let trailers = content.trailers.as_ref().map(Vec::len);
        format!(
            "{pieces:?} {trailers:?} apart {} declared {}",
            content.apart, content.declared
        )
    };
    format!(
        "{} {:.40} ({:?}), content {}; {} {} interim, content {}, early {}",
        call.method,
        call.path,
        call.ending,
        lengths(&call.content),
        call.reply.status,
        call.reply.interims.len(),
        lengths(&call.reply.content),
        call.reply.early,
    )
}

/// Where two texts begin to differ.
fn differ(plain: &impl std::fmt::Debug, through: &impl std::fmt::Debug) -> String {
    let (plain, through) = (format!("{plain:?}"), format!("{through:?}"));
    let same = plain
        .bytes()
        .zip(through.bytes())
        .take_while(|(a, b)| a == b);
    let from = same.count().saturating_sub(200);
    let cut = |text: &str| text.chars().skip(from).take(400).collect::<String>();
    format!(
        "\n  without: ...{}\n  through: ...{}",
        cut(&plain),
        cut(&through)
    )
}
