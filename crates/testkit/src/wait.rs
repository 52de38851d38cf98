// SPDX-License-Identifier: Apache-2.0
//! Waiting for events, with a deadline and a name for what was waited for. The only place that looks again and again.

use std::time::Duration;

use anyhow::bail;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How often an event is looked for.
const PERIOD: Duration = Duration::from_millis(20);

/// Waits until `look` finds something.
pub async fn until<T>(
    what: &str,
    within: Duration,
    mut look: impl FnMut() -> Option<T>,
) -> anyhow::Result<T> {
    until_async(what, within, async || look()).await
}

/// Waits until `look`, which may itself wait, finds something.
pub async fn until_async<T>(
    what: &str,
    within: Duration,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> anyhow::Result<T> {
    let end = Instant::now() + within;
    let mut tick = interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if let Some(found) = look().await {
            return Ok(found);
        }
        if Instant::now() >= end {
            bail!("waited {within:?} for {what}");
        }
    }
}
