// SPDX-License-Identifier: Apache-2.0
//! The same generated traffic with nothing between client and server, and with a meshed pair between: both see the same but for
//! the list of `docs/wire.md` section 3, whose entries are named where they are forgiven. Nothing else is.
//!
//! `MAILLE_TEST_EXCHANGES` is how many (10,000; `cargo xtask test --all` asks for 100,000), `MAILLE_TEST_SEED` repeats a run.
//! HTTP/2 is compared by `differential/http2.rs`, half as much again.

mod http1;
mod http2;
mod traffic;

use std::collections::HashMap;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use maille_model::{Membership, Protocol};
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::lab::{Lab, Proxy};
use http1::{ClientSeen, End, Origin, ServerSeen};
use traffic::{Conversation, Ending, Exchange, Leaves, When};

/// Exchanges that are compared at a time, and how many conversations of them at once.
const BATCH: u64 = 1_000;
const AT_ONCE: usize = 16;
/// No conversation takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What both sides saw of all exchanges.
struct Seen {
    /// By conversation.
    clients: Vec<Vec<ClientSeen>>,
    server: HashMap<u64, Vec<ServerSeen>>,
}

/// A server, and where clients dial it.
struct Way {
    origin: Rc<Origin>,
    dial: SocketAddr,
    _proxies: Option<(Proxy, Proxy)>,
}

#[test]
fn meshed_traffic_is_the_same() {
    compared(0);
}

#[test]
fn and_so_is_a_second_quarter() {
    compared(1);
}

#[test]
fn and_a_third() {
    compared(2);
}

#[test]
fn and_a_fourth() {
    compared(3);
}

/// One quarter of the traffic: side by side, all of it takes less time.
fn compared(quarter: u64) {
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
        let (direct, meshed) = (Way::direct(), Way::meshed());
        let mut done = 0;
        for batch in 0.. {
            let seed = seed.wrapping_add(batch);
            let some = traffic::generate(seed, done, BATCH.min(count - done));
            let plain = direct.run(&some).await;
            let through = meshed.run(&some).await;
            if let Err(why) = compare(&some, &plain, &through) {
                panic!(
                    "MAILLE_TEST_SEED={seed} MAILLE_TEST_EXCHANGES=4000 (the first test): {why}"
                );
            }
            done += some
                .iter()
                .map(|some| some.exchanges.len() as u64)
                .sum::<u64>();
            if done >= count {
                break;
            }
        }
        eprintln!("{done} exchanges were the same");
    });
}

/// A variable of the environment.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var_os(name)?;
    Some(text.to_str().unwrap().parse().unwrap())
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

    fn meshed() -> Self {
        let lab = Lab::new();
        let web = lab.pod(2, Membership::Meshed);
        let listener = std::net::TcpListener::bind((web.ip, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let own = lab.own(&web, address.port(), Protocol::Http1);
        let server = lab.start(&web, own, lab.service(), address);
        let app = lab.pod(1, Membership::Meshed);
        let mut snapshot = lab.own(&app, 9, Protocol::Undeclared);
        lab.add_service(&mut snapshot, Protocol::Http1, &[(&web, address.port())]);
        let client = lab.start(&app, snapshot, lab.service(), SocketAddr::new(app.ip, 9));
        Self {
            origin: serve(listener),
            dial: client.outbound,
            _proxies: Some((client, server)),
        }
    }

    /// All conversations, some at a time.
    async fn run(&self, some: &[Conversation]) -> Seen {
        let plan = some.iter().flat_map(|conversation| {
            let pieces = conversation.pieces;
            let exchanges = conversation.exchanges.iter();
            exchanges.map(move |exchange| (exchange.id, (Rc::clone(exchange), pieces)))
        });
        self.origin.plan.borrow_mut().extend(plan);
        let clients = stream::iter(some)
            .map(|conversation| async move {
                let said = timeout(PATIENCE, http1::converse(self.dial, conversation)).await;
                said.unwrap_or_else(|_| {
                    let all = conversation.exchanges.iter();
                    let all: Vec<_> = all.map(|exchange| http1::shown(exchange)).collect();
                    panic!("never over: {}", all.join("\n"))
                })
            })
            .buffered(AT_ONCE)
            .collect()
            .await;
        // The server may see the last bytes later than the client its answer.
        let wanted = some.iter().flat_map(|conversation| &conversation.exchanges);
        let wanted = wanted.filter(|exchange| !matches!(exchange.ending, Ending::ClientLeaves(..)));
        let wanted: Vec<u64> = wanted.map(|exchange| exchange.id).collect();
        let all = async {
            loop {
                let changed = self.origin.changed.notified();
                let is_seen = |id| self.origin.seen.borrow().contains_key(id);
                if wanted.iter().all(is_seen) {
                    return;
                }
                changed.await;
            }
        };
        // What is missing then is found by the comparison.
        let _ = timeout(PATIENCE, all).await;
        Seen {
            clients,
            server: self.origin.seen.take(),
        }
    }
}

/// A server that stays: connections are used again by later conversations.
fn serve(listener: std::net::TcpListener) -> Rc<Origin> {
    listener.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    let origin = Rc::new(Origin::default());
    let serving = Rc::clone(&origin);
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::task::spawn_local(http1::serve(stream, Rc::clone(&serving)));
        }
    });
    origin
}

fn compare(some: &[Conversation], plain: &Seen, through: &Seen) -> Result<(), String> {
    for (at, conversation) in some.iter().enumerate() {
        let (plain_client, client) = (&plain.clients[at], &through.clients[at]);
        for (at, exchange) in conversation.exchanges.iter().enumerate() {
            let why = |side: &str, plain: &dyn Debug, through: &dyn Debug| {
                let said = http1::shown(exchange);
                format!("{side}\n  without: {plain:?}\n  through: {through:?}\n{said}")
            };
            let clients = (plain_client.get(at), client.get(at));
            if !clients_agree(exchange, clients) {
                return Err(why("the client", &clients.0, &clients.1));
            }
            let id = exchange.id;
            let servers = (list(plain, id), list(through, id));
            if !servers_agree(exchange, servers) {
                return Err(why("the server", &servers.0, &servers.1));
            }
        }
    }
    Ok(())
}

fn list(seen: &Seen, id: u64) -> &[ServerSeen] {
    seen.server.get(&id).map_or(&[], |list| list)
}

fn clients_agree(exchange: &Exchange, seen: (Option<&ClientSeen>, Option<&ClientSeen>)) -> bool {
    let (plain, through) = match seen {
        (None, None) => return matches!(exchange.ending, Ending::ClientLeaves(..)),
        (Some(plain), Some(through)) => (plain, through),
        _ => return false,
    };
    match exchange.ending {
        Ending::ServerLeaves(_, how) => broken_agree(exchange, how, plain, through),
        _ => plain == through,
    }
}

/// The server left in the middle of its answer: entries 6 and 7 of the list.
fn broken_agree(
    exchange: &Exchange,
    how: Leaves,
    plain: &ClientSeen,
    through: &ClientSeen,
) -> bool {
    let until = http1::leaves_after(exchange).unwrap_or_default();
    let (heads, body) = http1::sent(exchange, until);
    let begun = heads.len() > exchange.reply.interims.len();
    // A reset may take what came before it along; so does FIN, where something of the request was not read.
    let exact = how == Leaves::Fin && exchange.reply.when == When::Whole;
    let part = |seen: &ClientSeen| {
        heads.starts_with(&seen.heads)
            && (!begun || seen.heads.len() < heads.len() || body.starts_with(&seen.body))
    };
    if exact && begun {
        // Entry 6: the same bytes, and FIN.
        return plain == through && through.heads == heads && through.body == body;
    }
    if is_own(exchange, through) {
        // Entry 7: no answer. Interim ones that came are passed, then the mesh says so.
        let interims = &through.heads[..through.heads.len() - 1];
        let all = interims.len() == heads.len();
        return heads.starts_with(interims) && (all && !begun || !exact) && part(plain);
    }
    // Entry 6 again: a reset becomes FIN.
    begun && part(plain) && part(through) && through.end == End::Fin
}

/// The mesh's own answer to a server that left.
fn is_own(exchange: &Exchange, seen: &ClientSeen) -> bool {
    let Some(last) = seen.heads.last() else {
        return false;
    };
    let names: Vec<_> = last.fields.iter().map(|(name, _)| &name[..]).collect();
    let body = &seen.body;
    last.line == b"HTTP/1.1 502 Bad Gateway"
        && names.starts_with(&[b"content-type", b"content-length"])
        && last.value(b"content-type") == Some(b"text/plain")
        && (exchange.method == "HEAD" && body.is_empty()
            || body.starts_with(b"maille: upstream-closed: "))
}

fn servers_agree(exchange: &Exchange, (plain, through): (&[ServerSeen], &[ServerSeen])) -> bool {
    let idempotent = ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"].contains(&exchange.method);
    match exchange.ending {
        // Entry 8: what came of it ends early, or never came.
        Ending::ClientLeaves(..) => {
            let (head, body) = http1::split(&http1::request(exchange));
            let part = |seen: &ServerSeen| {
                !seen.whole && seen.head == head && body.starts_with(&seen.body)
            };
            through.len() <= 1 && plain.len() <= 1 && through.iter().chain(plain).all(part)
        }
        // Entry 7: once more, where the connection had been used and that is safe.
        Ending::ServerLeaves(..) => {
            let times = if idempotent { 1..=2 } else { 1..=1 };
            let early = exchange.reply.when != When::Whole;
            plain.len() == 1
                && times.contains(&through.len())
                && through
                    .iter()
                    .all(|through| through == &plain[0] || (early && through.head == plain[0].head))
        }
        _ => plain.len() == 1 && plain == through,
    }
}
