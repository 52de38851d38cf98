// SPDX-License-Identifier: Apache-2.0
//! The cluster itself: what the mesh's tests on Kubernetes rest on.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use maille_cluster::Cluster;
use maille_cluster::image::Image;
use maille_cluster::parts::Parts;

const WEB: &str = include_str!("web.yaml");

/// A cluster that ends with the test, however it ends.
struct Up(Cluster);

impl Drop for Up {
    fn drop(&mut self) {
        if let Err(error) = self.0.down() {
            eprintln!("{error:#}");
        }
    }
}

/// What a cluster could leave behind on the machine.
fn inventory() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    all.extend(mounts.lines().map(|line| format!("mount {line}")));
    for entry in fs::read_dir("/sys/class/net").unwrap().flatten() {
        all.insert(format!("link {}", entry.file_name().display()));
    }
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read_to_string(entry.path().join("cmdline"));
        all.extend(line.ok().filter(|line| line.contains("/maille-of-test/")));
    }
    for root in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        for group in fs::read_dir(root.path()).into_iter().flatten().flatten() {
            all.insert(format!("group {}", group.path().display()));
        }
    }
    for file in [
        "vm/overcommit_memory",
        "kernel/panic",
        "net/ipv4/ip_forward",
    ] {
        let value = fs::read_to_string(Path::new("/proc/sys").join(file)).unwrap();
        all.insert(format!("sysctl {file} {}", value.trim()));
    }
    all
}

#[test]
fn two_nodes_run_pods_that_find_each_other_survive_a_plug_and_leave_nothing() {
    let before = inventory();
    // Layers of images need a real file system: target/ has one.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let dir = tempfile::Builder::new()
        .prefix("c")
        .tempdir_in(target)
        .unwrap();
    let root = dir.path().join("maille-of-test");
    let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
    let up = Up(Cluster::at(&root, program, Parts::ready().unwrap()).unwrap());
    let cluster = &up.0;
    cluster.up(2).unwrap();

    let image = dir.path().join("test.tar");
    Image::new("maille.test/busybox:1", &["/bin/busybox"])
        .program("/bin/busybox", "/bin/busybox")
        .link("/bin/sh", "busybox")
        .dir("/tmp", 0o1777)
        .text("/www/index.html", "hello\n")
        .write(&image)
        .unwrap();
    cluster.load(&image).unwrap();
    cluster.apply(WEB).unwrap();
    cluster
        .kubectl(&["rollout", "status", "daemonset/web", "--timeout", "60s"])
        .unwrap();
    let ready = ["--for", "condition=Ready", "--timeout", "90s"];
    let wait = |what: &[&str]| {
        let args = [&["wait"], what, &ready].concat();
        cluster.kubectl(&args).unwrap();
    };
    wait(&["pod/client"]);
    assert_eq!(ask(cluster), "hello\n");
    let nodes = "jsonpath={.items[*].spec.nodeName}";
    let nodes = cluster.kubectl(&["get", "pods", "-l", "app=web", "-o", nodes]);
    let nodes: BTreeSet<String> = nodes.unwrap().split(' ').map(str::to_owned).collect();
    assert_eq!(nodes.len(), 2, "{nodes:?}");

    // The plug: every process and namespace of node2 is gone; its disk stays.
    cluster.node(2).halt().unwrap();
    cluster.boot(2).unwrap();
    wait(&["pod", "-l", "app=web"]);
    assert_eq!(ask(cluster), "hello\n");

    drop(up);
    let left: Vec<_> = inventory().difference(&before).cloned().collect();
    assert!(left.is_empty(), "{left:#?}");
}

/// The service's address as DNS tells it to a pod, and what is said there to somebody on the first node: as a rule the pod of
/// the second one, now and then the first's.
fn ask(cluster: &Cluster) -> String {
    // What is ready is in the packets' way a moment later, DNS too: it is asked again.
    let script = "for i in 1 2 3 4 5 6 7 8 9; do \
        nslookup web.default.svc.cluster.local && exit; sleep 1; done; exit 1";
    let lookup = ["exec", "client", "--", "/bin/sh", "-c", script];
    let told = cluster.kubectl(&lookup).unwrap();
    let (_, address) = told.trim().rsplit_once("Address: ").unwrap();
    let script = "for i in 1 2 3 4 5 6 7 8 9; do \
        exec 3<>/dev/tcp/$0/80 && printf 'GET / HTTP/1.0\r\n\r\n' >&3 && cat <&3 && exit; sleep 1; done; exit 1";
    let mut asking = cluster.node(1).enter("bash").unwrap();
    let output = asking.args(["-c", script, address]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let (_, body) = said.split_once("\r\n\r\n").unwrap_or_default();
    body.to_owned()
}
