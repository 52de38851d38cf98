// SPDX-License-Identifier: Apache-2.0
//! `tests/cluster/kvm.sh`, by which somebody asks sandboxes of another cluster: it passes here with gVisor, and fails where pods are not captured.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use maille_cluster::meshed::Meshed;
use maille_cluster::pairs;

/// Puts a command under a name into a directory, for who types that name.
fn put(dir: &Path, name: &str, command: &Command) {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words
        .map(|word| format!("'{}'", word.to_string_lossy()))
        .collect();
    let path = dir.join(name);
    let text = format!("#!/bin/sh\nexec {} \"$@\"\n", words.join(" "));
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn script(up: &Meshed, programs: &Path) -> Output {
    let mut script = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/kvm.sh"));
    script.arg("gvisor").env("IMAGE", pairs::IMAGE);
    let mut path = programs.as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap());
    script.env("PATH", path);
    script.env("KUBECONFIG", up.cluster().pki().join("admin.conf"));
    script.output().unwrap()
}

#[test]
fn the_script_for_other_clusters_passes_with_gvisor_and_fails_without_a_mesh() {
    let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let up = Meshed::start(program, scratch).unwrap();
    let programs = up.path("programs");
    fs::create_dir(&programs).unwrap();
    put(
        &programs,
        "kubectl",
        &up.cluster().kubectl_command().unwrap(),
    );
    let maille = up.program("maille").unwrap();
    let maille = up.cluster().control_plane().on_network(maille).unwrap();
    put(&programs, "maille", &maille);

    let image = up.program("maille-pairs").unwrap();
    up.load_program(pairs::IMAGE, &image).unwrap();
    let without = script(&up, &programs);
    let said = String::from_utf8_lossy(&without.stderr);
    assert!(!without.status.success(), "{said}");
    assert!(said.contains("not captured from outside"), "{said}");

    pairs::install(&up).unwrap();
    let with = script(&up, &programs);
    let said = String::from_utf8_lossy(&with.stdout);
    eprintln!("{said}");
    let errors = String::from_utf8_lossy(&with.stderr);
    assert!(with.status.success(), "{said}{errors}");
    assert!(said.contains("everybody reaches everybody"), "{said}");
    assert!(said.contains("TLS on: "), "{said}");
    let left = up.kubectl("get namespaces -o name").unwrap();
    assert!(!left.contains("maille-kvm"), "{left}");
}
