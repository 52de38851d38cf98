// SPDX-License-Identifier: Apache-2.0
//! Which hierarchies there are, and where new groups may be made in them, from `/proc/self/cgroup` and `/proc/self/mountinfo`
//! (cgroups(7), proc_pid_mountinfo(5)). Pure.
//!
//! With version 1 that is below this process's own group, whose limits hold for it; with version 2, where a group that has processes
//! gives no controllers on, below the root that is mounted.

use std::path::{Path, PathBuf};

use super::{CONTROLLERS, Hierarchy, Unavailable, Version};

/// A hierarchy that is mounted.
#[derive(Clone, Debug)]
struct Mounted<'a> {
    /// The group that is at the mount's root.
    root: &'a str,
    at: &'a str,
    version: Version,
    /// Of version 1.
    controllers: Vec<&'a str>,
}

/// One hierarchy for each set of controllers that is needed, each controller once.
pub(super) fn hierarchies(own: &str, mounts: &str) -> Result<Vec<Hierarchy>, Unavailable> {
    let mounted: Vec<Mounted<'_>> = mounts.lines().filter_map(mount).collect();
    let mut found: Vec<Hierarchy> = Vec::new();
    for controller in CONTROLLERS {
        let one = mounted
            .iter()
            .find(|mount| mount.controllers.contains(&controller));
        let two = || mounted.iter().find(|mount| mount.version == Version::Two);
        let mount = one.or_else(two).ok_or(Unavailable::Missing(controller))?;
        let base = match mount.version {
            Version::One => {
                let group = group(own, controller).ok_or(Unavailable::Missing(controller))?;
                place(mount, group)
            }
            Version::Two => PathBuf::from(mount.at),
        };
        match found.iter_mut().find(|known| known.base == base) {
            Some(known) => known.controllers.push(controller),
            None => found.push(Hierarchy {
                version: mount.version,
                controllers: vec![controller],
                base,
            }),
        }
    }
    Ok(found)
}

/// A line of mountinfo, where it is a hierarchy's.
fn mount(line: &str) -> Option<Mounted<'_>> {
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ').skip(3);
    let (root, at) = (fields.next()?, fields.next()?);
    let mut fields = after.split(' ');
    let version = match fields.next()? {
        "cgroup" => Version::One,
        "cgroup2" => Version::Two,
        _ => return None,
    };
    let options = fields.nth(1)?;
    let controllers = match version {
        Version::One => options.split(',').collect(),
        Version::Two => Vec::new(),
    };
    Some(Mounted {
        root,
        at,
        version,
        controllers,
    })
}

/// This process's group in the hierarchy of `controller`, version 1.
fn group<'a>(own: &'a str, controller: &str) -> Option<&'a str> {
    own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, group) = (fields.next()?, fields.next()?);
        let mine = controllers.split(',').any(|known| known == controller);
        mine.then_some(group)
    })
}

/// The directory of a group; one outside of the mount has none, and the mount's root stands for it.
fn place(mount: &Mounted<'_>, group: &str) -> PathBuf {
    let below = Path::new(group).strip_prefix(mount.root);
    let below = below.unwrap_or_else(|_| Path::new(""));
    match below.to_str() {
        Some(text) if !text.is_empty() && !text.starts_with("..") => Path::new(mount.at).join(text),
        _ => PathBuf::from(mount.at),
    }
}
