// SPDX-License-Identifier: Apache-2.0
//! The wire: generated code, and the only conversions between it and the model.
//!
//! Nothing outside this crate builds or takes apart the message of a resource: [`Resource`] does. Read `proto/` first, then `convert.rs`.
#![forbid(unsafe_code)]

/// Resources, between bytes and the model.
mod convert;
mod generated;
/// Which resource a name stands for.
mod url;

pub use convert::{ConvertError, Resource};
pub use generated::discovery_v3 as discovery;
pub use generated::maille_v1 as v1;
pub use prost_types::Any;
pub use url::Kind;

/// How a service wants to be called, for a message that is no resource; `None` where all is as by default.
pub fn terms(terms: &maille_model::Terms) -> Option<v1::Terms> {
    convert::terms::to_wire(terms)
}
