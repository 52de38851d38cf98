// SPDX-License-Identifier: Apache-2.0
//! Turns: what a capture waits for does not keep others from theirs.

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use futures_util::future::{join, join_all};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::*;
use crate::agent::Control;

/// Longer than one program may take, and shorter than two after one another and what lies between.
const MOST: Duration = Duration::from_secs(19);

/// In the place of `nft`, for this thread and what it begins: a program that does not end the first times that it is called.
fn stuck(dir: &Path, times: usize) {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(none, "/", none, private, none).unwrap();
    let nft = ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"];
    let nft = nft.iter().find(|path| Path::new(path).exists()).unwrap();
    let (real, instead) = (dir.join("real"), dir.join("instead"));
    fs::copy(nft, &real).unwrap();
    let (dir, real) = (dir.display(), real.display());
    let script = format!(
        "#!/bin/sh\nfor n in $(seq {times}); do mkdir {dir}/$n 2>/dev/null && exec sleep 3600; done\nexec {real} \"$@\"\n"
    );
    fs::write(&instead, script).unwrap();
    fs::set_permissions(&instead, fs::Permissions::from_mode(0o755)).unwrap();
    mount(Some(&instead), *nft, none, MsFlags::MS_BIND, none).unwrap();
}

fn sandboxes(dir: &Path, clock: Clock) -> Sandboxes {
    let directory = dir.join("sandboxes");
    fs::create_dir(&directory).unwrap();
    let (tasks, processes) = (Tasks::new(), Arc::<Processes>::default());
    let agent = Agent::new(
        (dir, dir),
        Control::beside(dir),
        Vec::new(),
        processes.clone(),
        tasks.clone(),
        clock,
    );
    Sandboxes::new(agent, processes, directory, Arc::default(), (tasks, clock))
}

#[test]
fn a_program_that_does_not_end_keeps_nobody_from_his_turn() {
    let dir = tempfile::tempdir().unwrap();
    stuck(dir.path(), AT_ONCE);
    let clock = Clock::start();
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    runtime.block_on(async {
        let sandboxes = sandboxes(dir.path(), clock);
        let add = |number: usize| {
            let pod = NetNs::create().unwrap();
            let sandbox = Sandbox {
                container: format!("c{number}"),
                interface: "eth0".to_owned(),
                namespace: "shop".to_owned(),
                name: format!("web-{number}"),
                uid: format!("u-{number}"),
                annotations: [("maille.io/capture".to_owned(), "inboard-cni".to_owned())].into(),
            };
            let fd = pod.as_fd().try_clone_to_owned().unwrap();
            sandboxes.add(sandbox, fd)
        };
        let (all, last) = join(join_all((0..AT_ONCE).map(add)), add(AT_ONCE)).await;
        for one in all {
            let error = format!("{:#}", anyhow::Error::from(one.unwrap_err()));
            assert!(error.contains("nft did not end within 10s"), "{error}");
        }
        last.unwrap();
        assert!(clock.elapsed() < MOST, "{:?}", clock.elapsed());
        // Closed, and nothing of them is left.
        assert_eq!(sandboxes.found().unwrap(), [format!("c{AT_ONCE}")]);
        assert!(sandboxes.holds("c0", None).await.is_err());
        sandboxes.del(&format!("c{AT_ONCE}")).await.unwrap();
        assert!(sandboxes.found().unwrap().is_empty());
    });
}
