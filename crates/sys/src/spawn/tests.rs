// SPDX-License-Identifier: Apache-2.0
//! What a started process sees and has. These run as root, or inside a user namespace.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _};

use super::*;

/// Runs a shell script as `spawn` says and gives what it wrote and how it ended.
fn run(script: &str, dress: impl FnOnce(Spawn) -> Spawn) -> (String, Exit) {
    let mut output = tempfile::tempfile().unwrap();
    let spawn = Spawn::new("sh")
        .args(["-c", script])
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output(output.try_clone().unwrap(), output.try_clone().unwrap());
    let exit = dress(spawn).start().unwrap().wait().unwrap();
    let mut text = String::new();
    output.rewind().unwrap();
    output.read_to_string(&mut text).unwrap();
    (text, exit)
}

#[test]
fn an_isolated_process_is_alone() {
    let (text, exit) = run(
        "echo $$; ls /proc/net/dev; ls -d /proc/[0-9]*; id -u; exit 7",
        Spawn::isolated,
    );
    assert_eq!(exit, Exit::Code(7));
    assert!(text.starts_with("1\n/proc/net/dev\n"), "{text}");
    assert!(text.contains("\n0\n"), "{text}");
}

#[test]
fn a_pod_has_its_own_files_name_and_network() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    fs::create_dir_all(state.join("pods/7")).unwrap();
    fs::write(state.join("secret"), "secret").unwrap();
    fs::write(state.join("pods/7/hosts"), "own hosts\n").unwrap();
    let own = state.join("pods/7");
    let net = NetNs::create().unwrap();
    let script = format!(
        "cat /etc/hosts; hostname; readlink /proc/self/ns/net; ls {0}; ls {0}/pods/7; echo x > {0}/pods/7/new; echo y > {0}/y; echo z > /etc/hosts",
        state.display()
    );
    let inode = net.inode();
    let (text, _) = run(&script, |spawn| {
        spawn
            .pod(&net, "web-1")
            .bind(Bind {
                from: own.join("hosts"),
                at: "/etc/hosts".into(),
                writable: false,
            })
            .hide(&state)
            .bind(Bind {
                from: own.clone(),
                at: own.clone(),
                writable: true,
            })
    });
    assert!(
        text.starts_with(&format!("own hosts\nweb-1\nnet:[{inode}]\npods\nhosts\n")),
        "{text}"
    );
    assert_eq!(text.matches("Read-only file system").count(), 2, "{text}");
    assert!(
        own.join("new").exists(),
        "the writable bind was not written through: {text}"
    );
}

#[test]
fn only_given_descriptors_and_variables() {
    let _stray = File::open("/proc/self/status").unwrap();
    let passed = File::open("/dev/null").unwrap();
    let (text, _) = run(
        "ls /proc/self/fd | tr '\\n' ' '; env | sort | cut -d= -f1 | tr '\\n' ' '",
        |spawn| spawn.fd(passed, 5).env("A", "1"),
    );
    // 3 is the directory that ls reads.
    assert_eq!(
        text.split_whitespace().take(5).collect::<Vec<_>>(),
        ["0", "1", "2", "3", "5"],
        "{text}"
    );
    assert!(text.contains("A PATH PWD"), "{text}");
}

#[test]
fn capabilities_are_gone_for_good() {
    let (text, _) = run(
        "grep -E 'Cap(Prm|Eff|Bnd|Inh|Amb)|NoNewPrivs' /proc/self/status",
        |spawn| spawn.capabilities(crate::caps::NET_RAW).no_new_privileges(),
    );
    let value = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap()
            .trim()
            .to_owned()
    };
    for name in ["CapPrm:", "CapEff:", "CapBnd:"] {
        assert_eq!(value(name), "0000000000002000", "{text}");
    }
    assert_eq!(value("CapInh:"), "0000000000000000");
    assert_eq!(value("NoNewPrivs:"), "1");
}

#[test]
fn what_is_confined_changes_nothing_of_the_machine() {
    let script = "unshare -U true 2>/dev/null && echo free; mount -t tmpfs none /mnt 2>/dev/null && echo mounted; \
                  grep Seccomp: /proc/self/status";
    let (text, _) = run(script, Spawn::confined);
    assert_eq!(
        text.split_whitespace().collect::<Vec<_>>(),
        ["Seccomp:", "2"],
        "{text}"
    );
    let (text, _) = run("unshare -U echo free", |spawn| spawn);
    assert!(text.contains("free"), "{text}");
}

#[test]
fn what_cannot_run_says_so() {
    let error = Spawn::new("/nonexistent/program").start().unwrap_err();
    assert_eq!(
        error.to_string(),
        "/nonexistent/program: running the program failed"
    );
    let error = Spawn::new("sh").cwd("/nonexistent").start().unwrap_err();
    assert_eq!(
        error.to_string(),
        "sh: entering the working directory failed"
    );
    let error = Spawn::new("sh").args(["a\0b"]).start().unwrap_err();
    assert_eq!(error.to_string(), "an argument holds a NUL byte");
}

#[test]
fn a_child_survives_its_callers_thread_and_dies_when_dropped() {
    let child = std::thread::spawn(|| Spawn::new("/bin/sleep").args(["1000"]).start().unwrap())
        .join()
        .unwrap();
    let pid = child.pid();
    let alive =
        || fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    assert!(alive());
    drop(child);
    assert!(!alive());
}

#[tokio::test(flavor = "current_thread")]
async fn its_end_is_heard_inside_a_runtime() {
    let mut child = Spawn::new("/bin/sleep").args(["1000"]).start().unwrap();
    let waited = tokio::time::timeout(std::time::Duration::from_millis(1), child.exited()).await;
    assert!(waited.is_err());
    child.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(child.exited().await.unwrap(), Exit::Signal(15));
    assert_eq!(child.wait().unwrap(), Exit::Signal(15));
}

#[test]
fn places_are_made_where_there_are_none_and_leave_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file) = (dir.path().join("data"), dir.path().join("file"));
    fs::create_dir(&data).unwrap();
    fs::write(data.join("a"), "in data\n").unwrap();
    fs::write(&file, "a file\n").unwrap();
    let net = NetNs::create().unwrap();
    let script = "cat /maille-new/deep/a /etc/maille-new/f /usr/share/maille-new/a; ls /etc/passwd /usr/share/doc -d; pwd; \
        echo b > /maille-new/deep/b; echo x > /maille-new/x; readlink /proc/self/root; test -e /proc/self/fd/1 && echo proc";
    let bind = |from: &Path, at: &str, writable| Bind {
        from: from.to_owned(),
        at: at.into(),
        writable,
    };
    let (text, exit) = run(script, |spawn| {
        spawn
            .pod(&net, "web-1")
            .bind(bind(&data, "/maille-new/deep", true))
            .bind(bind(&file, "/etc/maille-new/f", false))
            .bind(bind(&data, "/usr/share/maille-new", false))
            .cwd("/maille-work/dir")
    });
    assert_eq!(exit, Exit::Code(0), "{text}");
    assert_eq!(
        text,
        "in data\na file\nin data\n/etc/passwd\n/usr/share/doc\n/maille-work/dir\n/\nproc\n"
    );
    assert!(data.join("b").exists());
    for trace in [
        "/maille-new",
        "/maille-work",
        "/etc/maille-new",
        "/usr/share/maille-new",
    ] {
        assert!(!Path::new(trace).exists(), "{trace}");
    }
}

#[test]
fn a_closed_root_is_open_where_it_must_be() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    let net = NetNs::create().unwrap();
    let script = "echo a > /maille-data/a && echo volume; echo b > /dev/null && echo null; echo c > /tmp/maille-closed";
    let open = |spawn: Spawn| {
        spawn.pod(&net, "web-1").bind(Bind {
            from: data.clone(),
            at: "/maille-data".into(),
            writable: true,
        })
    };
    let (text, _) = run(script, |spawn| open(spawn).read_only_root());
    assert!(text.starts_with("volume\nnull\n"), "{text}");
    assert!(text.contains("Read-only file system"), "{text}");
    assert!(!Path::new("/tmp/maille-closed").exists());
    // Without it the same can write there.
    let (text, _) = run(script, open);
    assert_eq!(text, "volume\nnull\n");
    fs::remove_file("/tmp/maille-closed").unwrap();
}

#[test]
fn what_is_alone_sees_itself_and_what_is_bound() {
    let dir = tempfile::tempdir().unwrap();
    // Where none may be run, and gone once it runs.
    let (place, own) = (dir.path().join("place"), dir.path().join("own"));
    for dir in [&place, &own] {
        fs::create_dir(dir).unwrap();
    }
    let net = NetNs::create().unwrap();
    let script = format!(
        "mount -t tmpfs -o noexec none {0} && cp /bin/sh {0}/shell && ! {0}/shell -c true 2>/dev/null",
        place.display()
    );
    let bind = |path: &Path, writable| Bind {
        from: path.to_owned(),
        at: path.to_owned(),
        writable,
    };
    let (text, exit) = run(&script, |spawn| spawn);
    assert_eq!(exit, Exit::Code(0), "{text}");
    let mut output = tempfile::tempfile().unwrap();
    let script = format!(
        "echo /*; echo a > {0}/a && echo own; echo b > /b; cat /proc/1/comm",
        own.display()
    );
    let mut spawn = Spawn::new(place.join("shell"))
        .args(["-c", &script])
        .env("PATH", "/usr/bin:/bin")
        .alone()
        .pod(&net, "web-1")
        .bind(bind(&own, true))
        .output(output.try_clone().unwrap(), output.try_clone().unwrap());
    for libraries in ["/usr", "/lib", "/lib64", "/bin"] {
        spawn = spawn.bind(bind(Path::new(libraries), false));
    }
    let started = spawn.start();
    nix::mount::umount2(&place, nix::mount::MntFlags::MNT_DETACH).unwrap();
    let exit = started.unwrap().wait().unwrap();
    let mut text = String::new();
    output.rewind().unwrap();
    output.read_to_string(&mut text).unwrap();
    assert_eq!(exit, Exit::Code(0), "{text}");
    let top = own.iter().nth(1).unwrap().to_string_lossy();
    assert!(
        text.starts_with(&format!("/bin /lib /lib64 /proc /shell /{top} /usr\nown\n")),
        "{text}"
    );
    assert!(text.contains("Read-only file system"), "{text}");
    assert!(own.join("a").exists());
}

#[test]
fn another_user_has_its_number_and_no_rights() {
    let net = NetNs::create().unwrap();
    let script = "id -u; id -g; grep -E 'Cap(Prm|Eff|Amb)' /proc/self/status | sort | uniq";
    let none = "CapAmb:\t0000000000000000\nCapEff:\t0000000000000000\nCapPrm:\t0000000000000000\n";
    for alias in [true, false] {
        let user = User {
            id: 1234,
            group: 2345,
            groups: Vec::new(),
            alias,
        };
        if !alias && !all_users() {
            continue;
        }
        // Threads that the child must not wait for, as it is a copy of a process that has some.
        let (end, waits) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || waits.recv().is_err());
        let (text, _) = run(script, |spawn| {
            let spawn = spawn.pod(&net, "web-1").user(user);
            spawn.capabilities(CapSet::CONTAINER)
        });
        assert_eq!(text, format!("1234\n2345\n{none}"), "alias {alias}");
        drop(end);
        assert!(other.join().unwrap());
    }
}

/// Whether this process can be everybody.
fn all_users() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap();
    map.split_whitespace()
        .nth(2)
        .is_some_and(|count| count != "1")
}

#[test]
fn a_second_process_is_where_the_first_is() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), "seen\n").unwrap();
    let net = NetNs::create().unwrap();
    for alias in [false, true] {
        let mut first = Spawn::new("sleep")
            .args(["1000"])
            .env("PATH", "/usr/bin:/bin")
            .pod(&net, "web-1")
            .bind(Bind {
                from: dir.path().to_owned(),
                at: "/maille-first".into(),
                writable: false,
            });
        if alias {
            first = first.user(User {
                id: 1234,
                group: 1234,
                groups: Vec::new(),
                alias,
            });
        }
        let first = first.start().unwrap();
        let script =
            "cat /maille-first/a; hostname; cat /proc/1/comm; readlink /proc/self/ns/net; id -u";
        let (text, exit) = run(script, |spawn| spawn.inside(first.handle().unwrap()));
        let own = if alias { 1234 } else { 0 };
        let expected = format!("seen\nweb-1\nsleep\nnet:[{}]\n{own}\n", net.inode());
        assert_eq!((text, exit), (expected, Exit::Code(0)));
        // The next one is born here again, and one inside the dead is refused.
        let (text, _) = run("cat /proc/1/comm", |spawn| spawn);
        assert_ne!(text, "sleep\n");
        let handle = first.handle().unwrap();
        drop(first);
        assert!(Spawn::new("true").inside(handle).start().is_err());
    }
}
