// SPDX-License-Identifier: Apache-2.0
//! Several streams on one connection: what `exec` carries between a terminal and a process. One byte for the stream, four for the
//! length (big endian), then the bytes. No stream can hold up another one for longer than its frame takes.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The largest frame.
pub const LARGEST: usize = 64 * 1024;

/// Which stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// To the process. An empty frame is its end.
    Input,
    /// From the process.
    Output,
    /// From the process.
    Error,
    /// To the process: rows and columns of the terminal, two bytes each.
    Size,
    /// From the process, last: its exit code, four bytes.
    Exit,
}

/// A piece of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Of which.
    pub stream: Stream,
    /// At most [`LARGEST`].
    pub bytes: Vec<u8>,
}

const STREAMS: [Stream; 5] = [
    Stream::Input,
    Stream::Output,
    Stream::Error,
    Stream::Size,
    Stream::Exit,
];

/// Reads the next frame; `None` at the end. Not cancel-safe.
pub async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Frame>> {
    let mut first = [0; 1];
    if from.read(&mut first).await? == 0 {
        return Ok(None);
    }
    let stream = STREAMS.get(usize::from(first[0])).copied();
    let stream = stream.ok_or_else(|| io::Error::other("no such stream"))?;
    let length = usize::try_from(from.read_u32().await?).unwrap_or(usize::MAX);
    if length > LARGEST {
        return Err(io::Error::other("a frame that is too large"));
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).await?;
    Ok(Some(Frame { stream, bytes }))
}

/// Writes `bytes` as one frame or more. Nothing is one empty frame.
pub async fn write(
    to: &mut (impl AsyncWrite + Unpin),
    stream: Stream,
    bytes: &[u8],
) -> io::Result<()> {
    let number = STREAMS.iter().position(|one| *one == stream).unwrap_or(0);
    let number = u8::try_from(number).unwrap_or(0);
    let mut rest = bytes;
    loop {
        let (piece, more) = rest.split_at(rest.len().min(LARGEST));
        let length = u32::try_from(piece.len()).unwrap_or(0);
        let mut frame = Vec::with_capacity(piece.len() + 5);
        frame.push(number);
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(piece);
        to.write_all(&frame).await?;
        rest = more;
        if rest.is_empty() {
            return to.flush().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_written_is_read() {
        let (mut here, mut there) = tokio::io::duplex(1 << 20);
        let large = vec![7; LARGEST + 1];
        write(&mut here, Stream::Output, &large).await.unwrap();
        write(&mut here, Stream::Input, b"").await.unwrap();
        drop(here);
        let mut frames = Vec::new();
        while let Some(frame) = read(&mut there).await.unwrap() {
            frames.push((frame.stream, frame.bytes.len()));
        }
        let expected = [
            (Stream::Output, LARGEST),
            (Stream::Output, 1),
            (Stream::Input, 0),
        ];
        assert_eq!(frames, expected);
    }

    #[tokio::test]
    async fn nonsense_is_refused() {
        for bytes in [
            &[9, 0, 0, 0, 0][..],
            &[1, 0, 2, 0, 0],
            &[1, 0, 0],
            &[1, 0, 0, 0, 2, 0],
        ] {
            assert!(read(&mut &bytes[..]).await.is_err(), "{bytes:?}");
        }
        assert_eq!(read(&mut &[][..]).await.unwrap(), None);
    }
}
