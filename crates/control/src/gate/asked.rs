// SPDX-License-Identifier: Apache-2.0
//! Whether a connection asked anything that is a question here: one that did not is not waited for. Read [`super::door`] next.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Until the first question: whoever opens a connection has one.
const FIRST: Duration = Duration::from_secs(10);

/// Of one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked(Arc<AtomicBool>);

// === impl Asked ===

impl Asked {
    /// It did.
    pub(super) fn mark(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Ends where nothing was asked in time, and else never.
    pub(super) async fn nothing(&self) {
        sleep_until(Instant::now() + FIRST).await;
        if self.0.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_nothing_is_not_waited_for() {
        let (asked, silent) = (Asked::default(), Asked::default());
        asked.mark();
        silent.nothing().await;
        assert!(timeout(FIRST * 10, asked.nothing()).await.is_err());
    }
}
