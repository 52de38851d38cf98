// SPDX-License-Identifier: Apache-2.0
//! What is in a volume: files of ConfigMaps, of Secrets, and of what the pod is. Pure. Read `payload.rs` for how they get there.

use maille_manifest::objects::{
    DownwardVolume, KeyToPath, Pod, ProjectedKeys, ProjectedVolume, Volume,
};

use super::VolumeError;
use super::payload::File;
use crate::data::{Data, Kind};
use crate::runner::fields::{field, resource};

/// The permission bits of files that say nothing else.
const MODE: u32 = 0o644;

/// What `volume` holds now; of two files of one path the later one counts. `None`: it is not filled by anybody.
pub(super) fn files(
    volume: &Volume,
    pod: &Pod,
    data: &Data,
) -> Result<Option<Vec<File>>, VolumeError> {
    let filled = match volume {
        Volume {
            config_map: None,
            secret: None,
            downward_api: None,
            projected: None,
            ..
        } => return Ok(None),
        volume => filled(volume, pod, data)?,
    };
    Ok(Some(filled))
}

fn filled(volume: &Volume, pod: &Pod, data: &Data) -> Result<Vec<File>, VolumeError> {
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
