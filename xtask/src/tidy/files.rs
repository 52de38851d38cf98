// SPDX-License-Identifier: Apache-2.0
//! What every file must have and must not: licence, purpose, length, and words that stand for unfinished work.

use super::File;

/// Lines of production code that one file may have.
const MAX_LINES: usize = 600;

/// Tests longer than this have their own file.
const MAX_INLINE_TESTS: usize = 120;

const LICENCE: &str = "// SPDX-License-Identifier: Apache-2.0";

/// Words that stand for something not done. Split, so that this file does not hold them.
const UNFINISHED: &[&str] = &[
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
    concat!("#[ig", "nore"),
];

const TO_DO: &str = concat!("TO", "DO");

/// Waiting by the clock, where an event should be awaited.
const SLEEPS: &[&str] = &[concat!("thread::", "sleep("), concat!("time::", "sleep(")];

/// Names that tie the tree to one machine or one registry.
const PLACES: &[&str] = &[
    concat!("crates", ".io"),
    concat!("docker", ".io"),
    concat!("ghcr", ".io"),
    concat!("quay", ".io"),
    concat!("gcr", ".io"),
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/Us", "ers/"),
];

pub(super) fn check(tree: &[File]) -> Vec<String> {
    let mut problems = Vec::new();
    for file in tree {
        if file.path.ends_with("Cargo.lock") || file.path == "LICENSE" {
            continue;
        }
        problems.extend(words(file));
        if file.is_rust() {
            problems.extend(shape(file));
        }
        if file.path.ends_with("Cargo.toml") {
            problems.extend(manifest(file));
        }
    }
    problems
}

fn words(file: &File) -> Vec<String> {
    let mut problems = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        let mut find = |words: &[&str], what: &str| {
            for word in words.iter().filter(|word| line.contains(**word)) {
                problems.push(file.problem(number, &format!("{word:?}: {what}")));
            }
        };
        find(PLACES, "nothing may depend on one machine or registry");
        if !file.is_rust() {
            continue;
        }
        find(UNFINISHED, "finish it, or leave it out");
        if !file.path.starts_with("crates/chassis/") {
            find(SLEEPS, "wait for an event, with a deadline");
        }
        if line.contains(TO_DO) && !line.contains("TODO(#") {
            problems.push(file.problem(number, "name the issue, as (#12)"));
        }
    }
    problems
}

fn shape(file: &File) -> Vec<String> {
    let mut problems = Vec::new();
    let generated = file.text.contains("@generated");
    let mut lines = file.text.lines();
    if lines.next() != Some(LICENCE) {
        problems.push(file.problem(0, &format!("must begin with {LICENCE}")));
    }
    // The tests of a module say what they are for by where they are.
    let explained = generated || file.is_test();
    if !explained && !lines.next().is_some_and(|line| line.starts_with("//! ")) {
        problems.push(file.problem(1, "must say in `//!` what it is for"));
    }
    if file.path.ends_with("/mod.rs") {
        problems.push(file.problem(0, "foo.rs beside foo/, never mod.rs"));
    }
    let production = file.production().lines().count();
    if !generated && production > MAX_LINES {
        problems.push(file.problem(
            MAX_LINES,
            &format!("{production} lines, at most {MAX_LINES}"),
        ));
    }
    let tests = file.text.lines().count() - production;
    if tests > MAX_INLINE_TESTS {
        problems.push(file.problem(
            production,
            &format!("{tests} lines of tests: give them their own file"),
        ));
    }
    let crate_root = ["/src/lib.rs", "/src/main.rs"]
        .iter()
        .any(|end| file.path.ends_with(end));
    let may_be_unsafe = file.path.starts_with("crates/sys/");
    if crate_root && !may_be_unsafe && !file.text.contains("#![forbid(unsafe_code)]") {
        problems.push(file.problem(0, "a crate root must forbid unsafe_code"));
    }
    problems
}

/// A manifest: lints inherited, dependencies sorted.
fn manifest(file: &File) -> Vec<String> {
    let mut problems = Vec::new();
    if !file.text.contains("[lints]\nworkspace = true") && file.path != "Cargo.toml" {
        problems.push(file.problem(0, "must inherit the workspace's lints"));
    }
    let mut section = "";
    let mut last = "";
    for (number, line) in file.text.lines().enumerate() {
        if line.starts_with('[') {
            (section, last) = (line, "");
        }
        let Some((name, _)) = line.split_once(['=', '.']) else {
            // A gap begins a new group.
            last = "";
            continue;
        };
        let name = name.trim();
        if section.contains("dependencies]") && !line.starts_with('[') {
            // The root lists its own crates in the order of their layers.
            if name < last && !name.starts_with("maille-") {
                problems
                    .push(file.problem(number, &format!("{name} stands after {last}: sort them")));
            }
            last = name;
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rust(text: &str) -> File {
        File {
            path: "crates/x/src/y.rs".to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn a_proper_file_passes() {
        let file = rust(&format!("{LICENCE}\n//! Why.\n\nfn f() {{}}\n"));
        assert_eq!(check(&[file]), Vec::<String>::new());
    }

    #[test]
    fn each_rule_bites() {
        let head = format!("{LICENCE}\n//! Why.\n");
        let bad = [
            "// MIT\n//! Why.\n".to_owned(),
            format!("{LICENCE}\nfn f() {{}}\n"),
            format!("{head}{}", "\n".repeat(MAX_LINES)),
            format!("{head}fn f() {{ {}) }}\n", UNFINISHED[0]),
            format!("{head}// {TO_DO}: later\n"),
            format!("{head}{}1)\n", SLEEPS[0]),
            format!("{head}// see {}x\n", PLACES[5]),
        ];
        for text in bad {
            assert_eq!(check(&[rust(&text)]).len(), 1, "{text:.60}");
        }
    }

    #[test]
    fn manifests_are_sorted() {
        let text = "[lints]\nworkspace = true\n\n[dependencies]\nb = \"1\"\na.workspace = true\n";
        let file = File {
            path: "crates/x/Cargo.toml".to_owned(),
            text: text.to_owned(),
        };
        assert_eq!(check(&[file]).len(), 1);
    }
}
