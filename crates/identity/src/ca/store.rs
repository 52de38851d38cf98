// SPDX-License-Identifier: Apache-2.0
//! An authority on disk: one file, `authority.pem`, with the issuer's key, the issuer and the root, replaced whole by rename.
//!
//! A file that somebody else could have read or written is not believed.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use maille_model::TrustDomain;
use nix::fcntl::OFlag;

use super::kept::{KeptError, certificates};
use super::{Authority, AuthorityError};

const FILE: &str = "authority.pem";
const KEY_END: &str = "-----END PRIVATE KEY-----";
/// Ours has some 2 KiB.
const LONGEST: u64 = 64 * 1024;

/// Why an authority cannot be kept, or not be taken from where it was kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system says no.
    #[error("{} cannot be used", .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it says.
        #[source]
        source: io::Error,
    },
    /// Others than its owner may read or write it, or it is not ours.
    #[error("{} has owner {owner} and mode {mode:03o}: it must be ours and nobody else's; remove it, and a new authority is made", .path.display())]
    Permissions {
        /// Which file or directory.
        path: PathBuf,
        /// Its owner's uid.
        owner: u32,
        /// Its permission bits.
        mode: u32,
    },
    /// It is not what this program writes.
    #[error("{} is damaged ({what}): remove it, and a new authority is made", .path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// It was made for another trust domain.
    #[error("{} is of another trust domain than {expected}", .path.display())]
    TrustDomain {
        /// Which file.
        path: PathBuf,
        /// What the caller wants.
        expected: TrustDomain,
    },
}

impl Authority {
    /// The authority kept in `dir`, or a new one that is kept there from now on.
    pub fn open(
        dir: &Path,
        trust_domain: &TrustDomain,
        now: SystemTime,
    ) -> Result<Self, AuthorityError> {
        if let Some(kept) = Self::load(dir, trust_domain)? {
            return Ok(kept);
        }
        let new = Self::create(trust_domain, now)?;
        new.store(dir)?;
        Ok(new)
    }

    /// The authority kept in `dir`; `None` where there is none. Refuses a file that others could read or write.
    pub fn load(dir: &Path, trust_domain: &TrustDomain) -> Result<Option<Self>, StoreError> {
        let path = dir.join(FILE);
        let Some(text) = read(dir, &path)? else {
            return Ok(None);
        };
        let damaged = |what| StoreError::Damaged {
            path: path.clone(),
            what,
        };
        let text = String::from_utf8(text).map_err(|_| damaged("not text"))?;
        let (key, text) = (text.split_once(KEY_END))
            .map(|(key, rest)| (format!("{key}{KEY_END}"), rest.trim_start().to_owned()))
            .ok_or_else(|| damaged("no key"))?;
        let ders = certificates(&text).map_err(|_| damaged("a certificate cannot be read"))?;
        let [issuer, root] =
            <[_; 2]>::try_from(ders).map_err(|_| damaged("not exactly an issuer and a root"))?;
        let authority = Self::assemble(&key, vec![issuer], vec![root], trust_domain);
        authority.map(Some).map_err(|error| match error {
            KeptError::Damaged(what) => damaged(what),
            KeptError::TrustDomain(expected) => StoreError::TrustDomain {
                path: path.clone(),
                expected,
            },
        })
    }

    /// Keeps it in `dir` (made with mode 0700 where it is missing), file mode 0600, replacing what was there in one step.
    pub fn store(&self, dir: &Path) -> Result<(), StoreError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::Io { path, source }
        };
        DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(dir)
            .map_err(io(dir))?;
        own(dir, &File::open(dir).map_err(io(dir))?)?;
        let path = dir.join(FILE);
        let temporary = dir.join(format!(".{FILE}.{}", std::process::id()));
        write(&temporary, &self.pem())
            .and_then(|()| std::fs::rename(&temporary, &path))
            .and_then(|()| File::open(dir)?.sync_all())
            .map_err(io(&path))
    }

    fn pem(&self) -> String {
        let kept = self.kept();
        kept.key + &kept.issuers + &kept.anchors
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn read(dir: &Path, path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    let io = |source| StoreError::Io {
        path: path.to_owned(),
        source,
    };
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NOFOLLOW.bits() | OFlag::O_NONBLOCK.bits())
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    own(dir, &File::open(dir).map_err(io)?)?;
    own(path, &file)?;
    let mut text = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut text).map_err(io)?;
    if text.len() as u64 > LONGEST {
        let what = "it is too long";
        let path = path.to_owned();
        return Err(StoreError::Damaged { path, what });
    }
    Ok(Some(text))
}

/// Ours, and closed to everybody else.
fn own(path: &Path, file: &File) -> Result<(), StoreError> {
    let facts = file.metadata().map_err(|source| StoreError::Io {
        path: path.to_owned(),
        source,
    })?;
    if facts.uid() == nix::unistd::geteuid().as_raw() && facts.mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(StoreError::Permissions {
        path: path.to_owned(),
        owner: facts.uid(),
        mode: facts.mode() & 0o777,
    })
}
