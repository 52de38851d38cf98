// SPDX-License-Identifier: Apache-2.0
//! Who may use a pod's socket: the process that this agent started as its proxy, in the pod's mesh namespace, and nobody else.
//!
//! A pid alone could be an heir's; the namespace alone could be joined. Both together, read while the process is this agent's
//! child and not yet waited for, are the proxy.

use std::io;
use std::os::unix::fs::MetadataExt as _;

use tokio::net::UnixStream;
use tokio::sync::Mutex;

/// A pod's expected caller.
#[derive(Debug)]
pub(crate) struct Expected {
    /// The proxy's pid while it runs. Locked while one is being started, so that no caller is judged in between.
    pub(crate) pid: Mutex<Option<i32>>,
    /// Inode of the mesh namespace.
    pub(crate) netns: u64,
}

/// Why a caller is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("its credentials cannot be read")]
    Credentials(#[source] io::Error),
    #[error("pid {found:?} asks, the proxy is {expected:?}")]
    Pid {
        found: Option<i32>,
        expected: Option<i32>,
    },
    #[error("its network namespace cannot be read")]
    Namespace(#[source] io::Error),
    #[error("it is in network namespace {found}, the mesh namespace is {expected}")]
    OtherNamespace { found: u64, expected: u64 },
}

impl Expected {
    /// Whether the process behind `stream` is the proxy.
    pub(crate) async fn check(&self, stream: &UnixStream) -> Result<(), Refused> {
        let credentials = stream.peer_cred().map_err(Refused::Credentials)?;
        let expected = self.pid.lock().await;
        let Some(pid) = credentials.pid().filter(|pid| Some(*pid) == *expected) else {
            return Err(Refused::Pid {
                found: credentials.pid(),
                expected: *expected,
            });
        };
        let found = std::fs::metadata(format!("/proc/{pid}/ns/net"))
            .map_err(Refused::Namespace)?
            .ino();
        if found != self.netns {
            return Err(Refused::OtherNamespace {
                found,
                expected: self.netns,
            });
        }
        Ok(())
    }
}
