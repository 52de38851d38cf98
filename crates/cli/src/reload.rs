// SPDX-License-Identifier: Apache-2.0
//! While `maille up` runs: manifests that change on disk change what runs, and a pod that cannot start says why.
//!
//! Must never act on a set of files of which one is wrong, and never say the same thing twice. Read `watch.rs` and `changes.rs`.

use std::collections::BTreeSet;

use maille_manifest::ManifestError;

use crate::args::Manifests;
use crate::changes::{Ask, ask};
use crate::manifests;
use crate::screen::Screen;
use crate::state::State;

/// What was said already.
#[derive(Debug)]
pub(crate) struct Reload {
    manifests: Manifests,
    /// The errors that were told last; empty: all was well.
    wrong: Vec<ManifestError>,
    warned: BTreeSet<String>,
}

impl Reload {
    /// For `manifests`, which were read and told of once.
    pub(crate) fn new(manifests: &Manifests) -> Self {
        let loaded = manifests::load(manifests).unwrap_or_default();
        let warned = loaded.warnings.iter().map(ToString::to_string);
        Self {
            manifests: manifests.clone(),
            wrong: Vec::new(),
            warned: warned.collect(),
        }
    }

    /// Reads everything again and has the runner make it so.
    pub(crate) async fn again(&mut self, state: &State, screen: Screen) {
        let loaded = match manifests::load(&self.manifests) {
            Ok(loaded) => loaded,
            Err(errors) => return self.refuse(errors, screen),
        };
        for warning in loaded.warnings.iter().map(ToString::to_string) {
            if self.warned.insert(warning.clone()) {
                screen.say(&format!("{} {warning}", screen.yellow("warning:")));
            }
        }
        match ask(state, Ask::Apply, &loaded.objects).await {
            Ok(changes) => {
                let mended = !self.wrong.is_empty();
                self.wrong.clear();
                if mended && changes.is_empty() {
                    screen.say("the manifests are as they were");
                }
                for change in &changes {
                    screen.say(&change.line());
                }
                if changes.iter().any(|change| change.is_read_at_start()) {
                    let restart = "pods read variables from it when they start: `maille restart deployment/NAME` has them read it";
                    screen.say(&format!("  {restart}"));
                }
            }
            Err(error) => screen.say(&format!(
                "{} {error}; nothing was changed",
                screen.red("error:")
            )),
        }
    }

    fn refuse(&mut self, errors: Vec<ManifestError>, screen: Screen) {
        if errors == self.wrong {
            return;
        }
        for error in &errors {
            screen.say(&format!("{} {error}", screen.red("error:")));
        }
        screen.say("nothing was changed");
        self.wrong = errors;
    }
}
