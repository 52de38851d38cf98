// SPDX-License-Identifier: Apache-2.0
//! `maille-cluster`: what `cargo xtask cluster` runs. Must never act by itself: `cluster.rs` does. Read `lib.rs` next.

#![forbid(unsafe_code)]

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use maille_cluster::cluster::Cluster;
use maille_cluster::parts::Parts;
use maille_cluster::whole::Whole;

const HELP: &str = "\
cargo xtask cluster VERB [--dir DIR]

  build            build Kubernetes and what belongs to it, where that was not done
  up [NODES]       start a cluster (2 nodes); up NODES machines: one that runs pods in virtual machines too
  down             end it and remove it
  status           its machines, nodes and pods
  load FILE...     load images (archives) into its nodes
  kubectl ARGS     kubectl as its administrator
  shell MACHINE [COMMAND...]
                   a shell on cp, node1, node2...
  boot N, halt N   start node N again; pull its plug
  version-two SCRATCH PROGRAM [ARGS...]
                   a program on an emulated machine with this one's files and control groups of version 2 alone;
                   what is written there is gone with it, SCRATCH is memory
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> anyhow::Result<ExitCode> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    if let ["init", name, dir, cgroup] = words[..] {
        maille_cluster::init::run(name, Path::new(dir), cgroup)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let ["machine", rest @ ..] = &words[..] {
        maille_cluster::machined::run(rest)?;
    }
    if let ["relay", vm, port] = words[..] {
        return maille_cluster::machined::relay::run(Path::new(vm), port);
    }
    if let ["version-two", scratch, program, rest @ ..] = &words[..] {
        let whole = Whole::ready(&Parts::ready()?)?;
        return whole.run(program, rest, &std::path::absolute(scratch)?);
    }
    let (dir, words) = match &words[..] {
        ["--dir", dir, rest @ ..] => (*dir, rest),
        rest => ("target/cluster", rest),
    };
    if matches!(words, [] | ["help" | "-h" | "--help", ..]) {
        std::io::stdout().write_all(HELP.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let cluster = Cluster::at(Path::new(dir), &std::env::current_exe()?, Parts::ready()?)?;
    match words {
        // It is built by now.
        ["build"] => {}
        ["up"] => cluster.up(2)?,
        ["up", nodes, "machines"] => cluster
            .with_machines()?
            .up(nodes.parse().context("NODES is a number")?)?,
        ["up", nodes] => cluster.up(nodes.parse().context("NODES is a number")?)?,
        ["down"] => cluster.down()?,
        ["status"] => status(&cluster)?,
        ["load", files @ ..] => files
            .iter()
            .try_for_each(|file| cluster.load(Path::new(file)))?,
        ["boot", index] => cluster.boot(index.parse().context("N is a number")?)?,
        ["halt", index] => cluster
            .node(index.parse().context("N is a number")?)
            .halt()?,
        ["kubectl", rest @ ..] => return become_child(cluster.kubectl_command()?.args(rest)),
        ["shell", name, rest @ ..] => {
            let machines = cluster.machines()?;
            let machine = machines.iter().find(|machine| machine.name() == *name);
            let machine = machine.with_context(|| format!("no machine {name}"))?;
            let (program, rest) = rest.split_first().unwrap_or((&"sh", &[]));
            return become_child(machine.enter(program)?.args(rest));
        }
        _ => bail!("no verb {:?}\n\n{HELP}", words.join(" ")),
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a command with this program's terminal; its status becomes ours.
fn become_child(command: &mut std::process::Command) -> anyhow::Result<ExitCode> {
    let status = command.status()?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

fn status(cluster: &Cluster) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    for machine in cluster.machines()? {
        let pid = machine
            .pid()
            .map_or_else(|| "down".to_owned(), |pid| format!("process {pid}"));
        writeln!(out, "{:<8} {pid}", machine.name())?;
    }
    if cluster.control_plane().pid().is_some() {
        let shown = cluster.kubectl(&["get", "nodes,pods", "-A", "-o", "wide"])?;
        out.write_all(shown.as_bytes())?;
    }
    Ok(())
}
