// SPDX-License-Identifier: Apache-2.0
//! A block into fields.
/// Bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// bytes
    pub size: usize,
    /// fields
    pub fields: usize,
}
impl Default for Limits {
    fn default() -> Self {
        Self {
            size: 96 * 1024,
            fields: 256 + 16,
        }
    }
}
/// Error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// x
    #[error("x")]
    X,
}
/// Outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// ok
    Complete,
    /// too large
    TooLarge,
}
/// Decoder.
#[derive(Debug)]
pub struct Decoder;
impl Decoder {
    /// New
    pub fn new(_t: usize, _l: Limits) -> Self {
        Self
    }
}
