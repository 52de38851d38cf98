// SPDX-License-Identifier: Apache-2.0
//! Tests of what is wrong whatever runs: the code for that, before anything is asked. Read `failure.rs` for the codes.

use clap::Parser as _;

use crate::{Cli, Expected, run};

/// The exit code and the words of a command line where nothing runs.
fn said(line: &str) -> (u8, String) {
    let dir = tempfile::tempdir().unwrap();
    let words = line.split(' ');
    let place = format!("--runtime-dir={}", dir.path().display());
    let cli = Cli::try_parse_from(["maille", &place].into_iter().chain(words)).unwrap();
    let error = run(cli).unwrap_err();
    let expected = error.downcast_ref::<Expected>().unwrap();
    (
        expected.exit(),
        format!("{error}; {}", expected.hint().unwrap_or_default()),
    )
}

#[test]
fn what_is_wrong_whatever_runs_is_wrong_usage() {
    for (line, words) in [
        ("get frogs", "no kind \"frogs\""),
        ("get pods,frogs", "no kind \"frogs\""),
        ("get deploy/", "names no deployment"),
        ("get pods -l a!b", "no selector"),
        ("get pods frog/a", "no kind \"frog\""),
        ("restart svc/x", "a Service cannot be restarted"),
        ("restart web frog/x", "no kind \"frog\""),
        ("scale ds/x --replicas 2", "a DaemonSet cannot be scaled"),
        ("port-forward pod 99999:1", "no pair of ports"),
        ("port-forward pod 8080:99999", "no pair of ports"),
        ("port-forward pod 99999", "no pair of ports"),
        ("port-forward frog/x 80", "no kind \"frog\""),
        ("logs frog/x", "no kind \"frog\""),
        ("exec frog/x -- ls", "no kind \"frog\""),
    ] {
        let (code, text) = said(line);
        assert_eq!(code, 2, "{line}: {text}");
        assert!(text.contains(words), "{line}: {text}");
        assert!(!text.ends_with("; "), "{line} gives no advice");
    }
}

#[test]
fn what_is_right_is_asked() {
    for line in [
        "get pods",
        "get all",
        "get pod web",
        "get svc/web deploy/web",
        "restart web",
        "port-forward svc/web :http",
        "logs web",
    ] {
        assert_eq!(said(line).0, 3, "{line}");
    }
}
