// SPDX-License-Identifier: Apache-2.0
//! What a container is made of, for its machine: its image, its small files and volumes as they are now, and its command. Read `guest.rs` for who
//! unpacks it.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

use crate::cpio::Cpio;
use crate::guest::BLOCK;

/// Files that the kubelet makes are small.
const SMALL: u64 = 1 << 20;
/// Where it has a pod's volumes.
const VOLUMES: &str = "/var/lib/kubelet/pods/";

/// Writes it: of how many blocks it is, and an archive.
pub(super) fn write(to: &Path, bundle: &Path, config: &Value) -> anyhow::Result<()> {
    let archive = to.with_extension("cpio");
    let root = config["root"]["path"].as_str().context("a root")?;
    let mut cpio = Cpio::create(&archive)?;
    cpio.tree(&bundle.join(root), "pod")?;
    cpio.file("command", 0o644, command(config)?.as_bytes())?;
    // The guest's programs know only who has a name.
    let names = fs::read_to_string(bundle.join(root).join("etc/passwd")).unwrap_or_default();
    let (uid, gid) = user(config);
    let names = format!("{names}\npod:x:{uid}:{gid}::/:/bin/sh\n");
    cpio.directory("pod/etc")?;
    cpio.file("pod/etc/passwd", 0o644, names.as_bytes())?;
    for mount in config["mounts"].as_array().into_iter().flatten() {
        let (Some(from), Some(to)) = (mount["source"].as_str(), mount["destination"].as_str())
        else {
            continue;
        };
        let Ok(found) = fs::metadata(from) else {
            continue;
        };
        let inside = to.trim_start_matches('/');
        let parents = Path::new(inside).ancestors().skip(1);
        let mut parents: Vec<_> = parents.filter(|path| *path != Path::new("")).collect();
        parents.reverse();
        for parent in parents {
            cpio.directory(&format!("pod/{}", parent.display()))?;
        }
        if found.is_file() && found.len() < SMALL {
            cpio.file(&format!("pod/{inside}"), 0o644, &fs::read(from)?)?;
        } else if found.is_dir() && from.starts_with(VOLUMES) {
            cpio.tree(Path::new(from), &format!("pod/{inside}"))?;
        }
    }
    cpio.end()?;
    let mut archive = fs::read(archive)?;
    archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    let mut file = fs::File::create(to)?;
    writeln!(file, "{}", archive.len() / BLOCK)?;
    Ok(file.write_all(&archive)?)
}

/// The container's command, for the guest's shell; `$root` is where its files are there.
fn command(config: &Value) -> anyhow::Result<String> {
    let process = &config["process"];
    let quoted = |word: &str| format!("'{}'", word.replace('\'', r"'\''"));
    let words = |key: &str| -> anyhow::Result<String> {
        let all = process[key].as_array().context("a command")?;
        let all = all.iter().filter_map(Value::as_str).map(quoted);
        Ok(all.collect::<Vec<_>>().join(" "))
    };
    let (env, args) = (words("env")?, words("args")?);
    let cwd = quoted(process["cwd"].as_str().unwrap_or("/"));
    let (uid, gid) = user(config);
    Ok(format!(
        "exec chroot $root /.own/busybox start-stop-daemon -S -c {uid}:{gid} -n nobody -a /.own/busybox -- \
         env -i {env} /.own/busybox sh -c 'cd \"$0\" && exec \"$@\"' {cwd} {args}\n"
    ))
}

/// As whom it runs.
fn user(config: &Value) -> (u64, u64) {
    let number = |key: &str| config["process"]["user"][key].as_u64().unwrap_or(0);
    (number("uid"), number("gid"))
}
