// SPDX-License-Identifier: Apache-2.0
//! The agent's socket, from the plugin's side. Every wait has a deadline: an agent that is stuck is as good as away.

use std::fs::File;
use std::io::{self, IoSlice, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use crate::link;
use crate::protocol::{Answer, Ask, LONGEST, Question, SANDBOXES, SOCKET, VERSION, WIRE};

/// How long the agent may take where a hundred pods begin at once; less than the kubelet waits for a sandbox.
const PATIENCE: Duration = Duration::from_secs(45);

/// Asks the agent whose directory is `state`; `namespace` goes with the question.
pub fn ask(state: &Path, ask: Ask, namespace: Option<&impl AsFd>) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(state.join(SOCKET))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let question = Question {
        version: VERSION,
        ask,
    };
    let mut line = serde_json::to_vec(&question)?;
    line.push(b'\n');
    let fds: Vec<_> = namespace
        .iter()
        .map(|namespace| namespace.as_fd().as_raw_fd())
        .collect();
    let messages = [ControlMessage::ScmRights(&fds)];
    let messages = if fds.is_empty() { &[][..] } else { &messages };
    let sent = sendmsg::<()>(
        stream.as_raw_fd(),
        &[IoSlice::new(&line)],
        messages,
        MsgFlags::empty(),
        None,
    )?;
    stream.write_all(line.get(sent..).unwrap_or_default())?;
    let mut answer = Vec::new();
    let longest = LONGEST as u64;
    stream.take(longest).read_to_end(&mut answer)?;
    if answer.is_empty() {
        let text = "the agent ended without an answer";
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
    }
    Ok(serde_json::from_slice(&answer)?)
}

/// Ends the capture of a sandbox whose agent is away: its wire is removed, and what holds its mesh namespace. What was never captured,
/// or has ended, has nothing here. Its proxy is ended by the next agent. Rules inside a pod stay as long as its network does: whatever runs
/// there still must not go round them.
pub fn end(state: &Path, container: &str) -> io::Result<()> {
    let dir = state.join(SANDBOXES).join(container);
    if !dir.is_dir() {
        return Ok(());
    }
    let pin = dir.join(crate::protocol::PIN);
    if let Ok(mesh) = File::open(&pin)
        && setns(&mesh, CloneFlags::CLONE_NEWNET).is_ok()
    {
        link::delete(WIRE)?;
    }
    for pin in [pin, dir.join(crate::protocol::INSIDE)] {
        match nix::mount::umount2(&pin, nix::mount::MntFlags::MNT_DETACH) {
            // Not there, or nothing mounted there any more.
            Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    match std::fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
