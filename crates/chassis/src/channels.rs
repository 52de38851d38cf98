// SPDX-License-Identifier: Apache-2.0
//! Several channels on one connection: what `exec` carries between a terminal and a process. One byte for the channel, four for the
//! length (big endian), then the bytes. No channel can hold up another one for longer than its piece takes.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The largest piece.
pub const LARGEST: usize = 64 * 1024;

/// Which channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// To the process. An empty piece is its end.
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

/// A piece of what a channel carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Of which.
    pub channel: Channel,
    /// At most [`LARGEST`].
    pub bytes: Vec<u8>,
}

const CHANNELS: [Channel; 5] = [
    Channel::Input,
    Channel::Output,
    Channel::Error,
    Channel::Size,
    Channel::Exit,
];

/// Reads the next piece; `None` at the end. Not cancel-safe.
pub async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Piece>> {
    let mut first = [0; 1];
    if from.read(&mut first).await? == 0 {
        return Ok(None);
    }
    let channel = CHANNELS.get(usize::from(first[0])).copied();
    let channel = channel.ok_or_else(|| io::Error::other("no such channel"))?;
    let length = usize::try_from(from.read_u32().await?).unwrap_or(usize::MAX);
    if length > LARGEST {
        return Err(io::Error::other("a piece that is too large"));
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).await?;
    Ok(Some(Piece { channel, bytes }))
}

/// Writes `bytes` as one piece or more. Nothing is one empty piece.
pub async fn write(
    to: &mut (impl AsyncWrite + Unpin),
    channel: Channel,
    bytes: &[u8],
) -> io::Result<()> {
    let number = CHANNELS.iter().position(|one| *one == channel).unwrap_or(0);
    let number = u8::try_from(number).unwrap_or(0);
    let mut rest = bytes;
    loop {
        let (part, more) = rest.split_at(rest.len().min(LARGEST));
        let length = u32::try_from(part.len()).unwrap_or(0);
        let mut piece = Vec::with_capacity(part.len() + 5);
        piece.push(number);
        piece.extend_from_slice(&length.to_be_bytes());
        piece.extend_from_slice(part);
        to.write_all(&piece).await?;
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
        write(&mut here, Channel::Output, &large).await.unwrap();
        write(&mut here, Channel::Input, b"").await.unwrap();
        drop(here);
        let mut pieces = Vec::new();
        while let Some(piece) = read(&mut there).await.unwrap() {
            pieces.push((piece.channel, piece.bytes.len()));
        }
        let expected = [
            (Channel::Output, LARGEST),
            (Channel::Output, 1),
            (Channel::Input, 0),
        ];
        assert_eq!(pieces, expected);
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
