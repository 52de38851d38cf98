// SPDX-License-Identifier: Apache-2.0
//! What lives while `maille up` runs, and after it: files that change, orders, looks into pods, and pods that are kept.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use maille_testkit::up::READY;
use maille_testkit::{Programs, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

const APP: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: web
          command: [STEADY, serve, "0"]
          env: [{name: COLOUR, value: red}]
          ports: [{name: http, containerPort: 8080}]
          readinessProbe: {httpGet: {path: /ready, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]}
"#;

const TALKER: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: talker}
spec:
  containers:
    - {name: talker, command: [sh, -c, "echo first; echo second; exec sleep 1000"]}
    - {name: other, command: [sh, -c, "echo its own; exec sleep 1000"]}
"#;

/// Containers with rights of their own, a sidecar among them.
const LOCKED: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: locked}
spec:
  initContainers:
    - name: side
      restartPolicy: Always
      command: [sleep, "1000"]
      workingDir: /usr
      securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL], add: [CHOWN]}}
  containers:
    - name: main
      command: [sleep, "1000"]
      securityContext: {capabilities: {drop: [NET_RAW]}}
"#;

/// `maille up` of a directory of manifests. Its end takes everything with it, whatever the test does.
struct Live {
    dir: TempDir,
    up: Option<Child>,
}

impl Live {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("m")
            .tempdir_in("/tmp")
            .unwrap();
        let live = Self { dir, up: None };
        fs::create_dir(live.dir.path().join("app")).unwrap();
        for (name, text) in files {
            live.write(name, text);
        }
        live
    }

    fn app(&self) -> PathBuf {
        self.dir.path().join("app")
    }

    fn write(&self, name: &str, text: &str) {
        let own = std::env::current_exe().unwrap();
        let steady = own
            .parent()
            .unwrap()
            .parent()
            .unwrap()
            .join("maille-steady");
        let text = text.replace("STEADY", steady.to_str().unwrap());
        // As editors do: never half a file.
        fs::write(self.dir.path().join("new"), text).unwrap();
        fs::rename(self.dir.path().join("new"), self.app().join(name)).unwrap();
    }

    fn maille(&self, args: &[&str]) -> Command {
        let mut command = Programs::find().unwrap().maille();
        command.args(args).args(["--name", "live"]);
        command.env("MAILLE_RUNTIME_DIR", self.dir.path().join("s"));
        command
    }

    /// Runs to its end: exit code, standard output, standard error.
    fn run(&self, args: &[&str]) -> (i32, String, String) {
        // What follows -- is a command's.
        let at = args
            .iter()
            .position(|arg| *arg == "--")
            .unwrap_or(args.len());
        let mut command = self.maille(&args[..at]);
        command.args(&args[at..]).stdin(Stdio::null());
        let Output {
            status,
            stdout,
            stderr,
        } = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (status.code().unwrap_or(-1), text(stdout), text(stderr))
    }

    fn said(&self) -> String {
        fs::read_to_string(self.dir.path().join("up.out")).unwrap_or_default()
    }

    /// Waits until `maille up` has said `words`, `times` times.
    async fn says(&self, words: &str, times: usize) {
        let heard = || (self.said().matches(words).count() >= times).then_some(());
        let heard = until(words, READY, heard).await;
        heard.unwrap_or_else(|error| panic!("{error}\n{}", self.said()));
    }

    async fn up(&mut self, flags: &[&str]) {
        let before = self.said().matches("pods ready").count();
        let mut log = fs::File::options();
        let log = log.create(true).append(true);
        let log = log.open(self.dir.path().join("up.out")).unwrap();
        let app = self.app();
        let mut command = self.maille(&["up", app.to_str().unwrap()]);
        command
            .args(flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.up = Some(command.spawn().unwrap());
        self.says("pods ready", before + 1).await;
    }

    /// Ends `maille up` by a signal.
    fn end(&mut self, signal: Signal) {
        let mut up = self.up.take().unwrap();
        kill(Pid::from_raw(i32::try_from(up.id()).unwrap()), signal).unwrap();
        up.wait().unwrap();
    }

    /// The pods of `maille get`, in JSON.
    fn pods(&self) -> Vec<Value> {
        let (code, text, said) = self.run(&["get", "pods", "-o", "json"]);
        assert_eq!(code, 0, "{said}");
        let list: Value = serde_json::from_str(&text).unwrap();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// The ready pods of `web`, with the colour that they were started with.
    fn colours(&self) -> Vec<String> {
        let pods = self.pods();
        let web = pods
            .iter()
            .filter(|pod| pod["metadata"]["labels"]["app"] == "web");
        let web = web.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        web.map(|pod| {
            let colour = pod["spec"]["containers"][0]["env"][0]["value"].as_str();
            let ready = pod["status"]["conditions"][0]["status"] == "True";
            format!("{}{}", colour.unwrap(), if ready { "" } else { "?" })
        })
        .collect()
    }

    async fn until_colours(&self, expected: &[&str]) {
        let seen = until("the pods", READY, || {
            (self.colours() == expected).then_some(())
        });
        seen.await
            .unwrap_or_else(|error| panic!("{error}: {:?}\n{}", self.colours(), self.said()));
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.maille(&["down"]).output();
        if let Some(up) = &mut self.up {
            let _ = up.kill();
            let _ = up.wait();
        }
    }
}

#[tokio::test]
async fn files_that_change_roll_pods() {
    let mut live = Live::new(&[("web.yaml", APP)]);
    let app = live.app();
    let app = app.to_str().unwrap();
    let (code, text, said) = live.run(&["up", app, "--dry-run"]);
    assert_eq!(
        (code, text.as_str()),
        (
            0,
            "deployment.apps/web created (dry run)\nservice/web created (dry run)\n"
        ),
        "{said}"
    );
    live.up(&[]).await;
    live.until_colours(&["red", "red"]).await;
    assert_eq!(live.run(&["diff", app]).0, 0);
    // A change rolls.
    live.write("web.yaml", &APP.replace("red", "blue"));
    live.until_colours(&["blue", "blue"]).await;
    live.says("deployment.apps/web configured", 1).await;
    // An addition starts.
    live.write("talker.yaml", TALKER);
    live.says("pod/talker created", 1).await;
    // A broken file changes nothing and says so once, however often it is written.
    live.write("web.yaml", &APP.replace("replicas: 2", "replicas: two"));
    live.says("nothing was changed", 1).await;
    let (code, _, said) = live.run(&["diff", app]);
    assert!(code == 2 && said.contains("replicas"), "{code}: {said}");
    live.write("web.yaml", &APP.replace("replicas: 2", "replicas: two"));
    live.write(
        "other.yaml",
        &TALKER.replace("name: talker}", "name: other}"),
    );
    live.write("web.yaml", &APP.replace("red", "green"));
    live.until_colours(&["green", "green"]).await;
    live.says("pod/other created", 1).await;
    assert_eq!(
        live.said().matches("nothing was changed").count(),
        1,
        "{}",
        live.said()
    );
    // What was scaled is as it was told, and differs from the files.
    let (code, text, said) = live.run(&["scale", "web", "--replicas", "1", "--wait"]);
    assert_eq!(
        (code, text.as_str()),
        (0, "deployment.apps/web scaled\n"),
        "{said}"
    );
    live.until_colours(&["green"]).await;
    let (code, text, _) = live.run(&["diff", app]);
    assert!(
        code == 1 && text.contains("-  replicas: 1\n+  replicas: 2\n"),
        "{code}: {text}"
    );
    // A removal ends.
    fs::remove_file(live.app().join("talker.yaml")).unwrap();
    live.says("pod/talker deleted", 1).await;
    let gone = || {
        live.pods()
            .iter()
            .all(|pod| pod["metadata"]["name"] != "talker")
            .then_some(())
    };
    until("the pod to go", READY, gone).await.unwrap();
    live.until_colours(&["green"]).await;
}

#[tokio::test]
async fn pods_are_shown_and_read() {
    let mut live = Live::new(&[("web.yaml", APP), ("talker.yaml", TALKER)]);
    live.up(&[]).await;
    let (code, text, _) = live.run(&["get", "pods,svc", "-n", "default"]);
    assert_eq!(code, 0);
    assert!(
        text.starts_with("NAME ") && text.contains("pod/talker") && text.contains("service/web"),
        "{text}"
    );
    let (_, endpoints, _) = live.run(&["get", "endpoints", "web", "-o", "json"]);
    let endpoints: Value = serde_json::from_str(&endpoints).unwrap();
    assert_eq!(
        endpoints["subsets"][0]["addresses"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let (code, _, said) = live.run(&["get", "pod", "talke"]);
    assert!(code == 1 && said.contains("did you mean talker?"), "{said}");
    // logs
    let (code, text, said) = live.run(&["logs", "talker", "--tail", "1"]);
    assert_eq!((code, text.as_str()), (0, "second\n"), "{said}");
    assert!(
        said.contains("Defaulted container \"talker\" out of: talker, other"),
        "{said}"
    );
    assert_eq!(
        live.run(&["logs", "pod/talker", "-c", "other"]).1,
        "its own\n"
    );
    let (code, _, said) = live.run(&["logs", "talker", "-c", "nobody"]);
    assert!(code == 1 && said.contains("it has talker, other"), "{said}");
}

#[tokio::test]
async fn pods_are_entered() {
    let mut live = Live::new(&[
        ("web.yaml", APP),
        ("talker.yaml", TALKER),
        ("locked.yaml", LOCKED),
    ]);
    live.up(&[]).await;
    let (code, text, said) = live.run(&[
        "exec",
        "deploy/web",
        "--",
        "sh",
        "-c",
        "echo $COLOUR; echo oops >&2; exit 7",
    ]);
    assert_eq!((code, text.as_str()), (7, "red\n"));
    assert!(
        said.contains("oops") && said.contains("Found 2 pods, using pod/web-"),
        "{said}"
    );
    // A command has the rights of its container and no others.
    let rights = |whose: &str, container: &str| {
        let script = format!("pwd; grep -E '^(CapPrm|CapBnd|NoNewPrivs)' /proc/{whose}/status");
        let line = ["exec", "locked", "-c", container, "--", "sh", "-c", &script];
        let (code, text, said) = live.run(&line);
        assert_eq!(code, 0, "{said}");
        text
    };
    let (main, side) = (rights("self", "main"), rights("self", "side"));
    assert_eq!((&main, &side), (&rights("1", "main"), &rights("1", "side")));
    assert!(
        side.starts_with("/usr\n") && side.ends_with("NoNewPrivs:\t1\n"),
        "{side}"
    );
    assert!(
        main.starts_with("/\n") && main.ends_with("NoNewPrivs:\t0\n"),
        "{main}"
    );
    let mut cat = live.maille(&["exec", "-i", "talker"]);
    let mut cat = cat
        .args(["--", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let sent = vec![b'x'; 1 << 20];
    let mut to = cat.stdin.take().unwrap();
    let copy = sent.clone();
    let writer = std::thread::spawn(move || to.write_all(&copy));
    let mut came = Vec::new();
    cat.stdout.take().unwrap().read_to_end(&mut came).unwrap();
    writer.join().unwrap().unwrap();
    assert!(cat.wait().unwrap().success() && came == sent);
}

#[tokio::test]
async fn pods_are_reached() {
    let mut live = Live::new(&[("web.yaml", APP)]);
    live.up(&[]).await;
    let mut forward = live
        .maille(&["port-forward", "svc/web", ":80", ":http"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = forward.stdout.take().unwrap();
    let mut printed = String::new();
    let mut byte = [0];
    while printed.matches("-> 8080\n").count() < 3 && out.read(&mut byte).unwrap() > 0 {
        printed.push(char::from(byte[0]));
    }
    let ports = printed.lines().filter_map(|line| {
        line.strip_prefix("Forwarding from 127.0.0.1:")?
            .split(' ')
            .next()?
            .parse()
            .ok()
    });
    let ports: Vec<u16> = ports.collect();
    assert_eq!(ports.len(), 2, "{printed}");
    for port in ports {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        socket
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("here\n"),
            "{answer}"
        );
    }
    kill(
        Pid::from_raw(i32::try_from(forward.id()).unwrap()),
        Signal::SIGINT,
    )
    .unwrap();
    assert!(forward.wait().unwrap().success());
}

#[tokio::test]
async fn a_terminal_is_one() {
    let mut live = Live::new(&[("talker.yaml", TALKER)]);
    live.up(&[]).await;
    let maille = Programs::find().unwrap().path("maille");
    let line = format!(
        "stty rows 33 cols 101; {} exec -it talker --name live -- sh -c 'test -t 0 && stty size; exit 5'",
        maille.display()
    );
    // script(1) gives it a terminal.
    let output = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .env("MAILLE_RUNTIME_DIR", live.dir.path().join("s"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("33 101"), "{text}");
    assert_eq!(output.status.code(), Some(5), "{text}");
}

/// Names of the pods, and pids of their proxies and containers, as the runner sees them.
async fn running(live: &Live) -> Vec<(String, Value, Value)> {
    let socket = live.dir.path().join("s/live/node.sock");
    let answer = maille_testkit::http::ask(&socket, http::Method::GET, "/v1/pods")
        .await
        .unwrap();
    let mut pods: Vec<_> = answer["pods"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pod| {
            (
                pod["name"].as_str().unwrap().to_owned(),
                pod["proxy_pid"].clone(),
                pod["containers"].clone(),
            )
        })
        .collect();
    pods.sort_by(|a, b| a.0.cmp(&b.0));
    pods
}

#[tokio::test]
async fn what_is_kept_is_found_again() {
    let mut live = Live::new(&[("web.yaml", APP)]);
    live.up(&["--keep"]).await;
    let before = running(&live).await;
    assert_eq!(before.len(), 2);
    // Whether it is asked to end or dies: the same pods, the same processes.
    for signal in [Signal::SIGKILL, Signal::SIGINT, Signal::SIGTERM] {
        live.end(signal);
        assert_eq!(running(&live).await, before, "{signal}");
        let (code, text, said) = live.run(&["exec", "deploy/web", "--", "echo", "lives"]);
        assert_eq!((code, text.as_str()), (0, "lives\n"), "{said}");
        live.up(&["--keep"]).await;
        assert_eq!(running(&live).await, before, "{signal}");
    }
    // What changed meanwhile is made so.
    live.end(Signal::SIGINT);
    live.write("web.yaml", &APP.replace("replicas: 2", "replicas: 3"));
    live.up(&["--keep"]).await;
    let after = running(&live).await;
    assert!(
        after.len() == 3 && before.iter().all(|pod| after.contains(pod)),
        "{after:?}"
    );
    live.end(Signal::SIGINT);
    let (code, _, said) = live.run(&["down"]);
    assert_eq!(code, 0, "{said}");
    assert!(!live.dir.path().join("s").exists());
}

const BROKEN: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: broken}
spec:
  containers:
    - name: broken
      command: [sh, -c, "echo looking for a database; echo there is no database >&2; exit 3"]
      # Without it the pod would be ready for a moment each time.
      readinessProbe: {tcpSocket: {port: 9}}
"#;

#[tokio::test]
async fn a_pod_that_cannot_start_says_why_once() {
    // While it is waited for.
    let live = Live::new(&[("broken.yaml", BROKEN)]);
    let app = live.app();
    let (code, _, said) = live.run(&["up", app.to_str().unwrap(), "--timeout", "6s"]);
    assert_eq!(code, 1, "{said}");
    assert_eq!(
        said.matches("cannot start: default/broken: ").count(),
        1,
        "{said}"
    );
    let lines = "    looking for a database\n    there is no database\n";
    assert!(said.contains(lines), "{said}");
    // And later.
    let mut live = Live::new(&[("web.yaml", APP)]);
    live.up(&[]).await;
    live.write("broken.yaml", BROKEN);
    live.says("there is no database", 1).await;
    live.write("web.yaml", &APP.replace("red", "blue"));
    live.until_colours(&["blue", "blue"]).await;
    assert_eq!(
        live.said().matches("cannot start: ").count(),
        1,
        "{}",
        live.said()
    );
}
