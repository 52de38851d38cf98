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

/// How long a load may take beyond its own time.
const GRACE: Duration = Duration::from_secs(60);

fn settings() -> Settings {
    let seconds = std::env::var_os("MAILLE_TEST_SECONDS");
    let seconds = seconds
        .and_then(|text| text.to_str()?.parse().ok())
        .unwrap_or(10);
    Settings {
        rate: if seconds >= 60 { 1000 } else { 300 },
        seconds,
        connections: 32,
    }
}

async fn start(name: &str, settings: Settings) -> Up {
    let mut up = Up::shop(name, settings).unwrap();
    up.ready(SHOP_PODS).await.unwrap();
    up.load_began().await.unwrap();
    up
}

async fn finish(up: Up, settings: Settings) -> Load {
    let load = up
        .load(Duration::from_secs(settings.seconds) + GRACE)
        .await
        .unwrap();
    assert_eq!(load.requests, settings.seconds * u64::from(settings.rate));
    up.down().await.unwrap();
    load
}

/// Requests between two disturbances, so that the last one is over before the load is.
fn share(settings: Settings) -> u64 {
    settings.seconds * u64::from(settings.rate) / (TIMES + 3)
}

#[tokio::test]
async fn control_killed_loses_no_request() {
    let settings = settings();
    let up = start("c", settings).await;
    for _ in 0..TIMES {
        up.more_requests(share(settings)).await.unwrap();
        up.restart_control().await.unwrap();
    }
    let load = finish(up, settings).await;
    assert_eq!(load.failed, 0, "{:?}", load.errors);
}

#[tokio::test]
async fn pods_replaced_lose_no_request() {
    let settings = settings();
    let up = start("p", settings).await;
    for _ in 0..TIMES {
        up.more_requests(share(settings) / 4).await.unwrap();
        up.replace_pod("catalog").await.unwrap();
    }
    let load = finish(up, settings).await;
    assert_eq!(load.failed, 0, "{:?}", load.errors);
}

#[tokio::test]
async fn a_killed_proxy_serves_again_within_a_second() {
    let settings = settings();
    let up = start("k", settings).await;
    up.more_requests(share(settings)).await.unwrap();
    let front = up.pod_of("front").await.unwrap();
    let uid = front["uid"].as_str().unwrap();
    let proxy = up.process("maille-proxy", Some(uid)).unwrap();
    assert!(proxy.signal(Signal::SIGKILL));
    let load = finish(up, settings).await;
    // Each connection has one request in flight at most.
    assert!(load.failed <= u64::from(settings.connections), "{load:?}");
    assert!(load.longest_gap < Duration::from_secs(1), "{load:?}");
}
