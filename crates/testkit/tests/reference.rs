// SPDX-License-Identifier: Apache-2.0
//! `docs/reference/settings.md` is made of the declarations, and of nothing else.

#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

use std::fmt::Write as _;
use std::path::Path;

use clap::{Arg, CommandFactory as _};
use maille_chassis::config::reference;

const BEFORE: &str = "# Settings

Made from the declarations in the programs; `MAILLE_WRITE_REFERENCE=1 cargo test -p maille-testkit --test reference` writes it anew. What people type is
in `maille --help`. A setting that is there but wrong ends the program with the setting, the value and the fix; it is never replaced by a default.
";

/// A table of the flags of a command line.
fn flags(command: &clap::Command) -> String {
    let mut table = String::from("| flag | default | what |\n|---|---|---|\n");
    let shown = |arg: &&Arg| !arg.is_hide_set() && arg.get_long().is_some();
    for arg in command.get_arguments().filter(shown) {
        let values = arg.get_value_names().unwrap_or_default().join(" ");
        let defaults = arg.get_default_values().iter();
        let defaults: Vec<_> = defaults.map(|value| value.to_string_lossy()).collect();
        let default = match &defaults[..] {
            [] => "-".to_owned(),
            some => format!("`{}`", some.join(" ")),
        };
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let flag = arg.get_long().unwrap_or_default();
        writeln!(table, "| `--{flag} {values}` | {default} | {help} |").unwrap();
    }
    table
}

#[test]
fn the_reference_is_of_these_declarations() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/settings.md");
    let control = maille_control::settings::Settings::command();
    let text = format!(
        "{BEFORE}\n## maille-proxy: environment\n\n{}\n## maille-node: environment\n\n{}\n\
         ## maille-control: environment\n\n{}\n## maille-control: command line\n\n{}",
        reference(&maille_proxy::config::SETTINGS),
        reference(&maille_node::SETTINGS),
        reference(&maille_control::settings::ENVIRONMENT),
        flags(&control),
    );
    if std::env::var_os("MAILLE_WRITE_REFERENCE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}
