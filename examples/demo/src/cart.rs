// SPDX-License-Identifier: Apache-2.0
//! What a customer has chosen. Books each visit in the ledger over a TCP line protocol on kept connections.
//!
//! Must never send a line twice. Read `ledger.rs` next.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, bail};
use http::Request;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::io::BufStream;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::{self, DEADLINE};
use crate::idle::Idle;
use crate::ledger::add;
use crate::server::Role;

/// The cart role.
#[derive(Debug)]
pub(crate) struct Cart {
    marker: String,
    ledger: String,
    idle: Idle<TcpStream>,
    /// Whether the ledger was there once.
    started: AtomicBool,
}

impl Cart {
    /// A cart that books at `ledger` (host:port).
    pub(crate) const fn new(marker: String, ledger: String) -> Self {
        Self {
            marker,
            ledger,
            idle: Idle::new(),
            started: AtomicBool::new(false),
        }
    }

    async fn book(&self) -> anyhow::Result<String> {
        let mut line = match self.idle.take() {
            Some(line) => line,
            None => {
                let socket = TcpStream::connect(&self.ledger).await;
                let socket = socket.context("failed to connect to the ledger")?;
                let _ = socket.set_nodelay(true);
                BufStream::new(socket)
            }
        };
        let (answer, leaving) = add(&mut line, &self.marker).await?;
        if !leaving {
            self.idle.keep(line);
        }
        Ok(answer)
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
