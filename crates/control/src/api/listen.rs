// SPDX-License-Identifier: Apache-2.0
//! The API's connections: few at a time, none for long. Says nothing about what is answered; that is [`super`]'s.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use maille_chassis::drain::{Phase, Watch};
use maille_chassis::limited;
use maille_chassis::tasks::Tasks;
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Connections at a time; others wait in the kernel's queue.
const CONNECTIONS: usize = 32;
/// For a request's head, and between requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// For a whole connection: it must not hold its place for ever. Who only sits there is ended by the other deadline; a tap may be watched for a day.
const LIFETIME: Duration = Duration::from_secs(24 * 3_600);

/// Serves until the drain begins; what was begun may end.
pub async fn serve(listener: UnixListener, router: Router, tasks: Tasks, mut drain: Watch) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, stream) = tokio::select! {
            () = drain.reached(Phase::Graceful) => return,
            next = next => match next {
                (Ok(place), Ok((stream, _))) => (place, stream),
                (_, Err(error)) => {
                    limited!(warn, %error, "API connection not accepted");
                    tokio::task::yield_now().await;
                    continue;
                }
                (Err(_), Ok(_)) => return,
            },
        };
        let service = TowerToHyperService::new(router.clone());
        let mut stopping = drain.clone();
        tasks.spawn("API connection", async move {
            let mut server = http1::Builder::new();
            server
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT);
            let mut connection =
                std::pin::pin!(server.serve_connection(TokioIo::new(stream), service));
            let ended = timeout(LIFETIME, async {
                tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = stopping.reached(Phase::Graceful) => {
                        connection.as_mut().graceful_shutdown();
                        connection.await
                    }
                }
            });
            if let Ok(Err(error)) = ended.await {
                tracing::debug!(%error, "API connection ended");
            }
            drop(place);
        });
    }
}
