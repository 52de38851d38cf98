// SPDX-License-Identifier: Apache-2.0
//! What people must allow or say for a manifest to run here: directories of the machine, programs for images; and what an ordinary
//! user cannot have, each thing named.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use maille_testkit::up::READY;
use maille_testkit::wait::until_async;
use maille_testkit::{Programs, Up};
use nix::unistd::geteuid;
use tempfile::TempDir;

/// The cluster's DNS is a pod too.
const DNS: usize = 1;

/// Everybody's: an ordinary user reads it too.
fn directory() -> TempDir {
    let made = tempfile::Builder::new()
        .prefix("m")
        .tempdir_in("/tmp")
        .unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(made.path(), open).unwrap();
    made
}

/// `maille up --dry-run` of a text, by `maille`: its code and all it said.
fn dry_run(mut maille: Command, text: &str, flags: &[&str]) -> (Option<i32>, String) {
    let dir = directory();
    let file = dir.path().join("app.yaml");
    fs::write(&file, text).unwrap();
    let output = maille
        .args(["up", "--dry-run"])
        .arg(&file)
        .args(flags)
        .env("MAILLE_RUNTIME_DIR", dir.path().join("s"))
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

/// `maille` as an ordinary user, whoever runs this.
fn as_ordinary_user() -> Command {
    let maille = Programs::find().unwrap().path("maille");
    if !geteuid().is_root() {
        return Command::new(maille);
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(maille);
    command
}

fn pod(spec: &str) -> String {
    format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: one}}\nspec:\n{spec}")
}

fn host_path(path: &Path) -> String {
    pod(&format!(
        "  terminationGracePeriodSeconds: 0\n  volumes: [{{name: host, hostPath: {{path: {}, type: Directory}}}}]\n  \
         containers:\n    - name: c\n      command: [sh, -c, 'cp /maille-host/asked /maille-host/answered; exec sleep infinity']\n      \
         volumeMounts: [{{name: host, mountPath: /maille-host}}]\n",
        path.display()
    ))
}

#[tokio::test]
async fn a_directory_of_the_machine_is_mounted_by_consent_only() {
    let host = directory();
    fs::write(host.path().join("asked"), "well?").unwrap();
    let text = host_path(host.path());
    let maille = || Programs::find().unwrap().maille();
    let (code, said) = dry_run(maille(), &text, &[]);
    let error = format!(
        "app.yaml:6: spec.volumes[0].hostPath: mounts {:?} of this machine: allow it with --allow-host-path",
        host.path()
    );
    assert!(code == Some(2) && said.contains(&error), "{said}");
    let missing = host_path(&host.path().join("missing"));
    let (code, said) = dry_run(maille(), &missing, &["--allow-host-path"]);
    assert!(code == Some(2) && said.contains("missing"), "{said}");
    let mut up = Up::start_with("host", &[("pod.yaml", text)], |command| {
        command.arg("--allow-host-path");
    })
    .unwrap();
    up.ready(1 + DNS).await.unwrap();
    let answered = host.path().join("answered");
    let answer = until_async("the answer", READY, async || {
        fs::read_to_string(&answered)
            .ok()
            .filter(|text| !text.is_empty())
    });
    assert_eq!(answer.await.unwrap(), "well?");
    up.down().await.unwrap();
}

#[tokio::test]
async fn an_image_is_the_program_that_somebody_says() {
    let text = pod(
        "  terminationGracePeriodSeconds: 0\n  containers:\n    - {name: a, image: 'registry.example:5000/shop/a:v2'}\n    \
         - {name: b, image: 'shop/b@sha256:00', args: [-c, 'echo args; exec sleep infinity']}\n",
    );
    let maille = || Programs::find().unwrap().maille();
    let (code, said) = dry_run(maille(), &text, &[]);
    for name in ["registry.example:5000/shop/a:v2", "shop/b@sha256:00"] {
        let error = format!("image {name:?} stands for the program");
        assert!(code == Some(2) && said.contains(&error), "{said}");
    }
    let both = [
        "--image",
        "a=sh -c exec${IFS}sleep${IFS}infinity",
        "--image",
        "shop/b=/bin/sh",
    ];
    let mut up = Up::start_with("image", &[("pod.yaml", text)], |command| {
        command.args(both);
    })
    .unwrap();
    up.ready(1 + DNS).await.unwrap();
    let pods = up.pods().await.unwrap();
    let own = pods.iter().find(|pod| pod["name"] == "one").unwrap();
    let uid = own["uid"].as_str().unwrap();
    let log = up.state().join("pods").join(uid).join("b.log");
    let written = until_async("its words", READY, async || {
        fs::read_to_string(&log)
            .ok()
            .filter(|text| !text.is_empty())
    });
    assert_eq!(written.await.unwrap(), "args\n");
    up.down().await.unwrap();
}

/// Everything else works for everybody: this ring runs as an ordinary user too.
#[test]
fn what_an_ordinary_user_cannot_have_is_named() {
    let container = |more: &str| format!("    - {{name: {more}, command: [sleep, infinity]}}\n");
    let users = format!(
        "  containers:\n{}{}",
        container("a, securityContext: {runAsUser: 1}"),
        container("b, securityContext: {runAsUser: 2}")
    );
    let others = private();
    let refused = [
        (
            pod(&users),
            "spec.securityContext: is not supported: several users in one pod",
        ),
        (
            pod(&format!(
                "  securityContext: {{supplementalGroups: [7]}}\n  containers:\n{}",
                container("a")
            )),
            "spec.securityContext.supplementalGroups: is not supported: an ordinary user has no other groups to give",
        ),
        (
            host_path(&others),
            "belongs to another user, who does not let you read it",
        ),
    ];
    for (text, error) in &refused {
        let (code, said) = dry_run(as_ordinary_user(), text, &["--allow-host-path"]);
        assert!(code == Some(2) && said.contains(error), "{said}");
        assert!(
            said.contains("app.yaml:") && said.contains("nothing was compared"),
            "{said}"
        );
    }
    let warned = [
        (
            pod(&format!(
                "  containers:\n{}",
                container("a, resources: {limits: {cpu: 1, memory: 1Gi}}")
            )),
            "spec.containers[0].resources.limits.cpu: the container is not limited: limits need root",
        ),
        (
            pod(&format!(
                "  securityContext: {{fsGroup: 7}}\n  containers:\n{}",
                container("a")
            )),
            "spec.securityContext.fsGroup: files belong to the user who runs maille",
        ),
    ];
    for (text, warning) in &warned {
        let (code, said) = dry_run(as_ordinary_user(), text, &[]);
        assert!(code == Some(0) && said.contains(warning), "{said}");
    }
    // One user for all containers is everybody's to give, whatever its number.
    let one = pod(&users.replace("runAsUser: 2", "runAsUser: 1"));
    let (code, said) = dry_run(as_ordinary_user(), &one, &[]);
    assert!(code == Some(0) && !said.contains("warning"), "{said}");
    // Root can have all of it.
    if geteuid().is_root() {
        for (text, _) in refused.iter().chain(&warned) {
            let maille = Programs::find().unwrap().maille();
            let (code, said) = dry_run(maille, text, &["--allow-host-path"]);
            assert!(code == Some(0), "{said}");
            assert!(
                !said.contains("fsGroup") && !said.contains("need root"),
                "{said}"
            );
        }
    }
}

/// A directory that is root's alone, on every machine.
fn private() -> PathBuf {
    let known = ["/root", "/proc/1/root", "/var/lib/private"];
    let known = known.into_iter().map(PathBuf::from);
    known.into_iter().find(|path| path.exists()).unwrap()
}
