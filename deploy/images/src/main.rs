// SPDX-License-Identifier: Apache-2.0
//! `maille-images`: what `cargo xtask images` runs once the programs are built. Must never build anything itself. Read `set.rs` next.

#![forbid(unsafe_code)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail};
use maille_images::sbom::Crates;
use maille_images::set::{ALL, Making};

const HELP: &str = "\
maille-images --programs DIR --alone DIR --out DIR [--prefix NAME]

Writes the archives of the mesh's images, and a list of what is in each, from programs that are built.
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> anyhow::Result<()> {
    let (mut programs, mut alone, mut out) = (None, None, None);
    let mut prefix = "maille.io".to_owned();
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let mut value = || {
            words
                .next()
                .cloned()
                .with_context(|| format!("{word} wants a value\n\n{HELP}"))
        };
        match word.as_str() {
            "--programs" => programs = Some(PathBuf::from(value()?)),
            "--alone" => alone = Some(PathBuf::from(value()?)),
            "--out" => out = Some(PathBuf::from(value()?)),
            "--prefix" => prefix = value()?,
            other => bail!("no option {other:?}\n\n{HELP}"),
        }
    }
    let (Some(programs), Some(alone), Some(out)) = (programs, alone, out) else {
        bail!("--programs, --alone and --out are wanted\n\n{HELP}");
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let making = Making {
        programs,
        alone,
        prefix,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: git(&root, &["rev-parse", "HEAD"])?,
        created: git(
            &root,
            &[
                "log",
                "-1",
                "--date=format-local:%Y-%m-%dT%H:%M:%SZ",
                "--format=%cd",
            ],
        )?,
    };
    let crates = Crates::read(&root)?;
    std::fs::create_dir_all(&out)?;
    for made in ALL {
        let file = made.write(&making, &crates, &out)?;
        writeln!(
            std::io::stdout(),
            "{} {}",
            made.reference(&making),
            file.display()
        )?;
    }
    Ok(())
}

/// What the sources are of: the only time that gets into an image.
fn git(root: &Path, args: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new("git");
    command.current_dir(root).env("TZ", "UTC").args(args);
    let output = command.output().context("git cannot be run")?;
    if !output.status.success() {
        bail!("git: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
