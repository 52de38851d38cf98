// SPDX-License-Identifier: Apache-2.0
//! Manifests that are wrong: one error each, with file, line, field and fix, and nothing is started.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;

use maille_testkit::Programs;

/// Runs `maille up` on one file; its standard error, and whether a state directory was made.
fn up(text: &str) -> (Option<i32>, String, bool) {
    let dir = tempfile::Builder::new()
        .prefix("m")
        .tempdir_in("/tmp")
        .unwrap();
    let file = dir.path().join("app.yaml");
    fs::write(&file, text).unwrap();
    let output = Programs::find()
        .unwrap()
        .maille()
        .arg("up")
        .arg(&file)
        .env("MAILLE_RUNTIME_DIR", dir.path().join("s"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said, dir.path().join("s").exists())
}

#[test]
fn each_error_names_file_line_and_field() {
    let cases = [
        (
            "a field that nobody knows",
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  ports: [{port: 80}]\n  portz: []\n",
            ":6",
            "portz",
        ),
        (
            "a port that is none",
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  ports:\n    - port: 99999\n",
            ":6",
            "port",
        ),
        (
            "a kind that nobody knows",
            "apiVersion: v1\nkind: Servise\nmetadata: {name: a}\n",
            ":2",
            "Service",
        ),
        ("no YAML", "apiVersion: v1\nkind: [\n", "app.yaml", "YAML"),
        (
            "a name that is none",
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: A_b}\n",
            ":3",
            "name",
        ),
        ("nothing", "", "app.yaml", ""),
    ];
    for (name, text, place, field) in cases {
        let (code, said, started) = up(text);
        assert_eq!(code, Some(2), "{name}: {said}");
        assert!(
            said.contains("app.yaml") && said.contains(place) && said.contains(field),
            "{name}: {said}"
        );
        assert!(said.contains("nothing was started"), "{name}: {said}");
        assert!(!started, "{name}: a state directory was made");
    }
}

#[test]
fn one_wrong_document_among_good_ones_starts_nothing() {
    let good = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n";
    let (code, said, started) = up(&format!("{good}---\n{good}---\nkind: Nothing\n"));
    assert_eq!(code, Some(2), "{said}");
    assert!(!started);
}
