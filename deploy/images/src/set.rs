// SPDX-License-Identifier: Apache-2.0
//! The mesh's images: which programs each holds, as whom it runs, and what says so. From scratch: what is not listed here is
//! not in them, a shell least of all.
//!
//! Read `archive.rs` next.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::archive::Image;
use crate::libraries;
use crate::sbom::{Crates, Subject};

/// One image.
#[derive(Debug)]
pub struct Made {
    /// `control`, `proxy`.
    name: &'static str,
    title: &'static str,
    /// User and group.
    user: &'static str,
    /// Programs of the workspace; the first is what it runs.
    programs: &'static [&'static str],
    /// The packages that they are of.
    packages: &'static [&'static str],
    /// Programs of the distribution, where they are on this machine.
    tools: &'static [&'static str],
}

/// All of them.
pub const ALL: [Made; 3] = [
    Made {
        name: "control",
        title: "Maille: control plane and certificate authority",
        user: "2101:2101",
        programs: &["maille-control"],
        packages: &["maille-control"],
        tools: &[],
    },
    Made {
        name: "proxy",
        title: "Maille: data plane, and what captures a pod for it",
        user: "2102:2102",
        programs: &["maille-proxy", "maille-init"],
        packages: &["maille-proxy", "maille-node"],
        tools: &["/usr/sbin/nft"],
    },
    Made {
        name: "node",
        title: "Maille: node agent, the proxies that it starts, and the CNI plugin",
        user: "0:0",
        programs: &["maille-node", "maille-proxy", "maille-cni"],
        packages: &["maille-node", "maille-proxy", "maille-cni"],
        tools: &["/usr/sbin/nft"],
    },
];

/// Programs that nodes run themselves, of which some have other libraries, or none. A proxy is smaller, too, without those that it hardly needs.
const ALONE: [&str; 2] = ["maille-cni", "maille-proxy"];

/// What all images of one making share.
#[derive(Debug)]
pub struct Making {
    /// Where the programs are.
    pub programs: PathBuf,
    /// Where those are that need nothing of where they run.
    pub alone: PathBuf,
    /// Before each name, `maille.io`.
    pub prefix: String,
    /// The tag.
    pub version: String,
    /// What the sources are of.
    pub revision: String,
    /// When they were committed, as SPDX wants it.
    pub created: String,
}

// === impl Made ===

impl Made {
    /// The name of its archive.
    pub fn file(&self) -> String {
        format!("{}.tar", self.name)
    }

    /// The whole name, as in a manifest.
    pub fn reference(&self, making: &Making) -> String {
        format!("{}/{}:{}", making.prefix, self.name, making.version)
    }

    /// Writes the archive and its list of contents to `dir`.
    ///
    /// # Errors
    ///
    /// A program that was not built, a library that is missing, a file that cannot be written.
    pub fn write(&self, making: &Making, crates: &Crates, dir: &Path) -> anyhow::Result<PathBuf> {
        let reference = self.reference(making);
        let main = format!("/{}", self.programs[0]);
        let mut image = Image::new(&reference, &[&main]).user(self.user);
        let mut libraries = BTreeSet::new();
        for program in self.programs {
            let alone = ALONE.contains(program);
            let folder = if alone {
                &making.alone
            } else {
                &making.programs
            };
            let from = folder.join(program);
            if !from.is_file() {
                bail!("{} is not built", from.display());
            }
            let needed = libraries::of(&from)?;
            if alone && !needed.is_empty() {
                bail!(
                    "{} is not static: a node that lacks its libraries would start no pod at all",
                    from.display()
                );
            }
            libraries.extend(needed);
            image = image.program(&format!("/{program}"), from);
        }
        let mut foreign = BTreeSet::new();
        for tool in self.tools {
            let path = Path::new(tool);
            if !path.is_file() {
                bail!("{tool} is not on this machine: it goes into the image (package nftables)");
            }
            libraries.extend(libraries::of(path)?);
            image = image.program(tool, path);
            foreign.insert(path.to_owned());
        }
        for library in &libraries {
            image = image.program(&library.display().to_string(), library);
        }
        foreign.extend(libraries);
        let distribution = libraries::packages(&foreign)?;
        let document = crates.document(&Subject {
            name: self.name,
            version: &making.version,
            created: &making.created,
            programs: self.packages,
            distribution: &distribution,
        })?;
        for (label, value) in [
            ("title", self.title),
            ("version", &making.version),
            ("revision", &making.revision),
            ("created", &making.created),
            ("licenses", "Apache-2.0"),
        ] {
            image = image.label(&format!("org.opencontainers.image.{label}"), value);
        }
        let image = image.text(
            &format!("/usr/share/sbom/{}.spdx.json", self.name),
            &document,
        );
        let list = dir.join(format!("{}.spdx.json", self.name));
        std::fs::write(&list, &document).with_context(|| list.display().to_string())?;
        let to = dir.join(self.file());
        image.write(&to)?;
        Ok(to)
    }
}
