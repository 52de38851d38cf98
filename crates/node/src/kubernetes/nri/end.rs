// SPDX-License-Identifier: Apache-2.0
//! The end of a sandbox that began uncaptured: its network is cut off at once, then its process is ended, whereupon the kubelet has another
//! made. Capturing it late would not do for pods that are machines of their own: those have taken their interface already.
//!
//! Must never end anything else: a process is believed to be a sandbox's only by its control group, looked at after it was taken hold of.

use std::fs;
use std::io;

use maille_sys::NetNs;
use maille_sys::link;

use crate::host::Child;

/// Ends the sandbox `id` whose process is `pid` and whose network is `namespace`. Blocks.
pub(super) fn end(id: &str, pid: u32, namespace: Option<&NetNs>) -> io::Result<()> {
    let cut = namespace.map(cut);
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    if pid <= 1 {
        return Err(io::Error::other("it has no process"));
    }
    let found = Child::adopt(pid)?;
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    if !is_of(&groups, id) {
        found.leave();
        return Err(io::Error::other("its process is none of its own"));
    }
    // Dropped, it is killed.
    drop(found);
    cut.unwrap_or(Ok(()))
}

/// Takes every interface down.
fn cut(namespace: &NetNs) -> io::Result<()> {
    let done = link::inside(namespace, async |net| {
        for link in net.links().await? {
            net.down(&link.name).await?;
        }
        Ok(())
    });
    done.map_err(io::Error::other)
}

/// Whether control groups are those of the sandbox `id`: runtimes name them after it.
fn is_of(groups: &str, id: &str) -> bool {
    !id.is_empty() && groups.lines().any(|line| line.contains(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_control_group() {
        let groups = "8:memory:/kubepods/besteffort/podu-1/0a1b2c\n0::/x\n";
        assert!(is_of(groups, "0a1b2c"));
        assert!(is_of(
            "0::/kubepods.slice/cri-containerd-0a1b2c.scope\n",
            "0a1b2c"
        ));
        assert!(!is_of(groups, "0a1b2d"));
        assert!(!is_of(groups, ""));
    }

    #[test]
    fn whoever_is_no_sandbox_is_left_alone() {
        let mut other = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let error = end("0a1b2c", other.id(), None).unwrap_err();
        assert!(error.to_string().contains("none of its own"), "{error}");
        assert!(other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(end("0a1b2c", 0, None).is_err());
    }

    #[test]
    fn a_network_that_is_cut_off_says_nothing_more() {
        let namespace = NetNs::create().unwrap();
        let up = |net: &NetNs| {
            let links = link::inside(net, async |net| net.links().await).unwrap();
            links.iter().filter(|link| link.up).count()
        };
        link::inside(&namespace, async |net| net.up("lo").await).unwrap();
        assert_eq!(up(&namespace), 1);
        cut(&namespace).unwrap();
        assert_eq!(up(&namespace), 0);
    }
}
