// SPDX-License-Identifier: Apache-2.0
//! Text that is meant to do harm: in manifests and file names, in requests, in what containers write. Nothing of it reaches a terminal as it is, JSON
//! stays JSON, and nothing ends in a panic.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use maille_testkit::{Programs, Up, until_async};
use serde_json::Value;

/// How long an answer may take to become what it will be.
const SETTLED: Duration = Duration::from_secs(60);

/// What terminals obey, what hides, what turns text round, what breaks lines, tables and quotes, and what ends nowhere.
const TEXTS: [&str; 9] = [
    "\u{1b}[2J\u{1b}]0;owned\u{7}",
    "\u{9b}31m\u{90}",
    "\u{202e}txt.exe\u{2066}",
    "a\u{200b}b\u{feff}\u{e0041}",
    "a\r\nb\u{b}\u{c}\u{85}\u{2028}c",
    "<script>alert(1)</script>",
    "\"'`\\$(id){{}}",
    "%s%n%x\u{0}",
    "\u{7f}\u{8}\u{8}\u{8}",
];

/// Whether a terminal that was shown this would do nothing but show it.
fn is_harmless(text: &str) -> bool {
    text.chars().all(|c| {
        c == '\n'
            || !c.is_control()
                && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e0fff}')
    })
}

fn check(what: &str, output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| {
        let text =
            String::from_utf8(bytes.to_vec()).unwrap_or_else(|error| panic!("{what}: {error}"));
        let longest = text.lines().map(str::len).max().unwrap_or(0);
        assert!(is_harmless(&text), "{what}: {text:?}");
        assert!(longest < 16 * 1024, "{what}: a line of {longest}");
        assert!(
            !text.contains("panicked") && !text.contains("has a defect"),
            "{what}: {text}"
        );
        text
    };
    (text(&output.stdout), text(&output.stderr))
}

fn json_text(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

/// A pod with `text` at one of many places; JSON is YAML.
fn manifests(text: &str) -> Vec<(&'static str, String)> {
    let text = json_text(text);
    let pod = |metadata: &str, container: &str| {
        format!(
            r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"p"{metadata}}},"spec":{{"containers":[{{"name":"c","image":"i","command":["true"]{container}}}]}}}}"#
        )
    };
    vec![
        (
            "a name",
            format!(r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":{text}}}}}"#),
        ),
        ("a namespace", pod(&format!(r#","namespace":{text}"#), "")),
        (
            "a label",
            pod(&format!(r#","labels":{{{text}:{text}}}"#), ""),
        ),
        (
            "an annotation",
            pod(&format!(r#","annotations":{{"a":{text},{text}:"b"}}"#), ""),
        ),
        (
            "an own annotation",
            pod(
                &format!(
                    r#","annotations":{{"maille.io/inject":{text},"maille.io/{}":"x"}}"#,
                    "y"
                ),
                "",
            ),
        ),
        (
            "a variable",
            pod(
                "",
                &format!(r#","env":[{{"name":"A","value":{text}}},{{"name":{text},"value":"b"}}]"#),
            ),
        ),
        (
            "an argument",
            pod("", &format!(r#","args":[{text}],"workingDir":{text}"#)),
        ),
        ("a field", pod("", &format!(r#",{text}:1"#))),
        (
            "a port",
            pod(
                "",
                &format!(r#","ports":[{{"name":{text},"containerPort":{text}}}]"#),
            ),
        ),
        (
            "an image",
            format!(
                r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"p"}},"spec":{{"containers":[{{"name":"c","image":{text}}}]}}}}"#
            ),
        ),
        (
            "a kind",
            format!(r#"{{"apiVersion":{text},"kind":{text},"metadata":{{"name":"p"}}}}"#),
        ),
        (
            "a key",
            format!(
                r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"m"}},"data":{{{text}:{text}}}}}"#
            ),
        ),
        ("nonsense", format!("{text}: [{{")),
        ("plain text", text.trim_matches('"').to_owned()),
    ]
}

#[test]
fn manifests_do_no_harm() {
    let programs = Programs::find().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let dry = |file: &OsStr| {
        let mut command = programs.maille();
        command
            .args(["up", "--dry-run", "--name", "hostile"])
            .arg(file);
        command.env("MAILLE_RUNTIME_DIR", dir.path().join("s"));
        command.stdin(Stdio::null()).output().unwrap()
    };
    let long = "x".repeat(64 * 1024);
    let mut refused = 0;
    for text in TEXTS.iter().copied().chain([long.as_str()]) {
        for (place, manifest) in manifests(text) {
            let file = dir.path().join("m.yaml");
            std::fs::write(&file, &manifest).unwrap();
            let what = format!("{place} {:?}", &text[..text.len().min(20)]);
            let output = dry(file.as_os_str());
            let (_, said) = check(&what, &output);
            match output.status.code() {
                Some(0) => {}
                Some(2) => {
                    refused += 1;
                    assert!(said.contains("error:"), "{what}: {said}");
                }
                other => panic!("{what}: {other:?}: {said}"),
            }
        }
    }
    assert!(refused > 50, "{refused}");
    // Files whose names and bytes are no text.
    for name in [
        &b"\x1b[2J\xff.yaml"[..],
        "\u{202e}lmay.yaml".as_bytes(),
        b"a\nb.yaml",
    ] {
        let file = dir.path().join(OsStr::from_bytes(name));
        std::fs::write(&file, b"kind: \xff\xfe\x1b[2J").unwrap();
        let output = dry(file.as_os_str());
        let (_, said) = check("a file's name", &output);
        assert_eq!(output.status.code(), Some(2), "{said}");
    }
    // And a command line.
    for text in TEXTS.iter().filter(|text| !text.contains('\0')) {
        for words in [
            &["stat", text][..],
            &["tap", text],
            &[text],
            &["logs", text],
            &["get", text],
            &["up", text],
            &["explain", text, text],
        ] {
            let mut command = programs.maille();
            command.env("MAILLE_RUNTIME_DIR", dir.path().join("s"));
            let output = command.args(words).output().unwrap();
            check(&format!("{words:?}"), &output);
            assert!(!output.status.success(), "{words:?}");
        }
    }
}

/// The client says what it is told by `exec`; the other writes what terminals obey, then waits.
const PODS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: client, labels: {app: client}, annotations: {note: "\e[2J\u202e\x9b31m", maille.io/access-log: json}}
spec:
  containers:
    - {name: client, command: [sleep, "3600"], env: [{name: EVIL, value: "\e]0;x\a\r\n\u202e"}]}
    - {name: noisy, command: [sh, -c, 'printf "\033[2J\033[31mred\033[0m\033]0;x\007\342\200\256\302\233\377\r\nend\n"; exec sleep 3600']}
"#;

/// A request with `text` wherever it may stand, as bytes for printf.
fn request(text: &[u8]) -> String {
    let octal: String = text.iter().map(|byte| format!("\\{byte:03o}")).collect();
    format!(
        "GET /{octal}?q={octal} HTTP/1.1\\r\\nHost: server:8080\\r\\nUser-Agent: {octal}\\r\\nX-{octal}: {octal}\\r\\nConnection: close\\r\\n\\r\\n"
    )
}

#[tokio::test]
async fn traffic_and_logs_do_no_harm() {
    let server = include_str!("../../../examples/hello/server.yaml").to_owned();
    let files = [("pods.yaml", PODS.to_owned()), ("server.yaml", server)];
    let mut up = Up::start("hos", &files).unwrap();
    // And the cluster's own DNS.
    up.ready(3).await.unwrap();
    let taps = ["table", "wide", "json"].map(|form| Tapped::start(&up, form));
    // A tap is in force when it has told something: what is asked now is seen by all of them.
    until_async("taps that tell", SETTLED, async || {
        ask(&up, &request(b"begin"));
        taps.iter().all(|tap| !tap.lines().is_empty()).then_some(())
    })
    .await
    .unwrap();
    for text in TEXTS {
        ask(&up, &request(text.as_bytes()));
        ask(&up, &request(&text.as_bytes()[text.len() / 2..]));
    }
    ask(&up, &request(&[b'x'; 2 * 1024]));
    ask(&up, &request(b"\xff\xfe\xc3\x28"));
    ask(&up, &request(b"end"));
    for tap in taps {
        let lines = tap.end().await;
        assert!(lines.len() > 4, "{lines:?}");
        for line in &lines {
            assert!(is_harmless(line), "{line:?}");
        }
        if lines[0].starts_with('{') {
            for line in lines {
                let said: Value = serde_json::from_str(&line).unwrap();
                assert!(said["type"].is_string(), "{said}");
            }
        }
    }
    lists(&up);
    logs(&up);
}

/// Sends it from within the client's pod. The answer does not matter: some of it is refused.
fn ask(up: &Up, request: &str) {
    let line =
        format!("exec 3<>/dev/tcp/server/8080 && printf '{request}' >&3 && cat <&3 >/dev/null");
    let mut command = up.maille(&["exec", "client"]);
    // What belongs to exec stands before the command.
    command.args(["--", "bash", "-c", &line]);
    command.output().unwrap();
}

fn lists(up: &Up) {
    for line in [
        "get all",
        "get pods -o wide",
        "get pods -o yaml",
        "get all -o json",
        "stat all",
        "stat pods -o wide",
        "stat all -o json",
        "edges -o wide",
        "edges -o json",
        "check",
        "check -o json",
        "identity pods -o wide",
        "identity pods -o json",
        "explain client svc/server",
        "explain client svc/server -o json",
        "capture client --state",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let (text, _) = check(line, &up.maille(&words).output().unwrap());
        assert!(!text.is_empty(), "{line}");
        if line.ends_with("json") {
            serde_json::from_str::<Value>(&text).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }
    // What was written is all there, for programs.
    let json = up
        .maille(&["get", "pod", "client", "-o", "json"])
        .output()
        .unwrap();
    let pod: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(
        pod["metadata"]["annotations"]["note"],
        "\u{1b}[2J\u{202e}\u{9b}31m"
    );
}

fn logs(up: &Up) {
    let log = |words: &[&str]| up.maille(&[&["logs", "client"], words].concat());
    // Into a pipe: what the container wrote, byte by byte.
    let piped = log(&["-c", "noisy"]).output().unwrap();
    assert_eq!(
        piped.stdout,
        b"\x1b[2J\x1b[31mred\x1b[0m\x1b]0;x\x07\xe2\x80\xae\xc2\x9b\xff\r\nend\n"
    );
    // To a terminal: text and colours.
    let shown = on_a_terminal(&log(&["-c", "noisy"]));
    let harmless = shown
        .replace("\u{1b}[31m", "")
        .replace("\u{1b}[0m", "")
        .replace('\r', "");
    assert!(is_harmless(&harmless), "{shown:?}");
    for part in [
        "\\u{1b}[2J\u{1b}[31mred\u{1b}[0m\\u{1b}]0;x",
        "\\u{202e}\\u{9b}",
        "end",
    ] {
        assert!(shown.contains(part), "{part:?}: {shown:?}");
    }
    let all = log(&["--all-containers", "--prefix", "--since", "1h"])
        .output()
        .unwrap();
    let all = String::from_utf8_lossy(&all.stdout).into_owned();
    assert!(all.contains("[pod/client/noisy] end\n"), "{all:?}");
    // The access log of the proxy, which saw all of it.
    let access = log(&["-c", "maille-proxy"]).output().unwrap();
    let (access, _) = check("the access log", &access);
    let lines = access.lines().filter(|line| line.starts_with('{'));
    let lines = lines.map(|line| {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    });
    assert!(
        lines.filter(|line| line["log"] == "access").count() > 3,
        "{access}"
    );
}

/// What a command says that stands on a terminal (`script` of util-linux gives it one).
fn on_a_terminal(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line: Vec<String> = words
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let mut script = Command::new("script");
    script
        .args(["-qec", &line.join(" "), "/dev/null"])
        .stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        script.env(name, value.unwrap());
    }
    String::from_utf8_lossy(&script.output().unwrap().stdout).into_owned()
}

/// A tap that goes on, written to a file.
struct Tapped {
    child: std::process::Child,
    file: tempfile::NamedTempFile,
}

impl Tapped {
    fn start(up: &Up, form: &str) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut command = up.maille(&["tap", "pod/client", "-o", form, "--headers", "all"]);
        command.stdout(file.reopen().unwrap()).stderr(Stdio::null());
        Self {
            child: command.spawn().unwrap(),
            file,
        }
    }

    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(std::fs::read(self.file.path()).unwrap()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits for the last request, and ends it.
    async fn end(mut self) -> Vec<String> {
        until_async("the last request", SETTLED, async || {
            let lines = self.lines();
            lines
                .iter()
                .any(|line| line.contains("/end?q=end"))
                .then_some(())
        })
        .await
        .unwrap();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let mut lines = self.lines();
        // The last one may be half of one.
        lines.pop();
        lines
    }
}
