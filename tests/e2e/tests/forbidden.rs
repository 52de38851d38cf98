// SPDX-License-Identifier: Apache-2.0
//! A machine that forbids namespaces to ordinary users: one error that names the setting and the command, and nothing is left.

use std::fs;
use std::process::Command;

use maille_testkit::Programs;

/// A user namespace has limits of its own: here they are that machine's. Whoever runs this is an ordinary user in it.
#[test]
fn the_setting_and_the_command_are_named() {
    let dir = tempfile::Builder::new()
        .prefix("m")
        .tempdir_in("/tmp")
        .unwrap();
    let file = dir.path().join("app.yaml");
    fs::write(
        &file,
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n",
    )
    .unwrap();
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";
    let output = Command::new("unshare")
        .args(["--user", "--map-user=1000", "--keep-caps", "--"])
        .args(["sh", "-c", script, "sh"])
        .arg(Programs::find().unwrap().path("maille"))
        .arg("up")
        .arg(&file)
        .env("MAILLE_RUNTIME_DIR", dir.path().join("s"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{said}");
    let error = "error: this machine forbids namespaces: user.max_user_namespaces=0";
    assert!(said.contains(error), "{said}");
    let command = "sudo sysctl -w user.max_user_namespaces=10000";
    assert!(said.contains(command), "{said}");
    assert_eq!(said.matches("error:").count(), 1, "{said}");
    assert!(!dir.path().join("s").exists(), "a state directory is left");
}
