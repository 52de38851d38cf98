// SPDX-License-Identifier: Apache-2.0
//! Whose CNI configuration a node's runtime takes, and whose plugin is called last: where that is not the mesh's, no pod of the mesh begins, and
//! `maille check` names the file or the plugin. Read `races.rs` for files that are taken away.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use anyhow::{Context as _, ensure};
use maille_cluster::agents::{self, Begin, CONFIGURATIONS};
use maille_cluster::meshed::{Meshed, text};
use serde_json::{Value, json};

/// The checks that say so.
const CALLED: &str = "every node's runtime calls the mesh's CNI plugin";
const ALONE: &str = "nobody changes the mesh's CNI configuration";
const OURS: &str = "00-maille.conflist";
/// A name that comes before it.
const OTHERS: &str = "00-another.conflist";

/// What `maille check` says by that name. Whatever else is not well is another test's.
fn said(up: &Meshed, name: &str) -> anyhow::Result<Value> {
    let script = "\"$0\" check -o json || true";
    let mut shell = up.cluster().control_plane().on_network("/bin/sh")?;
    shell.arg("-c").arg(script).arg(up.program("maille")?);
    shell.env("KUBECONFIG", up.cluster().pki().join("admin.conf"));
    let all: Value = serde_json::from_str(&up.output_of(&mut shell, "")?)?;
    let checks = all["checks"].as_array().context("checks")?;
    let one = checks.iter().find(|check| check["name"] == name);
    Ok(one.with_context(|| format!("{name}: {all:#}"))?.clone())
}

/// Waits until a check is as it should be, and has this in its message.
fn is(up: &Meshed, name: &str, ok: bool, part: &str) -> Value {
    let check = up.until(name, || {
        let check = said(up, name)?;
        let message = text(&check, "/message");
        ensure!(check["ok"] == ok && message.contains(part), "{check:#}");
        Ok(check)
    });
    let check = check.unwrap();
    eprintln!("{name}: {check}");
    check
}

/// Makes a pod of the mesh.
fn begins(up: &Meshed, name: &str) {
    let pod = agents::pod(name, "meshed", "node1", &["serve", "0"]);
    up.cluster().apply(&pod.to_string()).unwrap();
}

#[test]
fn another_configuration_and_another_plugin_are_named() {
    let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let up = agents::start(program, scratch, Begin::With).unwrap();
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "meshed", "labels": {"maille.io/inject": "enabled"}}});
    up.cluster().apply(&namespace.to_string()).unwrap();
    let node = up.cluster().node(1);
    let on_node = |script: &str| agents::shell(&node, &format!("cd {CONFIGURATIONS} && {script}"));
    let well = is(&up, CALLED, true, "");
    assert!(well["hint"].is_null(), "{well}");
    assert!(is(&up, ALONE, true, "")["hint"].is_null());

    // The runtime takes another file: the plugin is not called, and what is meant for the mesh waits.
    on_node(&format!("cp 10-test.conflist {OTHERS}")).unwrap();
    let said = format!("node1: {OTHERS} comes before {OURS}");
    let check = is(&up, CALLED, false, &said);
    assert!(
        text(&check, "/hint").contains("rename or remove"),
        "{check}"
    );
    begins(&up, "waits");
    agents::says(&up, "meshed", "waits", "does not begin outside of it").unwrap();
    let waits = up.pods("meshed", "app=waits").unwrap();
    assert!(waits[0]["status"]["containerStatuses"][0]["started"] != true);
    on_node(&format!("rm {OTHERS}")).unwrap();
    is(&up, CALLED, true, "");
    up.settled("meshed", "app=waits", 1).unwrap();

    // Somebody chains himself behind the first file that he finds, which is ours.
    let list = on_node(&format!("cat {OURS}")).unwrap();
    let mut list: Value = serde_json::from_str(&list).unwrap();
    let plugins = list["plugins"].as_array_mut().unwrap();
    assert_eq!(plugins.last().unwrap()["type"], "maille-cni");
    plugins.push(json!({"type": "another-cni"}));
    on_node(&format!("printf %s '{list}' >.new && mv .new {OURS}")).unwrap();
    let said = "node1: somebody put another-cni behind maille-cni";
    let check = is(&up, ALONE, true, said);
    assert!(!text(&check, "/hint").is_empty(), "{check}");
    let mended = on_node(&format!("cat {OURS}")).unwrap();
    assert!(!mended.contains("another-cni"), "{mended}");
    begins(&up, "last");
    up.settled("meshed", "app=last", 1).unwrap();
    assert!(
        agents::captured(&node)
            .unwrap()
            .contains(&"meshed/last".to_owned())
    );
}
