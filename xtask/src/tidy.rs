// SPDX-License-Identifier: Apache-2.0
//! Rules about the tree that no compiler checks. Each gives lines of `file:line: what`.
//!
//! Must never change a file. Read the four parts: `arrows`, `files`, `links`, `modules`.

mod arrows;
mod files;
mod links;
mod modules;

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;

use crate::shell::{Cmd, root};

/// A file of the tree, by its path from the root.
#[derive(Debug)]
struct File {
    path: String,
    text: String,
}

/// Every broken rule.
pub(crate) fn check() -> anyhow::Result<Vec<String>> {
    let tree = tree()?;
    let mut problems = arrows::check(&tree)?;
    problems.extend(files::check(&tree));
    problems.extend(modules::check(&tree));
    problems.extend(links::check(&tree));
    problems.sort();
    Ok(problems)
}

/// The text files that git knows or would take.
fn tree() -> anyhow::Result<Vec<File>> {
    let list = Cmd::new("git").args([
        "-C",
        &root().to_string_lossy(),
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "-z",
    ]);
    let mut tree = Vec::new();
    for path in list
        .output()
        .context("tidy needs a git checkout")?
        .split_terminator('\0')
    {
        let full = root().join(path);
        let Ok(bytes) = fs::read(&full) else {
            // Deleted, but not yet committed so.
            continue;
        };
        if let Ok(text) = String::from_utf8(bytes) {
            tree.push(File {
                path: path.to_owned(),
                text,
            });
        }
    }
    Ok(tree)
}

impl File {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// A line of this file with what is wrong in it.
    fn problem(&self, line: usize, what: &str) -> String {
        format!("{}:{}: {what}", self.path, line + 1)
    }

    /// The part before `#[cfg(test)] mod tests {`; all of it, where the tests have their own file.
    fn production(&self) -> &str {
        let end = self.text.find("#[cfg(test)]\nmod tests {");
        &self.text[..end.unwrap_or(self.text.len())]
    }

    /// Whether the whole file is test code.
    fn is_test(&self) -> bool {
        let named = |part: &str| matches!(part, "tests" | "tests.rs");
        self.path.split('/').any(named) || self.path.starts_with("crates/testkit/")
    }

    fn full(&self) -> PathBuf {
        root().join(&self.path)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_tree_is_tidy() {
        let problems = super::check().unwrap();
        assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
    }
}
