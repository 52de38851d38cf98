// SPDX-License-Identifier: Apache-2.0
//! Network namespaces, held by a descriptor and as a rule never named in the file system: when the last holder ends they are gone.
//! One that has to outlive its holders is pinned to a file.
//!
//! Entering is a property of a thread (`setns(2)`), so work is done on a thread made for it, never on a runtime's worker.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace. Cheap to clone; all clones are the same namespace.
#[derive(Clone, Debug)]
pub struct NetNs {
    file: Arc<File>,
    device: u64,
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

    /// The one that somebody else opened. Whether it is one shows when it is entered.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        Self::of(File::from(fd))
    }

    /// The one that was pinned at `path`. Fails where nothing is pinned there any more.
    pub fn pinned(path: &Path) -> io::Result<Self> {
        let found = Self::of(File::open(path)?)?;
        found.run(|| ())?;
        Ok(found)
    }

    /// Keeps it by the file `path`, which is made, until [`Self::unpin`] or the end of the mount namespace. Needs CAP_SYS_ADMIN.
    pub fn pin(&self, path: &Path) -> io::Result<()> {
        File::create(path)?;
        let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let none = None::<&str>;
        Ok(mount(
            Some(own.as_str()),
            path,
            none,
            MsFlags::MS_BIND,
            none,
        )?)
    }

    /// Ends [`Self::pin`]. Where nothing is pinned that is no error.
    pub fn unpin(path: &Path) -> io::Result<()> {
        match umount2(path, MntFlags::MNT_DETACH) {
            Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn open(path: &str) -> io::Result<Self> {
        Self::of(File::open(path)?)
    }

    fn of(file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            file: Arc::new(file),
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }

    /// The number that tells it from every other namespace of this machine while it exists.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Runs `work` on a fresh thread inside the namespace and gives its result. Blocks the caller. Where the caller is in it, that takes no right.
    pub fn run<T, F>(&self, work: F) -> io::Result<T>
    where
        T: Send,
        F: FnOnce() -> T + Send,
    {
        on_thread(|| {
            let here = Self::current()?;
            if (here.device, here.inode) != (self.device, self.inode) {
                setns(self.as_fd(), CloneFlags::CLONE_NEWNET)?;
            }
            Ok(work())
        })?
    }

    /// Sets a sysctl of the namespace, `net/ipv4/ip_forward` say, and gives what it is then.
    pub fn sysctl(&self, name: &str, value: &str) -> io::Result<String> {
        self.run(|| sysctl_here(name, value))?
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

/// [`NetNs::sysctl`] in the namespace that the caller is in: `/proc/sys/net` shows that of the task that opens it.
pub fn sysctl_here(name: &str, value: &str) -> io::Result<String> {
    let path = format!("/proc/sys/{name}");
    let set = std::fs::write(&path, value).and_then(|()| std::fs::read_to_string(&path));
    set.map(|text| text.trim().to_owned())
        .map_err(|error| io::Error::new(error.kind(), format!("{name}={value}: {error}")))
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
    fn a_pinned_one_outlives_its_holders() {
        let dir = tempfile::tempdir().unwrap();
        let pin = dir.path().join("pin");
        assert!(NetNs::pinned(&pin).is_err());
        // Mounts of this test are this thread's alone.
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        let made = NetNs::create().unwrap();
        made.sysctl("net/ipv4/ip_forward", "1").unwrap();
        made.pin(&pin).unwrap();
        drop(made);
        let found = NetNs::pinned(&pin).unwrap();
        assert_eq!(found.read_sysctl("net/ipv4/ip_forward").unwrap(), "1");
        NetNs::unpin(&pin).unwrap();
        NetNs::unpin(&pin).unwrap();
        std::fs::write(&pin, "no namespace").unwrap();
        assert!(NetNs::pinned(&pin).is_err());
    }

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
