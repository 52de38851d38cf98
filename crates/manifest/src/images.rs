// SPDX-License-Identifier: Apache-2.0
//! Which program of the machine stands for an image. No image is pulled: a container is a process of this machine.
//!
//! A container with a `command` runs it, whatever its image. One without runs what its image stands for: what the person said
//! (`--image NAME=PROGRAM [ARGUMENT...]`), by the whole name, or without tag and digest, or by its last part; otherwise the program
//! that is called as the image's last part. The container's `args` replace the arguments, as they replace an image's own.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// What the person said, in the order in which it was said; of two for one name the last one holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Images(Vec<(String, Vec<String>)>);

impl Images {
    /// Takes `NAME=PROGRAM [ARGUMENT...]`. Refuses what has no name or no program.
    pub fn add(&mut self, text: &str) -> Result<(), &'static str> {
        const EXPECTED: &str = "NAME=PROGRAM, as in redis=/usr/bin/redis-server";
        let (name, command) = text.split_once('=').ok_or(EXPECTED)?;
        let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        if name.is_empty() || words.is_empty() || text.contains('\0') {
            return Err(EXPECTED);
        }
        self.0.push((name.to_owned(), words));
        Ok(())
    }

    /// Program and arguments of `image`.
    pub fn command(&self, image: &str) -> Vec<String> {
        let bare = bare(image);
        let last = last(image);
        let said = [image, bare, last].into_iter().find_map(|name| {
            let known = self.0.iter().rev();
            known
                .filter(|(known, _)| known == name)
                .map(|(_, words)| words)
                .next()
        });
        said.cloned().unwrap_or_else(|| vec![last.to_owned()])
    }
}

/// An image's name without tag and digest.
fn bare(image: &str) -> &str {
    let image = image.split_once('@').map_or(image, |(name, _)| name);
    // A colon before the last slash is a registry's port.
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => image,
    }
}

/// The last part of an image's name, without tag and digest.
fn last(image: &str) -> &str {
    let bare = bare(image);
    bare.rsplit_once('/').map_or(bare, |(_, last)| last)
}

/// Whether `program`, a path or a name to be found in `path`, can be run.
pub(crate) fn can_run(program: &str, path: &OsStr) -> bool {
    let runs = |file: &Path| {
        std::fs::metadata(file)
            .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        return runs(Path::new(program));
    }
    !program.is_empty() && std::env::split_paths(path).any(|dir| runs(&dir.join(program)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_wins() {
        let mut images = Images::default();
        for text in [
            "redis=/usr/bin/redis-server --save ''",
            "registry.example:5000/shop/cart=cart-server",
            "registry.example:5000/shop/cart:v2=cart-two",
            "twice=one",
            "twice=two",
        ] {
            images.add(text).unwrap();
        }
        for (image, command) in [
            ("redis:7-alpine", "/usr/bin/redis-server --save ''"),
            ("redis@sha256:aaaa", "/usr/bin/redis-server --save ''"),
            ("library/redis", "/usr/bin/redis-server --save ''"),
            ("registry.example:5000/shop/cart:v1", "cart-server"),
            ("registry.example:5000/shop/cart:v2", "cart-two"),
            (
                "registry.example:5000/shop/cart:v2@sha256:bb",
                "cart-server",
            ),
            ("registry.example:5000/other/cart", "cart"),
            ("nginx", "nginx"),
            ("twice", "two"),
            ("", ""),
        ] {
            assert_eq!(images.command(image).join(" "), command, "{image}");
        }
        for text in ["", "redis", "=x", "redis=", "redis= ", "a=b\0"] {
            assert!(images.add(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn only_what_can_be_run_is_found() {
        let path = OsStr::new("/nowhere:/bin:/usr/bin");
        assert!(can_run("sh", path) && can_run("/bin/sh", path));
        let file = tempfile::NamedTempFile::new().unwrap();
        let plain = file.path().to_str().unwrap();
        for program in ["", ".", "/", plain, "no-such-program", "bin/sh"] {
            assert!(!can_run(program, path), "{program}");
        }
    }
}
