// SPDX-License-Identifier: Apache-2.0
//! The ring `fuzz`: every target for a while, from its corpus and from what earlier runs learnt, two at a time.
//!
//! Must never count a target as passed that has no corpus. Read `fuzz/run` for how one is built and run.

use std::fs;
use std::path::Path;
use std::process::Output;
use std::sync::Mutex;

use anyhow::{Context as _, bail};

use crate::counts::Counts;
use crate::shell::{Cmd, root, say};

/// At the same time: more would find no processor of their own on a small machine.
const SIDE_BY_SIDE: usize = 2;
/// What is shown of a target that has found something.
const LINES: usize = 60;

/// Runs the targets with `filter` in their name: a minute each, or five.
pub(crate) fn run(filter: Option<&str>, full: bool) -> anyhow::Result<Counts> {
    let seconds = if full { "300" } else { "60" };
    let dir = root().join("fuzz");
    let wanted = |target: &String| filter.is_none_or(|filter| target.contains(filter));
    let mut left: Vec<_> = targets(&dir)?.into_iter().filter(wanted).collect();
    left.reverse();
    if !left.is_empty() {
        Cmd::new(dir.join("run")).run()?;
    }
    let (left, counts) = (Mutex::new(left), Mutex::new(Counts::default()));
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                loop {
                    // In a statement of its own: the lock is not held while the target runs.
                    let Some(target) = locked(&left).pop() else {
                        break;
                    };
                    let ended = one(&dir, &target, seconds);
                    locked(&counts).add(ended);
                }
            });
        }
    });
    let counts = std::mem::take(&mut *locked(&counts));
    Ok(counts)
}

/// A thread that panicked has left nothing half done here.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The names of the files in `fuzz/src`.
fn targets(dir: &Path) -> anyhow::Result<Vec<String>> {
    let mut targets = Vec::new();
    for entry in fs::read_dir(dir.join("src"))? {
        let path = entry?.path();
        if let Some(stem) = path.file_stem() {
            targets.push(stem.to_string_lossy().into_owned());
        }
    }
    targets.sort_unstable();
    Ok(targets)
}

/// Runs one. What it says is shown where it has found something, and summed up where not.
fn one(dir: &Path, target: &str, seconds: &str) -> anyhow::Result<()> {
    let corpus = dir.join("corpus").join(target);
    if !fs::read_dir(&corpus).is_ok_and(|files| files.count() > 0) {
        bail!(
            "{} is empty: a target begins with real input",
            corpus.display()
        );
    }
    let cmd = Cmd::new(dir.join("run")).args([target, seconds]);
    say(&format!("$ {}", cmd.text()));
    let Output { status, stderr, .. } = cmd
        .command()
        .output()
        .with_context(|| format!("failed to run {}", cmd.text()))?;
    let said = String::from_utf8_lossy(&stderr);
    if !status.success() {
        let lines: Vec<_> = said.lines().collect();
        let last = lines[lines.len().saturating_sub(LINES)..].join("\n");
        bail!("{} failed: {status}\n{last}", cmd.text());
    }
    say(&format!("fuzz {target} ... ok: {}", units(&said)));
    Ok(())
}

/// How many inputs were tried, as libFuzzer sums it up.
fn units(said: &str) -> String {
    let value = |name: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(name));
        line.map_or("?", str::trim).to_owned()
    };
    format!(
        "{} inputs, {} new kept",
        value("stat::number_of_executed_units:"),
        value("stat::new_units_added:")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_declared_and_has_a_corpus() {
        let dir = root().join("fuzz");
        let manifest = fs::read_to_string(dir.join("Cargo.toml")).unwrap();
        let targets = targets(&dir).unwrap();
        for target in &targets {
            assert!(
                manifest.contains(&format!("path = \"src/{target}.rs\"")),
                "{target}"
            );
            let corpus = fs::read_dir(dir.join("corpus").join(target));
            assert!(corpus.is_ok_and(|files| files.count() > 0), "{target}");
        }
        assert_eq!(manifest.matches("[[bin]]").count(), targets.len());
    }

    #[test]
    fn the_sum_is_read() {
        let said = "stat::number_of_executed_units: 1209\nstat::new_units_added:          7\n";
        assert_eq!(units(said), "1209 inputs, 7 new kept");
    }
}
