// SPDX-License-Identifier: Apache-2.0
//! The programs at both ends of the simulated network, and what they say.

use std::time::Instant;

/// A program at one end.
pub(in crate::forward::tests) struct App {
    pub(super) script: Vec<u8>,
    pub(super) at: usize,
    pub(super) fin: bool,
    pub(super) fin_sent: bool,
    pub(in crate::forward::tests) got_fin: bool,
    pub(in crate::forward::tests) received: Vec<u8>,
    pub(in crate::forward::tests) wanted: Vec<u8>,
    /// Answers requests in place of a script.
    pub(super) answers: bool,
    /// Says nothing before this moment, nor before it has received so much.
    pub(in crate::forward::tests) starts: Option<Instant>,
    pub(in crate::forward::tests) after: usize,
}

pub(in crate::forward::tests) fn patterned(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| u8::try_from((at * 31 + at / 251) % 251).unwrap())
        .collect()
}

/// A request with a body.
pub(in crate::forward::tests) fn post(length: usize) -> Vec<u8> {
    let mut post =
        format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n").into_bytes();
    post.extend(patterned(length));
    post
}

pub(in crate::forward::tests) fn answer(body: &[u8]) -> Vec<u8> {
    let mut answer =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    answer.extend_from_slice(body);
    answer
}

impl App {
    pub(in crate::forward::tests) fn new(script: Vec<u8>, fin: bool) -> Self {
        Self {
            script,
            at: 0,
            fin,
            fin_sent: false,
            got_fin: false,
            received: Vec::new(),
            wanted: Vec::new(),
            answers: false,
            starts: None,
            after: 0,
        }
    }

    pub(in crate::forward::tests) fn sent(&self) -> &[u8] {
        &self.script
    }

    /// Puts answers to whole requests into the script.
    pub(super) fn answer(&mut self) {
        while let Some(end) = self
            .received
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
        {
            let head = String::from_utf8(self.received[..end].to_vec()).unwrap();
            let length: usize = head.rsplit(' ').next().unwrap().parse().unwrap();
            let whole = end + 4 + length;
            if self.received.len() < whole {
                return;
            }
            let body: Vec<u8> = self.received.drain(..whole).skip(end + 4).collect();
            self.script.extend(answer(&body));
        }
    }
}
