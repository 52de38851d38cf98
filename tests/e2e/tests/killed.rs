// SPDX-License-Identifier: Apache-2.0
//! Any process of a `maille up`, killed at any moment: whatever goes on or ends by it, `down` leaves nothing.
//!
//! A few times in CI, 201 with `MAILLE_TEST_SECONDS`. Seeds are printed; `MAILLE_TEST_SEED` plays one again.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::time::Duration;

use fastrand::Rng;
use maille_testkit::up::SHOP_PODS;
use maille_testkit::{Settings, Traces, Up};
use nix::sys::signal::Signal;

/// How many for each time of life in CI, and for the record.
const KILLS: [usize; 2] = [3, 67];

const TRAFFIC: Settings = Settings {
    rate: 200,
    seconds: 0,
    connections: 4,
};

/// When in the life of the mesh.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Time {
    Start,
    Service,
    End,
}

#[tokio::test]
async fn who_is_killed_at_the_start_leaves_nothing() {
    kills(Time::Start).await;
}

#[tokio::test]
async fn who_is_killed_in_service_leaves_nothing() {
    kills(Time::Service).await;
}

#[tokio::test]
async fn who_is_killed_at_the_end_leaves_nothing() {
    kills(Time::End).await;
}

async fn kills(time: Time) {
    let set = |name| std::env::var_os(name).map(|value| value.into_string().unwrap());
    let kills = KILLS[usize::from(set("MAILLE_TEST_SECONDS").is_some())];
    let seed =
        set("MAILLE_TEST_SEED").map_or_else(|| fastrand::u64(..), |text| text.parse().unwrap());
    eprintln!("seed {seed}");
    let mut random = Rng::with_seed(seed);
    for _ in 0..kills {
        one(time, &mut random).await;
    }
}

async fn one(time: Time, random: &mut Rng) {
    let mut up = Up::shop("k", TRAFFIC).unwrap();
    let dir = up.runtime_dir();
    if time != Time::Start {
        up.ready(SHOP_PODS).await.unwrap();
    }
    let ready = Traces::of(&up);
    let ending = (time == Time::End).then(|| up.maille(&["down"]).spawn().unwrap());
    moment(random).await;
    let before = Traces::of(&up);
    if let Some(victim) = random.choice(&before.processes) {
        // It may have ended by itself just now.
        let killed = victim.signal(Signal::SIGKILL);
        eprintln!("killed {} ({killed})", victim.name);
    }
    let after = Traces::of(&up);
    if let Some(mut ending) = ending {
        // It may fail, if who should have told it that all is over was killed; the next one may not.
        let _ = ending.wait().unwrap();
    }
    let down = up.maille(&["down"]).output().unwrap();
    let said = String::from_utf8_lossy(&down.stderr);
    assert!(down.status.success(), "{said}");
    for traces in [ready, before, after] {
        traces.gone().await;
    }
    assert!(!dir.exists());
    up.kill().unwrap();
}

/// Lets up to a second pass: the moment is what is drawn, nothing is waited for.
async fn moment(random: &mut Rng) {
    let moment = Duration::from_secs_f64(random.f64());
    let nothing = std::future::pending::<()>();
    let _ = tokio::time::timeout(moment, nothing).await;
}
