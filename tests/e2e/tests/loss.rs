// SPDX-License-Identifier: Apache-2.0
//! What must not cost a request: control killed, pods replaced. And what may cost only those in flight: a killed proxy.
//!
//! `MAILLE_TEST_SECONDS` scales them: short in CI, 60 s at 1,000 requests a second for the record.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::time::Duration;

use maille_testkit::up::SHOP_PODS;
use maille_testkit::{Load, Settings, Up};
use nix::sys::signal::Signal;

/// How often each test disturbs.
const TIMES: u64 = 5;

/// Whose pods are replaced: each leaves in the way of its protocol.
const REPLACED: [&str; 5] = ["catalog", "rates", "chat", "post", "vault"];

/// How long the load generator may take to sum up: a request in flight has 10 s.
const GRACE: Duration = Duration::from_secs(30);

/// The load of a test, and its size: the load itself goes on until the last disturbance is over.
fn settings() -> (Settings, u64) {
    let seconds = std::env::var_os("MAILLE_TEST_SECONDS");
    let seconds: u64 = seconds
        .and_then(|text| text.to_str()?.parse().ok())
        .unwrap_or(10);
    let settings = Settings {
        rate: if seconds >= 60 { 1000 } else { 300 },
        seconds: 0,
        connections: 32,
    };
    (settings, seconds * u64::from(settings.rate))
}

async fn start(name: &str, settings: Settings) -> Up {
    let mut up = Up::shop(name, settings).unwrap();
    up.ready(SHOP_PODS).await.unwrap();
    up.load_began().await.unwrap();
    up
}

/// Ends the load after its last share. Shown, so that `--nocapture` gives the record.
async fn finish(up: Up, (settings, requests): (Settings, u64)) -> Load {
    up.more_requests(share(requests)).await.unwrap();
    up.end_load().unwrap();
    let load = up.load(GRACE).await.unwrap();
    eprintln!("{load:?}");
    assert!(load.requests >= requests, "{load:?}");
    // The load is an open loop: what was due was sent, or the rate that the test is about was not there.
    let due = f64::from(settings.rate) * load.seconds;
    assert!(
        load.requests as f64 >= 0.99 * due,
        "{due} were due: {load:?}"
    );
    up.down().await.unwrap();
    load
}

/// Requests before, between and after the disturbances.
fn share(requests: u64) -> u64 {
    requests.div_ceil(TIMES + 1)
}

#[tokio::test]
async fn control_killed_loses_no_request() {
    let (settings, requests) = settings();
    let up = start("c", settings).await;
    for _ in 0..TIMES {
        up.more_requests(share(requests)).await.unwrap();
        up.restart_control().await.unwrap();
    }
    let load = finish(up, (settings, requests)).await;
    assert_eq!(load.failed, 0, "{:?}", load.errors);
}

#[tokio::test]
async fn pods_replaced_lose_no_request() {
    let (settings, requests) = settings();
    let up = start("p", settings).await;
    for workload in REPLACED {
        up.more_requests(share(requests)).await.unwrap();
        up.replace_pod(workload).await.unwrap();
    }
    let load = finish(up, (settings, requests)).await;
    assert_eq!(load.failed, 0, "{:?}", load.errors);
}

#[tokio::test]
async fn a_killed_proxy_serves_again_within_a_second() {
    let (settings, requests) = settings();
    let up = start("k", settings).await;
    let front = up.pod_of("front").await.unwrap();
    let uid = front["uid"].as_str().unwrap();
    for _ in 0..TIMES {
        up.more_requests(share(requests)).await.unwrap();
        let proxy = up.process("maille-proxy", Some(uid)).unwrap();
        assert!(proxy.signal(Signal::SIGKILL));
    }
    let load = finish(up, (settings, requests)).await;
    // Each connection has one request in flight at most, each time.
    assert!(
        load.failed <= TIMES * u64::from(settings.connections),
        "{load:?}"
    );
    assert!(load.longest_gap < Duration::from_secs(1), "{load:?}");
}
