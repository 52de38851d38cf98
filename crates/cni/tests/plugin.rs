// SPDX-License-Identifier: Apache-2.0
//! The program as a container runtime calls it: variables, standard input, standard output, and an agent that says what the test says.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};

use maille_cni::protocol::{Answer, Ask, Question, SANDBOXES, SOCKET};
use serde_json::{Value, json};

const RESULT: &str = r#"{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","sandbox":"/n"}],"ips":[{"address":"10.0.0.2/24"}],"later":{"kept":[1]}}"#;

fn netconf(state: &Path, capture: Option<&str>) -> Value {
    let mut annotations = json!({"kubernetes.io/config.source": "api"});
    if let Some(capture) = capture {
        annotations["maille.io/capture"] = json!(capture);
    }
    let result: Value = serde_json::from_str(RESULT).unwrap();
    json!({
        "cniVersion": "1.1.0", "name": "net", "type": "maille-cni", "state": state, "prevResult": result,
        "runtimeConfig": {"io.kubernetes.cri.pod-annotations": annotations},
    })
}

/// Calls it: whether it succeeded, and what it printed.
fn call(command: &str, namespace: &str, netconf: &Value) -> (bool, String) {
    let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-1;K8S_POD_UID=u-1";
    let mut child = Command::new(env!("CARGO_BIN_EXE_maille-cni"))
        .env_clear()
        .envs([
            ("CNI_COMMAND", command),
            ("CNI_CONTAINERID", "c1"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_NETNS", namespace),
            ("CNI_ARGS", args),
            ("CNI_PATH", "/opt/cni/bin"),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let text = netconf.to_string();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    (
        output.status.success(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

/// An agent that answers once, and gives what it was asked.
fn agent(state: &Path, answer: &Answer) -> JoinHandle<Question> {
    let listener = UnixListener::bind(state.join(SOCKET)).unwrap();
    let answer = serde_json::to_vec(answer).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).unwrap();
        stream.write_all(&answer).unwrap();
        serde_json::from_str(&line).unwrap()
    })
}

#[test]
fn a_pod_outside_the_mesh_needs_no_agent() {
    let dir = tempfile::tempdir().unwrap();
    for capture in [None, Some("inboard"), Some("none")] {
        let (good, text) = call("ADD", "/nowhere", &netconf(dir.path(), capture));
        assert!(good, "{text}");
        assert_eq!(text, RESULT, "as it came, fields of later versions too");
        assert_eq!(
            call("CHECK", "/nowhere", &netconf(dir.path(), capture)),
            (true, String::new())
        );
    }
}

#[test]
fn a_pod_of_the_mesh_is_captured_by_the_agent() {
    let dir = tempfile::tempdir().unwrap();
    let agent = agent(dir.path(), &Answer::Done);
    let (good, text) = call(
        "ADD",
        "/proc/self/ns/net",
        &netconf(dir.path(), Some("outboard")),
    );
    assert!(good, "{text}");
    assert_eq!(text, RESULT);
    let Ask::Add(sandbox) = agent.join().unwrap().ask else {
        panic!("it was to be captured");
    };
    assert_eq!(
        (sandbox.namespace.as_str(), sandbox.name.as_str()),
        ("shop", "web-1")
    );
    assert_eq!(sandbox.container, "c1");
}

#[test]
fn without_an_agent_a_pod_of_the_mesh_does_not_start_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let (good, text) = call(
        "ADD",
        "/proc/self/ns/net",
        &netconf(dir.path(), Some("outboard")),
    );
    let error: Value = serde_json::from_str(&text).unwrap();
    assert!(!good);
    assert_eq!(
        (&error["code"], &error["cniVersion"]),
        (&json!(11), &json!("1.1.0"))
    );
    let said = error["msg"].as_str().unwrap();
    assert!(
        said.contains("away") && said.contains("shop/web-1"),
        "{said}"
    );
    assert!(
        error["details"].as_str().unwrap().contains("No such file"),
        "{error}"
    );
    // One that ended: its socket is there, and nobody behind it.
    drop(UnixListener::bind(dir.path().join(SOCKET)).unwrap());
    let (good, text) = call(
        "ADD",
        "/proc/self/ns/net",
        &netconf(dir.path(), Some("outboard")),
    );
    assert!(!good && text.contains("refused"), "{text}");
}

#[test]
fn what_the_agent_says_is_passed_on() {
    let dir = tempfile::tempdir().unwrap();
    let refused = Answer::Refused {
        reason: "no address".to_owned(),
        details: "eth0".to_owned(),
    };
    let agent = agent(dir.path(), &refused);
    let (good, text) = call(
        "ADD",
        "/proc/self/ns/net",
        &netconf(dir.path(), Some("outboard")),
    );
    let error: Value = serde_json::from_str(&text).unwrap();
    assert!(!good);
    assert_eq!(
        (&error["code"], &error["details"]),
        (&json!(100), &json!("eth0"))
    );
    assert!(
        error["msg"].as_str().unwrap().contains("no address"),
        "{error}"
    );
    agent.join().unwrap();
}

#[test]
fn an_end_succeeds_whatever_there_is_and_however_often() {
    let dir = tempfile::tempdir().unwrap();
    let netconf = netconf(dir.path(), Some("outboard"));
    for namespace in ["", "/nowhere", ""] {
        assert_eq!(call("DEL", namespace, &netconf), (true, String::new()));
    }
    // What an agent left that is away.
    let left = dir.path().join(SANDBOXES).join("c1");
    std::fs::create_dir_all(&left).unwrap();
    File::create(left.join("mesh")).unwrap();
    assert_eq!(call("DEL", "", &netconf), (true, String::new()));
    assert!(!left.exists());
    let agent = agent(dir.path(), &Answer::Done);
    assert_eq!(call("DEL", "", &netconf), (true, String::new()));
    assert_eq!(
        agent.join().unwrap().ask,
        Ask::Del {
            container: "c1".to_owned()
        }
    );
    assert_eq!(call("GC", "", &netconf), (true, String::new()));
}

#[test]
fn status_is_about_the_plugin_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut netconf = netconf(dir.path(), None);
    assert_eq!(
        call("STATUS", "", &netconf),
        (true, String::new()),
        "no agent"
    );
    netconf["cniVersion"] = json!("9.0.0");
    let (good, text) = call("STATUS", "", &netconf);
    assert!(!good && text.contains("9.0.0"), "{text}");
}

#[test]
fn versions_are_told() {
    for input in [
        json!({"cniVersion": "1.0.0"}),
        json!({"cniVersion": "9.9.9"}),
        Value::Null,
    ] {
        let (good, text) = call("VERSION", "", &input);
        let said: Value = serde_json::from_str(&text).unwrap();
        assert!(good);
        assert_eq!(
            said["supportedVersions"],
            json!(["0.3.1", "0.4.0", "1.0.0", "1.1.0"])
        );
    }
    let (good, text) = call("DANCE", "", &json!({}));
    assert!(!good && text.contains("CNI_COMMAND"), "{text}");
}

#[test]
fn a_network_of_its_own_gives_nothing_and_has_the_agent_find_out() {
    let dir = tempfile::tempdir().unwrap();
    let netconf = json!({"cniVersion": "0.3.1", "name": "maille", "type": "maille-cni", "delegate": true, "state": dir.path()});
    let asked = agent(dir.path(), &Answer::Done);
    let (good, text) = call("ADD", "/proc/self/ns/net", &netconf);
    assert!(good, "{text}");
    let result: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        result,
        json!({"cniVersion": "0.3.1", "interfaces": [], "ips": [], "dns": {}})
    );
    let asked = asked.join().unwrap().ask;
    assert!(
        matches!(&asked, Ask::AddUntold(of) if of.name == "web-1"),
        "{asked:?}"
    );
    std::fs::remove_file(dir.path().join(SOCKET)).unwrap();
    let (good, text) = call("ADD", "/proc/self/ns/net", &netconf);
    assert!(!good && text.contains("node agent is away"), "{text}");
    // Without the word it is a mistake in a chain.
    let mut chained = netconf;
    chained["delegate"] = json!(false);
    let (good, text) = call("ADD", "/proc/self/ns/net", &chained);
    assert!(!good && text.contains("no prevResult"), "{text}");
}
