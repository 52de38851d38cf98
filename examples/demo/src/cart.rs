// SPDX-License-Identifier: Apache-2.0
//! What a customer has chosen. Books each visit in the ledger over a TCP line protocol on kept connections.
//!
//! Must never send a line twice. Read `ledger.rs` next.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, bail, ensure};
use http::Request;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::io::BufStream;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::{self, DEADLINE};
use crate::ledger::{FAREWELL, read_line, write_line};
use crate::server::Role;

/// Idle connections kept.
const MAX_IDLE: usize = 64;

/// The cart role.
#[derive(Debug)]
pub(crate) struct Cart {
    marker: String,
    ledger: String,
    idle: Mutex<Vec<BufStream<TcpStream>>>,
    /// Whether the ledger was there once.
    started: AtomicBool,
}

impl Cart {
    /// A cart that books at `ledger` (host:port).
    pub(crate) const fn new(marker: String, ledger: String) -> Self {
        Self {
            marker,
            ledger,
            idle: Mutex::new(Vec::new()),
            started: AtomicBool::new(false),
        }
    }

    async fn book(&self) -> anyhow::Result<String> {
        let mut line = match self.take() {
            Some(line) => line,
            None => {
                let socket = TcpStream::connect(&self.ledger).await;
                let socket = socket.context("failed to connect to the ledger")?;
                let _ = socket.set_nodelay(true);
                BufStream::new(socket)
            }
        };
        write_line(&mut line, &format!("ADD 1 {}", self.marker)).await?;
        let mut leaving = false;
        loop {
            let answer = read_line(&mut line)
                .await?
                .context("the ledger closed without an answer")?;
            if answer == FAREWELL {
                leaving = true;
                continue;
            }
            ensure!(answer.contains(&self.marker), "ledger said {answer:?}");
            if !leaving {
                self.keep(line);
            }
            return Ok(answer);
        }
    }

    fn take(&self) -> Option<BufStream<TcpStream>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(line) = idle.pop() {
            // Anything to read on an idle connection is a farewell or its end: never use it again.
            let mut byte = [0];
            let quiet = line.get_ref().try_read(&mut byte);
            if quiet.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock) {
                return Some(line);
            }
        }
        None
    }

    fn keep(&self, line: BufStream<TcpStream>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(line);
        }
    }
}

impl Role for Cart {
    async fn answer(&self, request: Request<Incoming>) -> anyhow::Result<String> {
        let path = request.uri().path().to_owned();
        request.into_body().collect().await?;
        if path != "/cart" {
            bail!("no page {path}");
        }
        let booked = timeout(DEADLINE, self.book())
            .await
            .context("the ledger did not answer in time")??;
        Ok(format!("cart {} ledger: {booked}\n", self.marker))
    }

    /// Ready once the ledger is there; a ledger that comes and goes later does not change that.
    async fn ready(&self) -> bool {
        if !self.started.load(Ordering::Relaxed) {
            client::served(&self.ledger).await;
            self.started.store(true, Ordering::Relaxed);
        }
        true
    }
}
