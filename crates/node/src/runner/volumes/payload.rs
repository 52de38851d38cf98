// SPDX-License-Identifier: Apache-2.0
//! The files of a volume, all exchanged at once while containers read them, as a kubelet does it.
//!
//! They are in a directory of their own; `..data` is a link to it, and what is seen beside that are links through `..data`. New files
//! are a new directory, and `..data` turns to it by a rename: whoever reads has the old ones or the new ones, never some of each.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

/// The link that turns.
const DATA: &str = "..data";
/// What it is before it turns.
const NEXT: &str = "..data_next";

/// One file to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct File {
    pub(super) path: String,
    pub(super) bytes: Vec<u8>,
    pub(super) mode: u32,
}

/// By path: content and permission bits.
type Files = BTreeMap<PathBuf, (Vec<u8>, u32)>;

/// Has the volume at `at` hold `files` and no others; of two of one path the later one counts. Whether that changed anything.
pub(super) fn write(at: &Path, files: &[File], group: Option<u32>) -> io::Result<bool> {
    let mut wanted = Files::new();
    for file in files {
        let mode = match group {
            // What the group is given below.
            Some(_) => file.mode | (file.mode & 0o700) >> 3,
            None => file.mode,
        };
        wanted.insert(PathBuf::from(&file.path), (file.bytes.clone(), mode));
    }
    let data = at.join(DATA);
    let old = fs::read_link(&data).ok();
    if let Some(old) = &old
        && read(&at.join(old)).is_ok_and(|there| there == wanted)
    {
        return Ok(false);
    }
    let next = next(old.as_deref());
    let directory = at.join(&next);
    // Of a try that failed half way.
    absent(fs::remove_dir_all(&directory))?;
    make(&directory, &wanted)?;
    if let Some(group) = group {
        super::give(&directory, group)?;
    }
    absent(fs::remove_file(at.join(NEXT)))?;
    symlink(&next, at.join(NEXT))?;
    fs::rename(at.join(NEXT), &data)?;
    links(at, &wanted)?;
    if let Some(old) = old {
        absent(fs::remove_dir_all(at.join(old)))?;
    }
    Ok(true)
}

/// The name after that of `old`.
fn next(old: Option<&Path>) -> String {
    let old = old.and_then(|old| old.to_str()?.strip_prefix("..")?.parse::<u64>().ok());
    format!("..{}", old.unwrap_or(0).wrapping_add(1))
}

fn make(directory: &Path, files: &Files) -> io::Result<()> {
    let enter = |directory: &Path| {
        // Whoever the container runs as may look around.
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755))
    };
    fs::create_dir(directory)?;
    enter(directory)?;
    for (path, (bytes, mode)) in files {
        let steps: Vec<&Path> = path.ancestors().skip(1).collect();
        for step in steps
            .into_iter()
            .rev()
            .filter(|step| *step != Path::new(""))
        {
            let step = directory.join(step);
            if !step.is_dir() {
                fs::create_dir(&step)?;
                enter(&step)?;
            }
        }
        let file = directory.join(path);
        fs::write(&file, bytes)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(*mode))?;
    }
    Ok(())
}

/// What is seen: one link for each name at the top, and none for what is there no more.
fn links(at: &Path, files: &Files) -> io::Result<()> {
    let tops = files.keys().filter_map(|path| path.components().next());
    let tops: BTreeSet<PathBuf> = tops.map(|top| PathBuf::from(top.as_os_str())).collect();
    for top in &tops {
        if fs::symlink_metadata(at.join(top)).is_err() {
            symlink(Path::new(DATA).join(top), at.join(top))?;
        }
    }
    for entry in fs::read_dir(at)? {
        let name = PathBuf::from(entry?.file_name());
        let own = name.to_string_lossy().starts_with("..");
        if !own && !tops.contains(&name) {
            absent(fs::remove_file(at.join(name)))?;
        }
    }
    Ok(())
}

/// Every file below `directory`, by its path there.
fn read(directory: &Path) -> io::Result<Files> {
    let mut files = Files::new();
    let mut left = vec![PathBuf::new()];
    while let Some(below) = left.pop() {
        for entry in fs::read_dir(directory.join(&below))? {
            let entry = entry?;
            let path = below.join(entry.file_name());
            let about = entry.metadata()?;
            if about.is_dir() {
                left.push(path);
            } else {
                let bytes = fs::read(entry.path())?;
                files.insert(path, (bytes, about.permissions().mode() & 0o777));
            }
        }
    }
    Ok(files)
}

/// It is as good if there was nothing to remove.
fn absent(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File {
            path: path.to_owned(),
            bytes: text.as_bytes().to_vec(),
            mode: 0o644,
        }
    }

    fn names(at: &Path) -> Vec<String> {
        let entries = fs::read_dir(at).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn files_are_exchanged_at_once_and_leave_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        let first = [file("a", "1"), file("deep/b", "2"), file("a", "3")];
        assert!(write(at, &first, None).unwrap());
        assert_eq!(names(at), ["..1", "..data", "a", "deep"]);
        let read = |path: &str| fs::read_to_string(at.join(path)).unwrap();
        assert_eq!(
            (read("a"), read("deep/b")),
            ("3".to_owned(), "2".to_owned())
        );
        assert!(!write(at, &first, None).unwrap(), "nothing is different");
        assert_eq!(names(at), ["..1", "..data", "a", "deep"]);
        // Somebody who has the old directory open sees all of it and nothing new.
        let old = fs::File::open(at.join("a")).unwrap();
        assert!(write(at, &[file("a", "4"), file("c", "5")], None).unwrap());
        assert_eq!(names(at), ["..2", "..data", "a", "c"]);
        assert_eq!((read("a"), read("c")), ("4".to_owned(), "5".to_owned()));
        assert_eq!(io::read_to_string(old).unwrap(), "3");
        assert!(write(at, &[], None).unwrap());
        assert_eq!(names(at), ["..3", "..data"]);
        // Another mode is another file.
        assert!(write(at, &[file("a", "4")], None).unwrap());
        let closed = File {
            mode: 0o400,
            ..file("a", "4")
        };
        assert!(write(at, &[closed], None).unwrap());
        assert_eq!(
            fs::metadata(at.join("a")).unwrap().permissions().mode() & 0o777,
            0o400
        );
    }

    #[test]
    fn what_a_failed_try_left_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        fs::create_dir(at.join("..1")).unwrap();
        fs::write(at.join("..1/half"), "x").unwrap();
        symlink("nowhere", at.join(NEXT)).unwrap();
        assert!(write(at, &[file("a", "1")], None).unwrap());
        assert_eq!(names(at), ["..1", "..data", "a"]);
        assert_eq!(names(&at.join("..1")), ["a"]);
    }

    #[test]
    fn paths_that_are_in_each_others_way_are_an_error_and_change_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        write(at, &[file("a", "1")], None).unwrap();
        assert!(write(at, &[file("a", "2"), file("a/b", "3")], None).is_err());
        assert_eq!(fs::read_to_string(at.join("a")).unwrap(), "1");
    }
}
