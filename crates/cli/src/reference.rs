// SPDX-License-Identifier: Apache-2.0
//! What is made of the command line's declarations: a page for each command, and man pages. Must never say what `args.rs` does not.

use std::fmt::Write as _;

use clap::{Command, CommandFactory as _};

use crate::args::Cli;

const BEFORE: &str = "Made from the declarations in `crates/cli`; `MAILLE_WRITE_REFERENCE=1 cargo test -p maille-cli reference` writes it anew.";

/// Every page of `docs/reference/cli`: its name, and what stands in it.
pub(crate) fn pages() -> Vec<(String, String)> {
    let root = built();
    let mut list = String::new();
    let mut pages = Vec::new();
    for command in verbs(&root) {
        let name = command.get_name();
        let about = command.get_about().map(ToString::to_string);
        let about = about.unwrap_or_default();
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(list, "| [`maille {name}`]({name}.md) | {about} |");
        let help = command.clone().term_width(100).render_long_help();
        let text = format!(
            "# maille {name}\n\n{BEFORE}\n\n```text\n{}```\n",
            tidy(&help.to_string())
        );
        pages.push((format!("{name}.md"), text));
    }
    let help = root.clone().term_width(100).render_long_help().to_string();
    let index = format!(
        "# maille\n\n{BEFORE}\n\n| command | does |\n|---|---|\n{list}\n```text\n{}```\n",
        tidy(&help)
    );
    pages.push(("README.md".to_owned(), index));
    pages
}

/// Every man page: its file's name, and what stands in it.
pub(crate) fn man() -> Vec<(String, Vec<u8>)> {
    let root = built();
    let page = |name: String, command: &Command| {
        let mut text = Vec::new();
        let man = clap_mangen::Man::new(command.clone()).title(name.clone());
        // A vector takes everything.
        let _ = man.render(&mut text);
        (format!("{name}.1"), text)
    };
    let mut pages = vec![page("maille".to_owned(), &root)];
    pages.extend(verbs(&root).map(|verb| page(format!("maille-{}", verb.get_name()), verb)));
    pages
}

fn built() -> Command {
    let mut root = Cli::command();
    root.build();
    root
}

fn verbs(root: &Command) -> impl Iterator<Item = &Command> {
    root.get_subcommands().filter(|verb| !verb.is_hide_set())
}

/// No blanks at ends of lines, and one end of the whole.
fn tidy(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    format!("{}\n", lines.join("\n").trim_end())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_pages_are_of_these_declarations() {
        let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/cli");
        let write = std::env::var_os("MAILLE_WRITE_REFERENCE").is_some();
        let mut names = Vec::new();
        for (name, text) in pages() {
            let path = home.join(&name);
            if write {
                std::fs::create_dir_all(&home).unwrap();
                std::fs::write(&path, &text).unwrap();
            }
            let kept = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(
                kept == text,
                "{name} is not of these declarations: see its first line"
            );
            names.push(name);
        }
        for file in std::fs::read_dir(&home).unwrap() {
            let name = file.unwrap().file_name().into_string().unwrap();
            assert!(names.contains(&name), "{name} is of no command");
        }
    }

    #[test]
    fn every_command_has_a_man_page_and_says_what_it_is_for() {
        let pages = man();
        assert!(pages.len() > 10);
        for (name, text) in pages {
            let text = String::from_utf8(text).unwrap();
            assert!(text.contains(".TH ") && text.contains(".SH NAME"), "{name}");
        }
        for verb in verbs(&built()) {
            assert!(verb.get_about().is_some(), "{}", verb.get_name());
        }
    }

    /// A command that asks something shows how.
    #[test]
    fn questions_have_examples() {
        for verb in verbs(&built()) {
            let asks = [
                "tap", "top", "edges", "identity", "explain", "capture", "stat", "check",
            ];
            if asks.contains(&verb.get_name()) {
                let after = verb.get_after_help().map(ToString::to_string);
                assert!(
                    after.is_some_and(|text| text.contains("Examples:")),
                    "{}",
                    verb.get_name()
                );
            }
        }
    }
}
