// SPDX-License-Identifier: Apache-2.0
//! `maille check`: what works, what does not, and what to do about it. Must never change anything. Read `api.rs` next.

use std::process::ExitCode;

use crate::api::{self, Checks};
use crate::args::{Check, Output};
use crate::failure::Expected;
use crate::screen::{Screen, print, print_json};
use crate::state::Base;

pub(crate) async fn run(args: &Check, base: &Base, screen: Screen) -> anyhow::Result<ExitCode> {
    let state = base.state(&args.which.name)?;
    let checks: Checks = api::get(&state, "/v1/check").await?;
    match args.output {
        Output::Json => print_json(&checks)?,
        Output::Table => print(&text(&checks, screen))?,
    };
    if !checks.ok {
        let failed = checks.checks.iter().filter(|check| !check.ok).count();
        return Err(Expected::Found {
            what: format!("{failed} check(s) failed"),
        }
        .into());
    }
    Ok(ExitCode::SUCCESS)
}

fn text(checks: &Checks, screen: Screen) -> String {
    let mut text = String::new();
    let mut category = None;
    for check in &checks.checks {
        if category != Some(&check.category) {
            let gap = if category.is_some() { "\n" } else { "" };
            text.push_str(&format!("{gap}{}\n", screen.bold(&check.category)));
            category = Some(&check.category);
        }
        let sign = if check.ok {
            screen.green("√")
        } else {
            screen.red("×")
        };
        text.push_str(&format!("{sign} {}\n", check.name));
        let more = [("", &check.message), ("hint: ", &check.hint)];
        for (label, line) in more.iter().filter(|_| !check.ok) {
            if let Some(line) = line {
                text.push_str(&format!("    {label}{line}\n"));
            }
        }
    }
    let verdict = if checks.ok {
        screen.green("√")
    } else {
        screen.red("×")
    };
    text.push_str(&format!("\nStatus check results are {verdict}\n"));
    text
}
