// SPDX-License-Identifier: Apache-2.0
//! `maille capture`: frames of a pod from both sides of its proxy, as pcapng, with what the kernels of both sides hold.
//!
//! Must never write a capture to a terminal. Read `stream.rs` next.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

use crate::args::ask::Capture;
use crate::failure::Expected;
use crate::query::Query;
use crate::screen::Screen;
use crate::state::{Base, State};
use crate::stream::Pieces;
use crate::text::clean_lines;

/// How long the last frames of a capture are waited for.
const LAST: Duration = Duration::from_millis(500);

pub(crate) async fn run(args: &Capture, base: &Base, screen: Screen) -> anyhow::Result<ExitCode> {
    let state = base.state(&args.which.name)?;
    if args.state {
        let text = read_state(&state, args).await?;
        crate::screen::print(&text)?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.write.is_none() && io::stdout().is_terminal() {
        return Err(Expected::Refused {
            what: "a capture is nothing for a terminal".to_owned(),
            hint: Some(
                "write it with -w FILE, or pipe it: maille capture POD | tshark -r -".to_owned(),
            ),
            wrong: true,
        }
        .into());
    }
    let query = query("/v1/capture", args).maybe("filter", args.filter.as_deref());
    let query = query.maybe("snaplen", args.snaplen);
    let mut pieces = Pieces::open(&state, query.path()).await?;
    let (mut out, to_file): (Box<dyn Write>, bool) = match &args.write {
        Some(path) if path.as_path() != Path::new("-") => (Box::new(create(path)?), true),
        _ => (Box::new(io::stdout()), false),
    };
    screen.say("recording; Ctrl-C ends it");
    let end = args
        .seconds
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let bytes = copy(&mut pieces, &mut out, end).await?;
    drop(pieces);
    screen.say(&format!("{bytes} bytes recorded"));
    if let Some(path) = args.write.as_ref().filter(|_| to_file) {
        let beside = beside(path);
        let text = read_state(&state, args).await?;
        let mut file = create(&beside)?;
        file.write_all(text.as_bytes())
            .with_context(|| format!("failed to write {}", beside.display()))?;
        screen.say(&format!(
            "frames in {}, sockets, rules, neighbours and routes of both sides in {}",
            path.display(),
            beside.display()
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Until somebody stops it, the time is over, or nobody reads any more.
async fn copy(
    pieces: &mut Pieces,
    out: &mut impl Write,
    mut end: Option<Instant>,
) -> anyhow::Result<u64> {
    let mut bytes = 0;
    let mut over = false;
    loop {
        let left = async {
            match end {
                Some(end) => tokio::time::sleep_until(end).await,
                None => std::future::pending().await,
            }
        };
        let piece = tokio::select! {
            piece = pieces.next() => piece?,
            () = left => None,
        };
        match piece {
            Some(piece) => {
                bytes += piece.len() as u64;
                match out.write_all(&piece).and_then(|()| out.flush()) {
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(bytes),
                    written => written.context("failed to write the capture")?,
                }
            }
            // What has passed by now is on its way: it still belongs to the capture.
            None if !over => {
                over = true;
                end = Some(Instant::now() + LAST);
            }
            None => return Ok(bytes),
        }
    }
}

async fn read_state(state: &State, args: &Capture) -> anyhow::Result<String> {
    let mut pieces = Pieces::open(state, query("/v1/state", args).path()).await?;
    let mut text = Vec::new();
    while let Some(piece) = pieces.until_end().await? {
        text.extend_from_slice(&piece);
    }
    Ok(clean_lines(&String::from_utf8_lossy(&text)))
}

fn query(path: &str, args: &Capture) -> Query {
    Query::of(path)
        .with("pod", &args.pod)
        .maybe("namespace", args.namespace.as_deref())
}

/// Frames may hold secrets: only for their owner.
fn create(path: &Path) -> anyhow::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    let file = options.open(path);
    file.with_context(|| format!("failed to write {}", path.display()))
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".txt");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_lies_beside_the_frames() {
        assert_eq!(
            beside(Path::new("/x/a.pcapng")),
            Path::new("/x/a.pcapng.txt")
        );
    }
}
