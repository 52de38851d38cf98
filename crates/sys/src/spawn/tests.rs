use super::*;

fn shell(script: &str) -> Spawn {
    Spawn::new("sh")
        .args(["-c", script])
        .envs([("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")])
}

async fn output(spawn: Spawn) -> (ExitStatus, String) {
    let mut file = tempfile::tempfile().unwrap();
    let child = spawn
        .output(file.try_clone().unwrap(), file.try_clone().unwrap())
        .start()
        .unwrap();
    let status = child.wait().await.unwrap();
    let mut text = String::new();
    std::io::Seek::rewind(&mut file).unwrap();
    file.read_to_string(&mut text).unwrap();
    (status, text)
}

#[tokio::test]
async fn a_container_is_alone() {
    let network = NetNs::create().unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("hosts"), "10.1.1.1 me\n").unwrap();
    let spawn = shell("echo $$; ls /proc | grep -c '^[0-9]'; hostname; cat /etc/hosts; readlink /proc/self/ns/net; ls /opt; env | sort | head -1")
        .isolation(Isolation::Container)
        .network(&network)
        .hostname("box")
        .envs([("A", "b")])
        .mount(Mount::Bind { source: folder.path().join("hosts"), target: "/etc/hosts".into() })
        .mount(Mount::Tmpfs { target: "/opt".into() })
        .mount(Mount::MakeFolder { target: "/opt/one/two".into() });
    let (status, text) = output(spawn).await;
    let lines: Vec<_> = text.lines().collect();
    assert!(status.success(), "{text}");
    assert_eq!(lines[0], "1");
    assert!(lines[1].parse::<u32>().unwrap() <= 4, "{text}");
    assert_eq!(lines[2..4], ["box", "10.1.1.1 me"]);
    assert_eq!(lines[4], format!("net:[{}]", network.inode()));
    assert_eq!(lines[5], "one");
    assert_eq!(lines[6], "A=b");
}

#[tokio::test]
async fn a_machine_has_its_own_network_and_dies_as_a_whole() {
    let (status, text) = output(
        shell("ls /sys/class/net >/dev/null; grep -c : /proc/net/dev; id -u")
            .isolation(Isolation::Machine),
    )
    .await;
    assert!(status.success(), "{text}");
    assert_eq!(text, "1\n0\n");
}

#[tokio::test]
async fn capabilities_cannot_be_regained() {
    let (_, text) = output(shell("grep Cap /proc/self/status").capabilities(CAP_NET_RAW)).await;
    for kind in ["CapPrm", "CapEff", "CapBnd"] {
        assert!(
            text.contains(&format!("{kind}:\t{CAP_NET_RAW:016x}")),
            "{text}"
        );
    }
}

#[tokio::test]
async fn descriptors_are_passed_in_order() {
    let files = ["one", "two"].map(|text| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        OwnedFd::from(file)
    });
    let (_, text) = output(shell("cat <&3; cat <&4; ls /proc/self/fd | wc -l").pass(files)).await;
    // 0, 1, 2, the two that were passed, and the one that ls opens.
    assert_eq!(text.trim_end(), "onetwo6");
}

#[tokio::test]
async fn signals_and_ends_are_told() {
    let child = shell("exec sleep 100").start().unwrap();
    assert!(child.try_wait().unwrap().is_none());
    child.signal(Signal::SIGKILL).unwrap();
    assert_eq!(child.wait().await.unwrap().signal(), Some(9));
    let (status, _) = output(shell("exit 7")).await;
    assert_eq!(status.code(), Some(7));
}

#[test]
fn what_cannot_start_says_why() {
    assert!(matches!(
        Spawn::new("no-such-program").start(),
        Err(SpawnError::Program(_))
    ));
    let missing = Mount::Bind {
        source: "/no/such".into(),
        target: "/etc/hosts".into(),
    };
    let error = shell("true")
        .isolation(Isolation::Container)
        .mount(missing)
        .start()
        .unwrap_err();
    assert!(
        matches!(
            &error,
            SpawnError::Step {
                step: "setting up its mounts",
                ..
            }
        ),
        "{error}"
    );
    let error = shell("true").directory("/no/such").start().unwrap_err();
    assert!(
        matches!(
            &error,
            SpawnError::Step {
                step: "changing its directory",
                ..
            }
        ),
        "{error}"
    );
}
