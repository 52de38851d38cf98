// SPDX-License-Identifier: Apache-2.0
//! Pages of `docs/reference` that are made of declarations, and of nothing else.

#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

use std::fmt::Write as _;
use std::path::Path;

use clap::{Arg, CommandFactory as _};
use maille_chassis::config::reference;
use serde_json::Value;

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
            _ if !arg.get_action().takes_values() => "-".to_owned(),
            [] => "-".to_owned(),
            some => format!("`{}`", some.join(" ")),
        };
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let flag = arg.get_long().unwrap_or_default();
        // A flag that is only there or not has no value, whatever it is called.
        let values = match arg.get_action().takes_values() {
            true => format!(" {values}"),
            false => String::new(),
        };
        writeln!(table, "| `--{flag}{values}` | {default} | {help} |").unwrap();
    }
    table
}

#[test]
fn the_reference_is_of_these_declarations() {
    let control = maille_control::settings::Settings::command();
    let text = format!(
        "{BEFORE}\n## maille-proxy: environment\n\n{}\n## maille-node: environment\n\n{}\n## maille-init: environment\n\n{}\n\
         ## maille-control: environment\n\n{}\n## maille-control: command line\n\n{}",
        reference(&maille_proxy::config::SETTINGS),
        reference(&maille_node::SETTINGS),
        reference(&maille_node::init::SETTINGS),
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

## What changes while it runs

Files that a volume has of ConfigMaps, Secrets and facts (`configMap`, `secret`, `projected`, `downwardAPI`) follow their sources as soon as the
manifests change, all files of a volume at once: `..data` is a link that turns from the old files to the new ones, as with a kubelet. As there,
what a container mounts by `subPath` and what it has in its environment stay as they were when it started. A source that is gone leaves the
files as they are.

## Storage

A PersistentVolumeClaim is a directory that begins empty, and so is each claim that a StatefulSet's `volumeClaimTemplates` make for each of its
pods (`TEMPLATE-SET-NUMBER`). Every pod that mounts the claim sees the same directory, and whoever the containers run as may write there. It
outlives its pods and whatever is changed in the manifests. It is gone after `maille down`, unless `maille up --storage DIR` has said where to
keep it: then it is `DIR/NAMESPACE/CLAIM`, which Maille never removes. Sizes are told and not held.

";

#[test]
fn the_manifests_reference_is_of_these_tables() {
    holds(
        "manifests.md",
        &format!("{MANIFESTS}{}", maille_manifest::reference()),
    );
}

const API: &str = "# The APIs

Made from the routes and types in `crates/control` and `crates/node`; `MAILLE_WRITE_REFERENCE=1 cargo test -p maille-testkit --test reference` writes it
anew. The same for programs, OpenAPI 3.1: [openapi-control.json](openapi-control.json), [openapi-node.json](openapi-node.json). Control answers its own at
`GET /v1/openapi.json`.
";

#[test]
fn the_api_reference_is_of_these_routes() {
    let mut text = API.to_owned();
    for (name, title, document) in [
        (
            "control",
            "api.sock: questions",
            maille_control::api::routes::openapi(),
        ),
        ("node", "node.sock: orders", maille_node::openapi()),
    ] {
        holds(&format!("openapi-{name}.json"), &pretty(&document));
        let about = document["info"]["description"].as_str().unwrap();
        let page = maille_openapi::page(&document);
        write!(text, "\n## {title}\n\n{about}\n\n{page}").unwrap();
    }
    holds("api.md", &text);
}

const JSON: &str = "# What `-o json` writes

Made from the types in `crates/cli`; `MAILLE_WRITE_REFERENCE=1 cargo test -p maille-testkit --test reference` writes it anew. As JSON Schema:
[cli-json.json](cli-json.json). Fields are only ever added. Text of strangers is escaped so that a terminal can be shown it; programs read it as it was.

| command | writes |
|---|---|
";

#[test]
fn the_json_reference_is_of_these_types() {
    let shapes = maille_cli::shapes();
    let api = maille_control::api::routes::openapi();
    holds("cli-json.json", &pretty(&shapes));
    let mut text = JSON.to_owned();
    for (command, shape) in shapes["commands"].as_object().unwrap() {
        writeln!(text, "| `{command}` | {} |", writes(shape)).unwrap();
    }
    // What is said to be described elsewhere is.
    for name in shapes.to_string().split(maille_cli::API).skip(1) {
        let name = name.split('"').next().unwrap();
        let schema = &api["components"]["schemas"][name];
        assert!(schema.is_object(), "the API has no {name}");
    }
    text.push_str(&maille_openapi::schemas(&shapes["$defs"]));
    holds("json.md", &text);
}

/// A shape in a few words, with links.
fn writes(shape: &Value) -> String {
    if let Some(link) = shape["$ref"].as_str() {
        let name = link.rsplit('/').next().unwrap();
        let page = if link.starts_with(maille_cli::API) {
            "api.md"
        } else {
            ""
        };
        return format!("[{name}]({page}#{})", name.to_lowercase());
    }
    if shape["type"] == "array" {
        return format!("list of {}", writes(&shape["items"]));
    }
    match shape["properties"].as_object() {
        Some(fields) => {
            let one = |(name, field): (&String, &Value)| format!("`{name}`: {}", writes(field));
            fields.iter().map(one).collect::<Vec<_>>().join(", ")
        }
        None => {
            let said = shape["description"]
                .as_str()
                .or_else(|| shape["type"].as_str());
            said.unwrap().to_owned()
        }
    }
}

fn pretty(value: &Value) -> String {
    format!("{}\n", serde_json::to_string_pretty(value).unwrap())
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
