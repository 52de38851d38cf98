// SPDX-License-Identifier: Apache-2.0
//! Lines that nothing a peer says can break, and the reference of their fields.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use maille_engine::http1::{Limits, parse_request};
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::accept::{Accepted, Door};
use crate::failure::Failure;
use crate::route::Facts;
use crate::telemetry::Response;

fn facts() -> Facts {
    let accepted = Accepted {
        door: Door::Mesh,
        client: "10.244.0.1:40000".parse().unwrap(),
        destination: "[fd00::2]:8080".parse().unwrap(),
    };
    Facts {
        dialled: Some("10.96.0.1:80".parse().unwrap()),
        peer: Some(Arc::new(
            "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap(),
        )),
        ..Facts::of(&accepted)
    }
}

fn outcome<'a>(
    facts: &'a Facts,
    asked: Option<&'a Asked>,
    failure: Option<Failure>,
) -> Outcome<'a> {
    Outcome {
        carries: Carries::Http,
        facts,
        plan: None,
        hop: None,
        protected: true,
        asked,
        response: Response {
            status: 200,
            grpc: Some(0),
        },
        failure,
        latency: Duration::from_micros(7),
        lasted: Duration::from_micros(9),
        request_bytes: 1,
        response_bytes: 2,
    }
}

fn asked(method: &[u8], path: &[u8], host: &[u8], agent: &[u8]) -> Asked {
    Asked {
        method: Cut::of(method),
        host: Cut::of(host),
        path: Cut::of(path),
        user_agent: Cut::of(agent),
        traceparent: Cut::default(),
    }
}

fn json(line: &str) -> serde_json::Map<String, Value> {
    let whole = format!("{{\"time\":\"\",{line}}}");
    match serde_json::from_str(&whole) {
        Ok(Value::Object(fields)) => fields,
        other => panic!("{other:?}: {whole}"),
    }
}

#[test]
fn a_request_as_it_was() {
    let bytes =
        b"GET /a?b=c HTTP/1.1\r\nHost: web\r\nUser-AGENT: curl/8\r\ntraceparent: 00-1-2-01\r\n\r\n";
    let mut head = RequestHead::default();
    parse_request(bytes, &Limits::default(), &mut head)
        .unwrap()
        .unwrap();
    let mut asked = Asked::default();
    asked.take(&head, bytes);
    let facts = facts();
    let text = line(Format::Text, &outcome(&facts, Some(&asked), None));
    assert_eq!(
        text,
        "direction=inbound carries=http src.addr=10.244.0.1:40000 dst.addr=10.96.0.1:80 \
         peer.id=spiffe://cluster.local/ns/shop/sa/web tls=true method=\"GET\" host=\"web\" path=\"/a?b=c\" \
         user_agent=\"curl/8\" traceparent=\"00-1-2-01\" status=200 grpc.status=0 first.us=7 dur.us=9 \
         bytes.request=1 bytes.response=2"
    );
    let fields = json(&line(Format::Json, &outcome(&facts, Some(&asked), None)));
    assert_eq!(fields["path"], "/a?b=c");
    assert_eq!(
        (&fields["tls"], &fields["dur.us"]),
        (&true.into(), &9.into())
    );
}

#[test]
fn failures_say_stage_and_blame() {
    let facts = facts();
    for failure in Failure::ALL {
        let fields = json(&line(Format::Json, &outcome(&facts, None, Some(failure))));
        assert_eq!(fields["flag"], failure.flag());
        assert_eq!(fields["stage"], failure.stage().name());
        assert_eq!(fields["blame"], failure.blame().name());
        assert_eq!(fields["error"], failure.to_string());
    }
}

#[test]
fn a_long_path_is_cut_and_a_line_is_never_long() {
    let facts = facts();
    let path = vec![0x1b; 64 * 1024];
    let asked = asked(&path, &path, &path, &path);
    for format in [Format::Text, Format::Json] {
        let line = line(
            format,
            &outcome(&facts, Some(&asked), Some(Failure::Overloaded)),
        );
        assert!(line.contains("...+65024"), "{line}");
        assert!(line.len() < 16 * 1024, "{}", line.len());
        assert!(
            line.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
            "{line}"
        );
    }
}

#[test]
fn the_reference_is_of_these_fields() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/log-fields.md");
    let mut text = String::from(
        "# Fields of the access log\n\n\
         Made from `crates/proxy/src/outcome/access.rs`; `MAILLE_WRITE_REFERENCE=1 cargo test -p maille-proxy reference` writes it anew.\n\n\
         Off by default. The annotation `maille.io/access-log: json` (or `text`, `off`) on a pod switches it on for that pod; the setting \
         `MAILLE_ACCESS_LOG`\nof a proxy does the same. One line for each HTTP request and each TCP connection, when it has ended, in the log \
         of the pod's proxy.\nIt never holds up traffic: lines that find the writer behind are dropped and counted \
         (`maille_log_lines_dropped_total{log=\"access\"}`).\nWhat clients say is cut after 512 bytes (`...+N` says how many are missing); \
         bytes that are not printable ASCII are written `\\xNN`.\n\n| field | what |\n|---|---|\n",
    );
    for (name, what) in FIELDS {
        let _ = writeln!(text, "| `{name}` | {what} |");
    }
    if std::env::var_os("MAILLE_WRITE_REFERENCE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

proptest! {
    #[test]
    fn nothing_that_is_said_ends_a_value(
        path in proptest::collection::vec(any::<u8>(), 0..2_000),
        host in "\\PC*",
        agent in "[\"\\\\\n\r\t\u{1b} =,{}]*",
    ) {
        let facts = facts();
        let asked = asked(b"GET", &path, host.as_bytes(), agent.as_bytes());
        let outcome = outcome(&facts, Some(&asked), Some(Failure::UpstreamClosed));
        let text = line(Format::Text, &outcome);
        prop_assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        // Outside of quotes there are fields that are declared, and nothing else.
        let mut quoted = false;
        let mut escaped = false;
        let mut bare = String::new();
        for character in text.chars() {
            match character {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                other if !quoted => bare.push(other),
                _ => {}
            }
        }
        prop_assert!(!quoted, "{}", text);
        for word in bare.split(' ') {
            let name = word.split_once('=').map_or("", |(name, _)| name);
            prop_assert!(FIELDS.iter().any(|(known, _)| *known == name), "{:?} in {}", word, text);
        }
        let fields = json(&line(Format::Json, &outcome));
        prop_assert!(fields.keys().all(|name| FIELDS.iter().any(|(known, _)| known == name)));
    }
}
