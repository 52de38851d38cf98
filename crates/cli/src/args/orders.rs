// SPDX-License-Identifier: Apache-2.0
//! The command lines of the verbs that change or enter what runs. Must never act.

use std::time::Duration;

use super::{Which, duration};

/// `maille restart`.
#[derive(Debug, clap::Args)]
pub struct Restart {
    /// Which Deployments: deployment/NAME, deploy/NAME or NAME.
    #[arg(required = true, value_name = "deployment/NAME")]
    pub targets: Vec<String>,
    #[command(flatten)]
    pub(crate) order: Order,
}

/// `maille scale`.
#[derive(Debug, clap::Args)]
pub struct Scale {
    /// Which Deployments: deployment/NAME, deploy/NAME or NAME.
    #[arg(required = true, value_name = "deployment/NAME")]
    pub targets: Vec<String>,
    /// How many pods there are to be.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=200))]
    pub replicas: u32,
    #[command(flatten)]
    pub(crate) order: Order,
}

/// What both take.
#[derive(Debug, clap::Args)]
pub(crate) struct Order {
    /// The namespace; not needed where only one has such a Deployment.
    #[arg(short = 'n', long)]
    pub(crate) namespace: Option<String>,
    /// Return when it is done.
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long that may take.
    #[arg(long, default_value = "60s", value_parser = duration, value_name = "TIME")]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) which: Which,
}
