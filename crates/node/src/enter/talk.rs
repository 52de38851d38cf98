// SPDX-License-Identifier: Apache-2.0
//! A command's streams over one connection, in channels, both ways at once: neither direction waits for the other.
//!
//! The command ends with the connection, and the connection with the command, whose last words come first.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use maille_chassis::channels::{self, Channel};
use maille_sys::spawn::{Child, Exit};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::time::timeout;

use super::Entered;
use super::pipe_ends::Ends;

/// How long the output of a command that has ended is waited for: something that it left behind may hold it open for ever.
const LAST_WORDS: Duration = Duration::from_millis(200);
const PIECE: usize = 16 * 1024;

/// Carries everything until one side has ended.
pub(crate) async fn carry(
    entered: Entered,
    from: impl AsyncRead + Unpin,
    to: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let Entered { child, ends } = entered;
    let Ends {
        input,
        output,
        error,
        terminal,
    } = ends;
    tokio::select! {
        // Dropping the child kills it.
        heard = hear(from, input, terminal) => heard,
        told = tell(child, output, error, to) => told,
    }
}

/// What the other side says, until it has gone.
async fn hear(
    mut from: impl AsyncRead + Unpin,
    mut input: Option<Sender>,
    terminal: Option<OwnedFd>,
) -> io::Result<()> {
    while let Some(heard) = channels::read(&mut from).await? {
        match heard.channel {
            Channel::Input if heard.bytes.is_empty() => drop(input.take()),
            Channel::Input => {
                // A command that does not read any more is about to end, or does not care.
                if let Some(sender) = &mut input
                    && sender.write_all(&heard.bytes).await.is_err()
                {
                    input = None;
                }
            }
            Channel::Size => {
                if let (Some(terminal), [a, b, c, d]) = (&terminal, &heard.bytes[..]) {
                    let size = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
                    // It may have ended.
                    let _ = maille_sys::terminal::resize(terminal, size);
                }
            }
            Channel::Output | Channel::Error | Channel::Exit => {
                return Err(io::Error::other("a channel of the other direction"));
            }
        }
    }
    Ok(())
}

/// What the command says, and how it ended.
async fn tell(
    mut child: Child,
    output: Receiver,
    error: Option<Receiver>,
    mut to: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let mut output = Some(output);
    let mut error = error;
    let (mut one, mut other) = (vec![0; PIECE], vec![0; PIECE]);
    let mut exit = None;
    while output.is_some() || error.is_some() || exit.is_none() {
        tokio::select! {
            biased;
            n = piece(&mut output, &mut one) => if n > 0 {
                channels::write(&mut to, Channel::Output, &one[..n]).await?;
            },
            n = piece(&mut error, &mut other) => if n > 0 {
                channels::write(&mut to, Channel::Error, &other[..n]).await?;
            },
            ended = child.exited(), if exit.is_none() => exit = Some(ended?),
            () = after(LAST_WORDS), if exit.is_some() => break,
        }
    }
    let code = match exit {
        Some(Exit::Code(code)) => code,
        Some(Exit::Signal(signal)) => 128 + signal,
        Some(Exit::Untold) | None => 1,
    };
    channels::write(&mut to, Channel::Exit, &code.to_be_bytes()).await?;
    to.shutdown().await
}

/// The length of the next piece; zero, once, at its end.
async fn piece(from: &mut Option<Receiver>, buffer: &mut [u8]) -> usize {
    let Some(receiver) = from else {
        return std::future::pending().await;
    };
    match receiver.read(buffer).await {
        Ok(n) if n > 0 => n,
        // A terminal without anybody on it says EIO.
        _ => {
            *from = None;
            0
        }
    }
}

async fn after(time: Duration) {
    let _ = timeout(time, std::future::pending::<()>()).await;
}
