// SPDX-License-Identifier: Apache-2.0
//! `maille check`: what works, what does not, and what to do about it. Must never change anything. Read `api.rs` next.

use std::process::ExitCode;

use crate::api::{self, Check, Checks};
use crate::args::{self, Output};
use crate::failure::Expected;
use crate::screen::{Screen, print, print_json};
use crate::state::Base;
use crate::text::clean;

pub(crate) async fn run(
    args: &args::Check,
    base: &Base,
    screen: Screen,
) -> anyhow::Result<ExitCode> {
    let checks = if args.pre {
        machine()
    } else {
        let state = base.state(&args.which.name)?;
        api::get(&state, "/v1/check").await?
    };
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

/// This machine, without a mesh.
fn machine() -> Checks {
    let checks = maille_sys::machine::look().into_iter().map(|fact| Check {
        category: "machine".to_owned(),
        name: fact.name.to_owned(),
        ok: fact.ok,
        message: Some(fact.found),
        hint: Some(fact.hint),
    });
    let checks: Vec<Check> = checks.collect();
    Checks {
        ok: checks.iter().all(|check| check.ok),
        checks,
    }
}

fn text(checks: &Checks, screen: Screen) -> String {
    let mut text = String::new();
    let mut category = None;
    for check in &checks.checks {
        if category != Some(&check.category) {
            let gap = if category.is_some() { "\n" } else { "" };
            text.push_str(&format!("{gap}{}\n", screen.bold(&clean(&check.category))));
            category = Some(&check.category);
        }
        let sign = if check.ok {
            screen.green("√")
        } else {
            screen.red("×")
        };
        text.push_str(&format!("{sign} {}\n", clean(&check.name)));
        let more = [("", &check.message), ("hint: ", &check.hint)];
        for (label, line) in more.iter().filter(|_| !check.ok) {
            if let Some(line) = line.as_ref().filter(|line| !line.is_empty()) {
                text.push_str(&format!("    {label}{}\n", clean(line)));
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
