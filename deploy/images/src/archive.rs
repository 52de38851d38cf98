// SPDX-License-Identifier: Apache-2.0
//! One image: one layer from a list of files, as an archive in the OCI layout that also carries the index
//! of `docker save`, so that `ctr`, `nerdctl` and `docker load` take it.
//!
//! The same files give the same bytes: no time, no owner, no order of a directory gets in. Sources: OCI image
//! specification 1.1 (`image-layout.md`, `config.md`), and what `docker load` reads (`manifest.json`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

/// One entry of an image's file system.
#[derive(Debug, Clone)]
enum Entry {
    Dir(u32),
    /// Where its content is, and its mode.
    File(PathBuf, u32),
    Text(String),
    Link(String),
}

/// An image in the making.
#[derive(Debug, Clone)]
pub struct Image {
    name: String,
    entrypoint: Vec<String>,
    user: String,
    labels: BTreeMap<String, String>,
    /// By path without the leading slash: the order of the layer.
    entries: BTreeMap<String, Entry>,
}

impl Image {
    /// `name` with its tag, as in a manifest (`maille.test/dns:1`); what it runs.
    pub fn new(name: &str, entrypoint: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            entrypoint: entrypoint.iter().map(|&word| word.to_owned()).collect(),
            user: String::new(),
            labels: BTreeMap::new(),
            entries: BTreeMap::new(),
        }
    }

    /// As whom it runs, if not as root.
    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        user.clone_into(&mut self.user);
        self
    }

    /// A label of the image's configuration.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.labels.insert(name.to_owned(), value.to_owned());
        self
    }

    /// A directory with its mode.
    #[must_use]
    pub fn dir(mut self, path: &str, mode: u32) -> Self {
        self.put(path, Entry::Dir(mode));
        self
    }

    /// A program of this machine.
    #[must_use]
    pub fn program(mut self, path: &str, from: impl Into<PathBuf>) -> Self {
        self.put(path, Entry::File(from.into(), 0o755));
        self
    }

    /// A file with this text.
    #[must_use]
    pub fn text(mut self, path: &str, text: &str) -> Self {
        self.put(path, Entry::Text(text.to_owned()));
        self
    }

    /// A symbolic link.
    #[must_use]
    pub fn link(mut self, path: &str, target: &str) -> Self {
        self.put(path, Entry::Link(target.to_owned()));
        self
    }

    /// Puts an entry in, and the directories above it.
    fn put(&mut self, path: &str, entry: Entry) {
        let path = path.trim_start_matches('/');
        for (at, _) in path.match_indices('/') {
            let above = self.entries.entry(path[..at].to_owned());
            above.or_insert(Entry::Dir(0o755));
        }
        self.entries.insert(path.to_owned(), entry);
    }

    /// Writes the archive.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or written.
    pub fn write(&self, to: &Path) -> anyhow::Result<()> {
        let layer = self.layer()?;
        let layer_digest = sha256(&layer);
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "Entrypoint": self.entrypoint,
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "User": self.user,
                "Labels": self.labels,
            },
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
        });
        let config = serde_json::to_vec(&config)?;
        let config_digest = sha256(&config);
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": described("application/vnd.oci.image.config.v1+json", &config),
            "layers": [described("application/vnd.oci.image.layer.v1.tar", &layer)],
        }))?;
        let mut of_manifest = described("application/vnd.oci.image.manifest.v1+json", &manifest);
        of_manifest["annotations"] = json!({
            "io.containerd.image.name": self.name,
            "org.opencontainers.image.ref.name": self.name.rsplit(':').next(),
        });
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [of_manifest],
        });
        let docker = json!([{
            "Config": format!("blobs/sha256/{config_digest}"),
            "RepoTags": [self.name],
            "Layers": [format!("blobs/sha256/{layer_digest}")],
        }]);
        let mut files = BTreeMap::from([
            (
                "oci-layout".to_owned(),
                br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
            ),
            ("index.json".to_owned(), serde_json::to_vec(&index)?),
            ("manifest.json".to_owned(), serde_json::to_vec(&docker)?),
        ]);
        for blob in [layer, config, manifest] {
            files.insert(format!("blobs/sha256/{}", sha256(&blob)), blob);
        }
        archive(to, &files)
    }

    /// The layer, uncompressed.
    fn layer(&self) -> anyhow::Result<Vec<u8>> {
        let mut tar = Builder::new(Vec::new());
        for (path, entry) in &self.entries {
            match entry {
                Entry::Dir(mode) => {
                    let mut header = header(EntryType::Directory, *mode, 0);
                    tar.append_data(&mut header, format!("{path}/"), std::io::empty())?;
                }
                Entry::File(from, mode) => {
                    let content = fs::read(from)
                        .with_context(|| format!("{} for an image", from.display()))?;
                    let mut header = header(EntryType::Regular, *mode, content.len());
                    tar.append_data(&mut header, path, content.as_slice())?;
                }
                Entry::Text(text) => {
                    let mut header = header(EntryType::Regular, 0o644, text.len());
                    tar.append_data(&mut header, path, text.as_bytes())?;
                }
                Entry::Link(target) => {
                    let mut header = header(EntryType::Symlink, 0o777, 0);
                    tar.append_link(&mut header, path, target)?;
                }
            }
        }
        Ok(tar.into_inner()?)
    }
}

/// A header that says nothing of when and by whom.
fn header(kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size as u64);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// The outer archive.
fn archive(to: &Path, files: &BTreeMap<String, Vec<u8>>) -> anyhow::Result<()> {
    let file = fs::File::create(to).with_context(|| to.display().to_string())?;
    let mut tar = Builder::new(std::io::BufWriter::new(file));
    for dir in ["blobs/", "blobs/sha256/"] {
        let mut header = header(EntryType::Directory, 0o755, 0);
        tar.append_data(&mut header, dir, std::io::empty())?;
    }
    for (name, content) in files {
        let mut header = header(EntryType::Regular, 0o644, content.len());
        tar.append_data(&mut header, name, content.as_slice())?;
    }
    tar.into_inner()?
        .into_inner()
        .map_err(std::io::IntoInnerError::into_error)?;
    Ok(())
}

/// A descriptor: type, digest, size.
fn described(kind: &str, blob: &[u8]) -> Value {
    json!({"mediaType": kind, "digest": format!("sha256:{}", sha256(blob)), "size": blob.len()})
}

/// In hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    let digest = digest(&SHA256, bytes);
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// This machine's, in Go's words.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_give_the_same_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let image = |order: [&str; 2]| {
            let image = Image::new("maille.test/x:1", &["/x"]).user("65534");
            order
                .iter()
                .fold(image, |image, path| image.text(path, "hello"))
        };
        let [one, two] = ["one", "two"].map(|name| dir.path().join(name));
        image(["/etc/a", "/b"]).write(&one).unwrap();
        image(["/b", "/etc/a"]).write(&two).unwrap();
        assert_eq!(fs::read(&one).unwrap(), fs::read(&two).unwrap());
        let mut tar = tar::Archive::new(fs::File::open(&one).unwrap());
        let names: Vec<_> = tar
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                assert_eq!(
                    (
                        entry.header().mtime().unwrap(),
                        entry.header().uid().unwrap()
                    ),
                    (0, 0)
                );
                entry.path().unwrap().display().to_string()
            })
            .collect();
        assert!(names.contains(&"manifest.json".to_owned()), "{names:?}");
        assert!(names.contains(&"index.json".to_owned()), "{names:?}");
    }
}
