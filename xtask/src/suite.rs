// SPDX-License-Identifier: Apache-2.0
//! One test program under watch: its tests are counted as they end, and one that never ends is named and killed.
//!
//! Must never count a program as passed that did not say how its tests ended. Read `rings.rs` for who runs what.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::build::Program;
use crate::counts::Counts;
use crate::shell::Cmd;

/// How long what was killed may take to be gone.
const DYING: Duration = Duration::from_secs(10);

/// How test programs are run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch<'a> {
    /// Only tests with this in their name.
    pub(crate) filter: Option<&'a str>,
    /// At the same time; `None`: as many as there are cores.
    pub(crate) threads: Option<usize>,
    /// How long it may take until the next test has ended.
    pub(crate) limit: Duration,
    /// Before each line that is shown.
    pub(crate) label: &'a str,
    /// Shows a line.
    pub(crate) show: fn(&str),
}

/// Lines of what failed tests said that are kept for the end, for each program.
const KEPT: usize = 80;

/// What a program's tests have come to so far.
#[derive(Debug, Default)]
struct Progress {
    /// In the order in which they are begun.
    names: Vec<String>,
    ended: BTreeSet<String>,
    passed: usize,
    failed: Vec<String>,
    /// What the failed ones said, without traces of calls.
    said: Vec<String>,
    /// The failed ones are being told.
    telling: bool,
    /// The program has summed up.
    summed: bool,
}

/// Runs the tests of `program`, started by `command`, which ends with its path.
pub(crate) fn run(command: Cmd, program: &Program, watch: Watch<'_>) -> anyhow::Result<Counts> {
    let command = command.args(watch.filter);
    let mut progress = Progress {
        names: names(&command, &program.dir)?,
        ..Progress::default()
    };
    if progress.names.is_empty() {
        return Ok(Counts::default());
    }
    let threads = watch.threads.map(|n| format!("--test-threads={n}"));
    let command = command.args(threads);
    watch.say(&format!("$ {}", command.text()));
    let mut child = command
        .command()
        .current_dir(&program.dir)
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to run {}", command.text()))?;
    let lines = lines(child.stdout.take().context("no standard output")?);
    let name = format!("{}{}", watch.label, program.name());
    if !follow(&lines, &mut progress, watch) {
        let running = progress.running(watch.threads);
        end(&mut child)?;
        // Its output ends with the last that held it.
        while lines.recv_timeout(DYING).is_ok() {}
        let after = watch.limit.as_secs();
        let hung = format!("test {running} ... did not end in {after} s, and was killed");
        watch.say(&hung);
        let mut counts = progress.counts(&name);
        counts.fail(format!("{name}: {hung}"));
        return Ok(counts);
    }
    let status = child.wait()?;
    let mut counts = progress.counts(&name);
    if counts.failed() == 0 && !(status.success() && progress.summed) {
        let ended = format!("{name} ended with {status}");
        watch.say(&ended);
        counts.fail(ended);
    }
    Ok(counts)
}

/// The tests that it would run, in the order in which libtest begins them.
fn names(command: &Cmd, dir: &Path) -> anyhow::Result<Vec<String>> {
    let list = command.clone().args(["--list", "--format=terse"]);
    let output = list.output_in(dir)?;
    let names = output
        .lines()
        .filter_map(|line| line.strip_suffix(": test"));
    Ok(names.map(str::to_owned).collect())
}

/// Shows what the program says, but for tests that passed. Whether it came to its end.
fn follow(lines: &Receiver<String>, progress: &mut Progress, watch: Watch<'_>) -> bool {
    let mut last = SystemTime::now();
    loop {
        let left = watch
            .limit
            .saturating_sub(last.elapsed().unwrap_or_default());
        match lines.recv_timeout(left) {
            Err(RecvTimeoutError::Timeout) => return false,
            Err(RecvTimeoutError::Disconnected) => return true,
            Ok(line) => {
                if progress.read(&line) {
                    last = SystemTime::now();
                }
                if !(line.starts_with("test ") && line.ends_with(" ... ok")) {
                    watch.say(&line);
                }
            }
        }
    }
}

/// The lines of a program, read by a thread that ends with it.
fn lines(out: ChildStdout) -> Receiver<String> {
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(out).split(b'\n') {
            let Ok(line) = line else { return };
            if sender
                .send(String::from_utf8_lossy(&line).into_owned())
                .is_err()
            {
                return;
            }
        }
    });
    lines
}

/// Kills the program and what it started: a mesh would go on without it.
fn end(child: &mut Child) -> anyhow::Result<()> {
    let own = i32::try_from(child.id())?;
    let mut tree = vec![own];
    let parents = parents();
    let mut at = 0;
    while let Some(parent) = tree.get(at).copied() {
        let children = parents.iter().filter(|(_, of)| *of == parent);
        tree.extend(children.map(|(pid, _)| *pid));
        at += 1;
    }
    for pid in tree {
        // It may have ended meanwhile.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    child.wait()?;
    Ok(())
}

/// Every process and its parent.
fn parents() -> Vec<(i32, i32)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name between the parentheses may hold anything.
        let (_, rest) = stat.rsplit_once(") ")?;
        let parent = rest.split(' ').nth(1)?.parse().ok()?;
        Some((pid, parent))
    })
    .collect()
}

// === impl Watch ===

impl Watch<'_> {
    fn say(&self, line: &str) {
        (self.show)(&format!("{}{line}", self.label));
    }
}

// === impl Program ===

impl Program {
    /// Its name without what cargo added.
    pub(crate) fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let plain = name.rsplit_once('-').map_or(&*name, |(plain, _)| plain);
        plain.to_owned()
    }
}

// === impl Progress ===

impl Progress {
    /// What it came to, for `program`.
    fn counts(&self, program: &str) -> Counts {
        let mut counts = Counts::passed(self.passed);
        let names = self.failed.iter();
        let mut failures: Vec<_> = names
            .map(|name| format!("{program}: test {name}"))
            .collect();
        if let Some(last) = failures.last_mut()
            && !self.said.is_empty()
        {
            *last = format!("{last}\n{}", self.said.join("\n"));
        }
        for failure in failures {
            counts.fail(failure);
        }
        counts
    }

    /// Keeps what failed tests said, which libtest tells between two lines `failures:`.
    fn keep(&mut self, line: &str) {
        let trace = line.trim_start();
        let trace = trace.starts_with("at ")
            || trace.split_once(": ").is_some_and(|(frame, _)| {
                line.starts_with(' ') && frame.bytes().all(|byte| byte.is_ascii_digit())
            });
        if line == "failures:" {
            self.telling = !self.telling;
        } else if self.telling && !trace && !line.is_empty() && self.said.len() < KEPT {
            self.said.push(line.chars().take(500).collect());
        }
    }

    /// Reads a line of libtest: `test NAME ... ok`, `test result: ok. 3 passed; 0 failed; ...`. Whether a test has ended.
    fn read(&mut self, line: &str) -> bool {
        self.keep(line);
        let Some(rest) = line.trim().strip_prefix("test ") else {
            return false;
        };
        if rest.starts_with("result: ") {
            self.summed = true;
            return true;
        }
        let Some((name, outcome)) = rest.rsplit_once(" ... ") else {
            return false;
        };
        let name = name.strip_suffix(" - should panic").unwrap_or(name);
        // A test may print what looks like a line of libtest.
        if !self.names.iter().any(|known| known == name) || self.ended.contains(name) {
            return false;
        }
        match outcome {
            "ok" => self.passed += 1,
            // Nothing is skipped here: a test that is, is one that failed.
            outcome if outcome == "FAILED" || outcome.starts_with("ignored") => {
                self.failed.push(name.to_owned());
            }
            _ => return false,
        }
        self.ended.insert(name.to_owned());
        true
    }

    /// The tests under way.
    fn running(&self, threads: Option<usize>) -> String {
        let threads = threads
            .or_else(|| thread::available_parallelism().ok().map(Into::into))
            .unwrap_or(1);
        let left = self.names.iter().filter(|name| !self.ended.contains(*name));
        let left: Vec<_> = left.take(threads).map(String::as_str).collect();
        left.join(" or ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Cmd {
        Cmd::new("sh").args(["-c", script])
    }

    fn program() -> Program {
        Program {
            path: "sh".into(),
            dir: "/".into(),
            package: "sh".to_owned(),
            unit: false,
        }
    }

    fn watch(limit: Duration) -> Watch<'static> {
        Watch {
            filter: None,
            threads: Some(1),
            limit,
            label: "",
            // What looks like libtest's words here would be taken for them by who reads the run.
            show: |_| {},
        }
    }

    /// Behaves as libtest does: lists `a`, `b` and `c`, or runs `body`.
    fn libtest(body: &str) -> Cmd {
        let list = "printf 'a: test\\nb: test\\nc: test\\n'";
        sh(&format!(
            "case \"$*\" in *--list*) {list};; *) {body};; esac"
        ))
        .args(["sh"])
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn libtest_is_counted() {
        let body = "printf 'test a ... ok\\ntest b - should panic ... FAILED\\ntest c ... ok\\n\
                    test printed ... FAILED\\ntest a ... FAILED\\n\
                    \\nfailures:\\n\\n---- b stdout ----\\nit said so\\n   1: call\\n   at file:1\\n\\nfailures:\\n    b\\n\
                    test result: FAILED. 2 passed; 1 failed\\n'; exit 101";
        let counts = run(libtest(body), &program(), watch(MINUTE)).unwrap();
        let mut expected = Counts::passed(2);
        expected.fail("sh: test b\n---- b stdout ----\nit said so".to_owned());
        assert_eq!(counts, expected);
    }

    #[test]
    fn a_program_that_dies_has_failed() {
        let counts = run(
            libtest("echo 'test a ... ok'; kill -9 $$"),
            &program(),
            watch(MINUTE),
        );
        let mut expected = Counts::passed(1);
        expected.fail("sh ended with signal: 9 (SIGKILL)".to_owned());
        assert_eq!(counts.unwrap(), expected);
        let counts = run(libtest("exit 0"), &program(), watch(MINUTE)).unwrap();
        assert_eq!(
            (counts.passed, counts.failed()),
            (0, 1),
            "it has not said how its tests ended"
        );
    }

    #[test]
    fn a_test_that_hangs_is_killed_with_what_it_started() {
        let marker = format!("1000{}", std::process::id());
        let body = format!("echo 'test a ... ok'; sleep {marker} & sleep {marker}");
        let counts = run(
            libtest(&body),
            &program(),
            watch(Duration::from_millis(300)),
        )
        .unwrap();
        assert_eq!((counts.passed, counts.failed()), (1, 1));
        let still = |pid: &i32| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.starts_with("sleep") && line.contains(&marker)
        };
        let left: Vec<_> = parents()
            .into_iter()
            .map(|(pid, _)| pid)
            .filter(still)
            .collect();
        assert!(left.is_empty(), "still there: {left:?}");
    }

    #[test]
    fn what_hangs_is_named() {
        let names = ["a", "b", "c"].map(str::to_owned).to_vec();
        let mut progress = Progress {
            names,
            ..Progress::default()
        };
        assert!(progress.read("test b ... ok"));
        assert!(!progress.read("running 3 tests"));
        assert_eq!(progress.running(Some(1)), "a");
        assert_eq!(progress.running(Some(2)), "a or c");
    }
}
