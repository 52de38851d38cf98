// SPDX-License-Identifier: Apache-2.0
//! Which crate may import which, read from the table in ARCHITECTURE.md, so that page and law are one.
//! Also: dependencies that nobody may have, and those that only one crate may.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::File;
use crate::shell::Cmd;

/// Nobody's: second TLS stacks and their C.
const NOBODY: &[&str] = &[
    "ring",
    "openssl",
    "openssl-sys",
    "native-tls",
    "boringssl-sys",
];

/// What the proxy must not link, directly or through others.
const NOT_IN_PROXY: &[&str] = &["kube", "kube-client", "clap", "axum"];

/// What the node must not link: it asks control, not the cluster.
const NOT_IN_NODE: &[&str] = &["kube", "kube-client"];

/// Names that stand for an outside thing, and the crates that own it. Measuring and testing crates are free; the demo is an
/// application that brings TLS of its own.
const OWNERS: &[(&str, &[&str])] = &[
    ("rustls", &["identity", "demo"]),
    ("tokio-rustls", &["identity", "demo"]),
    ("rcgen", &["identity", "demo", "cluster"]),
    ("libc", &["sys"]),
    ("rtnetlink", &["sys"]),
    ("tracing-subscriber", &["chassis"]),
    ("clap", &["cli", "control", "demo"]),
    ("axum", &["control"]),
    ("kube", &["control", "cli"]),
    ("k8s-openapi", &["control", "cli"]),
];

/// `name -> names it may import`; `None` stands for all.
type Arrows = BTreeMap<String, Option<BTreeSet<String>>>;

pub(super) fn check(tree: &[File]) -> anyhow::Result<Vec<String>> {
    let page = tree.iter().find(|file| file.path == "ARCHITECTURE.md");
    let allowed = table(&page.context("ARCHITECTURE.md is missing")?.text);
    ensure!(
        allowed.len() > 5,
        "ARCHITECTURE.md has lost its table of arrows"
    );
    let metadata =
        Cmd::new("cargo").args(["metadata", "--format-version=1", "--no-deps", "--locked"]);
    let metadata: Value = serde_json::from_str(&metadata.output()?)?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata has no packages")?;
    let mut problems = Vec::new();
    for package in packages {
        problems.extend(package_problems(package, &allowed));
    }
    problems.extend(linked(
        "maille-proxy",
        &["--package", "maille-proxy"],
        NOT_IN_PROXY,
    )?);
    problems.extend(linked(
        "maille-node",
        &["--package", "maille-node"],
        NOT_IN_NODE,
    )?);
    problems.extend(linked("the workspace", &["--workspace"], NOBODY)?);
    Ok(problems)
}

fn package_problems(package: &Value, allowed: &Arrows) -> Vec<String> {
    let full = package["name"].as_str().unwrap_or_default();
    let own = short(full);
    let mut problems = Vec::new();
    let Some(may) = allowed.get(own) else {
        return vec![format!(
            "ARCHITECTURE.md: the table of arrows does not say what {own} may import"
        )];
    };
    let Some(may) = may else {
        return problems;
    };
    for dependency in package["dependencies"].as_array().into_iter().flatten() {
        // Tests may use what they need.
        if dependency["kind"] == "dev" {
            continue;
        }
        let name = dependency["name"].as_str().unwrap_or_default();
        if name.starts_with("maille-") && !may.contains(short(name)) {
            problems.push(format!(
                "{full} imports {name}: ARCHITECTURE.md does not allow that arrow"
            ));
        }
        let owners = OWNERS
            .iter()
            .find(|(owned, _)| *owned == name)
            .map(|(_, owners)| *owners);
        if owners.is_some_and(|owners| !owners.contains(&own)) {
            problems.push(format!(
                "{full} imports {name}, which belongs to {}",
                owners.unwrap_or_default().join(", ")
            ));
        }
    }
    problems
}

/// The short name by which ARCHITECTURE.md calls a package.
fn short(package: &str) -> &str {
    let name = package.strip_prefix("maille-").unwrap_or(package);
    if name.starts_with("tests-") {
        "tests"
    } else {
        name
    }
}

/// Reads the rows `| crate | may import |`.
fn table(page: &str) -> Arrows {
    let mut rows = page
        .lines()
        .skip_while(|line| !line.starts_with("| crate | may import |"));
    rows.next();
    let mut arrows = Arrows::new();
    for row in rows.take_while(|line| line.starts_with('|')) {
        let mut cells = row.trim_matches('|').split('|').map(str::trim);
        let (Some(names), Some(may)) = (cells.next(), cells.next()) else {
            continue;
        };
        let list = |cell: &str| {
            cell.split(',')
                .map(|name| name.trim().to_owned())
                .collect::<BTreeSet<_>>()
        };
        let may = match may {
            "all" => None,
            "-" => Some(BTreeSet::new()),
            may => Some(list(may)),
        };
        for name in list(names) {
            arrows.insert(name, may.clone());
        }
    }
    arrows
}

/// The packages of `forbidden` that `which` links in the end.
fn linked(who: &str, which: &[&str], forbidden: &[&str]) -> anyhow::Result<Vec<String>> {
    let tree = Cmd::new("cargo").args([
        "tree",
        "--locked",
        "--edges=normal,build",
        "--prefix=none",
        "--format={p}",
    ]);
    let tree = tree.args(which).output()?;
    let names: BTreeSet<_> = tree
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    let found = forbidden.iter().filter(|name| names.contains(*name));
    Ok(found
        .map(|name| format!("{who} links {name}, which is forbidden"))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read() {
        let arrows = table(
            "x\n\n| crate | may import |\n|---|---|\n| a | - |\n| b | a, c |\n| d, e | all |\n\nmore\n",
        );
        assert_eq!(arrows["a"], Some(BTreeSet::new()));
        assert_eq!(arrows["b"], Some(["a", "c"].map(str::to_owned).into()));
        assert_eq!(arrows["e"], None);
    }

    #[test]
    fn arrows_that_are_not_drawn_are_found() {
        let allowed = table("| crate | may import |\n|---|---|\n| model | - |\n| cli | model |\n");
        let package = serde_json::json!({"name": "maille-model", "dependencies": [
            {"name": "maille-cli", "kind": null},
            {"name": "maille-engine", "kind": "dev"},
            {"name": "rustls", "kind": null},
        ]});
        assert_eq!(package_problems(&package, &allowed).len(), 2);
    }
}
