// SPDX-License-Identifier: Apache-2.0
//! What is in an image, as SPDX 2.3 in JSON: every crate that is linked into its programs, with the checksum that `Cargo.lock`
//! holds it to, and every package of the distribution that a file is from.
//!
//! The same inputs give the same bytes. Source: <https://spdx.github.io/spdx-spec/v2.3/>. Read `set.rs` next.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::archive::sha256;
use crate::libraries::Package;

/// The crates of the workspace and beneath, and what each links.
#[derive(Debug)]
pub struct Crates {
    /// By id.
    packages: HashMap<String, Crate>,
    links: HashMap<String, Vec<String>>,
    /// Of `name version` in `Cargo.lock`.
    checksums: HashMap<(String, String), String>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Crate {
    name: String,
    version: String,
    licence: String,
}

/// What a document is about.
#[derive(Debug)]
pub struct Subject<'a> {
    /// The image's name.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
    /// When its sources were committed.
    pub created: &'a str,
    /// The packages of the workspace whose programs it holds.
    pub programs: &'a [&'a str],
    /// What is in it from the distribution.
    pub distribution: &'a BTreeSet<Package>,
}

// === impl Crates ===

impl Crates {
    /// Asks cargo, for the platform of this machine.
    ///
    /// # Errors
    ///
    /// Cargo's, or a lock file that cannot be read.
    pub fn read(workspace: &Path) -> anyhow::Result<Self> {
        let host = host()?;
        let mut cargo = Command::new("cargo");
        cargo
            .current_dir(workspace)
            .args([
                "metadata",
                "--locked",
                "--format-version=1",
                "--filter-platform",
            ])
            .arg(host);
        let metadata: Value = serde_json::from_slice(&output(&mut cargo)?)?;
        let lock = std::fs::read_to_string(workspace.join("Cargo.lock"))?;
        Self::of(&metadata, &lock)
    }

    fn of(metadata: &Value, lock: &str) -> anyhow::Result<Self> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let mut packages = HashMap::new();
        for package in list(&metadata["packages"]) {
            let one = Crate {
                name: text(&package["name"]),
                version: text(&package["version"]),
                licence: licence(&text(&package["license"])),
            };
            packages.insert(text(&package["id"]), one);
        }
        let mut links = HashMap::new();
        for node in list(&metadata["resolve"]["nodes"]) {
            // What only builds or tests something is not in it.
            let linked = |dep: &Value| {
                list(&dep["dep_kinds"])
                    .iter()
                    .any(|kind| kind["kind"].is_null())
            };
            let deps = list(&node["deps"]).into_iter().filter(linked);
            let deps = deps.map(|dep| text(&dep["pkg"])).collect();
            links.insert(text(&node["id"]), deps);
        }
        if packages.is_empty() || links.is_empty() {
            bail!("cargo metadata says nothing");
        }
        let checksums = checksums(lock);
        Ok(Self {
            packages,
            links,
            checksums,
        })
    }

    /// Everything that `programs` link, themselves included.
    fn linked(&self, programs: &[&str]) -> anyhow::Result<BTreeSet<&Crate>> {
        let mut waiting = Vec::new();
        for program in programs {
            let mut ids = self
                .packages
                .iter()
                .filter(|(_, package)| package.name == *program);
            let (id, _) = ids
                .next()
                .with_context(|| format!("no package {program}"))?;
            waiting.push(id);
        }
        let mut seen = BTreeSet::new();
        while let Some(id) = waiting.pop() {
            if seen.insert(id) {
                waiting.extend(self.links.get(id).into_iter().flatten());
            }
        }
        Ok(seen
            .into_iter()
            .filter_map(|id| self.packages.get(id))
            .collect())
    }

    /// The document.
    ///
    /// # Errors
    ///
    /// A program that is no package of the workspace.
    pub fn document(&self, subject: &Subject<'_>) -> anyhow::Result<String> {
        let mut packages = vec![described(subject)];
        for package in self.linked(subject.programs)? {
            packages.push(self.of_crate(package));
        }
        packages.extend(subject.distribution.iter().map(of_distribution));
        let root = &packages[0]["SPDXID"].clone();
        let mut relations = vec![relation(&json!("SPDXRef-DOCUMENT"), "DESCRIBES", root)];
        let contained = packages.iter().skip(1).map(|package| &package["SPDXID"]);
        relations.extend(contained.map(|id| relation(root, "CONTAINS", id)));
        let inside = sha256(&serde_json::to_vec(&packages)?);
        let (name, version) = (subject.name, subject.version);
        let document = json!({
            "spdxVersion": "SPDX-2.3",
            "dataLicense": "CC0-1.0",
            "SPDXID": "SPDXRef-DOCUMENT",
            "name": format!("{name}-{version}"),
            "documentNamespace": format!("https://maille.io/spdx/{name}-{version}-{}", &inside[..16]),
            "creationInfo": {"created": subject.created, "creators": ["Tool: maille-images"]},
            "packages": packages,
            "relationships": relations,
        });
        Ok(serde_json::to_string_pretty(&document)? + "\n")
    }

    fn of_crate(&self, package: &Crate) -> Value {
        let Crate {
            name,
            version,
            licence,
        } = package;
        let mut told = json!({
            "SPDXID": reference("cargo", name, version),
            "name": name,
            "versionInfo": version,
            "downloadLocation": "NOASSERTION",
            "filesAnalyzed": false,
            "licenseConcluded": "NOASSERTION",
            "licenseDeclared": licence,
            "copyrightText": "NOASSERTION",
            "externalRefs": [purl(&format!("pkg:cargo/{name}@{version}"))],
        });
        let known = (name.clone(), version.clone());
        if let Some(checksum) = self.checksums.get(&known) {
            told["checksums"] = json!([{"algorithm": "SHA256", "checksumValue": checksum}]);
        }
        told
    }
}

fn described(subject: &Subject<'_>) -> Value {
    json!({
        "SPDXID": reference("image", subject.name, subject.version),
        "name": subject.name,
        "versionInfo": subject.version,
        "primaryPackagePurpose": "CONTAINER",
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "Apache-2.0",
        "copyrightText": "NOASSERTION",
    })
}

fn of_distribution(package: &Package) -> Value {
    let Package { name, version } = package;
    json!({
        "SPDXID": reference("deb", name, version),
        "name": name,
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "externalRefs": [purl(&format!("pkg:deb/{name}@{version}"))],
    })
}

fn purl(locator: &str) -> Value {
    // A plus means a blank to who reads a URL.
    let locator = locator.replace('+', "%2B");
    json!({
        "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": locator,
    })
}

fn relation(from: &Value, kind: &str, to: &Value) -> Value {
    json!({"spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to})
}

/// Letters, digits, dots and dashes alone.
fn reference(kind: &str, name: &str, version: &str) -> String {
    let text = format!("SPDXRef-{kind}-{name}-{version}");
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    text.chars()
        .map(|c| if plain(c) { c } else { '-' })
        .collect()
}

/// Old crates write `MIT/Apache-2.0`, which is no expression.
fn licence(text: &str) -> String {
    match text {
        "" => "NOASSERTION".to_owned(),
        text => text.replace('/', " OR "),
    }
}

/// `[[package]]` after `[[package]]`, as cargo writes them.
fn checksums(lock: &str) -> HashMap<(String, String), String> {
    let mut found = HashMap::new();
    for block in lock.split("[[package]]").skip(1) {
        let fields: BTreeMap<&str, &str> = block
            .lines()
            .filter_map(|line| line.split_once(" = "))
            .map(|(key, value)| (key, value.trim_matches('"')))
            .collect();
        let field = |key: &str| fields.get(key).map(|value| (*value).to_owned());
        if let (Some(name), Some(version), Some(sum)) =
            (field("name"), field("version"), field("checksum"))
        {
            found.insert((name, version), sum);
        }
    }
    found
}

fn host() -> anyhow::Result<String> {
    let said = output(Command::new("rustc").arg("-vV"))?;
    let said = String::from_utf8(said)?;
    let mut lines = said.lines();
    let host = lines.find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc names no host")?.to_owned())
}

fn output(command: &mut Command) -> anyhow::Result<Vec<u8>> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crates() -> Crates {
        let normal = json!([{"kind": null}]);
        let metadata = json!({
            "packages": [
                {"id": "1", "name": "maille-x", "version": "0.1.0", "license": "Apache-2.0"},
                {"id": "2", "name": "a", "version": "1.0.0+x", "license": "MIT/Apache-2.0"},
                {"id": "3", "name": "b", "version": "2.0.0", "license": null},
                {"id": "4", "name": "only-tests", "version": "1.0.0", "license": "MIT"},
            ],
            "resolve": {"nodes": [
                {"id": "1", "deps": [{"pkg": "2", "dep_kinds": normal}, {"pkg": "4", "dep_kinds": [{"kind": "dev"}]}]},
                {"id": "2", "deps": [{"pkg": "3", "dep_kinds": normal}]},
                {"id": "3", "deps": []}, {"id": "4", "deps": []},
            ]},
        });
        let lock = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0+x\"\nchecksum = \"abc\"\n\n[[package]]\nname = \"maille-x\"\nversion = \"0.1.0\"\n";
        Crates::of(&metadata, lock).unwrap()
    }

    #[test]
    fn what_is_linked_is_listed_with_its_checksum_and_nothing_else_is() {
        let distribution = BTreeSet::from([Package {
            name: "libstdc++6".into(),
            version: "12.2.0-14".into(),
        }]);
        let subject = Subject {
            name: "proxy",
            version: "0.1.0",
            created: "2026-01-01T00:00:00Z",
            programs: &["maille-x"],
            distribution: &distribution,
        };
        let text = crates().document(&subject).unwrap();
        assert_eq!(text, crates().document(&subject).unwrap());
        let document: Value = serde_json::from_str(&text).unwrap();
        let packages = document["packages"].as_array().unwrap();
        let names: Vec<_> = packages
            .iter()
            .map(|package| package["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["proxy", "a", "b", "maille-x", "libstdc++6"]);
        assert_eq!(packages[1]["checksums"][0]["checksumValue"], "abc");
        assert_eq!(packages[1]["licenseDeclared"], "MIT OR Apache-2.0");
        assert_eq!(packages[2]["licenseDeclared"], "NOASSERTION");
        let ids: BTreeSet<_> = packages
            .iter()
            .map(|package| package["SPDXID"].as_str().unwrap())
            .collect();
        assert_eq!(ids.len(), packages.len());
        assert_eq!(
            document["relationships"].as_array().unwrap().len(),
            packages.len()
        );
        let fit = |id: &str| {
            id.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b))
        };
        assert!(ids.iter().all(|id| fit(id)), "{ids:?}");
    }

    #[test]
    fn a_program_that_is_no_package_is_an_error() {
        assert!(crates().linked(&["maille-y"]).is_err());
    }
}
