// SPDX-License-Identifier: Apache-2.0
//! What an API takes and answers, said once: its routes with the types that they read and write become an OpenAPI 3.1 document
//! ([`Document`]), and that document a page for people ([`page`]).
//!
//! Pure. Must never say what no type says. Read `control/src/api/routes.rs` for a user.

#![forbid(unsafe_code)]

mod document;
mod page;
mod refusal;

pub use document::{Document, Method, Operation};
pub use page::{page, schemas};
pub use refusal::Refusal;
pub use schemars::JsonSchema;
