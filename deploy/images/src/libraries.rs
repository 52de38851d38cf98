// SPDX-License-Identifier: Apache-2.0
//! The libraries that a program of this machine needs, its loader among them, by the loader's own word (`ldd`), and which
//! packages of the distribution they are from.
//!
//! What a program opens later by itself is not seen. Read `set.rs` next.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

/// A package of the distribution.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// Where the loader finds what `program` needs; nothing for a static program.
///
/// # Errors
///
/// `ldd` is missing, or a library is.
pub fn of(program: &Path) -> anyhow::Result<BTreeSet<PathBuf>> {
    let output = Command::new("ldd").arg(program).output();
    let output = output.context("ldd cannot be run (package libc-bin)")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    let is_static = |said: &str| {
        said.contains("not a dynamic executable") || said.contains("statically linked")
    };
    if is_static(&text) || is_static(&said) {
        return Ok(BTreeSet::new());
    }
    if !output.status.success() {
        bail!(
            "{} has no readable list of libraries: {}",
            program.display(),
            said.trim()
        );
    }
    read(&text).with_context(|| format!("libraries of {}", program.display()))
}

/// `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x...)`, `/lib64/ld-linux-x86-64.so.2 (0x...)`, `linux-vdso.so.1 (0x...)`.
fn read(text: &str) -> anyhow::Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for line in text.lines().map(str::trim) {
        if line.ends_with("not found") {
            bail!("a library is missing: {line}");
        }
        let place = line.split_once("=> ").map_or(line, |(_, place)| place);
        let path = place.split(" (").next().unwrap_or_default();
        if path.starts_with('/') {
            found.insert(PathBuf::from(path));
        }
    }
    Ok(found)
}

/// The packages that `files` are from, sorted; a file of no package is an error, for nobody could say what it is.
///
/// # Errors
///
/// `dpkg-query` is missing, or does not know a file.
pub fn packages(files: &BTreeSet<PathBuf>) -> anyhow::Result<BTreeSet<Package>> {
    files.iter().map(|file| package(file)).collect()
}

fn package(file: &Path) -> anyhow::Result<Package> {
    // The directories of libraries have moved: the package may know the file by its real place, or by the other name.
    let real = file.canonicalize()?;
    let other = real
        .strip_prefix("/usr")
        .map(|rest| Path::new("/").join(rest));
    let places = [Some(file.to_owned()), Some(real.clone()), other.ok()];
    let mut owners = places
        .into_iter()
        .flatten()
        .filter_map(|place| owner(&place));
    let name = owners.next();
    let name =
        name.with_context(|| format!("no package of this machine has {}", real.display()))?;
    let version = query(&["--show", "--showformat=${Version}", &name])?;
    let name = name.split(':').next().unwrap_or_default().to_owned();
    Ok(Package { name, version })
}

/// `libc6:amd64: /lib/x86_64-linux-gnu/libc.so.6`
fn owner(place: &Path) -> Option<String> {
    let said = query(&["--search", &place.to_string_lossy()]).ok()?;
    let (owner, _) = said.lines().next()?.split_once(": ")?;
    Some(owner.to_owned())
}

fn query(args: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("dpkg-query").args(args).output();
    let output = output.context("dpkg-query cannot be run: images are made on Debian or Ubuntu")?;
    if !output.status.success() {
        bail!(
            "dpkg-query: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_loader_says_is_read() {
        let text = "\tlinux-vdso.so.1 (0x00007fff)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007fa8)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007fa9)\n";
        let found: Vec<_> = read(text).unwrap().into_iter().collect();
        let wanted = [
            "/lib/x86_64-linux-gnu/libc.so.6",
            "/lib64/ld-linux-x86-64.so.2",
        ];
        assert_eq!(found, wanted.map(PathBuf::from));
        let missing = read("\tlibfoo.so.1 => not found\n")
            .unwrap_err()
            .to_string();
        assert!(missing.contains("libfoo.so.1"), "{missing}");
    }

    #[test]
    fn this_test_needs_a_c_library() {
        let libraries = of(&std::env::current_exe().unwrap()).unwrap();
        let named = |part: &str| {
            let mut names = libraries.iter().map(|path| path.display().to_string());
            names.any(|name| name.contains(part))
        };
        assert!(named("libc.so") && named("ld-linux"), "{libraries:?}");
    }
}
