// SPDX-License-Identifier: Apache-2.0
//! What one command said, and its own verdict. Read `stage.rs` for where it ran.

use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, ensure};

/// A command that has ended.
#[derive(Clone, Debug)]
pub struct Said {
    /// As somebody would type it.
    pub command: String,
    /// Its verdict.
    pub status: ExitStatus,
    /// Its standard output.
    pub out: Vec<u8>,
    /// Its standard error.
    pub err: Vec<u8>,
    /// How long it ran.
    pub took: Duration,
}

impl Said {
    /// Standard output of a command that succeeded.
    pub fn good(&self) -> anyhow::Result<String> {
        ensure!(self.status.success(), "{}", self.text());
        Ok(String::from_utf8_lossy(&self.out).into_owned())
    }

    /// Everything, for people.
    pub fn text(&self) -> String {
        format!(
            "$ {}\n{}{}\n{} after {:.1} s",
            self.command,
            String::from_utf8_lossy(&self.out),
            String::from_utf8_lossy(&self.err),
            self.status,
            self.took.as_secs_f64()
        )
    }

    /// The first number behind `label` in the output of a command that succeeded.
    pub fn number(&self, label: &str) -> anyhow::Result<f64> {
        let out = self.good()?;
        let rest = out.split_once(label).map(|(_, rest)| rest);
        let rest = rest.with_context(|| format!("no {label:?} in\n{}", self.text()))?;
        let digit = |letter: char| letter.is_ascii_digit() || letter == '.';
        let rest = rest.trim_start_matches(|letter| !digit(letter));
        let end = rest.find(|letter| !digit(letter)).unwrap_or(rest.len());
        rest[..end]
            .trim_end_matches('.')
            .parse()
            .with_context(|| format!("no number behind {label:?} in\n{}", self.text()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn numbers_stand_behind_their_labels() {
        let said = Said {
            command: "pgbench".to_owned(),
            status: ExitStatus::from_raw(0),
            out: b"failed: 0 (0%)\ntps = 1234.5 (without x)".to_vec(),
            err: Vec::new(),
            took: Duration::ZERO,
        };
        assert_eq!(said.number("tps =").unwrap(), 1234.5);
        assert_eq!(said.number("failed").unwrap(), 0.0);
        assert!(said.number("latency").is_err());
        let status = ExitStatus::from_raw(256);
        assert!(Said { status, ..said }.number("tps =").is_err());
    }
}
