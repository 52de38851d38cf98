// SPDX-License-Identifier: Apache-2.0
//! `maille version`: of this program, and of the mesh if one runs. Must never fail because none does.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::api;
use crate::args::{Output, Version};
use crate::failure::Expected;
use crate::screen::{print, print_json};
use crate::state::Base;

pub(crate) async fn run(args: &Version, base: &Base) -> anyhow::Result<ExitCode> {
    let client = env!("CARGO_PKG_VERSION");
    let state = base.state(&args.which.name)?;
    let server = if args.client {
        None
    } else {
        match api::get::<Value>(&state, "/v1/version").await {
            Ok(value) => Some(value),
            Err(Expected::NotRunning { .. }) => None,
            Err(error) => return Err(error.into()),
        }
    };
    if args.output == Output::Json {
        print_json(&json!({"client": {"version": client}, "server": server}))?;
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
