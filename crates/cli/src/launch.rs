// SPDX-License-Identifier: Apache-2.0
//! Starts the runner, `maille-node run`, in namespaces of its own: when it ends, the kernel removes everything it made.
//!
//! Must never start it outside: then nothing would clean up. Read `mesh.rs` for its life.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use maille_sys::spawn::{Child, Exit, Handle, Spawn, SpawnError};
use nix::sys::signal::Signal;

use crate::failure::Expected;
use crate::state::State;

/// Variables that reach the runner; it has no others.
const PASSED_ON: &[&str] = &[
    "HOME",
    "LANG",
    "MAILLE_LOG",
    "MAILLE_LOG_FORMAT",
    "MAILLE_TEST_WITHOUT",
    "TZ",
];

/// What differs from run to run.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// Have a witness on the wire that searches for this text.
    pub(crate) observe: Option<String>,
    /// Run the pods without any mesh, although the witness is told what should be protected.
    pub(crate) no_mesh: bool,
    /// Whether it goes on when this process ends.
    pub(crate) keep: bool,
    /// How long certificates are valid, in place of a day.
    pub(crate) leaf_lifetime: Option<String>,
    /// Where claims of storage are kept, in place of the state directory.
    pub(crate) storage: Option<PathBuf>,
}

/// The runner's process. Dropping it kills it, where it is ours.
#[derive(Debug)]
pub(crate) enum Node {
    /// This process started it.
    Own(Child),
    /// An earlier one did, and it was to be kept.
    Found(i32, Handle),
}

impl Node {
    /// Starts it. Its log goes to `node.log` of the state directory.
    pub(crate) fn start(state: &State, options: &Options) -> anyhow::Result<Self> {
        let program = beside("maille-node")?;
        let log =
            File::create_new(state.dir().join("node.log")).context("failed to make node.log")?;
        let mut args: Vec<OsString> = ["run", "--name", state.name(), "--state"]
            .map(OsString::from)
            .to_vec();
        args.push(state.dir().into());
        if let Some(marker) = &options.observe {
            args.extend(["--observe", "--marker", &hex(marker)].map(OsString::from));
        }
        if options.no_mesh {
            args.push("--no-mesh".into());
        }
        if let Some(lifetime) = &options.leaf_lifetime {
            args.extend(["--leaf-lifetime", lifetime].map(OsString::from));
        }
        if let Some(storage) = &options.storage {
            args.extend(["--storage".into(), OsString::from(storage)]);
        }
        let mut spawn = Spawn::new(&program)
            .args(args)
            .env("PATH", search_path(&program))
            .output(log.try_clone()?, log)
            .isolated();
        for name in PASSED_ON {
            if let Some(value) = std::env::var_os(name) {
                spawn = spawn.env(name, value);
            }
        }
        if options.keep {
            spawn = spawn.outlives();
        }
        Ok(Self::Own(spawn.start().map_err(refused)?))
    }

    /// Its pid as this process sees it.
    pub(crate) fn pid(&self) -> i32 {
        match self {
            Self::Own(child) => child.pid(),
            Self::Found(pid, _) => *pid,
        }
    }

    /// The one that an earlier process started, and that has this pid.
    pub(crate) fn found(pid: i32) -> anyhow::Result<Self> {
        let handle = Handle::open(pid).context("the runner that was kept has ended")?;
        Ok(Self::Found(pid, handle))
    }

    /// Lets it go on without this process.
    pub(crate) fn leave(self) {
        if let Self::Own(child) = self {
            child.leave();
        }
    }

    /// Signals it, unless it has ended.
    pub(crate) fn signal(&self, signal: Signal) {
        match self {
            Self::Own(child) => child.signal(signal),
            Self::Found(_, handle) => handle.signal(signal),
        }
    }

    /// Waits for its end. Cancel-safe.
    pub(crate) async fn exited(&mut self) {
        // Only a process that is not ours cannot be waited for, and a handle always can.
        match self {
            Self::Own(child) => drop(child.exited().await),
            Self::Found(_, handle) => drop(handle.ended().await),
        }
    }

    /// Waits for an end that nobody asked for, and says how it was. Cancel-safe.
    pub(crate) async fn died(&mut self) -> Expected {
        let how = match self {
            Self::Own(child) => match child.exited().await {
                Ok(Exit::Code(code)) => format!(", with code {code}"),
                Ok(Exit::Signal(signal)) => format!(", by signal {signal}"),
                Ok(Exit::Untold) => String::new(),
                Err(error) => format!(", {error}"),
            },
            Self::Found(_, handle) => match handle.ended().await {
                Ok(()) => String::new(),
                Err(error) => format!(", {error}"),
            },
        };
        Expected::Node {
            what: format!("the runner ended by itself{how}"),
        }
    }
}

/// What the machine said, with the setting to change where it is known.
fn refused(error: SpawnError) -> Expected {
    match error {
        SpawnError::Forbidden { setting, fix, .. } => Expected::Machine {
            what: format!("this machine forbids namespaces: {setting}"),
            hint: Some(format!("allow them (`{fix}`), or run this as root")),
        },
        SpawnError::Step { ref source, .. } => Expected::Machine {
            what: format!("{error}: {source}"),
            hint: None,
        },
        SpawnError::Nul { .. } => Expected::Machine {
            what: error.to_string(),
            hint: None,
        },
    }
}

/// Where containers' programs are looked for.
pub(crate) fn containers_path() -> OsString {
    let own = std::env::current_exe().unwrap_or_default();
    search_path(&own)
}

/// Programs of this release come first, so that a manifest may name `maille-demo`; the places of `nft` come last.
fn search_path(program: &Path) -> OsString {
    let here = program.parent().map(PathBuf::from);
    let given = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let all = here
        .into_iter()
        .chain(std::env::split_paths(&given))
        .chain(system);
    // Only a directory with a colon in its name cannot be joined.
    std::env::join_paths(all).unwrap_or(given)
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// A program of ours, beside this one.
pub(crate) fn beside(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("failed to find this program")?;
    let path = own.with_file_name(name);
    if path.is_file() {
        Ok(path)
    } else {
        Err(Expected::Missing { path }.into())
    }
}
