// SPDX-License-Identifier: Apache-2.0
//! HPACK (RFC 7541) for one side of a connection each: an [`Encoder`] and a [`Decoder`], and the [`List`] it decodes into.
//!
//! The encoder never sends Huffman strings; the decoder takes them. Names are bytes, whatever their case. Must never store
//! more than the agreed table, whatever the peer sends. Read `hpack/table.rs`, then `hpack/decoder.rs` and `hpack/encoder.rs`.

mod decoder;
mod encoder;
mod huffman;
mod integer;
mod list;
mod statics;
mod table;

pub use decoder::{DecodeError, Decoder, Limits, Outcome};
pub use encoder::Encoder;
pub use list::List;

/// SETTINGS_HEADER_TABLE_SIZE before anybody has said anything (RFC 9113, section 6.5.2).
pub const INITIAL_TABLE: usize = 4096;
/// What an entry or a field counts beyond its bytes (RFC 7541, section 4.1; RFC 9113, section 6.5.2).
pub const OVERHEAD: usize = 32;

#[cfg(test)]
mod tests;
