// SPDX-License-Identifier: Apache-2.0
//! The page that customers load. `/` asks the catalog, `/cart` also the cart, `/reviews` also the legacy workload.
//!
//! Must never answer 200 when something it asked failed: the load generator counts on it. Read `cart.rs` next.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::bail;
use http::{Method, Request};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::client::Pool;
use crate::server::Role;

/// The front role.
#[derive(Debug)]
pub(crate) struct Front {
    marker: String,
    catalog: Pool,
    cart: Pool,
    legacy: Pool,
    /// Whether everything behind it answered once.
    started: AtomicBool,
}

impl Front {
    /// A front that has not yet met those behind it.
    pub(crate) const fn new(marker: String, catalog: Pool, cart: Pool, legacy: Pool) -> Self {
        Self {
            marker,
            catalog,
            cart,
            legacy,
            started: AtomicBool::new(false),
        }
    }

    async fn meet(&self) -> anyhow::Result<()> {
        tokio::join!(
            self.catalog.served(),
            self.cart.served(),
            self.legacy.served()
        );
        self.catalog.ask(Method::GET, "/items").await?;
        self.cart.ask(Method::GET, "/cart").await?;
        self.legacy.ask(Method::GET, "/reviews").await?;
        Ok(())
    }
}

impl Role for Front {
    async fn answer(&self, request: Request<Incoming>) -> anyhow::Result<String> {
        let (head, body) = request.into_parts();
        body.collect().await?;
        let items = self.catalog.ask(Method::GET, "/items").await?;
        let more = match head.uri.path() {
            "/" => String::new(),
            "/cart" => self.cart.ask(head.method, "/cart").await?,
            "/reviews" => self.legacy.ask(Method::GET, "/reviews").await?,
            other => bail!("no page {other}"),
        };
        Ok(format!("loom {}\n{items}{more}", self.marker))
    }

    /// Ready once everything behind it has answered once; after that it stays ready, whatever happens to the others.
    async fn ready(&self) -> bool {
        if !self.started.load(Ordering::Relaxed) && self.meet().await.is_ok() {
            self.started.store(true, Ordering::Relaxed);
        }
        self.started.load(Ordering::Relaxed)
    }
}
