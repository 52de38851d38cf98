// SPDX-License-Identifier: Apache-2.0
//! `maille-demo`: a small shop called loom, one binary with a subcommand for each role, and its load generator.
//!
//! It is an ordinary application: it knows nothing of a mesh, retries nothing, and every payload it sends carries a
//! marker that a witness on the wire can search for. Read `front.rs` first, then `load.rs`.

#![forbid(unsafe_code)]

mod cart;
mod catalog;
mod chat;
mod client;
mod front;
mod idle;
mod ledger;
mod legacy;
mod load;
mod post;
mod rates;
mod server;
mod stop;
mod vault;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use crate::client::Pool;
use crate::stop::Stop;

/// The example application of the mesh.
#[derive(Debug, Parser)]
#[command(name = "maille-demo", version)]
struct Cli {
    #[command(subcommand)]
    role: Role,
}

/// What every serving role takes.
#[derive(Debug, clap::Args)]
struct Common {
    /// Port to listen on.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Text that every request and response carries.
    #[arg(long, env = "DEMO_MARKER", default_value = "loom")]
    marker: String,
    /// Name of this replica, for answers.
    #[arg(long, env = "HOSTNAME", default_value = "local")]
    replica: String,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// The page that customers load: asks all others, each in its protocol.
    Front {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        behind: front::Behind,
    },
    /// What is for sale.
    Catalog {
        #[command(flatten)]
        common: Common,
    },
    /// What a customer has chosen; books it in the ledger.
    Cart {
        #[command(flatten)]
        common: Common,
        /// host:port of the ledger.
        #[arg(long, default_value = "ledger:7000")]
        ledger: String,
    },
    /// A line protocol over TCP.
    Ledger {
        #[command(flatten)]
        common: Common,
    },
    /// Reviews, from a workload that is left out of the mesh; asks the catalog.
    Legacy {
        #[command(flatten)]
        common: Common,
        /// host:port of the catalog.
        #[arg(long, default_value = "catalog:8080")]
        catalog: String,
    },
    /// gRPC in its four kinds.
    Rates {
        #[command(flatten)]
        common: Common,
    },
    /// WebSocket.
    Chat {
        #[command(flatten)]
        common: Common,
    },
    /// A line protocol over TCP in which the server speaks first.
    Post {
        #[command(flatten)]
        common: Common,
    },
    /// TLS of its own; the certificate is handed out on `--port`.
    Vault {
        #[command(flatten)]
        common: Common,
        /// Port of the TLS.
        #[arg(long, default_value_t = 8443)]
        tls_port: u16,
    },
    /// An open-loop load generator.
    Load(load::Options),
}

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the event loop")?;
    let ended = runtime.block_on(run(cli.role));
    // A name that is being looked up, which the C library may do for 5 s, does not hold up the end.
    runtime.shutdown_background();
    ended
}

async fn run(role: Role) -> anyhow::Result<ExitCode> {
    let stop = Stop::on_sigterm()?;
    match role {
        Role::Front { common, behind } => {
            let front = front::Front::new(common.marker, behind)?;
            server::serve(common.port, front, stop).await?;
        }
        Role::Catalog { common } => {
            let catalog = catalog::Catalog::new(&common.marker, &common.replica);
            server::serve(common.port, catalog, stop).await?;
        }
        Role::Cart { common, ledger } => {
            let cart = cart::Cart::new(common.marker, ledger);
            server::serve(common.port, cart, stop).await?;
        }
        Role::Ledger { common } => ledger::serve(common.port, common.marker, stop).await?,
        Role::Legacy { common, catalog } => {
            let pool = Pool::new(catalog, common.marker.clone());
            let legacy = legacy::Legacy::new(common.marker, pool);
            server::serve(common.port, legacy, stop).await?;
        }
        Role::Rates { common } => rates::serve(common.port, common.marker, stop).await?,
        Role::Chat { common } => chat::serve(common.port, common.marker, stop).await?,
        Role::Post { common } => post::serve(common.port, common.marker, stop).await?,
        Role::Vault { common, tls_port } => {
            vault::serve(common.port, tls_port, common.marker, stop).await?;
        }
        Role::Load(options) => return load::run(options, stop).await,
    }
    Ok(ExitCode::SUCCESS)
}
