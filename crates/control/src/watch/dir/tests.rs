// SPDX-License-Identifier: Apache-2.0
//! Files as people and the runner leave them, and what is told of them.

use std::time::Duration;

use tempfile::TempDir;
use tokio::time::timeout;

use super::*;

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: NAME, namespace: shop}\nspec:\n  selector: {app: web}\n  ports: [{name: http, port: 80}]\n";

fn service(name: &str) -> String {
    SERVICE.replace("NAME", name)
}

fn pod(uid: &str) -> String {
    format!(
        r#"{{"metadata":{{"name":"p-{uid}","namespace":"shop","uid":"{uid}"}},"spec":{{"containers":[]}}}}"#
    )
}

fn state() -> TempDir {
    let state = tempfile::tempdir().unwrap();
    fs::create_dir(state.path().join("manifests")).unwrap();
    fs::create_dir(state.path().join("pods")).unwrap();
    state
}

/// Writes as the runner does: beside, then by rename.
fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let beside = path.with_extension("new");
    fs::write(&beside, text).unwrap();
    fs::rename(beside, path).unwrap();
}

/// Events in a line each.
fn told(events: &[Event]) -> Vec<String> {
    events
        .iter()
        .map(|event| match event {
            Event::Apply { object, .. } => format!("+{}", object.metadata().name),
            Event::Delete {
                key: ObjectKey::Pod(uid),
                ..
            } => format!("-{uid}"),
            Event::Delete {
                key: ObjectKey::Service(id) | ObjectKey::Slice(id),
                ..
            } => format!("-{id}"),
            Event::Broken { origin, .. } => format!("broken {origin}"),
            Event::Mended(origin) => format!("mended {origin}"),
            Event::Ranges(ranges) => format!("ranges {}", ranges.0.len()),
            Event::InitDone => "done".to_owned(),
        })
        .collect()
}

/// Reads the source until `until` was told.
async fn follow(source: &mut DirSource, until: &str) -> Vec<String> {
    let mut all = Vec::new();
    timeout(Duration::from_secs(10), async {
        while !all.iter().any(|line| line == until) {
            all.extend(told(&source.next().await.unwrap()));
        }
    })
    .await
    .unwrap_or_else(|_| panic!("never told {until}"));
    all
}

#[test]
fn a_broken_manifest_keeps_what_it_said() {
    let state = state();
    put(state.path(), "manifests/a.yaml", &service("a"));
    put(state.path(), "manifests/b.yaml", &service("b"));
    put(state.path(), "manifests/notes.txt", "not a manifest");
    let mut tree = Tree::new(state.path());
    let read = |tree: &mut Tree| {
        let mut events = Vec::new();
        tree.read_manifests(&mut events);
        told(&events)
    };
    assert_eq!(read(&mut tree), ["+a", "+b"]);
    assert_eq!(read(&mut tree), [""; 0]);
    put(state.path(), "manifests/a.yaml", "kind: [");
    assert_eq!(read(&mut tree), ["broken manifests/a.yaml"]);
    put(state.path(), "manifests/c.yaml", &service("c"));
    fs::remove_file(state.path().join("manifests/b.yaml")).unwrap();
    assert_eq!(
        read(&mut tree),
        ["-shop/b", "+c", "broken manifests/a.yaml"]
    );
    put(
        state.path(),
        "manifests/a.yaml",
        &service("a").replace("80", "81"),
    );
    assert_eq!(read(&mut tree), ["+a", "mended manifests/a.yaml"]);
    put(state.path(), "manifests/d.yaml", "kind: [");
    assert_eq!(read(&mut tree), ["broken manifests/d.yaml"]);
    fs::remove_file(state.path().join("manifests/d.yaml")).unwrap();
    assert_eq!(read(&mut tree), ["mended manifests/d.yaml"]);
}

#[test]
fn a_broken_pod_keeps_what_it_said() {
    let state = state();
    let mut tree = Tree::new(state.path());
    let read = |tree: &mut Tree| {
        let mut events = Vec::new();
        for uid in tree.list_pods(&mut events) {
            tree.read_pod(&uid, &mut events);
        }
        told(&events)
    };
    put(state.path(), "pods/u1/pod.json", &pod("u1"));
    fs::create_dir(state.path().join("pods/u2")).unwrap();
    assert_eq!(read(&mut tree), ["+p-u1"]);
    put(state.path(), "pods/u1/pod.json", "{");
    assert_eq!(read(&mut tree), ["broken pods/u1/pod.json"]);
    put(state.path(), "pods/u1/pod.json", &pod("other"));
    assert_eq!(read(&mut tree), ["broken pods/u1/pod.json"]);
    put(state.path(), "pods/u1/pod.json", &pod("u1"));
    assert_eq!(read(&mut tree), ["mended pods/u1/pod.json", "+p-u1"]);
    fs::remove_dir_all(state.path().join("pods/u1")).unwrap();
    assert_eq!(read(&mut tree), ["-u1"]);
}

#[tokio::test]
async fn changes_are_heard() {
    let state = state();
    put(state.path(), "manifests/a.yaml", &service("a"));
    put(state.path(), "pods/u1/pod.json", &pod("u1"));
    let (mut source, events) = DirSource::open(state.path()).unwrap();
    let first = told(&events);
    assert_eq!(first.last().map(String::as_str), Some("done"));
    assert!(first.contains(&"+a".to_owned()) && first.contains(&"+p-u1".to_owned()));
    put(state.path(), "pods/u2/pod.json", &pod("u2"));
    follow(&mut source, "+p-u2").await;
    put(
        state.path(),
        "pods/u2/pod.json",
        &pod("u2").replace("p-u2", "changed"),
    );
    follow(&mut source, "+changed").await;
    put(state.path(), "manifests/b.yaml", &service("b"));
    follow(&mut source, "+b").await;
    fs::remove_dir_all(state.path().join("pods/u1")).unwrap();
    follow(&mut source, "-u1").await;
    fs::remove_file(state.path().join("pods/u2/pod.json")).unwrap();
    follow(&mut source, "-u2").await;
}

#[tokio::test]
async fn an_overflow_means_look_everywhere() {
    let state = state();
    let (mut source, _) = DirSource::open(state.path()).unwrap();
    put(state.path(), "pods/u1/pod.json", &pod("u1"));
    let overflow = InotifyEvent {
        wd: *source.watches.keys().next().unwrap(),
        mask: AddWatchFlags::IN_Q_OVERFLOW,
        cookie: 0,
        name: None,
    };
    let mut events = Vec::new();
    source.look(&[overflow], &mut events).unwrap();
    assert!(told(&events).contains(&"+p-u1".to_owned()));
}
