// SPDX-License-Identifier: Apache-2.0
//! How long is waited between attempts to reach an API server: twice as long each time, less a random part, so that replicas
//! do not ask together. Never so long that what changed meanwhile is missed for long.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kube::runtime::utils::Backoff;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(5);

/// The next pause, without its random part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pauses(Duration);

/// Counts watches that have to be begun again.
pub(crate) fn counting<T, E>(restarts: &Arc<AtomicU64>) -> impl FnMut(&Result<T, E>) + use<T, E> {
    let restarts = Arc::clone(restarts);
    move |step| {
        if step.is_err() {
            restarts.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Default for Pauses {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST);
        Some(pause.mul_f64(1.0 - 0.5 * fastrand::f64()))
    }
}

impl Backoff for Pauses {
    fn reset(&mut self) {
        self.0 = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_begin_again() {
        let mut pauses = Pauses::default();
        let all: Vec<Duration> = pauses.by_ref().take(20).collect();
        assert!(
            all.iter()
                .all(|pause| *pause <= LONGEST && *pause >= FIRST / 2)
        );
        assert!(all.last().is_some_and(|pause| *pause >= LONGEST / 2));
        pauses.reset();
        assert!(pauses.next().is_some_and(|pause| pause <= FIRST));
    }
}
