// SPDX-License-Identifier: Apache-2.0
//! A pod's files in the state directory: resolv.conf, hosts, hostname; and what of them and of its volumes a container sees.
//! Written before its containers start. Read `volumes.rs` for the volumes.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use maille_manifest::addresses::{DNS_V4, DNS_V6};
use maille_manifest::objects::{Container, Pod, Volume, VolumeMount};
use maille_manifest::vars::expand;

use super::volumes::place;
use crate::host::Mount;

/// Why a container cannot have what it mounts.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountError {
    #[error("volume {volume}: {path} is not a path inside of it")]
    Outside { volume: String, path: String },
    #[error("volume {volume}: {path} cannot be made")]
    Make {
        volume: String,
        path: String,
        #[source]
        source: io::Error,
    },
}

/// Everything but the volumes.
pub(crate) fn write(dir: &Path, pod: &Pod) -> io::Result<()> {
    for (name, text) in [
        ("resolv.conf", resolv(pod)),
        ("hosts", hosts(pod)),
        ("hostname", format!("{}\n", hostname(pod))),
    ] {
        let file = dir.join(name);
        fs::write(&file, text)?;
        // Whoever the container runs as reads them.
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
}

/// What the kernel is told: at most 64 bytes.
pub(crate) fn hostname(pod: &Pod) -> String {
    let short = pod.host_name();
    match domain(pod) {
        Some(domain) if pod.spec.set_hostname_as_fqdn && short.len() + domain.len() < 64 => {
            format!("{short}.{domain}")
        }
        _ => short.to_owned(),
    }
}

/// The domain of a pod that has a name below a service.
fn domain(pod: &Pod) -> Option<String> {
    let subdomain = pod.spec.subdomain.as_ref()?;
    let namespace = pod.metadata.namespace();
    Some(format!("{subdomain}.{namespace}.svc.cluster.local"))
}

/// `resolv.conf(5)`. There is one server that knows the cluster and nothing else; whoever names others gets them too.
fn resolv(pod: &Pod) -> String {
    let policy = pod.spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let said = pod.spec.dns_config.clone().unwrap_or_default();
    let namespace = pod.metadata.namespace();
    let (mut servers, mut searches) = (Vec::new(), Vec::new());
    let mut options = Vec::new();
    if policy != "None" {
        servers.extend([DNS_V4.to_string(), DNS_V6.to_string()]);
    }
    if policy.starts_with("ClusterFirst") {
        let own = format!("{namespace}.svc.cluster.local");
        searches.extend([
            own,
            "svc.cluster.local".to_owned(),
            "cluster.local".to_owned(),
        ]);
        options.push(("ndots".to_owned(), Some("5".to_owned())));
    }
    servers.extend(said.nameservers.iter().map(ToString::to_string));
    searches.extend(said.searches);
    for option in said.options {
        options.retain(|(name, _)| *name != option.name);
        options.push((option.name, option.value));
    }
    let mut text: String = servers
        .iter()
        .map(|ip| format!("nameserver {ip}\n"))
        .collect();
    if !searches.is_empty() {
        text.push_str(&format!("search {}\n", searches.join(" ")));
    }
    if !options.is_empty() {
        let one = |(name, value): &(String, Option<String>)| match value {
            Some(value) => format!("{name}:{value}"),
            None => name.clone(),
        };
        let options: Vec<String> = options.iter().map(one).collect();
        text.push_str(&format!("options {}\n", options.join(" ")));
    }
    text
}

fn hosts(pod: &Pod) -> String {
    let mut text = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n".to_owned();
    let name = pod.host_name();
    let names = match domain(pod) {
        Some(domain) => format!("{name}.{domain} {name}"),
        None => name.to_owned(),
    };
    for address in pod.addresses() {
        text.push_str(&format!("{address} {names}\n"));
    }
    for alias in &pod.spec.host_aliases {
        text.push_str(&format!("{} {}\n", alias.ip, alias.hostnames.join(" ")));
    }
    text
}

/// What `container` sees in place of the machine's own files. `env` is its environment, for `subPathExpr`.
pub(crate) fn mounts(
    dir: &Path,
    pod: &Pod,
    container: &Container,
    env: &[(String, String)],
) -> Result<Vec<Mount>, MountError> {
    let own = ["resolv.conf", "hosts", "hostname"].map(|name| Mount {
        from: dir.join(name),
        at: Path::new("/etc").join(name),
        writable: false,
    });
    let mut mounts: Vec<Mount> = Vec::new();
    for mount in &container.volume_mounts {
        let volume = pod.spec.volumes.iter().find(|v| v.name == mount.name);
        let Some(volume) = volume else { continue };
        mounts.push(Mount {
            from: source(dir, volume, mount, env)?,
            at: PathBuf::from(&mount.mount_path),
            writable: volume.is_writable() && !mount.read_only,
        });
    }
    // A volume at the place of one of them is what the manifest wants to be there.
    let free = |own: &Mount| !mounts.iter().any(|mount| mount.at == own.at);
    let own: Vec<Mount> = own
        .into_iter()
        .filter(|own| own.at.exists() && free(own))
        .collect();
    mounts.extend(own);
    nested(&mounts);
    Ok(mounts)
}

/// Places inside of another volume are made in it, as container runtimes do. Where that fails the mount fails, and says so.
fn nested(mounts: &[Mount]) {
    for mount in mounts {
        let around = mounts
            .iter()
            .filter(|other| mount.at != other.at && mount.at.starts_with(&other.at))
            .max_by_key(|other| other.at.components().count());
        let Some(around) = around else { continue };
        let Ok(inside) = mount.at.strip_prefix(&around.at) else {
            continue;
        };
        let place = around.from.join(inside);
        if place.exists() {
            continue;
        }
        if mount.from.is_dir() {
            let _ = fs::create_dir_all(&place);
        } else if let Some(parent) = place.parent() {
            let _ = fs::create_dir_all(parent).and_then(|()| fs::File::create(&place));
        }
    }
}

/// The part of the volume that is mounted.
fn source(
    dir: &Path,
    volume: &Volume,
    mount: &VolumeMount,
    env: &[(String, String)],
) -> Result<PathBuf, MountError> {
    let whole = match &volume.host_path {
        Some(host) => PathBuf::from(&host.path),
        None => place(dir, &volume.name),
    };
    let value = |name: &str| {
        let mut env = env.iter();
        env.find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    };
    let expanded = mount.sub_path_expr.as_ref().map(|text| expand(text, value));
    let Some(part) = mount.sub_path.as_ref().or(expanded.as_ref()) else {
        return Ok(whole);
    };
    let outside = || MountError::Outside {
        volume: volume.name.clone(),
        path: part.clone(),
    };
    let inside = !part.is_empty()
        && !part.contains(['\0', '$'])
        && !part.starts_with('/')
        && !part.split('/').any(|step| step == "..");
    if !inside {
        return Err(outside());
    }
    let made = whole.join(part);
    if !made.exists() && volume.is_writable() {
        let done = fs::create_dir_all(&made);
        done.and_then(|()| fs::set_permissions(&made, fs::Permissions::from_mode(0o777)))
            .map_err(|source| MountError::Make {
                volume: volume.name.clone(),
                path: part.clone(),
                source,
            })?;
    }
    // A link that somebody made in the volume must not lead out of it.
    let real = |path: &Path| {
        fs::canonicalize(path).map_err(|source| MountError::Make {
            volume: volume.name.clone(),
            path: part.clone(),
            source,
        })
    };
    let (whole, made) = (real(&whole)?, real(&made)?);
    if !made.starts_with(&whole) {
        return Err(outside());
    }
    Ok(made)
}

#[cfg(test)]
mod tests;
