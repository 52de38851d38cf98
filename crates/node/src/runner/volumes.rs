// SPDX-License-Identifier: Apache-2.0
//! A pod's volumes, each a directory below its own in the state directory, made before its containers start and gone with it.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use maille_manifest::objects::{
    DownwardVolume, EmptyDir, HostPath, KeyToPath, Pod, ProjectedKeys, ProjectedVolume, Quantity,
    Volume,
};

use super::fields::{field, resource};
use crate::data::{Data, Kind, MissingData};
use crate::host;

/// The permission bits of files that say nothing else.
const MODE: u32 = 0o644;

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

/// One file to be.
struct File {
    path: String,
    bytes: Vec<u8>,
    mode: u32,
}

/// Makes the pod's volumes. `groups`: whether files can be given to `fsGroup`.
pub(crate) fn make(dir: &Path, pod: &Pod, data: &Data, groups: bool) -> Result<(), VolumeError> {
    for volume in &pod.spec.volumes {
        let failed = |source| VolumeError::Make {
            volume: volume.name.clone(),
            source,
        };
        if let Some(path) = &volume.host_path {
            host_path(volume, path)?;
            continue;
        }
        let at = place(dir, &volume.name);
        fs::create_dir_all(&at).map_err(failed)?;
        if let Some(empty) = &volume.empty_dir {
            empty_dir(&at, empty).map_err(failed)?;
        }
        for file in files(volume, pod, data)? {
            write(&at, &file).map_err(failed)?;
        }
        let security = pod.spec.security_context.as_ref();
        if let Some(group) = security.and_then(|security| security.fs_group)
            && groups
        {
            give(&at, group).map_err(failed)?;
        }
    }
    Ok(())
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

/// What a volume holds from the beginning; later ones of a path win.
fn files(volume: &Volume, pod: &Pod, data: &Data) -> Result<Vec<File>, VolumeError> {
    if let Some(map) = &volume.config_map {
        let keys = (map.name.as_str(), map.optional, &map.items[..]);
        let mode = map.default_mode.unwrap_or(MODE);
        return keyed(volume, (Kind::ConfigMap, keys), (pod, data), mode);
    }
    if let Some(secret) = &volume.secret {
        let keys = (
            secret.secret_name.as_str(),
            secret.optional,
            &secret.items[..],
        );
        let mode = secret.default_mode.unwrap_or(MODE);
        return keyed(volume, (Kind::Secret, keys), (pod, data), mode);
    }
    if let Some(downward) = &volume.downward_api {
        return self::downward(volume, downward, (pod, data), MODE);
    }
    match &volume.projected {
        Some(projected) => self::projected(volume, projected, (pod, data)),
        None => Ok(Vec::new()),
    }
}

fn projected(
    volume: &Volume,
    projected: &ProjectedVolume,
    around: (&Pod, &Data),
) -> Result<Vec<File>, VolumeError> {
    let mode = projected.default_mode.unwrap_or(MODE);
    let mut files = Vec::new();
    for source in &projected.sources {
        let own = |keys: &ProjectedKeys, kind| {
            let keys = (keys.name.as_str(), keys.optional, &keys.items[..]);
            keyed(volume, (kind, keys), around, mode)
        };
        if let Some(keys) = &source.config_map {
            files.extend(own(keys, Kind::ConfigMap)?);
        }
        if let Some(keys) = &source.secret {
            files.extend(own(keys, Kind::Secret)?);
        }
        if let Some(downward) = &source.downward_api {
            files.extend(self::downward(volume, downward, around, mode)?);
        }
    }
    Ok(files)
}

/// Which object, whether it may be absent, and which keys.
type Wanted<'a> = (Kind, (&'a str, bool, &'a [KeyToPath]));

fn keyed(
    volume: &Volume,
    (kind, (name, optional, items)): Wanted<'_>,
    (pod, data): (&Pod, &Data),
    mode: u32,
) -> Result<Vec<File>, VolumeError> {
    let failed = |missing| VolumeError::Data {
        volume: volume.name.clone(),
        missing,
    };
    let namespace = pod.metadata.namespace();
    if items.is_empty() {
        let all = data.all(kind, namespace, name, optional).map_err(failed)?;
        let file = |(path, bytes)| File { path, bytes, mode };
        return Ok(all.into_iter().map(file).collect());
    }
    let mut files = Vec::new();
    for item in items {
        let wanted = (name, item.key.as_str());
        let bytes = data
            .one(kind, namespace, wanted, optional)
            .map_err(failed)?;
        files.extend(bytes.map(|bytes| File {
            path: item.path.clone(),
            bytes,
            mode: item.mode.unwrap_or(mode),
        }));
    }
    Ok(files)
}

fn downward(
    volume: &Volume,
    downward: &DownwardVolume,
    (pod, data): (&Pod, &Data),
    mode: u32,
) -> Result<Vec<File>, VolumeError> {
    let mode = downward.default_mode.unwrap_or(mode);
    let one = |item: &maille_manifest::objects::DownwardItem| {
        let (path, text) = match (&item.field_ref, &item.resource_field_ref) {
            (Some(own), _) => (own.field_path.clone(), field(&own.field_path, pod)),
            (None, Some(own)) => (own.resource.clone(), resource(own, pod, None, data.machine)),
            (None, None) => (String::new(), None),
        };
        let text = text.ok_or_else(|| VolumeError::Field {
            volume: volume.name.clone(),
            path,
        })?;
        Ok(File {
            path: item.path.clone(),
            bytes: text.into_bytes(),
            mode: item.mode.unwrap_or(mode),
        })
    };
    downward.items.iter().map(one).collect()
}

fn write(at: &Path, file: &File) -> io::Result<()> {
    let path = at.join(&file.path);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    // A second try at the pod finds the files of the first, perhaps closed to writing.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => fs::write(&path, &file.bytes)?,
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(file.mode))
}

/// Gives `at` and all in it to `group`, which may then do what their owner may; what is made there later is the group's too.
fn give(at: &Path, group: u32) -> io::Result<()> {
    chown(at, None, Some(group))?;
    let data = fs::symlink_metadata(at)?;
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
