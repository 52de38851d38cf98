// SPDX-License-Identifier: Apache-2.0
//! Running programs: each command is shown before it runs, and its failure names it. Read `test.rs` for the users.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// The root of the checkout.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or_else(|| Path::new("/"))
}

/// A line for people, on standard error.
pub(crate) fn say(text: &str) {
    // Nobody reads it when standard error is gone.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Text for standard output.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

/// The program of that name on PATH, or in the places that ordinary users often lack.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let also = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(also)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// One command.
#[derive(Clone, Debug)]
pub(crate) struct Cmd {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    dir: Option<PathBuf>,
    /// Whether what it says goes to standard error.
    aside: bool,
}

impl Cmd {
    /// `program` without arguments yet.
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            dir: None,
            aside: false,
        }
    }

    /// More arguments.
    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// One more variable of the environment.
    pub(crate) fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Where it runs, if not here.
    pub(crate) fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// What it says is for people, never part of this program's result: it goes to standard error.
    pub(crate) fn aside(mut self) -> Self {
        self.aside = true;
        self
    }

    /// As somebody would type it.
    pub(crate) fn text(&self) -> String {
        let words = std::iter::once(&self.program).chain(&self.args);
        let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
        words.join(" ")
    }

    /// The command for std.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        if self.aside {
            command.stdout(Stdio::from(std::io::stderr()));
        }
        command
            .args(&self.args)
            .envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs it with the output of this process.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        say(&format!("$ {}", self.text()));
        let status = self
            .command()
            .status()
            .with_context(|| format!("failed to run {}", self.text()))?;
        if !status.success() {
            bail!("{} failed: {status}", self.text());
        }
        Ok(())
    }

    /// Runs it and gives its standard output.
    pub(crate) fn output(&self) -> anyhow::Result<String> {
        self.output_in(Path::new("."))
    }

    /// The same, in a directory.
    pub(crate) fn output_in(&self, dir: &Path) -> anyhow::Result<String> {
        let output = self
            .command()
            .current_dir(dir)
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("failed to run {}", self.text()))?;
        if !output.status.success() {
            bail!("{} failed: {}", self.text(), output.status);
        }
        Ok(String::from_utf8(output.stdout)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_aside_is_no_part_of_the_result() {
        let echo = |cmd: Cmd| cmd.command().output().map(|out| out.stdout);
        let hello = Cmd::new("echo").args(["hello"]);
        assert_eq!(echo(hello.clone()).unwrap(), b"hello\n");
        assert_eq!(echo(hello.aside()).unwrap(), b"");
    }
}
