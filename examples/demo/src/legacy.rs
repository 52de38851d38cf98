// SPDX-License-Identifier: Apache-2.0
//! Reviews, from a workload that is left out of the mesh on purpose: meshed ones call it, and it calls a meshed one.
//!
//! Must never need anything of the mesh. Read `front.rs` next.

use anyhow::bail;
use http::{Method, Request};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::client::Pool;
use crate::server::Role;

/// The legacy role.
#[derive(Debug)]
pub(crate) struct Legacy {
    marker: String,
    catalog: Pool,
}

impl Legacy {
    /// Reviews of what `catalog` sells.
    pub(crate) const fn new(marker: String, catalog: Pool) -> Self {
        Self { marker, catalog }
    }
}

impl Role for Legacy {
    async fn answer(&self, request: Request<Incoming>) -> anyhow::Result<String> {
        let path = request.uri().path().to_owned();
        request.into_body().collect().await?;
        if path != "/reviews" {
            bail!("no page {path}");
        }
        let items = self.catalog.ask(Method::GET, "/items").await?;
        let count = items.lines().count().saturating_sub(1);
        Ok(format!(
            "reviews {}: {count} things, all good\n",
            self.marker
        ))
    }
}
