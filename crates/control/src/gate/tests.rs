// SPDX-License-Identifier: Apache-2.0
//! What is wished by each question, and that nothing is asked further than that; who is answered at all.

use axum::body::to_bytes;
use axum::http::Method;
use maille_chassis::clock::Clock;
use maille_model::{ClusterRanges, Mesh};

use super::wish::Question;
use super::*;
use crate::cluster::runtimes::Runtimes;
use crate::hub::Hub;
use crate::watch::Event;

const CONTROL: &str = r#"{"metadata":{"name":"maille-control","namespace":"maille-system"},
    "spec":{"clusterIPs":["10.96.0.7"],"ports":[{"port":15010}]}}"#;

const REVIEW: &str = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"r-1","namespace":"shop",
    "operation":"CREATE","kind":{"group":"","version":"v1","kind":"Pod"},"object":{"apiVersion":"v1","kind":"Pod",
    "metadata":{"name":"a"},"spec":{"containers":[{"name":"c","image":"x"}]}}}}"#;

/// A gate whose API server is nobody, and its hub.
fn gate() -> (Router, Arc<Hub>) {
    let mesh = Mesh {
        trust_domain: "cluster.local".parse().unwrap(),
        trust_anchors: Vec::new(),
        cluster_ranges: ClusterRanges::default(),
    };
    let hub = Arc::new(Hub::new(mesh, 1, Clock::start()));
    let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
    let gate = Gate {
        api: Router::new(),
        reviewer: Reviewer::new(kube::Client::try_from(config).unwrap()),
        front: watch::channel(None).1,
        injector: Injector {
            hub: hub.clone(),
            namespaces: watch::channel(Default::default()).1,
            runtimes: watch::channel(Runtimes::of(
                [("strict".to_owned(), "kata-qemu-tdx".to_owned())].into(),
            ))
            .1,
            image_prefix: "maille.io".to_owned(),
            nodes: maille_inject::Nodes::Agents(maille_inject::Capture::Outboard),
            control: "spiffe://cluster.local/ns/maille-system/sa/maille-control"
                .parse()
                .unwrap(),
        },
    };
    let shown = ShownName(None);
    (router(gate).layer(Extension(shown)), hub)
}

async fn ask(router: &Router, method: Method, path: &str, body: &str) -> (u16, String) {
    let request = Request::builder().method(method).uri(path);
    let request = request.body(Body::from(body.to_owned())).unwrap();
    let answer = router.clone().oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn a_pod_is_judged_once_control_knows_where_it_is() {
    let (router, hub) = gate();
    let (status, told) = ask(&router, Method::POST, "/inject?timeout=5s", REVIEW).await;
    assert_eq!(status, 503, "{told}");
    let service = maille_manifest::from_json(CONTROL.as_bytes()).unwrap();
    hub.apply(vec![Event::Apply {
        origin: "services/maille-system/maille-control".into(),
        object: Box::new(maille_manifest::Object::Service(service)),
    }]);
    let (status, told) = ask(&router, Method::POST, "/inject?timeout=5s", REVIEW).await;
    assert_eq!(status, 200, "{told}");
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(
        (&told["response"]["uid"], &told["response"]["allowed"]),
        (&"r-1".into(), &true.into())
    );
    assert_eq!(
        ask(&router, Method::POST, "/inject", "no JSON").await.0,
        400
    );
    // How a pod is captured hangs on what its class is run by.
    let of = |class: &str| {
        let spec = format!(r#""spec":{{"runtimeClassName":"{class}","#);
        REVIEW.replace(r#""spec":{"#, &spec)
    };
    let (status, told) = ask(&router, Method::POST, "/inject", &of("new")).await;
    assert_eq!(status, 503, "{told}");
    assert!(told.contains("RuntimeClass \"new\""), "{told}");
    for (review, patched) in [(of("strict"), false), (REVIEW.to_owned(), true)] {
        let (status, told) = ask(&router, Method::POST, "/inject", &review).await;
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        let patch = told["response"]["patch"].as_str().unwrap_or_default();
        let patch = data_encoding::BASE64.decode(patch.as_bytes()).unwrap();
        let patch = String::from_utf8(patch).unwrap();
        assert_eq!(status, 200);
        assert_eq!(patch.contains("outboard"), patched, "{patch}");
    }
}

#[tokio::test]
async fn nobody_is_answered_but_the_api_server() {
    let (router, _) = gate();
    for (path, status) in [
        ("/apis/api.maille.io/v1/stat", 401),
        ("/apis/api.maille.io/v1/namespaces/shop/stat", 401),
        ("/apis/api.maille.io/v1", 200),
        ("/apis/api.maille.io", 200),
        ("/apis", 200),
        ("/v1/stat", 404),
        ("/metrics", 404),
    ] {
        assert_eq!(
            ask(&router, Method::GET, path, "").await.0,
            status,
            "{path}"
        );
    }
}

/// `list` in these places; `*` is everywhere.
fn places(what: &str, namespace: Option<&str>, query: &str) -> Result<String, u16> {
    let uri = format!("/x?{query}").parse().unwrap();
    let question = Question::parse(what, namespace, &uri).map_err(|status| status.code())?;
    let place = |wish: &crate::cluster::review::Wish| {
        assert_eq!((wish.verb, wish.resource), ("list", what));
        wish.namespace.clone().unwrap_or_else(|| "*".to_owned())
    };
    let places: Vec<String> = question.wishes.iter().map(place).collect();
    Ok(places.join(" "))
}

#[test]
fn every_namespace_that_is_reached_is_wished() {
    for (what, namespace, query, expected) in [
        ("stat", None, "", "*"),
        ("stat", None, "resource=deploy", "*"),
        ("stat", None, "resource=deploy&namespace=a", "a"),
        ("stat", None, "resource=deploy&namespace=a&from=po/x", "* a"),
        ("stat", Some("a"), "resource=deploy", "a"),
        ("stat", Some("a"), "resource=deploy&from=po/x", "a"),
        (
            "stat",
            Some("a"),
            "resource=deploy&to=po/x&to_namespace=b",
            "a b",
        ),
        (
            "tap",
            Some("a"),
            "resource=deploy/web&to=ns/b&to_namespace=b",
            "a b",
        ),
        ("stat", Some("a"), "resource=ns/b", "a b"),
        (
            "stat",
            Some("a"),
            "resource=deploy&from=namespaces/b",
            "a b",
        ),
        ("explain", Some("a"), "src=ns/b&dst=svc/api", "a b"),
        // Said twice: both, whichever is read.
        ("edges", None, "namespace=a&namespace=b", "a b"),
        ("pods", Some("a"), "", "a"),
        ("check", None, "", "*"),
        ("explain", Some("a"), "src=deploy/web&dst=svc/api", "a"),
        ("explain", Some("a"), "src=deploy/web&dst=api.b", "* a"),
        (
            "explain",
            Some("a"),
            "src=deploy/web&dst=http://api.b/x",
            "* a",
        ),
        ("explain", Some("a"), "src=deploy/web&dst=10.96.0.1", "* a"),
        ("explain", Some("a"), "src=deploy/web", "* a"),
    ] {
        let found = places(what, namespace, query);
        assert_eq!(
            found.as_deref(),
            Ok(expected),
            "{what} {namespace:?} {query}"
        );
    }
}

#[test]
fn a_question_that_would_reach_further_is_refused() {
    for (what, namespace, query, code) in [
        ("stat", Some("a"), "", 400),
        ("identity", Some("a"), "", 400),
        ("stat", Some("a"), "resource=deploy&namespace=b", 400),
        ("check", Some("a"), "", 404),
        ("capture", None, "pod=po/x", 404),
        ("..", None, "", 404),
    ] {
        assert_eq!(places(what, namespace, query), Err(code), "{what} {query}");
    }
}

#[test]
fn the_api_is_asked_what_was_said_and_in_which_namespace() {
    let uri = "/x?resource=deploy%2Fweb&path=%2Fa%26b".parse().unwrap();
    let question = Question::parse("tap", Some("shop"), &uri).unwrap();
    let expected = "/v1/tap?resource=deploy%2Fweb&path=%2Fa%26b&namespace=shop";
    assert_eq!(question.uri, expected);
}
