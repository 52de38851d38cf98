// SPDX-License-Identifier: Apache-2.0
//! Texts as the kernel takes them: with a NUL at the end and none before. Read `plan.rs` for where they go.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::SpawnError;

/// A path as the kernel takes it; `what` it is, for the error.
pub(super) fn path(what: &'static str, value: &Path) -> Result<CString, SpawnError> {
    text(what, value.as_os_str())
}

/// The same of any text.
pub(super) fn text(what: &'static str, value: &OsStr) -> Result<CString, SpawnError> {
    CString::new(value.as_bytes()).map_err(|_| SpawnError::Nul { what })
}
