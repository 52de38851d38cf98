// SPDX-License-Identifier: Apache-2.0
//! Images without Docker or registry: archives that `ctr`, `nerdctl` and `docker load` take, the same bytes from the same
//! programs, with the libraries that they need from the distribution, and a list of everything that is in them.
//!
//! Must never let a time, an owner or the order of a directory into an image. Read [`set`] for what the mesh's images are.

#![forbid(unsafe_code)]

/// One image as an archive.
pub mod archive;
/// The libraries that a program needs.
pub mod libraries;
/// What is in an image, as SPDX.
pub mod sbom;
/// The mesh's images.
pub mod set;
