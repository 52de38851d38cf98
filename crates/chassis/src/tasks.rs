// SPDX-License-Identifier: Apache-2.0
//! Tasks with a name and an owner: the only place that spawns.
//!
//! A panic in a task is caught at its border, logged with the task's name and counted; the process goes on.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt as _;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TrackedFuture;

/// The owner of a process's tasks. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    panics: Arc<AtomicU64>,
}

/// A task that is still running; it goes on when this is dropped.
#[derive(Debug)]
pub struct Task(JoinHandle<()>);

impl Tasks {
    /// No tasks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `future` on the current runtime.
    #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
    pub fn spawn<F>(&self, name: &'static str, future: F) -> Task
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Task(tokio::spawn(self.watched(name, future)))
    }

    /// Runs `future`, which need not be `Send`, on the current thread's runtime (`LocalRuntime` or a `LocalSet`).
    pub fn spawn_local<F>(&self, name: &'static str, future: F) -> Task
    where
        F: Future<Output = ()> + 'static,
    {
        Task(tokio::task::spawn_local(self.watched(name, future)))
    }

    /// The future with its border: a panic is told and counted there.
    fn watched<F>(
        &self,
        name: &'static str,
        future: F,
    ) -> TrackedFuture<impl Future<Output = ()> + use<F>>
    where
        F: Future<Output = ()>,
    {
        let panics = Arc::clone(&self.panics);
        // What a panic left half done belongs to the task, and ends with it.
        let guarded = AssertUnwindSafe(future).catch_unwind();
        self.tracker.track_future(async move {
            if let Err(payload) = guarded.await {
                panics.fetch_add(1, Ordering::Relaxed);
                tracing::error!(task = name, panic = text(&*payload), "task panicked");
            }
        })
    }

    /// How many tasks panicked so far.
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// How many tasks run.
    pub fn running(&self) -> usize {
        self.tracker.len()
    }

    /// Waits until every task has ended. No task may be added afterwards by those that wait.
    pub async fn joined(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

impl Task {
    /// Ends the task at its next await.
    pub fn abort(&self) {
        self.0.abort();
    }

    /// Waits for the task's end, however it came.
    pub async fn ended(self) {
        drop(self.0.await);
    }
}

fn text(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_counted_and_others_go_on() {
        let tasks = Tasks::new();
        tasks
            .spawn("bad", async { panic!("on purpose") })
            .ended()
            .await;
        let (tell, told) = tokio::sync::oneshot::channel();
        tasks.spawn("good", async { tell.send(()).unwrap() });
        told.await.unwrap();
        tasks.joined().await;
        assert_eq!(tasks.panics(), 1);
        assert_eq!(tasks.running(), 0);
    }

    #[tokio::test]
    async fn abort_reaches_the_work() {
        let tasks = Tasks::new();
        let (hold, released) = tokio::sync::oneshot::channel::<()>();
        let task = tasks.spawn("endless", async move {
            let _hold = hold;
            std::future::pending::<()>().await;
        });
        task.abort();
        assert!(released.await.is_err());
        tasks.joined().await;
    }
}
