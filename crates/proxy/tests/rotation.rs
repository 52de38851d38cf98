// SPDX-License-Identifier: Apache-2.0
//! Certificates of both sides run out under load, between two real proxies under a real control: nobody notices.
//!
//! `MAILLE_TEST_SECONDS` is how long the load lasts at least; certificates live a little longer, so that each side rotates within it.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set up its world fails"
)]

#[path = "refusals/world.rs"]
mod world;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::{join, join_all};
use maille_testkit::until;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, timeout};

use world::{App, PATIENCE, Proxy, QUIETLY, World};

const CLIENTS: u64 = 16;
/// Of each client: 1,000 requests a second in all.
const PERIOD: Duration = Duration::from_millis(16);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn seconds() -> u64 {
    let seconds = std::env::var_os("MAILLE_TEST_SECONDS");
    let seconds = seconds.and_then(|text| text.to_str()?.parse().ok());
    // The shortest life of a certificate is 10 s.
    seconds.unwrap_or(50).max(9)
}

/// One connection, kept for all requests; none is sent twice. How many were answered; the first failure ends it.
async fn client(to: SocketAddr, least: u64, stop: &AtomicBool) -> Result<u64, String> {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut tick = interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut answer = [0; ANSWER.len()];
    let mut done = 0;
    while done < least || !stop.load(Ordering::Relaxed) {
        tick.tick().await;
        let exchange = async {
            stream.write_all(REQUEST).await?;
            stream.read_exact(&mut answer).await
        };
        let failed = match timeout(PATIENCE, exchange).await {
            Ok(Ok(_)) if answer == ANSWER => None,
            Ok(Ok(_)) => Some(String::from_utf8_lossy(&answer).into_owned()),
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("no answer".to_owned()),
        };
        if let Some(failed) = failed {
            return Err(format!("request {done}: {failed}"));
        }
        done += 1;
    }
    Ok(done)
}

/// The client's ends of the connections to `server` that are established, after proc_net_tcp(5).
fn connections(server: SocketAddr) -> BTreeSet<String> {
    let SocketAddr::V4(server) = server else {
        panic!("{server} is not of IPv4")
    };
    let address = u32::from_ne_bytes(server.ip().octets());
    let server = format!("{address:08X}:{:04X}", server.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let lines = table.lines().map(|line| line.split_whitespace());
    let lines = lines.filter_map(|mut line| {
        let (local, remote) = (line.nth(1)?, line.next()?);
        (remote == server && line.next()? == "01").then(|| local.to_owned())
    });
    lines.collect()
}

/// Numbers of the certificates that were in force so far.
fn generations(proxy: &Proxy) -> BTreeSet<u64> {
    let lines = proxy.said("certificate in force");
    lines
        .iter()
        .filter_map(|line| line["generation"].as_u64())
        .collect()
}

/// Waits until both sides have a new certificate, and no connection is in use that was there before the later of the two.
async fn rotated(world: &World, proxies: &[Proxy; 2], within: Duration) {
    let mesh = world.server_mesh();
    let first = until("the first connection", PATIENCE, || {
        Some(connections(mesh)).filter(|now| !now.is_empty())
    });
    let mut seen = first.await.unwrap();
    let mut before = seen.clone();
    let both = until("new certificates", within, || {
        // Of two looks the older one: a line in the log may come a moment after the certificate.
        before = std::mem::replace(&mut seen, connections(mesh));
        let renewed = |proxy| generations(proxy).len() >= 2;
        proxies.iter().all(renewed).then_some(())
    });
    both.await.unwrap();
    assert!(!before.is_empty(), "the load went on without a connection");
    let left = until("new connections in the place of the old", PATIENCE, || {
        let now = connections(mesh);
        (!now.is_empty() && now.is_disjoint(&before)).then_some(())
    });
    left.await.unwrap();
}

#[test]
fn certificates_of_both_sides_rotate_and_no_request_fails() {
    let seconds = seconds();
    let leaf = Duration::from_secs(seconds * 6 / 5);
    let world = World::new(leaf);
    let app = App::start(world.app());
    let proxies = [world.server_proxy(QUIETLY), world.client_proxy()];
    let (stop, to) = (AtomicBool::new(false), world.outbound());
    let least = seconds * 1000 / u64::try_from(PERIOD.as_millis()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let ends = runtime.block_on(async {
        let load = join_all((0..CLIENTS).map(|_| client(to, least, &stop)));
        let watch = async {
            rotated(&world, &proxies, leaf + PATIENCE).await;
            stop.store(true, Ordering::Relaxed);
        };
        join(load, watch).await.0
    });
    let failed: Vec<_> = ends.iter().filter_map(|end| end.as_ref().err()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let done: u64 = ends.iter().flatten().sum();
    let used = app.accepted();
    println!("{done} requests over {used} connections of the application, none failed");
}
