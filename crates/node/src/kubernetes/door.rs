// SPDX-License-Identifier: Apache-2.0
//! The socket at which the CNI plugin asks: one question and one answer a connection (`maille_cni::protocol`).
//!
//! Whoever is not root cannot open it. Must never be held up by one caller: each has a deadline. Read `sandboxes.rs` next.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use maille_chassis::clock::Clock;
use maille_chassis::tasks::Tasks;
use maille_cni::protocol::{Answer, Ask, LONGEST, Question, SOCKET, Sandbox, VERSION};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;

use super::failure::SandboxError;
use super::sandboxes::Sandboxes;

/// How long a caller may take to ask, and to hear.
const PATIENCE: Duration = Duration::from_secs(5);
/// Questions at a time; the kubelet begins pods by tens.
const QUESTIONS: usize = 64;
/// After a connection that could not be taken, of descriptors there are none, say.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves the plugin.
pub(super) fn serve(
    state: &Path,
    sandboxes: Arc<Sandboxes>,
    tasks: &Tasks,
    clock: Clock,
) -> io::Result<()> {
    let listener = maille_chassis::admin::bind(&state.join(SOCKET))?;
    let places = Arc::new(Semaphore::new(QUESTIONS));
    tasks.spawn(
        "plugin's door",
        open(listener, places, sandboxes, tasks.clone(), clock),
    );
    Ok(())
}

async fn open(
    listener: UnixListener,
    places: Arc<Semaphore>,
    sandboxes: Arc<Sandboxes>,
    tasks: Tasks,
    clock: Clock,
) {
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                maille_chassis::limited!(warn, %error, "a question of the plugin was not taken");
                clock.wait(PAUSE).await;
                continue;
            }
        };
        let sandboxes = sandboxes.clone();
        tasks.spawn("plugin's question", async move {
            if let Err(error) = talk(stream, &sandboxes, clock).await {
                maille_chassis::limited!(warn, %error, "a question of the plugin was not heard");
            }
            drop(place);
        });
    }
}

async fn talk(
    stream: tokio::net::UnixStream,
    sandboxes: &Sandboxes,
    clock: Clock,
) -> io::Result<()> {
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let read = move || {
        let heard = hear(&stream)?;
        Ok::<_, io::Error>((stream, heard))
    };
    let (mut stream, (question, namespace)) = tokio::task::spawn_blocking(read)
        .await
        .map_err(io::Error::other)??;
    let answer = answer(question, namespace, sandboxes, clock).await;
    let text = serde_json::to_vec(&answer)?;
    let write = move || io::Write::write_all(&mut stream, &text);
    tokio::task::spawn_blocking(write)
        .await
        .map_err(io::Error::other)?
}

/// Reads a question, and what came with it. Blocks.
fn hear(stream: &UnixStream) -> io::Result<(Question, Option<OwnedFd>)> {
    let (mut line, mut namespace) = (Vec::new(), None);
    let mut part = [0; 4096];
    while line.last() != Some(&b'\n') && line.len() < LONGEST {
        let (length, fd) = maille_sys::socket::receive(stream, &mut part)?;
        namespace = namespace.or(fd);
        if length == 0 {
            break;
        }
        line.extend(part.iter().take(length));
    }
    Ok((serde_json::from_slice(&line)?, namespace))
}

/// Captures a pod, where that is to be done.
async fn add(
    sandboxes: &Sandboxes,
    told: Result<Option<Sandbox>, SandboxError>,
    namespace: Option<OwnedFd>,
) -> Result<(), SandboxError> {
    let Some(sandbox) = told? else { return Ok(()) };
    let namespace = namespace.ok_or(SandboxError::NoNamespace)?;
    sandboxes.add(sandbox, namespace).await
}

async fn answer(
    question: Question,
    namespace: Option<OwnedFd>,
    sandboxes: &Sandboxes,
    clock: Clock,
) -> Answer {
    let (counts, began) = (sandboxes.counts(), clock.elapsed());
    if question.version != VERSION {
        return Answer::Refused {
            reason: format!(
                "plugin and agent are of different versions: {} and {VERSION}",
                question.version
            ),
            details: "the agent puts its own plugin in place within seconds".to_owned(),
        };
    }
    let done = match question.ask {
        Ask::Add(sandbox) => {
            let added = add(sandboxes, Ok(Some(sandbox)), namespace).await;
            counts.added(clock.elapsed().saturating_sub(began));
            added.inspect_err(|_| counts.refused_plugin())
        }
        Ask::AddUntold(sandbox) => {
            let told = sandboxes.told(sandbox).await;
            let added = add(sandboxes, told, namespace).await;
            counts.added(clock.elapsed().saturating_sub(began));
            added.inspect_err(|_| counts.refused_plugin())
        }
        Ask::Del { container } => {
            let ended = sandboxes.del(&container).await;
            counts.deleted(clock.elapsed().saturating_sub(began));
            ended
        }
        Ask::Check(sandbox) => sandboxes.check(&sandbox.container).await,
        Ask::CheckUntold(sandbox) => match sandboxes.told(sandbox).await {
            Ok(Some(sandbox)) => sandboxes.check(&sandbox.container).await,
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        },
        Ask::Gc { keep } => sandboxes.only(&keep).await,
    };
    match done {
        Ok(()) => Answer::Done,
        Err(error) => {
            let (reason, whole) = (error.to_string(), anyhow::Error::from(error));
            maille_chassis::limited!(warn, reason = %format_args!("{whole:#}"), "the plugin was refused");
            Answer::Refused {
                reason,
                details: format!("{whole:#}"),
            }
        }
    }
}
