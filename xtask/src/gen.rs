// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask gen [--check]`: proto/ to Rust, without protoc. The output is committed, so that nobody needs this to build.
//!
//! Must give the same bytes from the same proto/: maps are ordered, files are formatted by the pinned rustfmt.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use crate::shell::{root, say};

const PROTO: [&str; 7] = [
    "envoy/service/discovery/v3/discovery.proto",
    "maille/v1/identity.proto",
    "maille/v1/nodes.proto",
    "maille/v1/questions.proto",
    "maille/v1/replicas.proto",
    "maille/v1/resources.proto",
    "maille/v1/telemetry.proto",
];

/// What the generator calls a package's file, and what it is called here.
const FILES: [(&str, &str); 2] = [
    ("envoy.service.discovery.v3.rs", "discovery_v3.rs"),
    ("maille.v1.rs", "maille_v1.rs"),
];

/// Writes `crates/wire/src/generated/`; with `--check` it only compares, and fails where they differ.
pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    let check = match args {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => bail!("usage: cargo xtask gen [--check]"),
    };
    let home = root().join("crates/wire/src/generated");
    let out = root().join("target/xtask-gen");
    fs::create_dir_all(&out)?;
    let descriptors =
        protox::compile(PROTO, [root().join("proto")]).context("proto/ does not compile")?;
    tonic_prost_build::configure()
        .btree_map(".")
        .out_dir(&out)
        .compile_fds(descriptors)
        .context("no code for proto/")?;
    let mut stale = Vec::new();
    for (made, name) in FILES {
        let path = out.join(name);
        dress(&out.join(made), &path)?;
        let fresh = fs::read_to_string(&path)?;
        let kept = home.join(name);
        if fs::read_to_string(&kept).ok().as_deref() == Some(&*fresh) {
            continue;
        }
        if check {
            stale.push(kept);
        } else {
            fs::create_dir_all(&home)?;
            fs::write(&kept, fresh)?;
            say(&format!("wrote {}", kept.display()));
        }
    }
    report(&stale)
}

/// Puts the head on that every file of the tree has, and formats.
fn dress(made: &Path, path: &Path) -> anyhow::Result<()> {
    let code =
        fs::read_to_string(made).with_context(|| format!("{} was not made", made.display()))?;
    let head = "// SPDX-License-Identifier: Apache-2.0\n//! @generated from proto/ by `cargo xtask gen`. Edits are lost. Read `convert.rs` next.\n\n";
    fs::write(path, format!("{head}{code}"))?;
    let status = Command::new("rustfmt")
        .args(["--edition", "2024", "--config-path"])
        .arg(root())
        .arg(path)
        .status()
        .context("rustfmt does not start")?;
    ensure!(status.success(), "rustfmt refuses {}", path.display());
    Ok(())
}

fn report(stale: &[PathBuf]) -> anyhow::Result<()> {
    if stale.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = stale
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    bail!(
        "not what proto/ says: {}; run `cargo xtask gen`",
        names.join(", ")
    )
}
