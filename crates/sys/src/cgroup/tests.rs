// SPDX-License-Identifier: Apache-2.0
use super::*;

const ONE: &str = "30 25 0:26 / /sys/fs/cgroup rw,nosuid - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 30 0:29 /docker/ab /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
34 30 0:30 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
const TWO: &str = "35 25 0:31 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n";

fn hierarchy(version: Version, controllers: &[&'static str], base: &str) -> Hierarchy {
    Hierarchy {
        version,
        controllers: controllers.to_vec(),
        base: PathBuf::from(base),
    }
}

#[test]
fn both_versions_are_found() {
    let own = "5:pids:/docker/ab/own\n4:memory:/user/1\n2:cpu,cpuacct:/\n0::/\n";
    let found = find::hierarchies(own, ONE).unwrap();
    let expected = [
        hierarchy(Version::One, &["memory"], "/sys/fs/cgroup/memory/user/1"),
        hierarchy(Version::One, &["cpu"], "/sys/fs/cgroup/cpu,cpuacct"),
        hierarchy(Version::One, &["pids"], "/sys/fs/cgroup/pids/own"),
    ];
    assert_eq!(found, expected);
    let found = find::hierarchies("0::/user.slice/session-1.scope\n", TWO).unwrap();
    let all = ["memory", "cpu", "pids"];
    assert_eq!(found, [hierarchy(Version::Two, &all, "/sys/fs/cgroup")]);
    let outside = "5:pids:/../other\n4:memory:/\n2:cpu,cpuacct:/\n";
    let found = find::hierarchies(outside, ONE).unwrap();
    assert_eq!(found[2].base, Path::new("/sys/fs/cgroup/pids"));
    assert!(matches!(
        find::hierarchies("", ""),
        Err(Unavailable::Missing("memory"))
    ));
}

/// A hierarchy of plain files: what is written where.
fn tree(version: Version, dir: &Path) -> Tree {
    Tree {
        hierarchies: vec![Hierarchy {
            version,
            controllers: CONTROLLERS.to_vec(),
            base: dir.to_owned(),
        }],
        name: "own".into(),
    }
}

#[test]
fn each_version_has_its_files() {
    let limits = Limits {
        memory: Some(64 << 20),
        cpu_millis: Some(1500),
        pids: Some(100),
    };
    for (version, expected) in [
        (
            Version::One,
            &[
                ("memory.limit_in_bytes", "67108864"),
                ("cpu.cfs_period_us", "100000"),
                ("cpu.cfs_quota_us", "150000"),
                ("pids.max", "100"),
            ][..],
        ),
        (
            Version::Two,
            &[
                ("memory.max", "67108864"),
                ("cpu.max", "150000 100000"),
                ("pids.max", "100"),
            ],
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let tree = tree(version, dir.path());
        tree.make("pod", limits).unwrap();
        let read = |path: &str| fs::read_to_string(dir.path().join(path)).unwrap();
        for (file, value) in expected {
            assert_eq!(read(&format!("own/pod/{file}")), *value);
        }
        if version == Version::Two {
            assert_eq!(read("cgroup.subtree_control"), "+memory +cpu +pids");
            assert_eq!(read("own/cgroup.subtree_control"), "+memory +cpu +pids");
        }
    }
    let least = settings(
        Version::Two,
        Limits {
            cpu_millis: Some(1),
            ..Limits::default()
        },
    );
    assert_eq!(least, [("cpu", "cpu.max", "1000 100000".to_owned())]);
}

/// On this machine, where it allows groups: a process in one is limited, and nothing is left.
#[test]
fn a_process_that_needs_too_much_is_killed_and_counted() {
    let name = format!("maille-test.{}", std::process::id());
    let tree = match Tree::find(&name) {
        Ok(tree) => tree,
        // Whoever may not make groups is told why, and that is all there is to see.
        Err(why) => return assert!(!why.to_string().is_empty()),
    };
    let limits = Limits {
        memory: Some(32 << 20),
        cpu_millis: Some(500),
        pids: Some(20),
    };
    let group = tree.make("one", limits).unwrap();
    let start = |script: &str| {
        crate::spawn::Spawn::new("/bin/sh")
            .args(["-c", script])
            .env("PATH", "/usr/bin:/bin")
            .group(&group)
            .start()
            .unwrap()
    };
    assert_eq!(start("exit 3").wait().unwrap(), crate::spawn::Exit::Code(3));
    assert_eq!(group.killed(), 0);
    let greedy = start("x=0123456789abcdef; while :; do x=$x$x; done").wait();
    assert_eq!(greedy.unwrap(), crate::spawn::Exit::Signal(9));
    assert!(group.killed() > 0);
    group.remove().unwrap();
    assert!(tree.there("one").is_none());
    for directory in tree.directories() {
        remove(&directory).unwrap();
        assert!(!directory.exists());
        remove(&directory).unwrap();
    }
}
