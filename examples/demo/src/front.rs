// SPDX-License-Identifier: Apache-2.0
//! The page that customers load. `/` asks the catalog; each other path asks one more, each in its own protocol.
//!
//! Must never answer 200 when something it asked failed: the load generator counts on it. Read `cart.rs` next.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::bail;
use http::{Method, Request};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::chat::Chat;
use crate::client::{Pool, served};
use crate::post;
use crate::rates::Desk;
use crate::server::Role;
use crate::vault::Vault;

/// Everything behind the front.
#[derive(Debug, clap::Args)]
pub(crate) struct Behind {
    /// host:port of the catalog.
    #[arg(long, default_value = "catalog:8080")]
    catalog: String,
    /// host:port of the cart.
    #[arg(long, default_value = "cart:8080")]
    cart: String,
    /// host:port of the reviews, which an old workload outside the mesh answers.
    #[arg(long, default_value = "legacy:8080")]
    legacy: String,
    /// host:port of the rates, over gRPC.
    #[arg(long, default_value = "rates:8080")]
    rates: String,
    /// host:port of the chat, over WebSocket.
    #[arg(long, default_value = "chat:8080")]
    chat: String,
    /// host:port of the post, which speaks first.
    #[arg(long, default_value = "post:2525")]
    post: String,
    /// host:port where the vault hands out its certificate.
    #[arg(long, default_value = "vault:8080")]
    vault: String,
    /// Port of the same host where the vault speaks TLS of its own.
    #[arg(long, default_value_t = 8443)]
    vault_tls_port: u16,
}

/// The front role.
#[derive(Debug)]
pub(crate) struct Front {
    marker: String,
    catalog: Pool,
    cart: Pool,
    legacy: Pool,
    rates: Desk,
    chat: Chat,
    vault: Vault,
    behind: Behind,
    /// Whether everything behind it answered once.
    started: AtomicBool,
}

impl Front {
    /// A front that has not yet met those behind it.
    pub(crate) fn new(marker: String, behind: Behind) -> anyhow::Result<Self> {
        let pool = |to: &String| Pool::new(to.clone(), marker.clone());
        Ok(Self {
            catalog: pool(&behind.catalog),
            cart: pool(&behind.cart),
            legacy: pool(&behind.legacy),
            rates: Desk::new(marker.clone(), &behind.rates)?,
            chat: Chat::new(marker.clone(), behind.chat.clone()),
            vault: Vault::new(marker.clone(), behind.vault.clone(), behind.vault_tls_port),
            marker,
            behind,
            started: AtomicBool::new(false),
        })
    }

    async fn meet(&self) -> anyhow::Result<()> {
        let behind = &self.behind;
        tokio::join!(
            served(&behind.catalog),
            served(&behind.cart),
            served(&behind.legacy),
            served(&behind.rates),
            served(&behind.chat),
            served(&behind.post),
            served(&behind.vault),
        );
        let page = |path| self.more(Method::GET, path);
        tokio::try_join!(
            self.catalog.ask(Method::GET, "/items"),
            page("/cart"),
            page("/reviews"),
            page("/rates"),
            page("/chat"),
            page("/post"),
            page("/vault"),
        )?;
        Ok(())
    }

    /// What a page has besides the items.
    async fn more(&self, method: Method, path: &str) -> anyhow::Result<String> {
        match path {
            "/" => Ok(String::new()),
            "/cart" => self.cart.ask(method, "/cart").await,
            "/reviews" => self.legacy.ask(Method::GET, "/reviews").await,
            "/rates" => self.rates.visit().await,
            "/chat" => self.chat.visit().await,
            "/post" => post::note(&self.behind.post, &self.marker).await,
            "/vault" => self.vault.visit().await,
            other => bail!("no page {other}"),
        }
    }
}

impl Role for Front {
    async fn answer(&self, request: Request<Incoming>) -> anyhow::Result<String> {
        let (head, body) = request.into_parts();
        body.collect().await?;
        let items = self.catalog.ask(Method::GET, "/items").await?;
        let more = self.more(head.method, head.uri.path()).await?;
        Ok(format!("loom {}\n{items}{more}", self.marker))
    }

    /// Ready once everything behind it has answered once; after that it stays ready, whatever happens to the others.
    async fn ready(&self) -> bool {
        if !self.started.load(Ordering::Relaxed) && Box::pin(self.meet()).await.is_ok() {
            self.started.store(true, Ordering::Relaxed);
        }
        self.started.load(Ordering::Relaxed)
    }
}
