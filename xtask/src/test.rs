// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask test`: what CI runs. Each ring is timed; the last line counts the tests.
//!
//! Must never skip: a ring that lacks something fails. Read `rings.rs` for what each ring runs.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, anyhow, bail};
use nix::unistd::geteuid;

use crate::counts::Counts;
use crate::machine;
use crate::rings::{Extent, Ring, run as run_ring};
use crate::shell::{print, say};

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    rings: Vec<Ring>,
    filter: Option<String>,
    extent: Extent,
}

/// Runs the rings, then prints minutes and counts.
pub(crate) fn run(args: &[String]) -> anyhow::Result<ExitCode> {
    let plan = plan(args)?;
    let mut needs = [machine::RUN, machine::TEST].concat();
    let sandboxes = match plan.extent {
        Extent::Brief => &[],
        Extent::Usual | Extent::Full => machine::SANDBOXES,
    };
    for (ring, also) in [
        (Ring::Fuzz, machine::FUZZ),
        (Ring::Component, machine::COMPONENT),
        (Ring::Suites, machine::SUITES),
        (Ring::Counts, machine::COUNTS),
        (Ring::Cluster, machine::CLUSTER),
        (Ring::Cluster, sandboxes),
        (Ring::Bench, machine::BENCH),
    ] {
        if plan.rings.contains(&ring) {
            needs.extend(also);
        }
    }
    machine::prepare(&needs)?;
    let mut total = Counts::default();
    let (mut lines, mut failures) = (Vec::new(), String::new());
    for ring in &plan.rings {
        say(&format!("\n== ring {}", ring.name()));
        let begin = SystemTime::now();
        let mut counts = run_ring(*ring, plan.filter.as_deref(), plan.extent)?;
        if counts == Counts::default() && plan.filter.is_none() {
            counts.add(Err(anyhow!("it ran no test at all")));
        }
        let took = begin.elapsed().unwrap_or(Duration::ZERO).as_secs_f64() / 60.0;
        lines.push(format!(
            "{:<10} {took:>5.1} min  {} passed, {} failed\n",
            ring.name(),
            counts.passed,
            counts.failed()
        ));
        failures.push_str(&counts.report(ring.name()));
        total.sum(counts);
    }
    if total.passed == 0 && plan.filter.is_some() {
        bail!(
            "no test has {:?} in its name",
            plan.filter.unwrap_or_default()
        );
    }
    print(&format!(
        "\n{failures}\n{}{} passed, {} failed\n",
        lines.concat(),
        total.passed,
        total.failed()
    ))?;
    Ok(if total.failed() == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn plan(args: &[String]) -> anyhow::Result<Plan> {
    let mut plan = Plan {
        rings: Vec::new(),
        filter: None,
        extent: Extent::Usual,
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--all" => plan.extent = Extent::Full,
            "--filter" => plan.filter = Some(args.next().context("--filter needs a NAME")?.clone()),
            name => match Ring::ALL.iter().find(|ring| ring.name() == name) {
                Some(ring) => plan.rings.push(*ring),
                None => {
                    let names: Vec<_> = Ring::ALL.iter().map(|ring| ring.name()).collect();
                    bail!("no ring {name:?}; there are {}", names.join(" "));
                }
            },
        }
    }
    if plan.rings.is_empty() {
        plan.rings = Ring::ALL.to_vec();
        if plan.extent != Extent::Full {
            plan.extent = Extent::Brief;
            plan.rings = brief(geteuid().is_root());
        }
    }
    Ok(plan)
}

/// What CI runs. A cluster is made by root alone.
fn brief(is_root: bool) -> Vec<Ring> {
    let some = |ring: &&Ring| match ring {
        Ring::Bench => false,
        Ring::Cluster => is_root,
        _ => true,
    };
    Ring::ALL.iter().filter(some).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(line: &str) -> anyhow::Result<Plan> {
        let args: Vec<_> = line.split_ascii_whitespace().map(str::to_owned).collect();
        plan(&args)
    }

    #[test]
    fn nothing_said_means_what_ci_runs() {
        assert_eq!(planned("").unwrap().extent, Extent::Brief);
        assert_eq!(brief(true).len(), Ring::ALL.len() - 1);
        assert!(!brief(false).contains(&Ring::Cluster));
        let plan = planned("--all").unwrap();
        assert_eq!(
            (&plan.rings[..], plan.extent),
            (&Ring::ALL[..], Extent::Full)
        );
        assert_eq!(
            planned("pure e2e --filter mesh").unwrap(),
            Plan {
                rings: vec![Ring::Pure, Ring::E2e],
                filter: Some("mesh".to_owned()),
                extent: Extent::Usual,
            }
        );
        assert!(planned("purr").is_err());
        assert!(planned("--filter").is_err());
    }
}
