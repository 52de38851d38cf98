// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask images`: the mesh's images as archives in `target/images`, from programs that say nothing of where they were built.
//!
//! `--check` builds everything once more somewhere else, and fails where a byte differs. `--quick` takes the release programs of
//! every day, for tests. Read `deploy/images` next.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::machine;
use crate::shell::{Cmd, root, say};

/// What images hold, but for what stands alone.
const PACKAGES: &[&str] = &["maille-control", "maille-node"];
/// Their programs that are in images.
const PROGRAMS: &[&str] = &["maille-control", "maille-node", "maille-init"];
/// What nodes run themselves: static.
const ALONE: &[&str] = &["maille-cni", "maille-proxy"];

/// What is made, and how.
#[derive(Debug)]
struct Order {
    out: PathBuf,
    prefix: Option<String>,
    quick: bool,
    check: bool,
}

/// Those of `programs`, for tests.
pub(crate) fn of(programs: &Path) -> anyhow::Result<()> {
    let order = Order::read(&[])?;
    order.write_quickly(programs)
}

/// Copies programs without what only a debugger reads, which is most of them: every node of a test unpacks them.
fn lean(from: &Path, names: &[&str], to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    for name in names {
        let strip = Cmd::new("strip").args(["--strip-debug", "-o"]);
        strip.args([to.join(name), from.join(name)]).run()?;
    }
    Ok(())
}

/// Builds the proxy as its image has it. Where it is.
pub(crate) fn proxy() -> anyhow::Result<PathBuf> {
    Ok(alone(&["--profile", "dist"], None)?.join("maille-proxy"))
}

pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    let order = Order::read(args)?;
    machine::prepare(machine::RUN)?;
    if order.quick {
        build(&["--release"], None)?;
        return order.write_quickly(&root().join("target/release"));
    }
    let dist = |target: &Path, out: &Path| {
        build(&["--profile", "dist"], Some(target))?;
        let alone = alone(&["--profile", "dist"], Some(target))?;
        order.write(&target.join("dist"), &alone, out)
    };
    dist(&root().join("target/dist-programs"), &order.out)?;
    if order.check {
        let again = root().join("target/dist-programs-again");
        let out = root().join("target/images-again");
        dist(&again, &out)?;
        same(&order.out, &out)?;
    }
    Ok(())
}

// === impl Order ===

impl Order {
    fn read(args: &[String]) -> anyhow::Result<Self> {
        let mut order = Self {
            out: root().join("target/images"),
            prefix: None,
            quick: false,
            check: false,
        };
        let mut words = args.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--quick" => order.quick = true,
                "--check" => order.check = true,
                "--out" => order.out = words.next().context("--out DIR")?.into(),
                "--prefix" => order.prefix = Some(words.next().context("--prefix NAME")?.clone()),
                other => bail!(
                    "no option {other:?}: images [--quick | --check] [--out DIR] [--prefix NAME]"
                ),
            }
        }
        if order.quick && order.check {
            bail!("--check is of images that are made from nothing, which --quick ones are not");
        }
        Ok(order)
    }

    /// From `programs` and static ones of the same kind.
    fn write_quickly(&self, programs: &Path) -> anyhow::Result<()> {
        let alone = alone(&["--release"], None)?;
        let own = root().join("target/images-programs");
        lean(programs, PROGRAMS, &own)?;
        lean(&alone, ALONE, &own.join("alone"))?;
        self.write(&own, &own.join("alone"), &self.out)
    }

    fn write(&self, programs: &Path, alone: &Path, out: &Path) -> anyhow::Result<()> {
        let build = ["build", "--quiet", "--locked", "--package", "maille-images"];
        Cmd::new("cargo").args(build).run()?;
        let mut images = Cmd::new(root().join("target/debug/maille-images")).args([
            Path::new("--programs"),
            programs,
            Path::new("--alone"),
            alone,
            Path::new("--out"),
            out,
        ]);
        if let Some(prefix) = &self.prefix {
            images = images.args(["--prefix", prefix]);
        }
        images.run()
    }
}

/// Builds the programs, into `target` if it is not the usual place: then no path of this machine gets into them.
fn build(profile: &[&str], target: Option<&Path>) -> anyhow::Result<()> {
    let packages = PACKAGES.iter().flat_map(|package| ["--package", package]);
    let mut cargo = Cmd::new("cargo")
        .args(["build", "--locked"])
        .args(profile)
        .args(packages);
    if let Some(target) = target {
        cargo = cargo
            .env("CARGO_ENCODED_RUSTFLAGS", remapped(target).join("\u{1f}"))
            .env("CARGO_TARGET_DIR", target);
    }
    cargo.run()
}

/// Builds what stands alone, and says in which folder they are.
fn alone(profile: &[&str], target: Option<&Path>) -> anyhow::Result<PathBuf> {
    let usual = root().join("target");
    let own = target.unwrap_or(&usual).join("static");
    let said = Cmd::new("rustc").args(["-vV"]).output()?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("rustc does not say for which machine it compiles")?;
    let mut flags = vec!["-Ctarget-feature=+crt-static".to_owned()];
    if target.is_some() {
        flags.extend(remapped(&own));
    }
    // With a target said, the flags are not those of what runs while it is built.
    Cmd::new("cargo")
        .args(["build", "--locked"])
        .args(ALONE.iter().flat_map(|package| ["--package", package]))
        .args(profile)
        .args(["--target", host])
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env("CARGO_TARGET_DIR", &own)
        .run()?;
    let name = profile.last().copied().unwrap_or_default();
    Ok(own.join(host).join(name.trim_start_matches("--")))
}

/// Flags by which no path of this machine gets into what is built in `target`.
fn remapped(target: &Path) -> Vec<String> {
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let mut flags = vec![remap(root(), "/maille"), remap(target, "/target")];
    flags.extend(home.map(|home| remap(&home, "/cargo")));
    flags
}

/// Every file of `one` is in `two`, byte for byte, and the other way round.
fn same(one: &Path, two: &Path) -> anyhow::Result<()> {
    let names = |dir: &Path| -> anyhow::Result<Vec<_>> {
        let entries = fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name()));
        let mut names: Vec<_> = entries.collect::<anyhow::Result<_>>()?;
        names.sort();
        Ok(names)
    };
    let all = names(one)?;
    if all != names(two)? {
        bail!(
            "{} and {} hold different files",
            one.display(),
            two.display()
        );
    }
    for name in all {
        if fs::read(one.join(&name))? != fs::read(two.join(&name))? {
            bail!("{} is not the same when it is built again", name.display());
        }
        say(&format!("{}: the same, built twice", name.display()));
    }
    Ok(())
}
