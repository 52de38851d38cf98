// SPDX-License-Identifier: Apache-2.0
//! A pod's files in the state directory: resolv.conf, hosts, volumes. Written before its containers start.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use maille_manifest::addresses::{DNS_V4, DNS_V6};
use maille_manifest::objects::{ConfigMap, ConfigMapVolume, Container, Pod};

use crate::host::Mount;

/// Everything but the volumes.
pub(crate) fn write(dir: &Path, pod: &Pod) -> io::Result<()> {
    let namespace = pod.metadata.namespace();
    let resolv = format!(
        "nameserver {DNS_V4}\nnameserver {DNS_V6}\nsearch {namespace}.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
    );
    fs::write(dir.join("resolv.conf"), resolv)?;
    let mut hosts = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n".to_owned();
    for address in pod.addresses() {
        hosts.push_str(&format!("{address} {}\n", pod.metadata.name));
    }
    fs::write(dir.join("hosts"), hosts)?;
    fs::write(dir.join("hostname"), format!("{}\n", pod.metadata.name))
}

/// Makes the pod's volumes, each a directory.
pub(crate) fn volumes(
    dir: &Path,
    pod: &Pod,
    maps: &BTreeMap<(String, String), ConfigMap>,
) -> io::Result<()> {
    for volume in &pod.spec.volumes {
        let at = place(dir, &volume.name);
        fs::create_dir_all(&at)?;
        if let Some(source) = &volume.config_map {
            let key = (pod.metadata.namespace().to_owned(), source.name.clone());
            if let Some(map) = maps.get(&key) {
                config_map(&at, source, map)?;
            }
        }
    }
    Ok(())
}

fn config_map(at: &Path, source: &ConfigMapVolume, map: &ConfigMap) -> io::Result<()> {
    let mode = fs::Permissions::from_mode(source.default_mode.unwrap_or(0o644));
    let all = map.data.keys().map(|key| (key.as_str(), key.as_str()));
    let some = source
        .items
        .iter()
        .map(|item| (item.key.as_str(), item.path.as_str()));
    let files: Vec<(&str, &str)> = if source.items.is_empty() {
        all.collect()
    } else {
        some.collect()
    };
    for (key, path) in files {
        let Some(text) = map.data.get(key) else {
            continue;
        };
        let file = at.join(path);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&file, text)?;
        fs::set_permissions(&file, mode.clone())?;
    }
    Ok(())
}

/// What `container` sees in place of the machine's own files.
pub(crate) fn mounts(dir: &Path, pod: &Pod, container: &Container) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = ["resolv.conf", "hosts", "hostname"]
        .into_iter()
        .map(|name| Mount {
            from: dir.join(name),
            at: Path::new("/etc").join(name),
            writable: false,
        })
        .filter(|mount| mount.at.exists())
        .collect();
    for mount in &container.volume_mounts {
        let writable = !mount.read_only
            && pod
                .spec
                .volumes
                .iter()
                .any(|volume| volume.name == mount.name && volume.empty_dir.is_some());
        let from = place(dir, &mount.name);
        mounts.push(Mount {
            from,
            at: PathBuf::from(&mount.mount_path),
            writable,
        });
    }
    mounts
}

fn place(dir: &Path, volume: &str) -> PathBuf {
    dir.join("volumes").join(volume)
}
