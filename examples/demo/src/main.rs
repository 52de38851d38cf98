// SPDX-License-Identifier: Apache-2.0
//! `maille-demo`: a small shop called loom, one binary with a subcommand for each role, and its load generator.
//!
//! It is an ordinary application: it knows nothing of a mesh, retries nothing, and every payload it sends carries a
//! marker that a witness on the wire can search for. Read `front.rs` first, then `load.rs`.

#![forbid(unsafe_code)]

mod cart;
mod catalog;
mod client;
mod front;
mod ledger;
mod legacy;
mod load;
mod server;
mod stop;

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
    /// The page that customers load: asks catalog, cart and reviews.
    Front {
        #[command(flatten)]
        common: Common,
        /// host:port of the catalog.
        #[arg(long, default_value = "catalog:8080")]
        catalog: String,
        /// host:port of the cart.
        #[arg(long, default_value = "cart:8080")]
        cart: String,
        /// host:port of the reviews, which an old workload outside the mesh answers.
        #[arg(long, default_value = "legacy:8080")]
        legacy: String,
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
        Role::Front {
            common,
            catalog,
            cart,
            legacy,
        } => {
            let marker = common.marker.clone();
            let front = front::Front::new(
                marker.clone(),
                Pool::new(catalog, marker.clone()),
                Pool::new(cart, marker.clone()),
                Pool::new(legacy, marker),
            );
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
        Role::Load(options) => return load::run(options, stop).await,
    }
    Ok(ExitCode::SUCCESS)
}
