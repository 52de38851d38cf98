// SPDX-License-Identifier: Apache-2.0
//! Hears from children that they are ready, or about to end: the receiving end of the sd_notify protocol.
//!
//! Only `READY=1` and `STOPPING=1` are understood. The socket lies in a directory that only the child and this process can see.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixDatagram;
use tokio::time::timeout;

/// What a child may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// It does its work from now on.
    Ready,
    /// It takes no new work from now on.
    Stopping,
}

/// A socket on which one child at a time reports.
#[derive(Debug)]
pub(crate) struct Notify {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Notify {
    /// Binds `path`, replacing what an earlier run left there.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Self {
            socket: UnixDatagram::bind(path)?,
            path: path.to_owned(),
        })
    }

    /// For the child's environment.
    pub(crate) fn variable(&self) -> (String, String) {
        ("NOTIFY_SOCKET".to_owned(), self.path.display().to_string())
    }

    /// Forgets what an earlier child said.
    pub(crate) fn clear(&self) {
        let mut buffer = [0; 64];
        while self.socket.try_recv(&mut buffer).is_ok() {}
    }

    /// Waits for `READY=1`. `false`: it did not come in time.
    pub(crate) async fn ready(&self, within: Duration) -> bool {
        let heard = async { while self.said().await != Said::Ready {} };
        timeout(within, heard).await.is_ok()
    }

    /// The next that a child says. Never returns where none can say anything any more. Cancel-safe.
    pub(crate) async fn said(&self) -> Said {
        let mut buffer = [0; 4096];
        loop {
            let Ok(length) = self.socket.recv(&mut buffer).await else {
                return std::future::pending().await;
            };
            let message = buffer.get(..length).unwrap_or_default();
            for line in message.split(|byte| *byte == b'\n') {
                match line {
                    b"READY=1" => return Said::Ready,
                    b"STOPPING=1" => return Said::Stopping,
                    _ => {}
                }
            }
        }
    }
}
