// SPDX-License-Identifier: Apache-2.0
//! Three demo applications of others run meshed, their manifests unchanged: httpbin with curl and tcp-echo, of Istio's samples, and
//! podinfo with its cache, of its author. (All are licensed under Apache-2.0; go-httpbin, which is an image there, under MIT.)
//!
//! Manifests come from Go modules and stay there. Images have the names that the manifests say, and are made of the real programs: from
//! their Go modules, and from packages of the distribution.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;
use maille_cluster::image::Image;
use maille_cluster::meshed::{Meshed, text};
use maille_cluster::modules::Module;
use maille_cluster::witness::Witness;
use maille_images::libraries;
use serde_json::Value;

static ISTIO: Module = Module {
    path: "istio.io/istio",
    version: "v0.0.0-20260827124520-eed52ebb66ad",
    sum: "h1:ui9TJjRMAV/hb5ehQaZDq7IUGxuQP6dra9lapT/VjHI=",
};
static HTTPBIN: Module = Module {
    path: "github.com/mccutchen/go-httpbin/v2",
    version: "v2.15.0",
    sum: "h1:3b2s8LMRR2aFd+8U+1Bx2kdgHNQ5ZQkQOiW8e52Jj9A=",
};
static PODINFO: Module = Module {
    path: "github.com/stefanprodan/podinfo",
    version: "v1.8.1-0.20250910200901-e86405a8674e",
    sum: "h1:ikpMMm5HbQT/1DehrPM+Lpwk3WAw/1Hg540eR+jsXus=",
};

/// Where Istio's samples go; podinfo's manifests name a namespace themselves.
const SAMPLES: &str = "samples";
const DEV: &str = "dev";

/// In the image of that name the cache answers everybody, which the distribution's has to be told.
const REDIS: &str = "#!/bin/sh\nexec /usr/lib/redis-server \"$@\" --protected-mode no\n";

/// What an image is made of: the path of each program in it, and where the program is on this machine.
type Programs = Vec<(&'static str, PathBuf)>;

/// The programs of every image, by the last part of the image's name.
fn programs(up: &Meshed) -> BTreeMap<&'static str, Programs> {
    let at = |name: &str| up.path(name);
    HTTPBIN
        .build("./cmd/go-httpbin", &at("go-httpbin"))
        .unwrap();
    ISTIO
        .build_file("samples/tcp-echo/src/main.go", &at("tcp-echo"))
        .unwrap();
    PODINFO.build("./cmd/podinfo", &at("podinfo")).unwrap();
    PODINFO.build("./cmd/podcli", &at("podcli")).unwrap();
    let of_this_machine = |name: &str| Path::new("/usr/bin").join(name);
    fs::write(at("redis-server"), REDIS).unwrap();
    BTreeMap::from([
        ("go-httpbin", vec![("/bin/go-httpbin", at("go-httpbin"))]),
        ("tcp-echo-server", vec![("/bin/tcp-echo", at("tcp-echo"))]),
        (
            "podinfo",
            vec![
                ("/podinfo", at("podinfo")),
                ("/usr/bin/podcli", at("podcli")),
            ],
        ),
        (
            "redis",
            vec![
                ("/usr/bin/redis-server", at("redis-server")),
                ("/usr/lib/redis-server", of_this_machine("redis-server")),
                ("/usr/bin/redis-cli", of_this_machine("redis-cli")),
            ],
        ),
        ("curl", vec![("/usr/bin/curl", of_this_machine("curl"))]),
    ])
}

/// The names of images that `manifests` say.
fn images(manifests: &[&str]) -> BTreeSet<String> {
    let lines = manifests.iter().flat_map(|text| text.lines());
    let names = lines.filter_map(|line| {
        let line = line.trim_start_matches([' ', '-']);
        line.strip_prefix("image:")
            .map(|name| name.trim().to_owned())
    });
    names.collect()
}

/// Makes the image `name` of real programs, and a shell with its tools beside them; loads it into the nodes.
fn load(up: &Meshed, name: &str, programs: &Programs) {
    let mut image = Image::new(name, &[programs[0].0])
        .user("65534:65534")
        .dir("/tmp", 0o1777)
        .program("/bin/busybox", "/bin/busybox");
    for applet in ["sh", "sleep", "nc", "date"] {
        image = image.link(&format!("/bin/{applet}"), "busybox");
    }
    for (inside, program) in programs {
        let program = program.canonicalize().unwrap();
        for library in libraries::of(&program).unwrap() {
            image = image.program(&library.display().to_string(), &library);
        }
        image = image.program(inside, program);
    }
    let archive = up.path("image.tar");
    image.write(&archive).unwrap();
    if !name.contains('/') {
        // containerd makes a name without a host whole as a kubelet does, but only where the newer layout says nothing.
        let script = "mkdir $1 && tar -xf $2 -C $1 && tar -cf $2 -C $1 manifest.json blobs";
        let mut older = Command::new("sh");
        older.args(["-c", script, "sh"]).arg(up.path("older"));
        let done = older.arg(&archive).status().unwrap();
        assert!(done.success(), "tar: {done}");
    }
    up.cluster().load(&archive).unwrap();
}

/// Applies manifests so that their pods go to `node` alone; returns when all deployments of `namespace` are there.
fn on(up: &Meshed, node: &str, namespace: &str, manifests: &[String]) {
    let other = if node == "node1" { "node2" } else { "node1" };
    up.kubectl(&format!("cordon {other}")).unwrap();
    for manifest in manifests {
        let mut apply = up.cluster().kubectl_command().unwrap();
        apply.args(["-n", namespace, "apply", "-f", "-"]);
        up.output_of(&mut apply, manifest).unwrap();
    }
    let there = "wait deployment --all --for condition=Available --timeout 120s";
    up.kubectl(&format!("-n {namespace} {there}")).unwrap();
    up.kubectl(&format!("uncordon {other}")).unwrap();
}

/// What somebody in the pod of curl is told.
fn asks(up: &Meshed, command: &str, wanted: &str) {
    let exec = [
        "-n",
        SAMPLES,
        "exec",
        "deploy/curl",
        "--",
        "/bin/sh",
        "-c",
        command,
    ];
    // A pod that is ready is in the packets' way a moment later.
    let told = up.until(command, || {
        let told = up.cluster().kubectl(&exec)?;
        ensure!(told.contains(wanted), "{wanted:?} is wanted: {told}");
        Ok(told)
    });
    told.unwrap();
}

/// Every deployment of a namespace is in the mesh and was asked without a failure.
fn is_counted(up: &Meshed, namespace: &str, names: &[&str]) {
    let stat = up
        .maille(&format!("stat deploy -n {namespace} -o json"))
        .unwrap();
    let stat: Value = serde_json::from_str(&stat).unwrap();
    let rows = stat["rows"].as_array().unwrap();
    for name in names {
        let row = rows.iter().find(|row| row["name"] == *name).unwrap();
        assert_eq!(row["pods"]["meshed"], row["pods"]["total"], "{row:#}");
        assert_ne!(row["pods"]["total"], 0, "{row:#}");
    }
}

/// Whoever runs in a namespace is in the mesh, and so many do; the witness is told.
fn all_meshed(up: &Meshed, namespace: &str, count: usize, witness: &mut Witness) {
    let pods = up.kubectl(&format!("-n {namespace} get pods -o json"));
    let pods: Value = serde_json::from_str(&pods.unwrap()).unwrap();
    let pods = pods["items"].as_array().unwrap();
    assert_eq!(pods.len(), count);
    for pod in pods {
        let injected = text(pod, "/metadata/annotations/maille.io~1injected");
        assert!(!injected.is_empty(), "{pod:#}");
    }
    witness.expect(pods).unwrap();
}

#[test]
fn demo_applications_of_others_run_meshed_as_they_are() {
    let program = Path::new(env!("CARGO_BIN_EXE_maille-cluster"));
    let up = Meshed::start(program, Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    up.maille("check --pre").unwrap();
    up.install().unwrap();
    let (istio, podinfo) = (ISTIO.directory().unwrap(), PODINFO.directory().unwrap());
    let sample = |name: &str| fs::read_to_string(istio.join("samples").join(name)).unwrap();
    let servers = ["httpbin/httpbin.yaml", "tcp-echo/tcp-echo.yaml"].map(sample);
    let client = [sample("curl/curl.yaml")];
    let overlay = podinfo.join("deploy/overlays/dev");
    let webapp = up.kubectl(&format!("kustomize {}", overlay.display()));
    let webapp = webapp.unwrap();
    let programs = programs(&up);
    for name in images(&[&servers[0], &servers[1], &client[0], &webapp]) {
        let last = name.rsplit('/').next().unwrap();
        let last = last.split(':').next().unwrap();
        load(&up, &name, &programs[last]);
    }
    let mut witness = Witness::start(&up).unwrap();
    // One way in is a label of the namespace, the other one is the command.
    up.kubectl(&format!("create namespace {SAMPLES}")).unwrap();
    let label = "maille.io/inject=enabled";
    up.kubectl(&format!("label namespace {SAMPLES} {label}"))
        .unwrap();
    on(&up, "node2", SAMPLES, &servers);
    on(&up, "node1", SAMPLES, &client);
    let injected = up.maille_of("inject -", &webapp).unwrap();
    assert_eq!(up.maille_of("uninject -", &injected).unwrap(), webapp);
    on(&up, "node2", DEV, &[injected]);
    all_meshed(&up, SAMPLES, 3, &mut witness);
    all_meshed(&up, DEV, 3, &mut witness);

    asks(
        &up,
        "curl -si http://httpbin:8000/status/418",
        "HTTP/1.1 418",
    );
    asks(
        &up,
        "curl -s http://httpbin:8000/bytes/90000 | wc -c",
        "90000",
    );
    asks(
        &up,
        "curl -s -d some=thing http://httpbin:8000/post",
        "some=thing",
    );
    asks(
        &up,
        "(echo world; sleep 1) | nc tcp-echo 9000",
        "hello world",
    );
    // The frontend asks the backend for it, and the cache.
    asks(&up, "curl -s -d marker http://frontend.dev/echo", "marker");
    let kept = "curl -s -X PUT -d kept http://frontend.dev/cache/key; curl -s http://frontend.dev/cache/key";
    asks(&up, kept, "kept");
    let grpc = "-n dev exec deploy/frontend -- podcli check grpc backend:9999 --service=backend";
    up.kubectl(grpc).unwrap();
    is_counted(&up, SAMPLES, &["httpbin", "tcp-echo", "curl"]);
    is_counted(&up, DEV, &["frontend", "backend", "cache"]);
    let checked = up.maille("check").unwrap();
    assert!(checked.contains("√") && !checked.contains("×"), "{checked}");
    let seen = witness.end().unwrap();
    eprintln!(
        "between the nodes: {} bytes of TLS, {} plain",
        seen["bytes_tls"], seen["bytes_plain"]
    );
}
