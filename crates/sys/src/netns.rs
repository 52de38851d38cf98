// SPDX-License-Identifier: Apache-2.0
//! Network namespaces, held by a descriptor and never named in the file system: when the last holder ends they are gone.
//!
//! Entering is a property of a thread (`setns(2)`), so work is done on a thread made for it, never on a runtime's worker.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace. Cheap to clone; all clones are the same namespace.
#[derive(Clone, Debug)]
pub struct NetNs {
    file: Arc<File>,
    inode: u64,
}

impl NetNs {
    /// A new, empty namespace: only a `lo` that is down. Needs CAP_SYS_ADMIN in the own user namespace.
    pub fn create() -> io::Result<Self> {
        on_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            Self::open("/proc/thread-self/ns/net")
        })?
    }

    /// The namespace of the calling thread.
    pub fn current() -> io::Result<Self> {
        Self::open("/proc/thread-self/ns/net")
    }

    /// The namespace of a process.
    pub fn of_pid(pid: i32) -> io::Result<Self> {
        Self::open(&format!("/proc/{pid}/ns/net"))
    }

    fn open(path: &str) -> io::Result<Self> {
        let file = File::open(path)?;
        let inode = file.metadata()?.ino();
        Ok(Self {
            file: Arc::new(file),
            inode,
        })
    }

    /// The number that tells it from every other namespace of this machine while it exists.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Runs `work` on a fresh thread inside the namespace and gives its result. Blocks the caller.
    pub fn run<T, F>(&self, work: F) -> io::Result<T>
    where
        T: Send,
        F: FnOnce() -> T + Send,
    {
        on_thread(|| {
            setns(self.as_fd(), CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        })?
    }

    /// Sets a sysctl of the namespace, `net/ipv4/ip_forward` say, and gives what it is then.
    pub fn sysctl(&self, name: &str, value: &str) -> io::Result<String> {
        // /proc/sys/net shows the namespace of the task that opens it, which is why this runs inside.
        let path = format!("/proc/sys/{name}");
        let set = self.run(|| {
            std::fs::write(&path, value)?;
            std::fs::read_to_string(&path)
        })?;
        set.map(|text| text.trim().to_owned())
            .map_err(|error| io::Error::new(error.kind(), format!("{name}={value}: {error}")))
    }

    /// What a sysctl of the namespace is.
    pub fn read_sysctl(&self, name: &str) -> io::Result<String> {
        let text = self.run(|| std::fs::read_to_string(format!("/proc/sys/{name}")))?;
        text.map(|text| text.trim().to_owned())
            .map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))
    }
}

impl PartialEq for NetNs {
    fn eq(&self, other: &Self) -> bool {
        self.inode == other.inode
    }
}

impl Eq for NetNs {}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn on_thread<T, F>(work: F) -> io::Result<T>
where
    T: Send,
    F: FnOnce() -> T + Send,
{
    thread::scope(|scope| {
        let handle = thread::Builder::new()
            .name("netns".into())
            .spawn_scoped(scope, work)?;
        handle
            .join()
            .map_err(|_| io::Error::other("the thread inside the namespace panicked"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_apart() {
        let (a, b) = (NetNs::create().unwrap(), NetNs::create().unwrap());
        assert_ne!(a, b);
        assert_eq!(a.run(NetNs::current).unwrap().unwrap(), a);
        a.sysctl("net/ipv4/ip_forward", "1").unwrap();
        let read = || std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
        assert_eq!(a.run(read).unwrap().trim(), "1");
        assert_eq!(b.run(read).unwrap().trim(), "0");
    }
}
