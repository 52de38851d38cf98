// SPDX-License-Identifier: Apache-2.0
//! `maille exec`: a command beside a container's own, with this terminal or these pipes. Its exit code is ours.
//!
//! Must never leave the terminal in another state than it found it in. Read `node.rs` for the connection.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;
use http::StatusCode;
use hyper_util::rt::TokioIo;
use maille_chassis::channels::{self, Channel, Piece};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::args::orders::Exec;
use crate::failure::Expected;
use crate::node;
use crate::pods_of::choose;
use crate::screen::Screen;
use crate::state::Base;

/// The terminal in raw mode, until it is dropped.
struct Raw(Termios);

pub(crate) async fn run(args: &Exec, base: &Base, screen: Screen) -> anyhow::Result<ExitCode> {
    let state = base.state(&args.which.name)?;
    let chosen = choose(&state, &args.target, args.namespace.as_deref(), screen).await?;
    let terminal = std::io::stdin().is_terminal();
    if args.tty && !terminal {
        screen.say("standard input is no terminal: -t is ignored");
    }
    let tty = args.tty && terminal;
    let size = maille_sys::terminal::size(std::io::stdin())
        .ok()
        .filter(|_| tty);
    let order = json!({
        "command": args.command,
        "container": args.container,
        "stdin": args.stdin,
        "tty": tty,
        "size": size,
        "term": args.term,
    });
    let path = format!("{}/exec", chosen.path());
    let response = node::upgrade(&state, &path, Some(&order)).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (status, body) = node::whole(response).await?;
        return Err(node::refused(status, &body).into());
    }
    let upgraded = hyper::upgrade::on(response).await?;
    let connection = TokioIo::new(upgraded);
    let typed = if args.stdin { Some(typed()?) } else { None };
    let resized = if tty {
        Some(signal(SignalKind::window_change())?)
    } else {
        None
    };
    let raw = if tty { Some(Raw::enter()?) } else { None };
    let code = talk(connection, typed, resized).await;
    drop(raw);
    match code {
        Ok(code) => Ok(ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1))),
        Err(error) => Err(node::silent(&state, error).into()),
    }
}

/// Carries both ways until the command says how it ended: only what is heard decides. A command that ends while something is typed
/// leaves a connection that takes nothing any more, and its last words in it.
async fn talk(
    connection: impl AsyncRead + AsyncWrite,
    typed: Option<mpsc::Receiver<Vec<u8>>>,
    resized: Option<Signal>,
) -> anyhow::Result<i32> {
    let (from, to) = tokio::io::split(connection);
    let unsent = async {
        let _ = send(to, typed, resized).await;
        std::future::pending().await
    };
    tokio::select! {
        code = hear(from) => code,
        never = unsent => never,
    }
}

/// Writes what the command says until it says how it ended.
async fn hear(mut from: impl AsyncRead + Unpin) -> anyhow::Result<i32> {
    while let Some(Piece { channel, bytes }) = channels::read(&mut from).await? {
        // A reader that went away is the command's to notice, as in a pipe.
        match channel {
            Channel::Output => {
                let mut out = std::io::stdout().lock();
                let _ = out.write_all(&bytes).and_then(|()| out.flush());
            }
            Channel::Error => drop(std::io::stderr().lock().write_all(&bytes)),
            Channel::Exit => {
                let code: [u8; 4] = bytes.as_slice().try_into().context("no exit code")?;
                return Ok(i32::from_be_bytes(code));
            }
            Channel::Input | Channel::Size => {}
        }
    }
    anyhow::bail!("the command's streams broke off")
}

/// Sends what is typed, and the terminal's size when it changes, for as long as the connection takes it.
async fn send(
    mut to: impl AsyncWrite + Unpin,
    mut typed: Option<mpsc::Receiver<Vec<u8>>>,
    mut resized: Option<Signal>,
) -> std::io::Result<std::convert::Infallible> {
    loop {
        tokio::select! {
            piece = async { typed.as_mut()?.recv().await }, if typed.is_some() => {
                if piece.is_none() {
                    typed = None;
                }
                channels::write(&mut to, Channel::Input, &piece.unwrap_or_default()).await?;
            }
            _ = async { resized.as_mut()?.recv().await }, if resized.is_some() => {
                if let Ok((rows, columns)) = maille_sys::terminal::size(std::io::stdin()) {
                    let [a, b] = rows.to_be_bytes();
                    let [c, d] = columns.to_be_bytes();
                    channels::write(&mut to, Channel::Size, &[a, b, c, d]).await?;
                }
            }
            else => std::future::pending().await,
        }
    }
}

/// What is typed, in pieces; the end of the channel is the input's.
fn typed() -> std::io::Result<mpsc::Receiver<Vec<u8>>> {
    let (tell, typed) = mpsc::channel(4);
    std::thread::Builder::new().spawn(move || type_on(&tell))?;
    Ok(typed)
}

/// Reads standard input until it ends. A thread of its own, which ends with the process at the latest: nothing wakes a read.
fn type_on(tell: &mpsc::Sender<Vec<u8>>) {
    let mut buffer = vec![0; 16 * 1024];
    let mut input = std::io::stdin().lock();
    while let Ok(n @ 1..) = input.read(&mut buffer) {
        if tell.blocking_send(buffer[..n].to_vec()).is_err() {
            return;
        }
    }
}

impl Raw {
    fn enter() -> Result<Self, Expected> {
        let failed = |error: nix::errno::Errno| Expected::Machine {
            what: format!("the terminal cannot be used: {error}"),
            hint: Some("run it without -t".to_owned()),
        };
        let before = tcgetattr(std::io::stdin()).map_err(failed)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, &raw).map_err(failed)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no state.
        let _ = tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_words_count_when_nothing_more_can_be_sent() {
        // Which side is asked first is drawn by lot.
        for _ in 0..64 {
            let (here, mut there) = tokio::net::UnixStream::pair().unwrap();
            let code = 5_i32.to_be_bytes();
            channels::write(&mut there, Channel::Exit, &code)
                .await
                .unwrap();
            drop(there);
            let (tell, typed) = mpsc::channel(1);
            tell.send(b"too late".to_vec()).await.unwrap();
            assert_eq!(talk(here, Some(typed), None).await.unwrap(), 5);
        }
    }

    #[tokio::test]
    async fn a_connection_that_breaks_off_is_no_exit() {
        let (here, there) = tokio::net::UnixStream::pair().unwrap();
        drop(there);
        let (_tell, typed) = mpsc::channel(1);
        assert!(talk(here, Some(typed), None).await.is_err());
    }
}
