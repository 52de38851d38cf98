// SPDX-License-Identifier: Apache-2.0
//! Relative links of the documents must lead somewhere.

use super::File;

pub(super) fn check(tree: &[File]) -> Vec<String> {
    let pages = tree.iter().filter(|file| file.path.ends_with(".md"));
    pages.flat_map(broken).collect()
}

fn broken(page: &File) -> Vec<String> {
    let mut problems = Vec::new();
    for (number, line) in page.text.lines().enumerate() {
        for target in targets(line) {
            let path = target.split('#').next().unwrap_or_default();
            let outside = target.contains("://") || target.starts_with("mailto:");
            if outside || path.is_empty() {
                continue;
            }
            let there = page
                .full()
                .parent()
                .is_some_and(|dir| dir.join(path).exists());
            if !there {
                problems
                    .push(page.problem(number, &format!("link to {path}, which does not exist")));
            }
        }
    }
    problems
}

/// What stands in the parentheses of `[text](target)`.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_links_are_found() {
        let page = File {
            path: "README.md".to_owned(),
            text: "[a](xtask/src/tidy.rs) [b](#here) [c](https://example.com)\n[d](no/such.md#x)"
                .to_owned(),
        };
        let problems = broken(&page);
        assert_eq!(
            problems,
            ["README.md:2: link to no/such.md, which does not exist"]
        );
    }
}
