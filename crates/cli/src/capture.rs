// SPDX-License-Identifier: Apache-2.0
//! `maille capture`: frames of a pod from both sides of its proxy, as pcapng, with what the kernels of both sides hold.
//!
//! Must never write a capture to a terminal. Read `stream.rs` next.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::time::Instant;

use crate::args::ask::Capture;
use crate::failure::Expected;
use crate::query::Query;
use crate::reach::Reach;
use crate::screen::Screen;
use crate::state::Base;
use crate::stream::{Lines, Pieces};
use crate::text::clean_lines;

/// Pods of a cluster.
mod afar;
mod guest;
mod inside;

use afar::Afar;
use inside::{Line, Merged};

/// How long the last frames of a capture are waited for.
const LAST: Duration = Duration::from_millis(500);

pub(crate) async fn run(args: &Capture, base: &Base, screen: Screen) -> anyhow::Result<ExitCode> {
    let reach = Reach::find(&args.which, base).await?;
    if args.state {
        let source = Source::of(&reach, args).await?;
        let text = source.state(&reach).await?;
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
    let mut recording = Recording::open(&reach, args, screen).await?;
    let (mut out, to_file): (Box<dyn Write>, bool) = match &args.write {
        Some(path) if path.as_path() != Path::new("-") => (Box::new(create(path)?), true),
        _ => (Box::new(io::stdout()), false),
    };
    screen.say("recording; Ctrl-C ends it");
    let end = args
        .seconds
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let bytes = copy(&mut recording, &mut out, end).await?;
    screen.say(&format!("{bytes} bytes recorded"));
    let lost = recording.lost();
    if lost > 0 {
        screen.say(&format!(
            "{} {lost} pieces of what went through were lost: this reader, or the way to it, is too slow",
            screen.yellow("warning:")
        ));
    }
    let source = recording.source;
    if let Some(path) = args.write.as_ref().filter(|_| to_file) {
        let beside = beside(path);
        let text = source.state(&reach).await?;
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
    recording: &mut Recording,
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
            piece = recording.next() => piece?,
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
            None => {
                let last = recording.last()?;
                out.write_all(&last)
                    .context("failed to write the capture")?;
                return Ok(bytes + last.len() as u64);
            }
        }
    }
}

/// Whose frames.
enum Source {
    Machine(Own),
    Cluster(Box<Afar>),
}

/// A pod of this machine, as it was said.
struct Own {
    pod: String,
    namespace: Option<String>,
}

/// Frames of both sides, and what goes through between them where that is wanted.
struct Recording {
    source: Source,
    frames: Pieces,
    inside: Option<(Lines, Merged)>,
}

// === impl Source ===

impl Source {
    async fn of(reach: &Reach, args: &Capture) -> Result<Self, Expected> {
        Ok(match reach {
            Reach::Local(_) if args.guest => {
                return Err(Expected::Refused {
                    what: "pods of this machine have its kernel, and no other".to_owned(),
                    hint: Some("leave --guest out: both sides are shown".to_owned()),
                    wrong: true,
                });
            }
            Reach::Local(_) => Self::Machine(Own {
                pod: args.pod.clone(),
                namespace: args.namespace.clone(),
            }),
            Reach::Cluster(cluster) => Self::Cluster(Box::new(Afar::find(cluster, args).await?)),
        })
    }

    async fn frames(&self, reach: &Reach, args: &Capture) -> anyhow::Result<Pieces> {
        let own = match self {
            Self::Machine(own) => own,
            Self::Cluster(afar) => return Pieces::of(reach, afar.frames(args).await?),
        };
        let query = own
            .query("/v1/capture")
            .maybe("filter", args.filter.as_deref())
            .maybe("snaplen", args.snaplen);
        Pieces::open(reach, query.path()).await
    }

    /// What the kernels of the pod's sides hold.
    async fn state(&self, reach: &Reach) -> anyhow::Result<String> {
        let mut pieces = match self {
            Self::Machine(own) => Pieces::open(reach, own.query("/v1/state").path()).await?,
            Self::Cluster(afar) => Pieces::of(reach, afar.state().await?)?,
        };
        let mut text = Vec::new();
        while let Some(piece) = pieces.until_end().await? {
            text.extend_from_slice(&piece);
        }
        if let Self::Cluster(afar) = self {
            text.extend_from_slice(afar.guest().await.as_bytes());
        }
        Ok(clean_lines(&String::from_utf8_lossy(&text)))
    }
}

// === impl Own ===

impl Own {
    fn query(&self, path: &str) -> Query {
        Query::of(path)
            .with("pod", &self.pod)
            .maybe("namespace", self.namespace.as_deref())
    }
}

// === impl Recording ===

impl Recording {
    /// Who does not agree ends it before anything is recorded or written.
    async fn open(reach: &Reach, args: &Capture, screen: Screen) -> anyhow::Result<Self> {
        let mut source = Source::of(reach, args).await?;
        let mut inside = None;
        if args.plain
            && let Source::Machine(own) = &mut source
        {
            let mut lines = Lines::open(reach, own.query("/v1/inside").path()).await?;
            let first = lines.next().await?;
            // One pod, whatever becomes of what made it meanwhile.
            match first.as_deref().map(serde_json::from_str).transpose()? {
                Some(Line::Agreed { pod: Some(pod) }) => {
                    *own = Own {
                        pod: format!("po/{}", pod.name),
                        namespace: Some(pod.namespace),
                    };
                }
                Some(Line::Agreed { pod: None }) => {}
                _ => bail!("the mesh did not say that the pod's owner agrees"),
            }
            screen.say(&format!(
                "{} with --plain it holds what the proxy's mesh connections carry as it is: tokens, cookies, bodies; nothing is left out",
                screen.yellow("warning:")
            ));
            inside = Some((lines.beside(), Merged::default()));
        }
        Ok(Self {
            frames: source.frames(reach, args).await?,
            inside,
            source,
        })
    }

    /// The next bytes of the file; `None` when somebody asked to stop. Cancel-safe.
    async fn next(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        let Some((lines, merged)) = &mut self.inside else {
            return Ok(self.frames.next().await?.map(Vec::from));
        };
        tokio::select! {
            frames = self.frames.next() => match frames? {
                Some(frames) => merged.frames(&frames).map(Some),
                None => Ok(None),
            },
            line = lines.next() => match line? {
                Some(line) => merged.line(serde_json::from_str(&line)?).map(Some),
                None => Ok(None),
            },
        }
    }

    /// What still waits.
    fn last(&mut self) -> anyhow::Result<Vec<u8>> {
        match &mut self.inside {
            Some((_, merged)) => merged.rest(),
            None => Ok(Vec::new()),
        }
    }

    fn lost(&self) -> u64 {
        self.inside.as_ref().map_or(0, |(_, merged)| merged.lost)
    }
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
