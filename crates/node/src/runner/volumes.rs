// SPDX-License-Identifier: Apache-2.0
//! A pod's volumes, each a directory below its own in the state directory, made before its containers start and gone with it; a claim
//! is a link there, to a directory that stays. Those with files of ConfigMaps, Secrets and facts are brought up to date while it runs.
//!
//! Read `volumes/sources.rs` for what is in them, `volumes/payload.rs` for how that changes.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use maille_manifest::objects::{EmptyDir, HostPath, Pod, Quantity, Volume};

use crate::data::{Data, MissingData};
use crate::host;

mod payload;
mod sources;

/// Why a volume cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    #[error("volume {volume}: {missing}")]
    Data {
        volume: String,
        missing: MissingData,
    },
    #[error("volume {volume}: no field {path}")]
    Field { volume: String, path: String },
    #[error("volume {volume} cannot be made")]
    Make {
        volume: String,
        #[source]
        source: io::Error,
    },
    #[error("volume {volume}: {path} of this machine is no {kind}")]
    HostPath {
        volume: String,
        path: String,
        kind: String,
    },
}

/// Where volumes are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places<'a> {
    /// The pod's directory.
    pub(crate) pod: &'a Path,
    /// Where claims are, a directory a namespace.
    pub(crate) claims: &'a Path,
}

/// Makes the pod's volumes. `groups`: whether files can be given to `fsGroup`.
pub(crate) fn make(
    places: Places<'_>,
    pod: &Pod,
    data: &Data,
    groups: bool,
) -> Result<(), VolumeError> {
    let group = group(pod, groups);
    for volume in &pod.spec.volumes {
        let failed = |source| VolumeError::Make {
            volume: volume.name.clone(),
            source,
        };
        if let Some(path) = &volume.host_path {
            host_path(volume, path)?;
            continue;
        }
        let at = place(places.pod, &volume.name);
        if let Some(claim) = &volume.persistent_volume_claim {
            let namespace = places.claims.join(pod.metadata.namespace());
            let directory = namespace.join(&claim.claim_name);
            self::claim(&at, &directory, group).map_err(failed)?;
            continue;
        }
        fs::create_dir_all(&at).map_err(failed)?;
        if let Some(empty) = &volume.empty_dir {
            empty_dir(&at, empty).map_err(failed)?;
        }
        if let Some(group) = group {
            give(&at, group).map_err(failed)?;
        }
        if let Some(files) = sources::files(volume, pod, data)? {
            payload::write(&at, &files, group).map_err(failed)?;
        }
    }
    Ok(())
}

/// Brings the files of the pod's volumes up to date, as far as their sources are there; gives the names of volumes that changed.
pub(crate) fn refresh(dir: &Path, pod: &Pod, data: &Data, groups: bool) -> Vec<String> {
    let group = group(pod, groups);
    let mut changed = Vec::new();
    for volume in &pod.spec.volumes {
        let done = sources::files(volume, pod, data).and_then(|files| {
            let Some(files) = files else { return Ok(false) };
            let at = place(dir, &volume.name);
            payload::write(&at, &files, group).map_err(|source| VolumeError::Make {
                volume: volume.name.clone(),
                source,
            })
        });
        match done {
            Ok(true) => changed.push(volume.name.clone()),
            Ok(false) => {}
            // What was there stays, as with a kubelet.
            Err(error) => {
                tracing::warn!(pod = %pod.metadata.name, volume = volume.name, %error, "volume stays as it was");
            }
        }
    }
    changed
}

fn group(pod: &Pod, groups: bool) -> Option<u32> {
    let security = pod.spec.security_context.as_ref()?;
    security.fs_group.filter(|_| groups)
}

/// Takes away what would outlive the pod's directory.
pub(crate) fn unmake(dir: &Path, pod: &Pod) {
    for volume in &pod.spec.volumes {
        if volume.empty_dir.as_ref().is_some_and(is_memory) {
            let at = place(dir, &volume.name);
            // It was never mounted, where making it failed.
            if let Err(error) = host::unmount(&at) {
                tracing::debug!(volume = volume.name, %error, "is mounted no more");
            }
        }
    }
}

/// Where a volume is.
pub(crate) fn place(dir: &Path, volume: &str) -> PathBuf {
    dir.join("volumes").join(volume)
}

fn is_memory(empty: &EmptyDir) -> bool {
    empty.medium.as_deref() == Some("Memory")
}

fn empty_dir(at: &Path, empty: &EmptyDir) -> io::Result<()> {
    if is_memory(empty) {
        let limit = empty.size_limit.as_deref().and_then(Quantity::parse);
        host::mount_memory(at, limit.map(|limit| limit.whole()))?;
    }
    // Whoever the containers run as may write there.
    fs::set_permissions(at, fs::Permissions::from_mode(0o777))
}

/// The directory of a claim, made by whoever needs it first, and a link to it.
fn claim(at: &Path, directory: &Path, group: Option<u32>) -> io::Result<()> {
    if !directory.is_dir() {
        fs::create_dir_all(directory)?;
        // Whoever the containers run as may write there.
        fs::set_permissions(directory, fs::Permissions::from_mode(0o777))?;
    }
    if let Some(group) = group {
        give(directory, group)?;
    }
    if let Some(above) = at.parent() {
        fs::create_dir_all(above)?;
    }
    match symlink(directory, at) {
        // A first try at the pod has made it.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn host_path(volume: &Volume, host: &HostPath) -> Result<(), VolumeError> {
    let kind = host.kind.as_deref().unwrap_or_default();
    let path = Path::new(&host.path);
    let made = match kind {
        "DirectoryOrCreate" => fs::create_dir_all(path),
        "FileOrCreate" if !path.exists() => fs::File::create_new(path).map(drop),
        _ => Ok(()),
    };
    made.map_err(|source| VolumeError::Make {
        volume: volume.name.clone(),
        source,
    })?;
    let is = fs::metadata(path).is_ok_and(|data| {
        let found = data.file_type();
        match kind {
            "Directory" | "DirectoryOrCreate" => found.is_dir(),
            "File" | "FileOrCreate" => found.is_file(),
            "Socket" => found.is_socket(),
            "CharDevice" => found.is_char_device(),
            "BlockDevice" => found.is_block_device(),
            _ => true,
        }
    });
    match is {
        true => Ok(()),
        false => Err(VolumeError::HostPath {
            volume: volume.name.clone(),
            path: host.path.clone(),
            kind: match kind {
                "" => "path".to_owned(),
                kind => kind.to_owned(),
            },
        }),
    }
}

/// Gives `at` and all in it to `group`, which may then do what their owner may; what is made there later is the group's too.
fn give(at: &Path, group: u32) -> io::Result<()> {
    let data = fs::symlink_metadata(at)?;
    if data.is_symlink() {
        return lchown(at, None, Some(group));
    }
    chown(at, None, Some(group))?;
    let mode = data.permissions().mode();
    let as_owner = (mode & 0o700) >> 3;
    let inherit = if data.is_dir() { 0o2000 } else { 0 };
    fs::set_permissions(at, fs::Permissions::from_mode(mode | as_owner | inherit))?;
    if data.is_dir() {
        for entry in fs::read_dir(at)? {
            give(&entry?.path(), group)?;
        }
    }
    Ok(())
}
