// SPDX-License-Identifier: Apache-2.0
//! The rings: what each runs, and how its tests are counted.
//!
//! Must never count a ring as passed that did not run. Read `test.rs` for the order, CONTRIBUTING for the reasons.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use nix::unistd::geteuid;
use serde_json::Value;

use crate::demo;
use crate::shell::{Cmd, root, say, which};
use crate::tidy;

/// The ordinary user as whom root repeats the outer rings: `nobody`, who exists everywhere and owns nothing.
const NOBODY: &str = "65534";

const PURE: &[&str] = &[
    "maille-model",
    "maille-engine",
    "maille-wire",
    "maille-manifest",
];

const NETNS: &[&str] = &["maille-tests-netns"];

const E2E: &[&str] = &["maille-tests-e2e"];

/// The tests, from quick and narrow to slow and wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ring {
    Tidy,
    Pure,
    Component,
    Netns,
    E2e,
    Bench,
}

/// Tests that ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

impl Ring {
    /// All of them, in order.
    pub(crate) const ALL: [Self; 6] = [
        Self::Tidy,
        Self::Pure,
        Self::Component,
        Self::Netns,
        Self::E2e,
        Self::Bench,
    ];

    /// As it is typed.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tidy => "tidy",
            Self::Pure => "pure",
            Self::Component => "component",
            Self::Netns => "netns",
            Self::E2e => "e2e",
            Self::Bench => "bench",
        }
    }
}

/// Runs one ring. A failed test is a count; an error is a ring that could not run.
pub(crate) fn run(ring: Ring, filter: Option<&str>, full: bool) -> anyhow::Result<Counts> {
    match ring {
        Ring::Tidy => tidy_ring(full),
        Ring::Pure => {
            let packages = PURE.iter().flat_map(|package| ["--package", package]);
            cargo_test(packages.collect(), filter)
        }
        Ring::Component => {
            let others = [PURE, NETNS, E2E].concat();
            let exclude = others.iter().flat_map(|package| ["--exclude", package]);
            cargo_test(["--workspace"].into_iter().chain(exclude).collect(), filter)
        }
        Ring::Netns => outer(NETNS, "debug", filter, full),
        Ring::E2e => {
            demo::build()?;
            outer(E2E, "release", filter, full)
        }
        Ring::Bench => {
            demo::build()?;
            let run = [
                "run",
                "--release",
                "--quiet",
                "--package",
                "maille-bench",
                "--",
            ];
            let quick = "--rounds=3 --seconds=2 --connections=64 --heads=plain --gate=1.15";
            let bench = run.into_iter().chain(quick.split(' '));
            let mut counts = Counts::default();
            counts.add(Cmd::new("cargo").args(bench).run());
            Ok(counts)
        }
    }
}

fn tidy_ring(full: bool) -> anyhow::Result<Counts> {
    let mut counts = Counts::default();
    let problems = tidy::check()?;
    for problem in &problems {
        say(problem);
    }
    counts.passed += usize::from(problems.is_empty());
    counts.failed += problems.len();
    counts.add(Cmd::new("cargo").args(["fmt", "--all", "--check"]).run());
    counts.add(crate::lint());
    if full {
        counts.add(crate::generate(&["--check".to_owned()]));
    }
    Ok(counts)
}

fn cargo_test(which: Vec<&str>, filter: Option<&str>) -> anyhow::Result<Counts> {
    let command = Cmd::new("cargo").args(["test", "--quiet", "--no-fail-fast", "--locked"]);
    let command = command.args(which).args(filter);
    let mut counts = Counts::default();
    let ok = command.follow(|line| counts.read(line))?;
    counts.failed += usize::from(!ok && counts.failed == 0);
    Ok(counts)
}

/// Runs tests that make namespaces: as who this is and, if that is root, again as an ordinary user.
fn outer(
    packages: &[&str],
    profile: &str,
    filter: Option<&str>,
    full: bool,
) -> anyhow::Result<Counts> {
    let tests = build_tests(packages, profile)?;
    let mut counts = Counts::default();
    let mut run = |command: Cmd| -> anyhow::Result<()> {
        let mut here = Counts::default();
        // Each test brings whole machines up: side by side they would measure each other.
        let command = command.args(["--test-threads=1"]).args(filter);
        let command = command.env("MAILLE_TEST_SECONDS", if full { "60" } else { "10" });
        let ok = command.follow(|line| here.read(line))?;
        counts.passed += here.passed;
        counts.failed += here.failed + usize::from(!ok && here.failed == 0);
        Ok(())
    };
    for test in &tests {
        run(Cmd::new(test))?;
    }
    if geteuid().is_root() {
        let stage = Stage::new(&root().join("target").join(profile), &tests)?;
        for test in &stage.tests {
            say("-- as an ordinary user");
            let as_nobody = ["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"];
            let also = ["--inh-caps=-all", "--"];
            let setpriv = which("setpriv").context("setpriv is missing")?;
            let command = Cmd::new(setpriv).args(as_nobody).args(also);
            // The product makes its user namespace itself; tests of the kernel's parts are given one.
            let given = ["unshare", "--user", "--map-root-user", "--"];
            run(command
                .args((packages == NETNS).then_some(given).into_iter().flatten())
                .args([test]))?;
        }
    }
    Ok(counts)
}

/// Builds the test programs of `packages` and says where they are.
fn build_tests(packages: &[&str], profile: &str) -> anyhow::Result<Vec<PathBuf>> {
    let command = Cmd::new("cargo").args(["test", "--no-run", "--locked", "--message-format=json"]);
    let command = command.args(packages.iter().flat_map(|package| ["--package", package]));
    let command = command.args((profile == "release").then_some("--release"));
    say(&format!("$ {}", command.text()));
    let output = command.output()?;
    let messages = output
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let tests = messages.filter(|message| message["profile"]["test"] == true);
    let tests = tests.filter_map(|message| message["executable"].as_str().map(PathBuf::from));
    let tests: Vec<_> = tests.collect();
    ensure!(!tests.is_empty(), "{} made no test", command.text());
    Ok(tests)
}

/// A copy of programs and tests that every user may enter: a checkout often lies in a home that only its owner may.
#[derive(Debug)]
struct Stage {
    dir: PathBuf,
    tests: Vec<PathBuf>,
}

impl Stage {
    fn new(target: &Path, tests: &[PathBuf]) -> anyhow::Result<Self> {
        let dir = std::env::temp_dir().join(format!("maille-stage-{}", std::process::id()));
        fs::create_dir(&dir)?;
        let mut stage = Self {
            dir,
            tests: Vec::new(),
        };
        let deps = stage.dir.join("deps");
        fs::create_dir(&deps)?;
        for dir in [&stage.dir, &deps] {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
        }
        for entry in fs::read_dir(target)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default();
            let ours = name.to_string_lossy().starts_with("maille") && path.extension().is_none();
            if ours && path.is_file() {
                fs::copy(&path, stage.dir.join(name))?;
            }
        }
        for test in tests {
            let copy = deps.join(test.file_name().unwrap_or_default());
            fs::copy(test, &copy)?;
            stage.tests.push(copy);
        }
        Ok(stage)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // What cannot be removed lies in the directory for temporary files.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Counts {
    /// Reads libtest's `test result: ok. 3 passed; 0 failed; ...`.
    fn read(&mut self, line: &str) {
        let Some(rest) = line.trim().strip_prefix("test result: ") else {
            return;
        };
        let number = |word: &str| {
            let at = rest.find(word)?;
            rest[..at]
                .trim_end()
                .rsplit(' ')
                .next()?
                .parse::<usize>()
                .ok()
        };
        self.passed += number("passed").unwrap_or(0);
        self.failed += number("failed").unwrap_or(0);
    }

    fn add(&mut self, outcome: anyhow::Result<()>) {
        match outcome {
            Ok(()) => self.passed += 1,
            Err(error) => {
                say(&format!("{error:#}"));
                self.failed += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtest_is_counted() {
        let mut counts = Counts::default();
        counts.read("running 3 tests");
        counts.read("test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out");
        counts.read("test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured");
        let expected = Counts {
            passed: 13,
            failed: 2,
        };
        assert_eq!(counts, expected);
    }
}
