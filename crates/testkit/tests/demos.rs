// SPDX-License-Identifier: Apache-2.0
//! Manifests of well-known demo applications are read whole: what cannot run here is named one by one, and nothing else is.
//!
//! They come from Go modules, each pinned by version and hash, and stay there: nothing of them is in this repository. What is said of
//! each is in `demos/NAME.txt`; `MAILLE_WRITE_REFERENCE=1` writes it anew.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use maille_manifest::images::Images;
use maille_manifest::{Options, Users, load_text_with};
use serde_json::Value;

/// A Go module: its path, its version and the hash of its content as in a `go.sum`.
struct Module {
    path: &'static str,
    version: &'static str,
    sum: &'static str,
}

/// An application: what it is called here, where it is from, and which files are it, in order.
struct Demo {
    name: &'static str,
    module: &'static Module,
    files: &'static [&'static str],
}

/// Apache-2.0, as all of these are.
static ISTIO: Module = Module {
    path: "istio.io/istio",
    version: "v0.0.0-20260827124520-eed52ebb66ad",
    sum: "h1:ui9TJjRMAV/hb5ehQaZDq7IUGxuQP6dra9lapT/VjHI=",
};
static KUBERNETES: Module = Module {
    path: "k8s.io/kubernetes",
    version: "v1.37.1",
    sum: "h1:LTUzSbp9n0W7649oVKBYfC48zcoD3vCk++1PZQn28q8=",
};

const DEMOS: &[Demo] = &[
    Demo {
        name: "bookinfo",
        module: &ISTIO,
        files: &["samples/bookinfo/platform/kube/bookinfo.yaml"],
    },
    Demo {
        name: "bookinfo-mysql",
        module: &ISTIO,
        files: &[
            "samples/bookinfo/platform/kube/bookinfo-mysql.yaml",
            "samples/bookinfo/platform/kube/bookinfo-ratings-v2-mysql.yaml",
        ],
    },
    Demo {
        name: "bookinfo-mongodb",
        module: &ISTIO,
        files: &[
            "samples/bookinfo/platform/kube/bookinfo-db.yaml",
            "samples/bookinfo/platform/kube/bookinfo-ratings-v2.yaml",
        ],
    },
    Demo {
        name: "bookinfo-dualstack",
        module: &ISTIO,
        files: &["samples/bookinfo/platform/kube/bookinfo-dualstack.yaml"],
    },
    Demo {
        name: "bookinfo-gateway",
        module: &ISTIO,
        files: &["samples/bookinfo/gateway-api/bookinfo-gateway.yaml"],
    },
    Demo {
        name: "helloworld",
        module: &ISTIO,
        files: &["samples/helloworld/helloworld.yaml"],
    },
    Demo {
        name: "httpbin-and-curl",
        module: &ISTIO,
        files: &["samples/httpbin/httpbin.yaml", "samples/curl/curl.yaml"],
    },
    Demo {
        name: "tcp-echo",
        module: &ISTIO,
        files: &["samples/tcp-echo/tcp-echo.yaml"],
    },
    Demo {
        name: "prometheus",
        module: &ISTIO,
        files: &["samples/addons/prometheus.yaml"],
    },
    Demo {
        name: "grafana",
        module: &ISTIO,
        files: &["samples/addons/grafana.yaml"],
    },
    Demo {
        name: "jaeger",
        module: &ISTIO,
        files: &["samples/addons/jaeger.yaml"],
    },
    Demo {
        name: "kiali",
        module: &ISTIO,
        files: &["samples/addons/kiali.yaml"],
    },
    Demo {
        name: "loki",
        module: &ISTIO,
        files: &["samples/addons/loki.yaml"],
    },
    Demo {
        name: "guestbook",
        module: &KUBERNETES,
        files: &[
            "test/e2e/testing-manifests/guestbook/redis-master-deployment.yaml.in",
            "test/e2e/testing-manifests/guestbook/redis-master-service.yaml",
            "test/e2e/testing-manifests/guestbook/redis-slave-deployment.yaml.in",
            "test/e2e/testing-manifests/guestbook/redis-slave-service.yaml",
            "test/e2e/testing-manifests/guestbook/frontend-deployment.yaml.in",
            "test/e2e/testing-manifests/guestbook/frontend-service.yaml",
        ],
    },
    Demo {
        name: "guestbook-legacy",
        module: &KUBERNETES,
        files: &[
            "test/e2e/testing-manifests/guestbook/legacy/frontend-controller.yaml",
            "test/e2e/testing-manifests/guestbook/legacy/redis-master-controller.yaml",
        ],
    },
    Demo {
        name: "cassandra",
        module: &KUBERNETES,
        files: &[
            "test/e2e/testing-manifests/statefulset/cassandra/service.yaml",
            "test/e2e/testing-manifests/statefulset/cassandra/statefulset.yaml",
            "test/e2e/testing-manifests/statefulset/cassandra/pdb.yaml",
        ],
    },
    Demo {
        name: "cockroachdb",
        module: &KUBERNETES,
        files: &[
            "test/e2e/testing-manifests/statefulset/cockroachdb/service.yaml",
            "test/e2e/testing-manifests/statefulset/cockroachdb/statefulset.yaml",
        ],
    },
    Demo {
        name: "etcd",
        module: &KUBERNETES,
        files: &[
            "test/e2e/testing-manifests/statefulset/etcd/service.yaml",
            "test/e2e/testing-manifests/statefulset/etcd/statefulset.yaml",
            "test/e2e/testing-manifests/statefulset/etcd/pdb.yaml",
        ],
    },
    Demo {
        name: "mysql",
        module: &KUBERNETES,
        files: &[
            "test/e2e/testing-manifests/statefulset/mysql-upgrade/configmap.yaml",
            "test/e2e/testing-manifests/statefulset/mysql-upgrade/service.yaml",
            "test/e2e/testing-manifests/statefulset/mysql-upgrade/statefulset.yaml",
        ],
    },
    Demo {
        name: "zookeeper",
        module: &KUBERNETES,
        files: &[
            "test/e2e/testing-manifests/statefulset/zookeeper/service.yaml",
            "test/e2e/testing-manifests/statefulset/zookeeper/statefulset.yaml",
        ],
    },
];

/// Where the content of `module` is, which is what it should be.
fn directory(module: &Module) -> PathBuf {
    let outside = tempfile::tempdir().unwrap();
    let output = Command::new("go")
        .args(["mod", "download", "-json"])
        .arg(format!("{}@{}", module.path, module.version))
        .current_dir(outside.path())
        // The hash below is what it is compared with.
        .envs([
            ("GONOSUMDB", "*"),
            ("GOFLAGS", "-mod=mod"),
            ("GOTOOLCHAIN", "local"),
        ])
        .output()
        .unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    assert_eq!(
        told["Sum"],
        module.sum,
        "{}: {told:#}{}",
        module.path,
        String::from_utf8_lossy(&output.stderr)
    );
    PathBuf::from(told["Dir"].as_str().unwrap())
}

/// The files of `demo` by their last names; what is to be filled in becomes a name.
fn files(demo: &Demo) -> Vec<(String, String)> {
    let directory = directory(demo.module);
    let one = |file: &&str| {
        let text = fs::read_to_string(directory.join(file)).unwrap();
        let mut parts = Path::new(file).iter().rev();
        let (name, above) = (parts.next().unwrap(), parts.next().unwrap());
        let name = format!("{}/{}", above.to_str().unwrap(), name.to_str().unwrap());
        (name, text.replace("{{.", "").replace("}}", ""))
    };
    demo.files.iter().map(one).collect()
}

/// A machine that has one program, and a person who says that it stands for these images.
fn options(program: &Path, images: &[String]) -> Options {
    let mut known = Images::default();
    for image in images {
        known
            .add(&format!("{image}={}", program.display()))
            .unwrap();
    }
    Options {
        images: known,
        search_path: Some(OsString::from("/nowhere")),
        host_path: false,
        users: Users::Ranges(vec![(0, u32::MAX)]),
        no_limits: None,
        look: false,
        own_addresses: true,
    }
}

/// Every error and every warning, a line each.
fn said(files: &[(String, String)], options: &Options) -> Vec<String> {
    match load_text_with(files, options) {
        Ok(loaded) => {
            let warnings = loaded.warnings.iter().map(|one| format!("warning: {one}"));
            let taken = loaded
                .objects
                .iter()
                .map(|object| format!("taken: {} {}", object.kind(), object.metadata().name));
            taken.chain(warnings).collect()
        }
        Err(errors) => errors.iter().map(|one| format!("error: {one}")).collect(),
    }
}

/// Whose registry an image is from is nobody's business here.
fn masked(text: &str) -> String {
    let word = |word: &str| match word.split_once('/') {
        Some((host, rest)) if word.starts_with('"') && host.contains('.') => {
            format!("\"REGISTRY/{rest}")
        }
        _ => word.to_owned(),
    };
    let line = |line: &str| {
        let (line, hint) = line
            .split_once(": say which one is meant")
            .unwrap_or((line, ""));
        let words: Vec<String> = line.split(' ').map(word).collect();
        let hint = if hint.is_empty() {
            ""
        } else {
            ": say which one is meant"
        };
        format!("{}{hint}\n", words.join(" "))
    };
    text.lines().map(line).collect()
}

/// The images that a machine without programs has none for.
fn images(said: &[String]) -> Vec<String> {
    let named = said.iter().filter_map(|line| {
        let (_, rest) = line.split_once("(--image ")?;
        rest.split_once("=PROGRAM)")
            .map(|(image, _)| image.to_owned())
    });
    named.collect()
}

#[test]
fn what_cannot_run_is_named_one_by_one() {
    let program = tempfile::Builder::new().tempdir().unwrap();
    let program = program.path().join("program");
    fs::write(&program, "#!/bin/sh\n").unwrap();
    let runs = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&program, runs).unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("demos");
    for demo in DEMOS {
        let files = files(demo);
        let bare = said(&files, &options(&program, &[]));
        let filled = said(&files, &options(&program, &images(&bare)));
        let text = format!(
            "On a machine without any program:\n\n{}\n\nWhere somebody says which program each image is:\n\n{}\n",
            bare.join("\n"),
            filled.join("\n")
        );
        let text = masked(&text);
        let path = golden.join(format!("{}.txt", demo.name));
        if std::env::var_os("MAILLE_WRITE_REFERENCE").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let known = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(text, known, "{}", demo.name);
    }
}
