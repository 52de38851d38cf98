// SPDX-License-Identifier: Apache-2.0
//! Files, directories and standard input to texts, each bounded. What is another tool's is refused with what to type.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::{ManifestError, Problem};
use crate::walk::Report;
use crate::yaml;

/// Name and text.
pub(crate) type File = (String, String);

/// Where, from 1, and what is wrong.
type Failed = (u64, Problem);

/// Name and text of every file that `paths` name: files, directories (their `.yaml`, `.yml` and `.json` files, sorted by name, not
/// those below) and `-` (standard input). Everything or nothing.
pub fn read_files(paths: &[PathBuf]) -> Result<Vec<(String, String)>, Vec<ManifestError>> {
    let (mut files, mut report) = (Vec::new(), Report::default());
    for path in paths {
        read(path, &mut files, &mut report);
    }
    if report.errors.is_empty() {
        Ok(files)
    } else {
        Err(report.errors)
    }
}

/// Adds what `path` names to `files`.
pub(crate) fn read(path: &Path, files: &mut Vec<File>, report: &mut Report) {
    let name = path.display().to_string();
    if name == "-" {
        let text = text(std::io::stdin().lock());
        return take(name, text, files, report);
    }
    if !path.is_dir() {
        return take(name, open(path), files, report);
    }
    if let Some(problem) = anothers(path) {
        return report.error(&name, 0, "", problem);
    }
    match list(path) {
        Ok(found) if found.is_empty() => report.error(&name, 0, "", Problem::NoFiles),
        Ok(found) => {
            for path in found {
                take(path.display().to_string(), open(&path), files, report);
            }
        }
        Err(error) => report.error(&name, 0, "", failed(error).1),
    }
}

/// A directory that another tool makes manifests of.
fn anothers(directory: &Path) -> Option<Problem> {
    let has = |names: &[&str]| names.iter().any(|name| directory.join(name).is_file());
    let directory = directory.display().to_string();
    if has(&["kustomization.yaml", "kustomization.yml", "Kustomization"]) {
        return Some(Problem::Kustomize { directory });
    }
    has(&["Chart.yaml"]).then_some(Problem::Helm { directory })
}

fn list(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let known = path
            .extension()
            .and_then(|extension| extension.to_str())
            .is_some_and(|extension| matches!(extension, "yaml" | "yml" | "json"));
        if known && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn take(name: String, text: Result<String, Failed>, files: &mut Vec<File>, report: &mut Report) {
    match text {
        Ok(text) => files.push((name, text)),
        Err((line, problem)) => report.error(&name, line, "", problem),
    }
}

fn open(path: &Path) -> Result<String, Failed> {
    std::fs::File::open(path).map_err(failed).and_then(text)
}

fn text(reader: impl Read) -> Result<String, Failed> {
    let mut bytes = Vec::new();
    let limit = yaml::MAX_BYTES as u64 + 1;
    reader.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > yaml::MAX_BYTES {
        return Err((0, Problem::TooLarge(yaml::MAX_BYTES)));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let before = error.as_bytes().get(..good).unwrap_or_default();
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count() as u64;
        (line, Problem::Syntax("bytes that are no UTF-8".to_owned()))
    })
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it is the argument of map_err"
)]
fn failed(error: std::io::Error) -> Failed {
    (0, Problem::Read(error.to_string()))
}
