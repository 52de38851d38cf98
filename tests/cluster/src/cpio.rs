// SPDX-License-Identifier: Apache-2.0
//! An initial file system of a kernel, as an archive that it reads (Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! Read `guest.rs` for what is in one.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::Context as _;

/// Its user and group.
const ROOT: (u32, u32) = (0, 0);

/// An archive as the kernel reads it (`cpio`, format `newc`). Several, one after the other, are one.
#[derive(Debug)]
pub(crate) struct Cpio {
    out: std::io::BufWriter<fs::File>,
    inode: u32,
}

impl Cpio {
    /// Begins one.
    pub(crate) fn create(path: &Path) -> anyhow::Result<Self> {
        let file = fs::File::create(path).with_context(|| path.display().to_string())?;
        Ok(Self {
            out: std::io::BufWriter::new(file),
            inode: 0,
        })
    }

    pub(crate) fn directory(&mut self, name: &str) -> anyhow::Result<()> {
        self.entry(name, 0o040_755, ROOT, &[])
    }

    pub(crate) fn link(&mut self, name: &str, target: &str) -> anyhow::Result<()> {
        self.entry(name, 0o120_777, ROOT, target.as_bytes())
    }

    pub(crate) fn file(&mut self, name: &str, mode: u32, content: &[u8]) -> anyhow::Result<()> {
        self.entry(name, 0o100_000 | (mode & 0o7777), ROOT, content)
    }

    /// Whatever is below `from`, its files as their owners', under `name`; under nothing where that is empty.
    pub(crate) fn tree(&mut self, from: &Path, name: &str) -> anyhow::Result<()> {
        if !name.is_empty() {
            self.directory(name)?;
        }
        for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
            let entry = entry?;
            let own = entry.file_name();
            let name = Path::new(name).join(own).display().to_string();
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.tree(&entry.path(), &name)?;
            } else if kind.is_symlink() {
                let target = fs::read_link(entry.path())?;
                self.link(&name, &target.to_string_lossy())?;
            } else if kind.is_file() {
                let about = entry.metadata()?;
                let mode = 0o100_000 | (about.mode() & 0o7777);
                let owner = (about.uid(), about.gid());
                self.entry(&name, mode, owner, &fs::read(entry.path())?)?;
            }
        }
        Ok(())
    }

    pub(crate) fn end(mut self) -> anyhow::Result<()> {
        self.inode = 0;
        self.entry("TRAILER!!!", 0, ROOT, &[])?;
        Ok(self.out.flush()?)
    }

    fn entry(
        &mut self,
        name: &str,
        mode: u32,
        (user, group): (u32, u32),
        content: &[u8],
    ) -> anyhow::Result<()> {
        self.inode += 1;
        let fields = [
            self.inode,
            mode,
            user,
            group,
            1,
            0,
            u32::try_from(content.len())?,
            0,
            0,
            0,
            0,
            u32::try_from(name.len() + 1)?,
            0,
        ];
        let mut head = "070701".to_owned();
        for field in fields {
            head.push_str(&format!("{field:08x}"));
        }
        head.push_str(name);
        head.push('\0');
        self.padded(head.as_bytes())?;
        self.padded(content)
    }

    /// Each part begins at a multiple of four.
    fn padded(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.out.write_all(bytes)?;
        let rest = bytes.len().next_multiple_of(4) - bytes.len();
        Ok(self.out.write_all(&[0; 3][..rest])?)
    }
}
