// SPDX-License-Identifier: Apache-2.0
//! How much containers may use: a control group for each that has limits, from before its first instruction until it has ended.
//!
//! Where this machine or this user may make none, whoever wrote the manifest was warned. Read `runner/container.rs` for the user.

use std::fs;
use std::io;
use std::path::Path;

use maille_manifest::objects::Container;
use maille_sys::cgroup::{self, Group, Tree};

/// How many processes and threads a container with limits may have: what runs away is to be stopped before the machine is.
const PIDS: u32 = 4096;

/// Where the groups are noted, one a line, so that somebody else can take them away.
const NOTE: &str = "groups";

/// Makes groups.
#[derive(Debug)]
pub(crate) struct Limiter(Option<Tree>);

impl Limiter {
    /// For the containers of one `maille up`.
    pub(crate) fn new(state_dir: &Path) -> io::Result<Self> {
        let tree = match Tree::find(&name(state_dir)) {
            Ok(tree) => tree,
            Err(why) => {
                tracing::info!(%why, "containers are not limited");
                return Ok(Self(None));
            }
        };
        let lines = tree
            .directories()
            .map(|path| format!("{}\n", path.display()));
        fs::write(state_dir.join(NOTE), lines.collect::<String>())?;
        let own = Self(Some(tree));
        // A predecessor of the same directory may have been killed, and its note be lost.
        if let Err(error) = own.end() {
            tracing::warn!(%error, "a control group of an earlier run cannot be removed");
        }
        Ok(own)
    }

    /// A group for the next process of `container`; `None`: it has no limits, or none can be made.
    pub(crate) fn begin(&self, uid: &str, container: &Container) -> io::Result<Option<Group>> {
        match (&self.0, limits(container)) {
            (Some(tree), Some(limits)) => tree.make(&group(uid, &container.name), limits).map(Some),
            _ => Ok(None),
        }
    }

    /// The group that a running container has.
    pub(crate) fn of(&self, uid: &str, container: &str) -> Option<Group> {
        self.0.as_ref()?.there(&group(uid, container))
    }

    /// Takes all of them away, now that nobody is in any.
    pub(crate) fn end(&self) -> io::Result<()> {
        let directories = self.0.iter().flat_map(Tree::directories);
        for directory in directories {
            cgroup::remove(&directory)?;
        }
        Ok(())
    }
}

/// What the groups of one `maille up` are below: its own name for people, and its whole path for the kernel.
fn name(state_dir: &Path) -> String {
    let path = state_dir.as_os_str().as_encoded_bytes();
    let hash = path.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let own = state_dir.file_name().unwrap_or_default().to_string_lossy();
    format!("maille.{own}.{hash:016x}")
}

fn group(uid: &str, container: &str) -> String {
    format!("{uid}.{container}")
}

fn limits(container: &Container) -> Option<cgroup::Limits> {
    let limits = &container.resources.as_ref()?.limits;
    let (memory, cpu) = (limits.get("memory"), limits.get("cpu"));
    (memory.is_some() || cpu.is_some()).then(|| cgroup::Limits {
        memory: memory.map(|memory| memory.whole()),
        cpu_millis: cpu.map(|cpu| cpu.millis()),
        pids: Some(PIDS),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_the_manifests() {
        let of = |resources: &str| {
            let text = format!(r#"{{"name":"c","resources":{resources}}}"#);
            limits(&serde_json::from_str(&text).unwrap())
        };
        assert_eq!(of("{}"), None);
        assert_eq!(of(r#"{"requests":{"memory":"1Gi"}}"#), None);
        let some = of(r#"{"limits":{"memory":"64Mi","cpu":"250m"}}"#).unwrap();
        assert_eq!((some.memory, some.cpu_millis), (Some(64 << 20), Some(250)));
        let cpu = of(r#"{"limits":{"cpu":"2"}}"#).unwrap();
        assert_eq!((cpu.memory, cpu.cpu_millis), (None, Some(2000)));
    }

    #[test]
    fn runs_of_one_name_do_not_share_groups() {
        let (one, other) = (name(Path::new("/run/a/web")), name(Path::new("/run/b/web")));
        assert!(one.starts_with("maille.web.") && one != other);
    }
}
