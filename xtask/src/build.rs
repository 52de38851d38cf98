// SPDX-License-Identifier: Apache-2.0
//! What the rings run, built: all programs and all tests of a profile by one call of cargo. A call for some packages gives the libraries that they share
//! other features than a call for others does, and would build them once more each time.
//!
//! Must never leave out a program that a test starts. Read `suite.rs` for how the tests are run.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::shell::{Cmd, root, say};

/// Where the tests are that run against released programs.
const RELEASED: &[&str] = &["tests/e2e/tests", "tests/suites/tests"];

/// How cargo builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    Debug,
    Release,
}

/// A test program, built.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    /// Where its package is: what cargo makes the working directory.
    pub(crate) dir: PathBuf,
    /// The name of that package.
    pub(crate) package: String,
    /// Its tests are beside the code, not in a file of their own in `tests`.
    pub(crate) unit: bool,
}

/// Builds every program of the workspace and the tests of the profile, and says where the tests are.
pub(crate) fn all(profile: Profile) -> anyhow::Result<Vec<Program>> {
    let mut command = Cmd::new("cargo").args(["build", "--locked", "--workspace", "--bins"]);
    command = match profile {
        Profile::Debug => command.args(["--tests"]),
        Profile::Release => {
            let tests = released()?;
            let tests = tests.iter().flat_map(|name| ["--test", name]);
            command.args(["--release"]).args(tests)
        }
    };
    say(&format!("$ {}", command.text()));
    let output = command
        .args(["--message-format=json-render-diagnostics"])
        .output()?;
    let programs: Vec<_> = output.lines().filter_map(test).collect();
    ensure!(!programs.is_empty(), "the build made no test");
    Ok(programs)
}

/// The names of the tests that run against released programs.
fn released() -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for dir in RELEASED {
        let dir = root().join(dir);
        let entries =
            fs::read_dir(&dir).with_context(|| format!("failed to read {}", dir.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|end| end == "rs") {
                names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into()));
            }
        }
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// The test that a line of cargo tells of.
fn test(line: &str) -> Option<Program> {
    let message: Value = serde_json::from_str(line).ok()?;
    if message["profile"]["test"] != true {
        return None;
    }
    let manifest = Path::new(message["manifest_path"].as_str()?);
    Some(Program {
        path: message["executable"].as_str()?.into(),
        dir: manifest.parent()?.to_owned(),
        package: package(message["package_id"].as_str()?)?.to_owned(),
        unit: message["target"]["kind"][0] != "test",
    })
}

/// The name in cargo's id of a package: `path+file:///DIR#NAME@VERSION`, or without `NAME@` where that is the last part of `DIR`.
fn package(id: &str) -> Option<&str> {
    let (place, version) = id.rsplit_once('#')?;
    match version.split_once('@') {
        Some((name, _)) => Some(name),
        None => place.rsplit('/').next(),
    }
}

// === impl Profile ===

impl Profile {
    /// Where cargo puts what it builds.
    pub(crate) fn dir(self) -> PathBuf {
        root().join("target").join(match self {
            Self::Debug => "debug",
            Self::Release => "release",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_read_out_of_its_id() {
        let named = "path+file:///m/crates/proxy#maille-proxy@0.1.0";
        assert_eq!(package(named), Some("maille-proxy"));
        assert_eq!(package("path+file:///m/xtask#0.1.0"), Some("xtask"));
        assert_eq!(package("proxy"), None);
    }

    #[test]
    fn only_tests_are_taken() {
        let line = |test: bool| {
            format!(
                r#"{{"reason":"compiler-artifact","package_id":"path+file:///m/xtask#0.1.0","manifest_path":"/m/xtask/Cargo.toml",
                "profile":{{"test":{test}}},"executable":"/m/target/debug/deps/xtask-1","target":{{"kind":["bin"]}}}}"#
            )
        };
        let found = test(&line(true)).unwrap();
        assert_eq!(
            (&*found.package, found.dir.as_path(), found.unit),
            ("xtask", Path::new("/m/xtask"), true)
        );
        assert!(test(&line(false)).is_none());
        assert!(test("   Compiling maille").is_none());
    }

    #[test]
    fn the_tests_of_released_programs_are_found() {
        let names = released().unwrap();
        assert!(names.iter().any(|name| name == "demo"), "{names:?}");
        assert!(names.iter().any(|name| name == "databases"), "{names:?}");
    }
}
