// SPDX-License-Identifier: Apache-2.0
//! Ring 6: programs that know nothing of a mesh, un-meshed and meshed in one `maille up`, judged by their own verdict.
//!
//! Must never configure a server for the mesh: what stands here is what its own manual says. Read [`stage`] first.

#![forbid(unsafe_code)]

/// The table of figures, un-meshed beside meshed.
pub mod figures;
/// What one command said.
pub mod said;
/// Servers with a client beside them, once outside and once inside the mesh.
pub mod stage;

pub use figures::Figures;
pub use said::Said;
pub use stage::{Server, Side, Stage, certificate, judge, scaled};
