// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask`: the only entry for people and for CI. One file for each verb.
//!
//! Must never need heavy dependencies: it is compiled before everything else. Read `test.rs` for the rings.

#![forbid(unsafe_code)]

mod build;
mod counts;
mod demo;
mod fuzz;
#[cfg(feature = "gen")]
mod r#gen;
mod images;
mod judges;
mod machine;
mod rings;
mod shell;
mod suite;
mod test;
mod tidy;

use std::process::ExitCode;

use anyhow::bail;

use crate::shell::{Cmd, say};

const HELP: &str = "\
cargo xtask VERB

  demo [ARGS]              prepare this machine, build, run `maille demo ARGS`
  test [--all] [RING...] [--filter NAME]
                           run what CI runs; --all the rest too; or only some rings:
                           tidy pure fuzz component netns e2e suites counts cluster bench
  tidy                     rules about the tree that no compiler checks
  gen [--check]            generate code from proto/
  bench [ARGS]             measure the pair beside its peers
  counts [--write]         what a request costs in system calls, packets, instructions, allocations; --write makes it what is known
  images [--quick | --check]
                           the mesh's images as archives, in target/images; --check builds them twice and compares
  cluster VERB [ARGS]      a real Kubernetes in namespaces of its own; `cluster help` says more
  fmt [--check]            format
  lint                     clippy, warnings are errors
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(code) => code,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> anyhow::Result<ExitCode> {
    std::env::set_current_dir(shell::root())?;
    let (verb, rest) = match args.split_first() {
        Some((verb, rest)) => (verb.as_str(), rest),
        None => ("help", args),
    };
    match verb {
        "demo" => return demo::run(rest),
        "test" => return test::run(rest),
        "tidy" => {
            let problems = tidy::check()?;
            for problem in &problems {
                say(problem);
            }
            if !problems.is_empty() {
                bail!("{} rule(s) broken", problems.len());
            }
        }
        "gen" => generate(rest)?,
        "bench" => {
            machine::prepare(machine::BENCH)?;
            rings::bench()?.args(rest).run()?;
        }
        "counts" => {
            machine::prepare(machine::COUNTS)?;
            build::all(build::Profile::Release)?;
            rings::counted(&build::Profile::Release.dir(), rest).run()?;
        }
        "cluster" => {
            machine::prepare(machine::CLUSTER)?;
            let rest: Vec<_> = rest.iter().map(String::as_str).collect();
            rings::cluster(&rest)?;
        }
        "images" => images::run(rest)?,
        "fmt" => Cmd::new("cargo").args(["fmt", "--all"]).args(rest).run()?,
        "lint" => lint()?,
        "help" | "-h" | "--help" => shell::print(HELP)?,
        other => bail!("no verb {other:?}\n\n{HELP}"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Clippy over everything, warnings are errors.
fn lint() -> anyhow::Result<()> {
    Cmd::new("cargo")
        .args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ])
        .run()
}

#[cfg(feature = "gen")]
fn generate(args: &[String]) -> anyhow::Result<()> {
    r#gen::run(args)
}

/// Builds this program again with the generators, which are too heavy for every day.
#[cfg(not(feature = "gen"))]
fn generate(args: &[String]) -> anyhow::Result<()> {
    Cmd::new("cargo")
        .args([
            "run",
            "--quiet",
            "--package",
            "xtask",
            "--features",
            "gen",
            "--",
            "gen",
        ])
        .args(args)
        .run()
}
