// SPDX-License-Identifier: Apache-2.0
//! curl's odd options over HTTP/1: the server must see the same bytes and curl the same answer, un-meshed and meshed.
//!
//! The server answers each request with the bytes that it came in, so that one comparison is of both directions.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use maille_tests_suites::{Said, Server, Side, Stage, judge};

/// What curl is asked to do, beside showing everything as it came.
const CURL: &[&str] = &[
    "http://odd:8080/",
    "-I http://odd:8080/",
    "-I http://odd:8080/chunked",
    "-X OPTIONS --request-target '*' http://odd:8080/",
    "-X TRACE http://odd:8080/",
    "-X PATCH -d a http://odd:8080/",
    "-X M-SEARCH http://odd:8080/",
    "-X purge http://odd:8080/",
    "-X DELETE -d body http://odd:8080/",
    "-X GET -d body http://odd:8080/",
    "-d '' http://odd:8080/",
    "--http1.0 http://odd:8080/",
    "--http1.0 -d old http://odd:8080/",
    "--http1.0 -H 'Connection: keep-alive' http://odd:8080/old-kept",
    "--http2 http://odd:8080/",
    // Uploads.
    "-T - http://odd:8080/ < small",
    "-T - http://odd:8080/sum < large",
    "-T large http://odd:8080/sum",
    "-T large -H 'Expect: 100-continue' http://odd:8080/sum",
    "-T large -H 'Transfer-Encoding: chunked' http://odd:8080/sum",
    "-T small -H 'Expect:' http://odd:8080/",
    "-d @small -H 'Expect: 100-continue' http://odd:8080/",
    "-d @small -H 'Expect: 100-continue' --expect100-timeout 20 http://odd:8080/refuse",
    "-d @small -H 'Transfer-Encoding: chunked' http://odd:8080/chunked",
    "--data-binary @large --limit-rate 20M http://odd:8080/sum",
    // Targets.
    "-x http://odd:8080 http://elsewhere.test/absolute?form",
    "-x http://odd:8080 -I http://elsewhere.test:81/",
    "-p -x http://odd:8080 http://elsewhere.test:82/tunnelled",
    "-p -x http://odd:8080 -d through http://elsewhere.test:82/chunked",
    "--path-as-is 'http://odd:8080/a/../b/./c%2f%00?x=%20&&#not-sent'",
    "--path-as-is 'http://odd:8080//double//?'",
    "--request-target 'http://other.test/by/hand' http://odd:8080/",
    "-g 'http://odd:8080/[brackets]|{braces}'",
    // Fields.
    "-r 5-10 http://odd:8080/",
    "-H 'Host: other.test' http://odd:8080/",
    "-H 'x-CASE: a' -H 'X-Case: b' -H 'X-Spaces: in  side' http://odd:8080/",
    "-H 'Connection: close' http://odd:8080/",
    "-H 'Connection: keep-alive, X-Hop' -H 'X-Hop: 1' -H 'Keep-Alive: timeout=5' http://odd:8080/",
    "-H 'TE: trailers, deflate;q=0.5' -H 'Proxy-Connection: keep-alive' http://odd:8080/",
    "-H 'Forwarded: for=1.2.3.4' -H 'X-Forwarded-For: 1.2.3.4' -H 'Via: 1.0 other' http://odd:8080/",
    "-H 'X-Utf8: héllo wörld' -b 'a=1; b=2' -A '' -e http://from.test http://odd:8080/",
    "--compressed --tr-encoding http://odd:8080/",
    "-u user:password -z 'Thu, 01 Jan 1970 00:00:00 GMT' http://odd:8080/",
    "-H @fields http://odd:8080/",
    "-H @wide http://odd:8080/",
    // Answers.
    "http://odd:8080/chunked",
    "http://odd:8080/close",
    "http://odd:8080/old",
    "http://odd:8080/early",
    "http://odd:8080/nothing",
    "http://odd:8080/unchanged",
    "http://odd:8080/reason",
    "http://odd:8080/no-reason",
    "http://odd:8080/error",
    "http://odd:8080/large-head",
    "http://odd:8080/many-fields",
    "http://odd:8080/short",
    // Several on one connection.
    "http://odd:8080/ http://odd:8080/chunked http://odd:8080/nothing http://odd:8080/",
    "http://odd:8080/early --next -sSi --raw -d two http://odd:8080/chunked --next -sSi --raw -I http://odd:8080/",
    "http://odd:8080/[1-20]",
];

/// What is written by hand, for what curl would never send.
const HAND: &[&str] = &[
    "GET /1 HTTP/1.1\\r\\nHost: a\\r\\n\\r\\nGET /2 HTTP/1.1\\r\\nhost: a\\r\\n\\r\\nGET /chunked HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n",
    "POST /1 HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: 3\\r\\n\\r\\nabcPOST /2 HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: 0\\r\\n\\r\\n",
    "GET /old HTTP/1.0\\r\\n\\r\\n",
    "GET /close HTTP/1.1\\r\\nHost: a\\r\\n\\r\\nGET /never HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n",
    "POST / HTTP/1.1\\r\\nHost: a\\r\\nTransfer-Encoding: chunked\\r\\nTrailer: X-T\\r\\n\\r\\n3;ext=1\\r\\nabc\\r\\n00\\r\\nX-T: 1\\r\\nx-t: 2\\r\\n\\r\\n",
    "GET /upgrade HTTP/1.1\\r\\nHost: a\\r\\nConnection: upgrade\\r\\nUpgrade: odd\\r\\n\\r\\nnot http at all\\r\\n\\r\\n",
    "CONNECT a:1 HTTP/1.1\\r\\nHost: a:1\\r\\n\\r\\nGET /inside HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n",
];

async fn start(name: &str) -> Stage {
    let stage = Stage::start(name, |dir, programs| {
        let dir = dir.display();
        let file = |name: &str, text: String| std::fs::write(format!("{dir}/{name}"), text);
        file("small", "water ".repeat(300))?;
        file("large", "0123456789abcde\n".repeat(500_000))?;
        file("fields", "X-Field: value\n".repeat(120))?;
        file("wide", format!("X-Wide: {}\n", "w".repeat(3000)).repeat(10))?;
        Ok(vec![Server {
            name: "odd",
            ports: &[8080],
            declared: None,
            serves: "curl -sSf http://odd:8080/",
            command: format!("exec {} :8080", judge(programs, "odd")),
        }])
    });
    stage.await.unwrap()
}

/// Why the two differ, if they do.
fn difference(plain: &Said, meshed: &Said) -> Option<String> {
    let same = plain.out == meshed.out && plain.status == meshed.status;
    (!same).then(|| format!("{}\n--\n{}\n", plain.text(), meshed.text()))
}

#[tokio::test]
async fn the_same_bytes_both_ways() {
    let stage = start("odd").await;
    let curls = CURL
        .iter()
        .map(|what| format!("curl -sSi --raw -m 30 {what}"));
    let hand = HAND
        .iter()
        .map(|text| format!("printf '{text}' | timeout 10 nc -N odd 8080"));
    let mut differences = Vec::new();
    for line in curls.chain(hand) {
        let [plain, meshed] = stage.both(&line).await.unwrap();
        assert!(
            plain.out.starts_with(b"HTTP/1."),
            "the server itself: {}",
            plain.text()
        );
        differences.extend(difference(&plain, &meshed));
    }
    assert!(
        differences.is_empty(),
        "{} differ\n{}",
        differences.len(),
        differences.join("\n")
    );
    stage.end().await.unwrap();
}

/// What the mesh does differently, as its documentation says: what is no HTTP/1.1 is refused, not passed on (RFC 9112).
#[tokio::test]
async fn what_differs_is_documented() {
    let stage = start("no").await;
    let cases = [
        // An answer without a head is HTTP/0.9, which RFC 9112 has no place for.
        ("curl -sSi -m 30 http://odd:8080/zero-nine", "HTTP/1.1 502 "),
        // RFC 9112 3.2: no Host in 1.1.
        ("curl -sSi -m 30 -H Host: http://odd:8080/", "HTTP/1.1 400 "),
        // RFC 9112 6.1 and 6.3: two framings.
        (
            "curl -sSi -m 30 -d a -H 'Content-Length: 1' -H 'Transfer-Encoding: chunked' http://odd:8080/",
            "HTTP/1.1 400 ",
        ),
        // Larger than SPECIFICATION.md's bound of a head; RFC 6585 5.
        ("curl -sSi -m 30 -H @huge http://odd:8080/", "HTTP/1.1 431 "),
    ];
    // White space around a value is no part of it (RFC 9112 5.1): it goes on as one space.
    let line = "curl -sS -m 30 -H 'X-Empty;' -H 'X-Wide:    wide   ' http://odd:8080/";
    let said = stage.run(Side::Meshed, line).await.unwrap();
    let out = said.good().unwrap();
    assert!(
        out.contains("\r\nX-Empty: \r\nX-Wide: wide\r\n"),
        "{}",
        said.text()
    );
    let huge = format!("X-Huge: {}\n", "h".repeat(3000)).repeat(30);
    std::fs::write(stage.dir(Side::Meshed).join("huge"), huge).unwrap();
    for (line, answer) in cases {
        let said = stage.run(Side::Meshed, line).await.unwrap();
        assert!(said.good().unwrap().starts_with(answer), "{}", said.text());
    }
    stage
        .run(Side::Meshed, "curl -sSf http://odd:8080/")
        .await
        .unwrap()
        .good()
        .unwrap();
    stage.end().await.unwrap();
}
