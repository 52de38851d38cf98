// SPDX-License-Identifier: Apache-2.0
//! The few responses that the mesh makes itself (`docs/wire.md`, section 5), as clients of HTTP/1, HTTP/2 and gRPC see them.
//!
//! Must never be sent once a byte of the application's own response was. Next: `ends.rs`.

use std::io::Write;

use super::fields;
use crate::failure::Failure;

/// What becomes of the connection after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// It takes the next request.
    Keep,
    /// It is closed, and says so.
    Close,
}

/// What a client of HTTP/2 asked for, as far as it decides what an answer may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// HEAD.
    pub(super) head: bool,
    /// A gRPC call: its client wants a status of gRPC.
    pub(super) grpc: bool,
}

/// The line of text that names `failure`. `about` says which dependency has failed: empty where none was asked.
pub(super) fn line(failure: Failure, about: &str) -> String {
    format!("maille: {}: {}\n", failure.flag(), why(failure, about))
}

/// Appends the trailers that tell a gRPC client of `failure`, as `fields.rs` keeps them.
pub(super) fn grpc_trailers(out: &mut Vec<u8>, failure: Failure, about: &str) {
    fields::push(
        out,
        b"grpc-status",
        failure.grpc_status().to_string().as_bytes(),
    );
    let line = line(failure, about);
    fields::push(out, b"grpc-message", line.trim_end().as_bytes());
}

/// Appends the answer for `failure`; `about` as for [`line`].
pub(super) fn write(out: &mut Vec<u8>, failure: Failure, about: &str, after: After) {
    let why = why(failure, about);
    write_status(out, failure.http_status(), failure.flag(), &why, after);
}

/// What failed, and why: the text behind the flag.
fn why(failure: Failure, about: &str) -> String {
    match about {
        "" => failure.to_string(),
        about => format!("{about}: {failure}"),
    }
}

/// Appends an answer with a flag that a peer gave.
pub(super) fn write_status(out: &mut Vec<u8>, status: u16, flag: &str, why: &str, after: After) {
    let connection = match after {
        After::Keep => "",
        After::Close => "connection: close\r\n",
    };
    let length = "maille: ".len() + flag.len() + ": ".len() + why.len() + 1;
    // Writing into a vector does not fail.
    let _ = write!(
        out,
        "HTTP/1.1 {status} {}\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n{connection}\r\nmaille: {flag}: {why}\n",
        maille_engine::http1::canonical_reason(status),
    );
}

/// Takes the body off again: the answer to HEAD has none.
pub(super) fn cut_body(out: &mut Vec<u8>, start: usize) {
    let end = out[start..]
        .windows(4)
        .position(|bytes| bytes == b"\r\n\r\n");
    if let Some(end) = end {
        out.truncate(start + end + 4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_is_that_of_the_body() {
        for failure in Failure::ALL {
            let mut out = Vec::new();
            write(&mut out, failure, "shop/web:80", After::Close);
            let text = String::from_utf8(out).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("content-length: {}\r\n", body.len())));
            assert!(head.starts_with(&format!("HTTP/1.1 {} ", failure.http_status())));
            let line = format!("maille: {}: shop/web:80: {failure}\n", failure.flag());
            assert_eq!(body, line);
        }
    }
}
