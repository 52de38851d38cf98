// SPDX-License-Identifier: Apache-2.0
//! Who should be protected: the expectation file, which the node replaces by rename whenever a pod comes. Read `report.rs`
//! next.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::Read as _;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// A file for 10,000 pods is 1 MB.
const LONGEST: u64 = 64 << 20;

/// What is known of addresses.
#[derive(Debug, Default)]
pub(crate) struct Expectation(HashMap<IpAddr, Pod>);

/// One address.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pod {
    pub(crate) address: IpAddr,
    /// Whether what it exchanges with other meshed addresses must be TLS.
    pub(crate) meshed: bool,
    /// `namespace/pod`.
    pub(crate) name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    pods: Vec<Pod>,
}

/// Why an expectation cannot be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExpectError {
    #[error("{path} cannot be read")]
    Read {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} is not an expectation")]
    Parse {
        path: String,
        #[source]
        source: serde_json::Error,
    },
}

impl Expectation {
    pub(crate) fn parse(text: &[u8]) -> serde_json::Result<Self> {
        let written: Written = serde_json::from_slice(text)?;
        let pods = written.pods.into_iter();
        Ok(Self(pods.map(|pod| (pod.address, pod)).collect()))
    }

    pub(crate) fn pod(&self, address: IpAddr) -> Option<&Pod> {
        self.0.get(&address)
    }
}

/// The expectation file and what it said last.
#[derive(Debug)]
pub(crate) struct Watched {
    path: PathBuf,
    stamp: Option<Stamp>,
    pub(crate) now: Expectation,
}

/// Differs whenever the file was replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    seconds: i64,
    nanoseconds: i64,
    size: u64,
}

impl Watched {
    /// Nothing is read yet.
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            stamp: None,
            now: Expectation::default(),
        }
    }

    /// Reads the file if it is another than last time. On error what it said before stays in force.
    pub(crate) fn refresh(&mut self) -> Result<(), ExpectError> {
        let failed = |source| ExpectError::Read {
            path: self.path.display().to_string(),
            source,
        };
        let mut file = File::open(&self.path).map_err(failed)?;
        let stamp = Stamp::of(&file.metadata().map_err(failed)?);
        if self.stamp == Some(stamp) {
            return Ok(());
        }
        let mut text = Vec::new();
        let read = file.by_ref().take(LONGEST).read_to_end(&mut text);
        read.map_err(failed)?;
        self.now = Expectation::parse(&text).map_err(|source| ExpectError::Parse {
            path: self.path.display().to_string(),
            source,
        })?;
        self.stamp = Some(stamp);
        Ok(())
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            seconds: metadata.mtime(),
            nanoseconds: metadata.mtime_nsec(),
            size: metadata.size(),
        }
    }
}

#[cfg(test)]
mod tests;
