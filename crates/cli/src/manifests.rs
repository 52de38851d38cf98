// SPDX-License-Identifier: Apache-2.0
//! Manifests on their way into a mesh: read whole, shown with file, line and field where they are wrong, written as taken.
//!
//! Must never let anything start when one of them is wrong. Read `up.rs` for the user.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use maille_manifest::changes::ObjectKey;
use maille_manifest::images::Images;
use maille_manifest::{Loaded, ManifestError, Object, Options, Users, object_json};
use maille_sys::cgroup;

use crate::args::Manifests;
use crate::failure::{Expected, Undone};
use crate::launch;
use crate::screen::Screen;
use crate::text::clean_lines;

/// Reads what `args` name, against what they and this machine allow. Shows warnings, and every error where there is one; `undone` is
/// what is not done then.
pub(crate) fn read(
    args: &Manifests,
    undone: Undone,
    screen: Screen,
) -> Result<Vec<Object>, Expected> {
    taken(load(args), undone, screen)
}

/// The same, and nothing shown.
pub(crate) fn load(args: &Manifests) -> Result<Loaded, Vec<ManifestError>> {
    maille_manifest::load_with(&args.paths(), &options(args))
}

/// What the person and this machine allow.
fn options(args: &Manifests) -> Options {
    let mut images = Images::default();
    for text in &args.images {
        // The command line was refused where it makes no sense.
        let _ = images.add(text);
    }
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    Options {
        images,
        search_path: Some(launch::containers_path()),
        host_path: args.allow_host_path,
        users: Users::read(&map, nix::unistd::geteuid().is_root()),
        no_limits: cgroup::Tree::find("maille")
            .err()
            .map(|why| why.to_string()),
        look: true,
        own_addresses: true,
    }
}

/// The same for files that are part of this program.
pub(crate) fn embedded(files: &[(&str, &str)], screen: Screen) -> Result<Vec<Object>, Expected> {
    let files = files
        .iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    taken(
        maille_manifest::load_text(&files.collect::<Vec<_>>()),
        Undone::Started,
        screen,
    )
}

fn taken(
    loaded: Result<Loaded, Vec<ManifestError>>,
    undone: Undone,
    screen: Screen,
) -> Result<Vec<Object>, Expected> {
    match loaded {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                let warning = clean_lines(&warning.to_string());
                screen.say(&format!("{} {warning}", screen.yellow("warning:")));
            }
            Ok(loaded.objects)
        }
        Err(errors) => {
            for error in &errors {
                let error = clean_lines(&error.to_string());
                screen.say(&format!("{} {error}", screen.red("error:")));
            }
            Err(Expected::Manifests {
                count: errors.len(),
                undone,
            })
        }
    }
}

/// Writes each object to a file of its own in `dir`, which must not exist.
pub(crate) fn write(objects: &[Object], dir: &Path) -> anyhow::Result<()> {
    fs::create_dir(dir).with_context(|| format!("failed to make {}", dir.display()))?;
    for object in objects {
        let path = dir.join(ObjectKey::of(object).file());
        fs::write(&path, object_json(object))
            .with_context(|| format!("failed to write {}", path.display()))?;
    }
    Ok(())
}

/// How many pods `objects` ask for.
pub(crate) fn pods(objects: &[Object]) -> usize {
    let many = |replicas: u32| usize::try_from(replicas).unwrap_or(0);
    let count = |object: &Object| match object {
        Object::Deployment(deployment) => many(deployment.spec.replicas),
        Object::ReplicaSet(set) => many(set.spec.replicas),
        Object::StatefulSet(set) => many(set.spec.replicas),
        Object::Pod(_) | Object::DaemonSet(_) => 1,
        _ => 0,
    };
    objects.iter().map(count).sum()
}

#[cfg(test)]
mod tests {
    use maille_manifest::changes::changes;

    use super::*;
    use crate::args::Global;

    #[test]
    fn what_is_written_reads_back_the_same() {
        let screen = Screen::new(&Global {
            runtime_dir: None,
            xdg_runtime_dir: None,
            no_color: None,
        });
        let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n    - name: c\n      command: [a]\n      env: [{name: A, value: \"1\"}]\n";
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/demo/manifests");
        let read = |path: std::path::PathBuf| {
            let args = Manifests {
                sources: vec![path],
                filename: Vec::new(),
                images: Vec::new(),
                allow_host_path: false,
            };
            read(&args, Undone::Started, screen)
        };
        let mut objects = read(demo).unwrap();
        objects.extend(embedded(&[("pod.yaml", pod)], screen).unwrap());
        // The demo's eleven, and this one.
        assert_eq!(pods(&objects), 12);
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("manifests");
        write(&objects, &dir).unwrap();
        assert_eq!(changes(&read(dir).unwrap(), &objects), []);
    }
}
