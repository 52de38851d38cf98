// SPDX-License-Identifier: Apache-2.0
//! The table of figures, un-meshed beside meshed: shown, never judged, because a busy machine decides them.

use std::io::Write as _;

/// Figures of one test.
#[derive(Clone, Debug, Default)]
pub struct Figures(String);

impl Figures {
    /// One line: what was measured, in which unit, without and with the mesh.
    pub fn add(&mut self, what: &str, unit: &str, plain: f64, meshed: f64) {
        let ratio = meshed / plain;
        self.0.push_str(&format!(
            "figures: {what:<44} {plain:>10.0} {meshed:>10.0} {unit:<12} {ratio:.2}x\n"
        ));
    }

    /// Prints them, also where the output of tests that pass is kept back.
    pub fn show(&self) {
        let head = format!(
            "\nfigures: {:<44} {:>10} {:>10}\n",
            "", "un-meshed", "meshed"
        );
        // Nobody reads it when standard error is gone.
        let _ = std::io::stderr().write_all((head + &self.0).as_bytes());
    }
}
