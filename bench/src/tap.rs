// SPDX-License-Identifier: Apache-2.0
//! Somebody who watches while Maille's pair is measured: the API's `GET /v1/tap`, whose lines are read and forgotten.
//!
//! Must never be what is slow: it reads as fast as it can, on the load's core. Read `measure.rs` for the user.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::JoinHandle;

use anyhow::{Context as _, ensure};
use clap::ValueEnum;
use serde::Serialize;

/// Who watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Tap {
    /// Nobody.
    None,
    /// Somebody whose filter no request fits.
    Idle,
    /// Somebody who sees a hundred requests a second: what people get who ask for no more.
    Some,
    /// Somebody who sees them all, with their headers.
    All,
}

/// A tap that is open; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Watching {
    stream: UnixStream,
    reader: Option<JoinHandle<io::Result<u64>>>,
}

impl Tap {
    fn query(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Idle => Some("resource=ns/bench&path=/nobody-asks-for-this"),
            Self::Some => Some("resource=ns/bench"),
            Self::All => Some("resource=ns/bench&max_rps=100000&headers=redacted"),
        }
    }

    /// Begins to watch both proxies, by way of the control whose state is in `state`.
    pub(crate) fn open(self, state: &Path) -> anyhow::Result<Option<Watching>> {
        let Some(query) = self.query() else {
            return Ok(None);
        };
        let path = state.join("api.sock");
        let connected = UnixStream::connect(&path);
        let mut stream = connected.with_context(|| path.display().to_string())?;
        write!(
            stream,
            "GET /v1/tap?{query} HTTP/1.1\r\nhost: maille\r\n\r\n"
        )?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        ensure!(head == *b"HTTP/1.1 200", "the tap was refused");
        let mut lines = stream.try_clone()?;
        let reader = std::thread::spawn(move || io::copy(&mut lines, &mut io::sink()));
        Ok(Some(Watching {
            stream,
            reader: Some(reader),
        }))
    }
}

impl Watching {
    /// Ends it: how many bytes of lines there were.
    pub(crate) fn end(mut self) -> u64 {
        // It may have ended by itself.
        drop(self.stream.shutdown(Shutdown::Both));
        let reader = self.reader.take();
        let read = reader.and_then(|reader| reader.join().ok());
        read.and_then(Result::ok).unwrap_or(0)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // The reader ends with it.
        drop(self.stream.shutdown(Shutdown::Both));
    }
}
