// SPDX-License-Identifier: Apache-2.0
//! Files to objects.

use std::path::PathBuf;

use crate::error::{ManifestError, Warning};
use crate::objects::Object;

/// What manifests say, complete with defaults, in the order of files and documents.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// Every object.
    pub objects: Vec<Object>,
    /// What was ignored, and why that is harmless.
    pub warnings: Vec<Warning>,
}

/// Reads files, directories (their `.yaml`, `.yml` and `.json` files, sorted by name, not those below) and `-` (standard input).
///
/// Everything or nothing: one error, and there are no objects. At most 100 errors are given.
pub fn load(paths: &[PathBuf]) -> Result<Loaded, Vec<ManifestError>> {
    todo!("{}", paths.len())
}

/// The same from memory: name and text of each file.
pub fn load_text(files: &[(String, String)]) -> Result<Loaded, Vec<ManifestError>> {
    todo!("{}", files.len())
}
