// SPDX-License-Identifier: Apache-2.0
//! Protections that a test takes away, to see that it is they that protect. Nobody else should ever set this.

use std::str::FromStr;

use crate::config::Setting;

/// Which protections are left out.
pub const SETTING: Setting = Setting::with_default(
    "MAILLE_TEST_WITHOUT",
    "for tests: protections to leave out, of readiness, drain, patience and last-good, with commas between",
    "none",
);

/// The protections that are left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Without {
    /// A pod is ready as soon as it runs, whatever its probes say.
    pub readiness: bool,
    /// A pod that is to go is killed while it still serves.
    pub drain: bool,
    /// Connections between proxies are cut where they should be left.
    pub patience: bool,
    /// A proxy without control forgets what it knew.
    pub last_good: bool,
}

impl FromStr for Without {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut without = Self::default();
        for word in text.split(',').filter(|word| *word != "none") {
            match word {
                "readiness" => without.readiness = true,
                "drain" => without.drain = true,
                "patience" => without.patience = true,
                "last-good" => without.last_good = true,
                _ => return Err("no such protection"),
            }
        }
        Ok(without)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_out_unless_it_is_named() {
        assert_eq!("none".parse(), Ok(Without::default()));
        let some: Without = "drain,last-good".parse().unwrap();
        assert!(some.drain && some.last_good && !some.readiness && !some.patience);
        assert!("everything".parse::<Without>().is_err());
    }
}
