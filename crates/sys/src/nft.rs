// SPDX-License-Identifier: Apache-2.0
//! nftables rule sets: text in, one transaction, all or nothing.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use crate::netns::NetNs;

mod generation;

pub use generation::Generation;

/// How long `nft` may take. It takes milliseconds, and a hundred times as much where a hundred pods begin at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a rule set was not applied. Nothing of it is in force then.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// `nft` is not there, or the namespace cannot be entered.
    #[error("nft cannot be run (package nftables)")]
    Run(#[source] io::Error),
    /// `nft` or the kernel refused the rules.
    #[error("nft refused the rules: {0}")]
    Refused(String),
    /// It did not come to an end.
    #[error("nft did not end within {0:?} and was killed")]
    Late(Duration),
}

/// What a program left.
struct Ended {
    status: ExitStatus,
    output: String,
    errors: String,
}

/// Applies `rules` (nft's own language) inside `namespace`.
pub fn apply(namespace: &NetNs, rules: &str) -> Result<(), NftError> {
    run(namespace, &["-f", "-"], rules).map(drop)
}

/// [`apply`] in the namespace that the caller is in, which it need not be allowed to enter.
pub fn apply_here(rules: &str) -> Result<(), NftError> {
    said(feed(program(), &["-f", "-"], rules, PATIENCE)?).map(drop)
}

/// The rules in force inside `namespace`, as nft lists them.
pub fn list(namespace: &NetNs) -> Result<String, NftError> {
    run(namespace, &["list", "ruleset"], "")
}

/// The same without counts, which change by themselves.
pub fn stateless(namespace: &NetNs) -> Result<String, NftError> {
    run(namespace, &["-s", "list", "ruleset"], "")
}

/// The table `name` inside `namespace` (`inet t`), without counts. One that is not there is a refusal.
pub fn table(namespace: &NetNs, name: &str) -> Result<String, NftError> {
    let words = ["-s", "list", "table"].into_iter().chain(name.split(' '));
    run(namespace, &words.collect::<Vec<_>>(), "")
}

/// What `nft` says that it is.
pub fn version() -> Result<String, NftError> {
    let ended = feed(program(), &["--version"], "", PATIENCE)?;
    Ok(ended.output.trim().to_owned())
}

fn run(namespace: &NetNs, arguments: &[&str], input: &str) -> Result<String, NftError> {
    let ended = namespace.run(|| feed(program(), arguments, input, PATIENCE));
    said(ended.map_err(NftError::Run)??)
}

/// Runs a program with this input until it ends, but no longer than `patience`: it is killed then, with whatever it began.
fn feed(
    program: &str,
    arguments: &[&str],
    input: &str,
    patience: Duration,
) -> Result<Ended, NftError> {
    let fed = (|| {
        // Files in memory, so that nobody has to read and write while it runs.
        let (mut given, mut output, mut errors) = (file()?, file()?, file()?);
        given.write_all(input.as_bytes())?;
        given.rewind()?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(given)
            .stdout(output.try_clone()?)
            .stderr(errors.try_clone()?)
            .process_group(0)
            .spawn()?;
        let in_time = ends_within(child.id(), patience);
        let status = child.wait()?;
        if !in_time? {
            return Ok(None);
        }
        Ok(Some(Ended {
            status,
            output: text(&mut output)?,
            errors: text(&mut errors)?,
        }))
    })();
    fed.map_err(NftError::Run)?.ok_or(NftError::Late(patience))
}

/// Whether a child that nobody has waited for yet ends in time. Nothing of its group goes on after that.
fn ends_within(child: u32, patience: Duration) -> io::Result<bool> {
    let child = Pid::from_raw(i32::try_from(child).map_err(io::Error::other)?);
    thread::scope(|scope| {
        let (tell, told) = mpsc::sync_channel(1);
        let watch = move || {
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
            while waitid(Id::Pid(child), flags) == Err(nix::Error::EINTR) {}
            // Whoever was to hear it has given up.
            let _ = tell.send(());
        };
        let watching = thread::Builder::new().name("nft".into());
        let watching = watching.spawn_scoped(scope, watch);
        let in_time = watching.is_ok() && told.recv_timeout(patience).is_ok();
        // It has its number until it is waited for, so this is nobody else.
        let killed = killpg(child, Signal::SIGKILL);
        watching?;
        match killed {
            Ok(()) | Err(nix::Error::ESRCH | nix::Error::EPERM) => Ok(in_time),
            Err(error) => Err(error.into()),
        }
    })
}

fn file() -> io::Result<File> {
    Ok(File::from(memfd_create("nft", MFdFlags::MFD_CLOEXEC)?))
}

/// What was written to `file`.
fn text(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn said(ended: Ended) -> Result<String, NftError> {
    if ended.status.success() {
        Ok(ended.output)
    } else {
        Err(NftError::Refused(ended.errors.trim().to_owned()))
    }
}

/// Distributions install it where the `PATH` of ordinary users does not lead.
fn program() -> &'static str {
    let usual = ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"];
    usual
        .into_iter()
        .find(|path| Path::new(path).exists())
        .unwrap_or("nft")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spawn::Child;

    #[test]
    fn all_or_nothing() {
        let namespace = NetNs::create().unwrap();
        apply(
            &namespace,
            "table inet t {\n chain c {\n type filter hook input priority 0;\n }\n}",
        )
        .unwrap();
        let error = apply(
            &namespace,
            "table inet u { }\ntable inet v { chain c { nonsense } }",
        )
        .unwrap_err();
        assert!(
            matches!(&error, NftError::Refused(text) if text.contains("nonsense")),
            "{error}"
        );
        let rules = list(&namespace).unwrap();
        assert!(
            rules.contains("table inet t") && !rules.contains("table inet u"),
            "{rules}"
        );
    }

    #[test]
    fn who_does_not_end_is_killed_with_whatever_he_began() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("mark");
        let quick = Duration::from_millis(300);
        let run = |script: &str, patience| {
            let arguments = ["-c", script, "nft", mark.to_str().unwrap()];
            feed("/bin/sh", &arguments, "rules", patience)
        };
        let script = "sleep 3600 & echo $! >$1.new; mv $1.new $1; wait";
        let error = run(script, quick).err().unwrap();
        assert!(matches!(error, NftError::Late(of) if of == quick));
        assert!(error.to_string().contains("within 300ms"), "{error}");
        let began = std::fs::read_to_string(&mark).unwrap();
        // It has ended, or does.
        if let Ok(mut began) = Child::adopt(began.trim().parse().unwrap()) {
            began.wait().unwrap();
        }
        // Who takes his time and ends is heard.
        let ended = run("cat; echo late >&2; test -e $1", PATIENCE).unwrap();
        assert!(ended.status.success());
        assert_eq!(
            (ended.output.as_str(), ended.errors.trim()),
            ("rules", "late")
        );
        let error = said(run("exit 3", PATIENCE).unwrap()).err().unwrap();
        assert!(matches!(error, NftError::Refused(_)));
    }
}
