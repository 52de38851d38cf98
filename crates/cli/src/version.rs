// SPDX-License-Identifier: Apache-2.0
//! `maille version`: of this program, and of the mesh if one runs. Must never fail because none does.

use std::process::ExitCode;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::args::{Output, Version};
use crate::failure::Expected;
use crate::reach::Reach;
use crate::screen::{print, print_json};
use crate::state::Base;

/// Both sides.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Versions {
    /// This program.
    client: Client,
    /// What `GET /v1/version` answers; `null` where no mesh runs, or with --client.
    server: Option<Value>,
}

/// This program.
#[derive(Debug, Serialize, JsonSchema)]
struct Client {
    /// Its version.
    version: &'static str,
}

pub(crate) async fn run(args: &Version, base: &Base) -> anyhow::Result<ExitCode> {
    let client = env!("CARGO_PKG_VERSION");
    let server = if args.client {
        None
    } else {
        let reach = Reach::find(&args.which, base).await?;
        match reach.get::<Value>("/v1/version").await {
            Ok(value) => Some(value),
            Err(Expected::NotRunning { .. } | Expected::NoMesh) => None,
            Err(error) => return Err(error.into()),
        }
    };
    if args.output == Output::Json {
        let client = Client { version: client };
        print_json(&Versions { client, server })?;
        return Ok(ExitCode::SUCCESS);
    }
    print(&format!("Client version: {client}"))?;
    if !args.client {
        let version = server
            .as_ref()
            .and_then(|server| server["version"].as_str());
        print(&format!(
            "Server version: {}",
            version.unwrap_or("unavailable")
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
