// SPDX-License-Identifier: Apache-2.0
//! What is for sale: about a kilobyte of text. Must never depend on anybody. Read `server.rs` next.

use std::fmt::Write as _;

use anyhow::bail;
use http::Request;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::server::Role;

/// The catalog role.
#[derive(Debug)]
pub(crate) struct Catalog {
    page: String,
}

impl Catalog {
    /// A catalog whose page carries `marker` and names its `replica`.
    pub(crate) fn new(marker: &str, replica: &str) -> Self {
        let mut page = format!("catalog {marker} from {replica}\n");
        for (number, thing) in [
            "shuttle",
            "heddle",
            "reed",
            "treadle",
            "bobbin",
            "warp beam",
        ]
        .iter()
        .cycle()
        .take(24)
        .enumerate()
        {
            // Writing to a string cannot fail.
            let _ = writeln!(page, "item {number:03}: {thing}, in stock");
        }
        Self { page }
    }
}

impl Role for Catalog {
    async fn answer(&self, request: Request<Incoming>) -> anyhow::Result<String> {
        let path = request.uri().path().to_owned();
        request.into_body().collect().await?;
        match path.as_str() {
            "/items" => Ok(self.page.clone()),
            other => bail!("no page {other}"),
        }
    }
}
