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
    let control = maille_control::settings::Settings::command();
    let text = format!(
        "{BEFORE}\n## maille-proxy: environment\n\n{}\n## maille-node: environment\n\n{}\n\
         ## maille-control: environment\n\n{}\n## maille-control: command line\n\n{}",
        reference(&maille_proxy::config::SETTINGS),
        reference(&maille_node::SETTINGS),
        reference(&maille_control::settings::ENVIRONMENT),
        flags(&control),
    );
    holds("settings.md", &text);
}

const MANIFESTS: &str = "# Manifests

Made from the tables that `maille up` reads manifests by; `MAILLE_WRITE_REFERENCE=1 cargo test -p maille-testkit --test reference` writes it
anew. What is in no table is refused as unknown. *Ignored* is what changes nothing on one machine, and is said as a warning; *refused* is what
would change the meaning if it were ignored, and nothing is started then.

## Images

No image is pulled: a container is a process of this machine, with the machine's programs. A container with a `command` runs it, whatever its
image. One without runs the program that its image stands for: what `--image NAME=PROGRAM [ARGUMENT...]` says of the image's whole name, of its
name without tag and digest, or of its last part, whichever is nearest; otherwise the program that is called as the last part of the name
(`registry.example/library/nginx:1.29` is `nginx`). The container's `args` replace the arguments, as they replace an image's own.

## What a container sees

The machine's files, with volumes, `/etc/hosts`, `/etc/resolv.conf` and `/etc/hostname` of its own in their places. A place for a volume, or
a `workingDir`, that does not exist is made for this container alone. `/proc` is its own; the directory of the run is hidden.

";

#[test]
fn the_manifests_reference_is_of_these_tables() {
    holds(
        "manifests.md",
        &format!("{MANIFESTS}{}", maille_manifest::reference()),
    );
}

/// Whether the file has this text, or it is to be written.
fn holds(name: &str, text: &str) {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference");
    let path = docs.join(name);
    if std::env::var_os("MAILLE_WRITE_REFERENCE").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "{name}");
}
