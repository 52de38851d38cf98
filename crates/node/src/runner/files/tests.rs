// SPDX-License-Identifier: Apache-2.0
use maille_manifest::objects::Object;

use super::super::volumes;
use super::*;
use crate::data::Data;
use crate::machine::Machine;

const OBJECTS: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {a.conf: "text a", b.conf: "text b"}
binaryData: {raw: "AAH/"}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
data: {password: c2VjcmV0}
stringData: {user: me}
"#;

/// A pod with this spec beside the objects above.
fn world(spec: &str) -> (Pod, Data) {
    let pod = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: one, labels: {{app: web}}}}\nspec:\n{spec}"
    );
    let text = format!("{OBJECTS}---\n{pod}");
    let loaded = maille_manifest::load_text(&[("app.yaml".to_owned(), text)]).unwrap();
    let machine = Machine {
        cores: 2,
        memory: 1 << 30,
    };
    let data = Data::of(&loaded.objects, machine);
    let pod = loaded.objects.into_iter().find_map(|object| match object {
        Object::Pod(pod) => Some(*pod),
        _ => None,
    });
    (pod.unwrap(), data)
}

fn places(dir: &Path) -> volumes::Places<'_> {
    volumes::Places {
        pod: dir,
        claims: dir,
    }
}

const ALL: &str = "  containers: [{name: c, command: [x]}]
  volumes:
    - {name: map, configMap: {name: settings, defaultMode: 256}}
    - {name: some, configMap: {name: settings, items: [{key: a.conf, path: deep/a, mode: 365}]}}
    - {name: secret, secret: {secretName: keys}}
    - {name: none, configMap: {name: nope, optional: true}}
    - {name: down, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
    - name: both
      projected:
        sources:
          - {configMap: {name: settings, items: [{key: a.conf, path: x}]}}
          - {secret: {name: keys, items: [{key: user, path: x}, {key: password, path: p}]}}
          - {downwardAPI: {items: [{path: cpu, resourceFieldRef: {containerName: c, resource: limits.cpu}}]}}
    - {name: empty, emptyDir: {}}
";

#[test]
fn volumes_hold_what_their_sources_do() {
    let dir = tempfile::tempdir().unwrap();
    let (pod, data) = world(ALL);
    volumes::make(places(dir.path()), &pod, &data, false).unwrap();
    // A second try does not stumble over the first.
    volumes::make(places(dir.path()), &pod, &data, false).unwrap();
    let at = |path: &str| dir.path().join("volumes").join(path);
    let read = |path: &str| fs::read(at(path)).unwrap();
    for (path, bytes, mode) in [
        ("map/a.conf", &b"text a"[..], 0o400),
        ("map/raw", b"\x00\x01\xff", 0o400),
        ("some/deep/a", b"text a", 0o555),
        ("secret/password", b"secret", 0o644),
        ("secret/user", b"me", 0o644),
        ("down/labels", b"app=\"web\"", 0o644),
        ("both/x", b"me", 0o644),
        ("both/p", b"secret", 0o644),
        ("both/cpu", b"2", 0o644),
    ] {
        assert_eq!(read(path), bytes, "{path}");
        let found = fs::metadata(at(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{path}: {found:o}");
    }
    let seen = fs::read_dir(at("none")).unwrap();
    let own = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with("..");
    let others = seen.filter(|entry| !own(&entry.as_ref().unwrap().file_name()));
    assert_eq!(others.count(), 0);
    let mode = fs::metadata(at("empty")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o777);
}

#[test]
fn what_a_container_mounts_is_inside_its_volume() {
    let dir = tempfile::tempdir().unwrap();
    let spec = "  containers:
    - name: c
      command: [x]
      volumeMounts:
        - {name: data, mountPath: /maille-data, subPath: a/b}
        - {name: data, mountPath: /maille-expr, subPathExpr: $(WHO)}
        - {name: map, mountPath: /maille-data/conf}
        - {name: map, mountPath: /maille-file, subPath: a.conf, readOnly: true}
        - {name: map, mountPath: /etc/hosts, subPath: b.conf}
  volumes:
    - {name: data, emptyDir: {}}
    - {name: map, configMap: {name: settings}}
";
    let (pod, data) = world(spec);
    volumes::make(places(dir.path()), &pod, &data, false).unwrap();
    write(dir.path(), &pod).unwrap();
    let container = &pod.spec.containers[0];
    let env = |who: &str| vec![("WHO".to_owned(), who.to_owned())];
    let found = mounts(dir.path(), &pod, container, &env("me")).unwrap();
    let at = |path: &str| {
        let mount = found.iter().find(|mount| mount.at == Path::new(path));
        let mount = mount.unwrap();
        let real = fs::canonicalize(dir.path()).unwrap();
        let from = mount.from.strip_prefix(real.join("volumes"));
        (from.map(Path::to_owned).unwrap_or_default(), mount.writable)
    };
    assert_eq!(at("/maille-data"), ("data/a/b".into(), true));
    assert_eq!(at("/maille-expr"), ("data/me".into(), true));
    assert_eq!(at("/maille-file"), ("map/..1/a.conf".into(), false));
    assert_eq!(at("/etc/hosts"), ("map/..1/b.conf".into(), false));
    assert_eq!(
        found
            .iter()
            .filter(|m| m.at == Path::new("/etc/hosts"))
            .count(),
        1
    );
    // The place inside of the other volume was made there.
    assert!(place(dir.path(), "data").join("a/b/conf").is_dir());
    for evil in ["../..", "/etc", "$(NOBODY)", ""] {
        assert!(
            mounts(dir.path(), &pod, container, &env(evil)).is_err(),
            "{evil}"
        );
    }
    std::os::unix::fs::symlink("/etc", place(dir.path(), "data").join("link")).unwrap();
    assert!(mounts(dir.path(), &pod, container, &env("link")).is_err());
}

#[test]
fn names_are_looked_up_as_the_pod_says() {
    let (pod, _) = world("  containers: [{name: c, command: [x]}]\n");
    assert_eq!(
        resolv(&pod),
        "nameserver 10.96.0.10\nnameserver fd00:96::a\nsearch default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
    );
    let more = "  dnsConfig: {nameservers: [1.2.3.4], searches: [corp.example], options: [{name: ndots, value: \"2\"}, {name: edns0}]}\n";
    let (pod, _) = world(&format!(
        "  containers: [{{name: c, command: [x]}}]\n{more}"
    ));
    assert_eq!(
        resolv(&pod),
        "nameserver 10.96.0.10\nnameserver fd00:96::a\nnameserver 1.2.3.4\n\
         search default.svc.cluster.local svc.cluster.local cluster.local corp.example\noptions ndots:2 edns0\n"
    );
    let (pod, _) = world(&format!(
        "  containers: [{{name: c, command: [x]}}]\n  dnsPolicy: None\n{more}"
    ));
    assert_eq!(
        resolv(&pod),
        "nameserver 1.2.3.4\nsearch corp.example\noptions ndots:2 edns0\n"
    );
    let (mut pod, _) = world(
        "  containers: [{name: c, command: [x]}]\n  hostname: db\n  subdomain: dbs\n  hostAliases: [{ip: 10.1.2.3, hostnames: [a.example, b.example]}]\n",
    );
    pod.status.pod_ip = Some("10.244.0.9".parse().unwrap());
    assert!(hosts(&pod).ends_with(
        "10.244.0.9 db.dbs.default.svc.cluster.local db\n10.1.2.3 a.example b.example\n"
    ));
    assert_eq!(hostname(&pod), "db");
    pod.spec.set_hostname_as_fqdn = true;
    assert_eq!(hostname(&pod), "db.dbs.default.svc.cluster.local");
}
