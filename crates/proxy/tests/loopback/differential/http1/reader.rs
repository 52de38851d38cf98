// SPDX-License-Identifier: Apache-2.0
//! Messages out of a connection, by a parser of its own that knows as little as it needs. Next: `../http1.rs`.

use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::{End, Head, Otherwise};

/// What was read of a connection, and how it ended.
pub(super) struct Reader<R> {
    from: R,
    pub(super) buffer: Vec<u8>,
    pub(super) end: End,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(super) fn new(from: R) -> Self {
        Self {
            from,
            buffer: Vec::new(),
            end: End::Open,
        }
    }

    /// More bytes; `false` at the end.
    pub(super) async fn fill(&mut self) -> bool {
        if self.end != End::Open {
            return false;
        }
        match self.from.read_buf(&mut self.buffer).await {
            Ok(0) => self.end = End::Fin,
            Ok(_) => {}
            Err(_) => self.end = End::Reset,
        }
        self.end == End::Open
    }

    pub(super) async fn head(&mut self) -> Option<Head> {
        let mut from = 0;
        loop {
            let found = self.buffer[from..]
                .windows(4)
                .position(|bytes| bytes == b"\r\n\r\n");
            if let Some(found) = found {
                let head: Vec<u8> = self.buffer.drain(..from + found + 4).collect();
                return Some(Head::of(&head));
            }
            from = self.buffer.len().saturating_sub(3);
            if !self.fill().await {
                return None;
            }
        }
    }

    /// Moves `n` bytes to `into`; `false` if there are fewer.
    pub(super) async fn exactly(&mut self, mut n: usize, into: &mut Vec<u8>) -> bool {
        loop {
            let taken = n.min(self.buffer.len());
            into.extend(self.buffer.drain(..taken));
            n -= taken;
            if n == 0 {
                return true;
            }
            if !self.fill().await {
                return false;
            }
        }
    }

    /// Moves a line to `into`.
    pub(super) async fn line(&mut self, into: &mut Vec<u8>) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=at).collect();
                into.extend_from_slice(&line);
                return Some(line);
            }
            if !self.fill().await {
                into.append(&mut self.buffer);
                return None;
            }
        }
    }

    pub(super) async fn chunks(&mut self, into: &mut Vec<u8>) -> bool {
        loop {
            let Some(line) = self.line(into).await else {
                return false;
            };
            let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit());
            let digits: String = digits.map(|byte| char::from(*byte)).collect();
            let size = usize::from_str_radix(&digits, 16).expect("a size");
            if size == 0 {
                break;
            }
            if !self.exactly(size + 2, into).await {
                return false;
            }
        }
        loop {
            match self.line(into).await {
                Some(line) if line == b"\r\n" => return true,
                Some(_) => {}
                None => return false,
            }
        }
    }

    /// A body by its framing; `false` if it was cut.
    pub(super) async fn body(
        &mut self,
        head: &Head,
        otherwise: Otherwise,
        into: &mut Vec<u8>,
    ) -> bool {
        if head.value(b"transfer-encoding").is_some() {
            return self.chunks(into).await;
        }
        match (head.value(b"content-length"), otherwise) {
            (Some(length), _) => {
                let length = std::str::from_utf8(length).expect("a number");
                self.exactly(length.parse().expect("a number"), into).await
            }
            (None, Otherwise::Nothing) => true,
            (None, Otherwise::UntilClose) => {
                self.rest(into).await;
                true
            }
        }
    }

    pub(super) async fn rest(&mut self, into: &mut Vec<u8>) {
        while self.fill().await {}
        into.append(&mut self.buffer);
    }
}
