// SPDX-License-Identifier: Apache-2.0
//! A path of the API with its parameters, each escaped (RFC 3986, section 2). Read `api.rs` next.

use std::fmt::{self, Write as _};

/// A path with parameters.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    text: String,
    first: bool,
}

impl Query {
    /// Of this path, without parameters.
    pub(crate) fn of(path: &str) -> Self {
        Self {
            text: path.to_owned(),
            first: true,
        }
    }

    /// Adds a parameter.
    pub(crate) fn with(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.text.push(if self.first { '?' } else { '&' });
        self.first = false;
        self.text.push_str(name);
        self.text.push('=');
        for byte in value.to_string().bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    self.text.push(char::from(byte));
                }
                // Writing to a String cannot fail.
                _ => {
                    let _ = write!(self.text, "%{byte:02X}");
                }
            }
        }
        self
    }

    /// Adds a parameter that may not be there.
    pub(crate) fn maybe(self, name: &str, value: Option<impl fmt::Display>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// The whole.
    pub(crate) fn path(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_escaped() {
        let none: Option<&str> = None;
        let query = Query::of("/v1/tap")
            .with("resource", "deploy/web")
            .maybe("to", none)
            .with("path", "/a b&c=ü\n");
        assert_eq!(
            query.path(),
            "/v1/tap?resource=deploy%2Fweb&path=%2Fa%20b%26c%3D%C3%BC%0A"
        );
    }
}
