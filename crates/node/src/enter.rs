// SPDX-License-Identifier: Apache-2.0
//! Into a pod from outside: a command beside a container's process (`exec`), and a connection to a port of its own (`port-forward`).
//!
//! Both give what a container has and no more: its namespaces, its user, its variables, its capabilities. Read `enter/talk.rs` for
//! how a command's streams travel.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use maille_manifest::objects::Pod;
use maille_sys::caps::CapSet;
use maille_sys::cgroup::Group;
use maille_sys::netns::NetNs;
use maille_sys::spawn::{Child, Handle, Spawn, SpawnError, User};
use nix::pty::{Winsize, openpty};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::net::unix::pipe;

pub(crate) mod pipe_ends;
pub(crate) mod talk;

use pipe_ends::Ends;

use crate::runner::rights;

/// How long a port of a pod may take to answer.
const CONNECT: Duration = Duration::from_secs(5);

/// What is to be run.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "Exec")]
pub(crate) struct Order {
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// The only one, or the first, where none is named.
    #[serde(default)]
    pub(crate) container: Option<String>,
    /// Whether something will be written to it.
    #[serde(default)]
    pub(crate) stdin: bool,
    /// Whether it is to have a terminal of `size`.
    #[serde(default)]
    pub(crate) tty: bool,
    /// Rows and columns.
    #[serde(default)]
    pub(crate) size: Option<(u16, u16)>,
    /// What kind of terminal.
    #[serde(default)]
    pub(crate) term: Option<String>,
}

/// Why a pod cannot be entered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnterError {
    #[error("the pod has no container {0:?}; it has {1}")]
    Container(String, String),
    #[error("container {0} does not run")]
    NotRunning(String),
    #[error("nothing of the pod runs")]
    Nothing,
    #[error("no command was given")]
    NoCommand,
    #[error("the container cannot be entered: {0}")]
    Enter(#[source] io::Error),
    #[error("{}", cause(.0))]
    Start(#[source] SpawnError),
    #[error("port {port}: {source}")]
    Port { port: u16, source: io::Error },
}

/// What the kernel said is what people need to know.
fn cause(error: &SpawnError) -> String {
    match error {
        SpawnError::Step { source, .. } => format!("{error}: {source}"),
        other => other.to_string(),
    }
}

/// A command that runs.
#[derive(Debug)]
pub(crate) struct Entered {
    pub(crate) child: Child,
    pub(crate) ends: Ends,
}

/// Which container of `pod` is meant, among those with a process.
pub(crate) fn container(
    pod: &Pod,
    running: &BTreeMap<String, i32>,
    named: Option<&str>,
) -> Result<(String, i32), EnterError> {
    let names: Vec<&str> = pod
        .spec
        .containers
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    let name = match named {
        Some(name) if names.contains(&name) || running.contains_key(name) => name,
        Some(name) => return Err(EnterError::Container(name.to_owned(), names.join(", "))),
        None => names.first().copied().unwrap_or_default(),
    };
    let pid = running.get(name).copied();
    let pid = pid.ok_or_else(|| EnterError::NotRunning(name.to_owned()))?;
    Ok((name.to_owned(), pid))
}

/// Starts a command beside the process `pid` of `container`, within its limits.
pub(crate) fn start(
    order: &Order,
    pod: &Pod,
    (container, pid): (&str, i32),
    group: Option<&Group>,
) -> Result<Entered, EnterError> {
    let Some((program, args)) = order.command.split_first() else {
        return Err(EnterError::NoCommand);
    };
    let handle = Handle::open(pid).map_err(EnterError::Enter)?;
    let variables = variables(pid).map_err(EnterError::Enter)?;
    // A sidecar stands among those of init.
    let spec = &pod.spec;
    let mut all = spec.containers.iter().chain(&spec.init_containers);
    let found = all.find(|one| one.name == container);
    let cwd = found
        .and_then(|one| one.working_dir.as_deref())
        .unwrap_or("/");
    // As whom it runs its process says, which knows what a number stands for.
    let rights = found.map(|one| rights::of(spec, one, false));
    let (capabilities, is_locked) = rights.map_or((CapSet::NONE, true), |rights| {
        (rights.capabilities, rights.no_new_privileges)
    });
    let mut spawn = Spawn::new(program)
        .args(args)
        .inside(handle)
        .cwd(cwd)
        .capabilities(capabilities);
    if is_locked {
        spawn = spawn.no_new_privileges();
    }
    for (name, value) in &variables {
        spawn = spawn.env(name, value);
    }
    if let Some(user) = user(pid).map_err(EnterError::Enter)? {
        spawn = spawn.user(user);
    }
    if let Some(group) = group {
        spawn = spawn.group(group);
    }
    let (spawn, ends) = streams(spawn, order).map_err(EnterError::Enter)?;
    let child = spawn.start().map_err(EnterError::Start)?;
    Ok(Entered { child, ends })
}

fn streams(mut spawn: Spawn, order: &Order) -> io::Result<(Spawn, Ends)> {
    if order.tty {
        let (rows, columns) = order.size.unwrap_or((24, 80));
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(&size, None)?;
        let term = order.term.as_deref().unwrap_or("xterm");
        spawn = spawn
            .env("TERM", term)
            .input(pty.slave.try_clone()?)
            .output(pty.slave.try_clone()?, pty.slave)
            .terminal();
        return Ok((spawn, Ends::terminal(pty.master)?));
    }
    let (mut input, mut ends_input) = (None, None);
    if order.stdin {
        let (sender, receiver) = pipe::pipe()?;
        input = Some(receiver.into_blocking_fd()?);
        ends_input = Some(sender);
    }
    let (out, output) = pipe::pipe()?;
    let (err, error) = pipe::pipe()?;
    if let Some(input) = input {
        spawn = spawn.input(input);
    }
    let spawn = spawn.output(out.into_blocking_fd()?, err.into_blocking_fd()?);
    Ok((spawn, Ends::pipes(ends_input, output, error)))
}

/// What the process was started with.
fn variables(pid: i32) -> io::Result<Vec<(std::ffi::OsString, std::ffi::OsString)>> {
    use std::os::unix::ffi::OsStrExt as _;
    let text = std::fs::read(format!("/proc/{pid}/environ"))?;
    let pairs = text.split(|byte| *byte == 0).filter_map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        let (name, value) = pair.split_at(at);
        let own = |bytes: &[u8]| std::ffi::OsStr::from_bytes(bytes).to_owned();
        Some((own(name), own(&value[1..])))
    });
    Ok(pairs.collect())
}

/// As whom the process runs, where that is not as this one does (`proc_pid_status(5)`).
fn user(pid: i32) -> io::Result<Option<User>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let numbers = |field: &str| -> Vec<u32> {
        let line = text.lines().find_map(|line| line.strip_prefix(field));
        let words = line.unwrap_or_default().split_ascii_whitespace();
        words.filter_map(|word| word.parse().ok()).collect()
    };
    let (ids, groups) = (numbers("Uid:"), numbers("Gid:"));
    let (Some(id), Some(group)) = (ids.first(), groups.first()) else {
        return Err(io::Error::other("its user is not told"));
    };
    if (*id, *group) == (0, 0) {
        return Ok(None);
    }
    Ok(Some(User {
        id: *id,
        group: *group,
        groups: numbers("Groups:"),
        alias: false,
    }))
}

/// A connection to `port` of the pod with the process `pid`, from inside: what listens on its loopback only is reached, too.
pub(crate) async fn connect(pid: i32, port: u16) -> Result<TcpStream, EnterError> {
    let dial = move || -> io::Result<std::net::TcpStream> {
        let net = NetNs::of_pid(pid)?;
        net.run(|| {
            let four = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let six = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
            std::net::TcpStream::connect_timeout(&four, CONNECT).or_else(|first| {
                std::net::TcpStream::connect_timeout(&six, CONNECT).map_err(|_| first)
            })
        })?
    };
    let failed = |source| EnterError::Port { port, source };
    let stream = tokio::task::spawn_blocking(dial).await;
    let stream = stream.map_err(io::Error::other).and_then(|dialled| dialled);
    let stream = stream.and_then(|stream| {
        stream.set_nonblocking(true)?;
        TcpStream::from_std(stream)
    });
    stream.map_err(failed)
}
