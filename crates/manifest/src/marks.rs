// SPDX-License-Identifier: Apache-2.0
//! The annotations and labels that are Maille's own, each spelled once. Read [`crate::objects`] for what carries them.

/// Annotation and label with which people choose: `enabled` or `disabled`.
pub const INJECT: &str = "maille.io/inject";
/// Annotation with the decision, written once and read by everyone after: `outboard` or `none`.
pub const CAPTURE: &str = "maille.io/capture";
