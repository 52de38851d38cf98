// SPDX-License-Identifier: Apache-2.0
//! `maille exec`: a command beside a container's own, with this terminal or these pipes. Its exit code is ours.
//!
//! Must never leave the terminal in another state than it found it in. Read `node.rs` for the connection.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;
use http::StatusCode;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use maille_chassis::channels::{self, Channel, Piece};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use serde_json::json;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::args::orders::Exec;
use crate::failure::Expected;
use crate::node;
use crate::pods_of::choose;
use crate::screen::Screen;
use crate::state::Base;

type Connection = TokioIo<Upgraded>;

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
    let (from, to) = tokio::io::split(TokioIo::new(upgraded));
    let raw = if tty { Some(Raw::enter()?) } else { None };
    let code = tokio::select! {
        code = hear(from) => code,
        error = send(to, args.stdin, tty) => Err(error),
    };
    drop(raw);
    match code {
        Ok(code) => Ok(ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1))),
        Err(error) => Err(node::silent(&state, error).into()),
    }
}

/// Writes what the command says until it says how it ended.
async fn hear(mut from: ReadHalf<Connection>) -> anyhow::Result<i32> {
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

/// Sends what is typed, and the terminal's size when it changes. Returns only with an error.
async fn send(mut to: WriteHalf<Connection>, stdin: bool, tty: bool) -> anyhow::Error {
    match sending(&mut to, stdin, tty).await {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

async fn sending(
    to: &mut WriteHalf<Connection>,
    stdin: bool,
    tty: bool,
) -> anyhow::Result<std::convert::Infallible> {
    let (tell, mut typed) = mpsc::channel(4);
    if stdin {
        std::thread::Builder::new().spawn(move || type_on(&tell))?;
    }
    let mut open = stdin;
    let mut resized = signal(SignalKind::window_change())?;
    loop {
        tokio::select! {
            piece = typed.recv(), if open => {
                open = piece.is_some();
                channels::write(to, Channel::Input, &piece.unwrap_or_default()).await?;
            }
            _ = resized.recv() => {
                if tty && let Ok((rows, columns)) = maille_sys::terminal::size(std::io::stdin()) {
                    let [a, b] = rows.to_be_bytes();
                    let [c, d] = columns.to_be_bytes();
                    channels::write(to, Channel::Size, &[a, b, c, d]).await?;
                }
            }
        }
    }
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
