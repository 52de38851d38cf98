// SPDX-License-Identifier: Apache-2.0
//! What rings come to: how many tests passed, and each that failed with its reason, which is told again at the end.
//!
//! Must never lose a failure. Read `suite.rs` for who counts.

use crate::shell::say;

/// Tests that ran.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    /// Each that failed: its name, and in further lines what it said.
    failures: Vec<String>,
}

impl Counts {
    pub(crate) const fn passed(passed: usize) -> Self {
        Self {
            passed,
            failures: Vec::new(),
        }
    }

    pub(crate) const fn failed(&self) -> usize {
        self.failures.len()
    }

    /// Counts a failure.
    pub(crate) fn fail(&mut self, what: String) {
        self.failures.push(what);
    }

    /// Counts what was one test in itself, and says why it failed.
    pub(crate) fn add(&mut self, outcome: anyhow::Result<()>) {
        match outcome {
            Ok(()) => self.passed += 1,
            Err(error) => {
                let what = format!("{error:#}");
                say(&what);
                self.fail(what);
            }
        }
    }

    pub(crate) fn sum(&mut self, other: Self) {
        self.passed += other.passed;
        self.failures.extend(other.failures);
    }

    /// The failures of `ring`, for the end of a run.
    pub(crate) fn report(&self, ring: &str) -> String {
        let failures = self.failures.iter();
        failures
            .map(|failure| format!("ring {ring}: {failure}\n"))
            .collect()
    }
}
