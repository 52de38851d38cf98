// SPDX-License-Identifier: Apache-2.0
//! `maille logs`: what containers wrote. Into a file or a pipe as they wrote it, byte by byte: it is their output, not ours.
//!
//! Must never let it move a terminal unless told to (`logs/shown.rs`). Read `node.rs` for where it comes from.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::mpsc;

use crate::args::orders::Logs;
use crate::names::name;
use crate::node;
use crate::pods_of::{Chosen, choose};
use crate::query::Query;
use crate::screen::Screen;
use crate::state::{Base, State};

mod shown;

use shown::Shown;

/// Pieces of logs on their way.
const PIECES: usize = 16;
/// A line that is longer is written in parts.
const LONGEST: usize = 64 * 1024;

pub(crate) async fn run(args: &Logs, base: &Base, screen: Screen) -> anyhow::Result<ExitCode> {
    let state = base.state(&args.which.name)?;
    let chosen = choose(&state, &args.target, args.namespace.as_deref(), screen).await?;
    let containers = chosen.containers();
    if let (None, false, [first, _, ..]) = (&args.container, args.all_containers, &containers[..]) {
        screen.say(&format!(
            "Defaulted container {first:?} out of: {}",
            containers.join(", ")
        ));
    }
    let wanted: Vec<Option<&str>> = if args.all_containers {
        chosen.every_container().into_iter().map(Some).collect()
    } else {
        vec![args.container.as_deref()]
    };
    let mut out = Out::new(args.raw);
    if args.follow && wanted.len() > 1 {
        return together(&state, args, (&chosen, &wanted), &mut out).await;
    }
    for container in wanted {
        let body = open(&state, args, &chosen, container).await?;
        let lines = args.prefix.then(|| prefix(&chosen, container, &containers));
        if !copy(&state, body, lines, &mut out).await? {
            break;
        }
    }
    out.end();
    Ok(ExitCode::SUCCESS)
}

async fn open(
    state: &State,
    args: &Logs,
    chosen: &Chosen,
    container: Option<&str>,
) -> anyhow::Result<Incoming> {
    let query = Query::of(&format!("{}/log", chosen.path()))
        .maybe("container", container)
        .maybe("tail", args.tail.filter(|tail| *tail >= 0))
        .maybe("since", args.since.map(|time| time.as_secs()))
        .maybe("follow", args.follow.then_some(1))
        .maybe("previous", args.previous.then_some(1));
    let response = node::open(state, Method::GET, query.path(), None).await?;
    if !response.status().is_success() {
        let (status, body) = node::whole(response).await?;
        return Err(node::refused(status, &body).into());
    }
    Ok(response.into_body())
}

/// Copies one log to its end, or until nobody reads any more: whether somebody does.
async fn copy(
    state: &State,
    mut body: Incoming,
    prefix: Option<String>,
    out: &mut Out,
) -> anyhow::Result<bool> {
    let mut lines = prefix.map(Lines::new);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| node::silent(state, error.into()))?;
        let Some(bytes) = frame.data_ref() else {
            continue;
        };
        let written = match &mut lines {
            None => out.write(bytes),
            Some(lines) => out.write(&lines.take(bytes)),
        };
        if !written {
            return Ok(false);
        }
    }
    Ok(lines.is_none_or(|mut lines| out.write(&lines.end())))
}

/// Several logs as they grow, line by line.
async fn together(
    state: &State,
    args: &Logs,
    (chosen, wanted): (&Chosen, &[Option<&str>]),
    out: &mut Out,
) -> anyhow::Result<ExitCode> {
    let (give, mut heard) = mpsc::channel::<anyhow::Result<Vec<u8>>>(PIECES);
    for container in wanted {
        let body = open(state, args, chosen, *container).await?;
        let prefix = args.prefix.then(|| prefix(chosen, *container, &[]));
        let (give, state) = (give.clone(), state.clone());
        tokio::task::spawn_local(async move {
            let mut body = body;
            let mut lines = Lines::new(prefix.unwrap_or_default());
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| node::silent(&state, error.into()).into());
                let bytes = frame.map(|frame| frame.into_data().unwrap_or_else(|_| Bytes::new()));
                let failed = bytes.is_err();
                if give
                    .send(bytes.map(|bytes| lines.take(&bytes)))
                    .await
                    .is_err()
                    || failed
                {
                    return;
                }
            }
            // Nobody listens any more, at worst.
            let _ = give.send(Ok(lines.end())).await;
        });
    }
    drop(give);
    while let Some(lines) = heard.recv().await {
        if !out.write(&lines?) {
            break;
        }
    }
    out.end();
    Ok(ExitCode::SUCCESS)
}

/// As kubectl has it.
fn prefix(chosen: &Chosen, container: Option<&str>, first: &[&str]) -> String {
    let container = container
        .or_else(|| first.first().copied())
        .unwrap_or_default();
    format!("[pod/{}/{container}] ", name(&chosen.pod))
}

/// Whole lines, each with a prefix.
struct Lines {
    prefix: String,
    rest: Vec<u8>,
}

/// Standard output.
struct Out {
    shown: Option<Shown>,
}

// === impl Lines ===

impl Lines {
    const fn new(prefix: String) -> Self {
        Self {
            prefix,
            rest: Vec::new(),
        }
    }

    /// The lines that have ended.
    fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.rest.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.rest.len() > LONGEST {
                out.extend(self.line());
            }
        }
        out
    }

    /// The last one, which has no end.
    fn end(&mut self) -> Vec<u8> {
        if self.rest.is_empty() {
            return Vec::new();
        }
        self.line()
    }

    fn line(&mut self) -> Vec<u8> {
        let mut line = self.prefix.clone().into_bytes();
        line.append(&mut self.rest);
        if !line.ends_with(b"\n") {
            line.push(b'\n');
        }
        line
    }
}

// === impl Out ===

impl Out {
    fn new(raw: bool) -> Self {
        let shown = std::io::stdout().is_terminal() && !raw;
        Self {
            shown: shown.then(Shown::default),
        }
    }

    /// Whether somebody still reads: `| head` has seen enough.
    fn write(&mut self, bytes: &[u8]) -> bool {
        let mut out = std::io::stdout().lock();
        let written = match &mut self.shown {
            Some(shown) => out.write_all(shown.push(bytes).as_bytes()),
            None => out.write_all(bytes),
        };
        written.and_then(|()| out.flush()).is_ok()
    }

    fn end(&mut self) {
        if let Some(shown) = &mut self.shown {
            // Nobody reads any more, at worst.
            let _ = std::io::stdout().lock().write_all(shown.end().as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_and_say_whose() {
        let mut lines = Lines::new("[a] ".to_owned());
        assert_eq!(lines.take(b"one\ntw"), b"[a] one\n");
        assert_eq!(lines.take(b"o\n\n"), b"[a] two\n[a] \n");
        assert_eq!(lines.take(b"\xff"), b"");
        assert_eq!(lines.end(), b"[a] \xff\n");
        assert_eq!(lines.end(), b"");
        let long = vec![b'x'; LONGEST + 1];
        assert_eq!(lines.take(&long).len(), 4 + LONGEST + 2);
    }
}
