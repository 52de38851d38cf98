// SPDX-License-Identifier: Apache-2.0
//! What every API answers in place of what was asked for: one shape, so that whoever reads one reads all.

use schemars::JsonSchema;
use serde::Serialize;

/// Every error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Refusal<'a> {
    /// What it says.
    error: Reason<'a>,
}

/// An error, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "ErrorText")]
struct Reason<'a> {
    /// What, and why.
    message: &'a str,
    /// What to do; may be empty.
    hint: &'a str,
}

impl<'a> Refusal<'a> {
    /// What, and why; and what to do, where there is something.
    pub const fn new(message: &'a str, hint: &'a str) -> Self {
        Self {
            error: Reason { message, hint },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_shape() {
        let text = serde_json::to_string(&Refusal::new("no \"x\"", "say y")).unwrap();
        assert_eq!(text, r#"{"error":{"message":"no \"x\"","hint":"say y"}}"#);
    }
}
