// SPDX-License-Identifier: Apache-2.0
//! No cycles among the modules of a crate: siblings that import each other, directly or through others, are one
//! module that pretends to be several. Imports are found by text (`crate::a::b`), tests left out.

use std::collections::{BTreeMap, BTreeSet};

use super::File;

/// Module path (`["a", "b"]`) -> module paths that it names.
type Imports = BTreeMap<Vec<String>, BTreeSet<Vec<String>>>;

/// `child -> children it imports`, of one parent.
type Graph = BTreeMap<String, BTreeSet<String>>;

pub(super) fn check(tree: &[File]) -> Vec<String> {
    let mut crates: BTreeMap<String, Vec<&File>> = BTreeMap::new();
    for file in tree.iter().filter(|file| file.is_rust() && !file.is_test()) {
        if let Some((root, _)) = file.path.split_once("/src/") {
            crates.entry(root.to_owned()).or_default().push(file);
        }
    }
    let mut problems = Vec::new();
    for (root, files) in crates {
        let imports = imports(&root, &files);
        for (parent, graph) in graphs(&imports) {
            if let Some(cycle) = cycle(&graph) {
                let place = std::iter::once("crate".to_owned()).chain(parent);
                let place = place.collect::<Vec<_>>().join("::");
                problems.push(format!(
                    "{root}: modules of {place} import each other: {}",
                    cycle.join(" -> ")
                ));
            }
        }
    }
    problems
}

/// `src/a/b.rs` is `a::b`; the root has no path and is left out, as is everything that only it names.
fn module(root: &str, file: &File) -> Vec<String> {
    let inner = file
        .path
        .strip_prefix(root)
        .and_then(|path| path.strip_prefix("/src/"));
    let inner = inner.unwrap_or_default().trim_end_matches(".rs");
    inner.split('/').map(str::to_owned).collect()
}

fn imports(root: &str, files: &[&File]) -> Imports {
    let modules: BTreeSet<Vec<String>> = files.iter().map(|file| module(root, file)).collect();
    let mut imports = Imports::new();
    for file in files {
        let own = module(root, file);
        if own == ["lib"] || own == ["main"] {
            continue;
        }
        let mut named = BTreeSet::new();
        for (base, path) in paths(file.production(), &own) {
            let mut path: Vec<String> = base.into_iter().chain(path).collect();
            while !path.is_empty() && !modules.contains(&path) {
                path.pop();
            }
            if !path.is_empty() && path != own {
                named.insert(path);
            }
        }
        imports.insert(own, named);
    }
    imports
}

/// Every `crate::x::y` and `super::x::y` of `text`: where it begins, and the path.
fn paths(text: &str, own: &[String]) -> Vec<(Vec<String>, Vec<String>)> {
    let mut found = Vec::new();
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    for line in code {
        for (word, base) in [
            ("crate::", &own[..0]),
            ("super::", &own[..own.len().saturating_sub(1)]),
        ] {
            for (at, _) in line.match_indices(word) {
                let before = line[..at].chars().next_back();
                if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                    continue;
                }
                let rest = &line[at + word.len()..];
                for path in expand(rest) {
                    found.push((base.to_vec(), path));
                }
            }
        }
    }
    found
}

/// `a::b::C` is one path, `{a, b::C}` two. Braces that span lines give their first line only.
fn expand(rest: &str) -> Vec<Vec<String>> {
    let one = |text: &str| -> Vec<String> {
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
        let path = text[..end.unwrap_or(text.len())].split("::");
        path.filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect()
    };
    match rest.strip_prefix('{') {
        Some(list) => list
            .split(['}', ','])
            .map(|item| one(item.trim()))
            .collect(),
        None => vec![one(rest)],
    }
}

/// For each parent, who among its children imports whom.
fn graphs(imports: &Imports) -> BTreeMap<Vec<String>, Graph> {
    let mut graphs: BTreeMap<Vec<String>, Graph> = BTreeMap::new();
    for (from, named) in imports {
        for to in named {
            let shared = from.iter().zip(to).take_while(|(a, b)| a == b).count();
            // A parent and what is inside it are one thing seen from afar.
            if let (Some(a), Some(b)) = (from.get(shared), to.get(shared)) {
                let graph = graphs.entry(from[..shared].to_vec()).or_default();
                graph.entry(a.clone()).or_default().insert(b.clone());
            }
        }
    }
    graphs
}

/// One cycle, its first member repeated at the end.
fn cycle(graph: &Graph) -> Option<Vec<String>> {
    let mut done = BTreeSet::new();
    graph
        .keys()
        .find_map(|start| visit(graph, start, &mut Vec::new(), &mut done))
}

fn visit<'a>(
    graph: &'a Graph,
    at: &'a str,
    path: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
) -> Option<Vec<String>> {
    if let Some(begin) = path.iter().position(|seen| *seen == at) {
        let names = path[begin..].iter().chain(std::iter::once(&at));
        return Some(names.map(|name| (*name).to_owned()).collect());
    }
    if !done.insert(at) {
        return None;
    }
    path.push(at);
    let found = graph
        .get(at)
        .into_iter()
        .flatten()
        .find_map(|next| visit(graph, next, path, done));
    path.pop();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn cycles_are_found() {
        let tree = [
            file("x/src/lib.rs", "pub use crate::a::A;"),
            file("x/src/a.rs", "use crate::b::B;"),
            file("x/src/b.rs", "use crate::{c, d::D};"),
            file("x/src/c.rs", "mod inner;"),
            file("x/src/c/inner.rs", "// crate::b\nuse crate::a::A;"),
            file("x/src/d.rs", "use mycrate::a::A;"),
        ];
        assert_eq!(
            check(&tree),
            ["x: modules of crate import each other: a -> b -> c -> a"]
        );
    }

    #[test]
    fn parents_and_children_are_no_cycle() {
        let tree = [
            file("x/src/a.rs", "use crate::a::one::One;"),
            file("x/src/a/one.rs", "use super::A;\nuse super::two::Two;"),
            file(
                "x/src/a/two.rs",
                "use crate::a::A;\n#[cfg(test)]\nmod tests {\nuse super::one::One;\n}",
            ),
        ];
        assert_eq!(check(&tree), Vec::<String>::new());
        let tangled = [
            file("x/src/a/one.rs", "use super::two::Two;"),
            file("x/src/a/two.rs", "use crate::a::one::One;"),
        ];
        assert_eq!(
            check(&tangled),
            ["x: modules of crate::a import each other: one -> two -> one"]
        );
    }
}
