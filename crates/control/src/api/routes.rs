// SPDX-License-Identifier: Apache-2.0
//! Every path of the API, once: who serves it, and what its document says of it. Must never serve what it does not document.
//!
//! `docs/reference/openapi-control.json` is made of this table. Read [`super`] for the answers.

use std::sync::Arc;

use axum::Json;
use axum::routing::{MethodRouter, get};
use maille_openapi::{Document, Method, Operation, Refusal};
use serde_json::Value;

use super::{Api, Counted, Pods, PodsQuery, StatQuery, Version};
use super::{check, edges, explain, frames, identity, inside, tap};

/// One path.
pub(super) struct Route {
    pub(super) path: &'static str,
    about: &'static str,
    pub(super) serve: fn() -> MethodRouter<Arc<Api>>,
    say: for<'a> fn(Operation<'a>) -> Operation<'a>,
}

const ABOUT: &str = "HTTP/1.1 and JSON on api.sock in the state directory, for its owner only (0600). Nothing is changed through it. Within /v1 fields \
are only ever added. A resource is KIND or KIND/NAME with the kinds of `maille stat --help`; `namespace` limits it, and without it every namespace is meant.";

/// All of them.
pub(super) const ROUTES: [Route; 13] = [
    Route {
        path: "/v1/version",
        about: "What runs.",
        serve: || get(super::version),
        say: |operation| operation.answers::<Version>(200, "Its version."),
    },
    Route {
        path: "/v1/pods",
        about: "Every pod that control knows.",
        serve: || get(super::pods),
        say: |operation| {
            let operation = operation.query::<PodsQuery>();
            asked(operation.answers::<Pods>(200, "In the mesh or not."))
        },
    },
    Route {
        path: "/v1/stat",
        about: "Traffic, as the proxies report it.",
        serve: || get(super::stat),
        say: |operation| {
            let operation = operation.query::<StatQuery>();
            asked(operation.answers::<Counted>(200, "Each exchange is counted once."))
        },
    },
    Route {
        path: "/v1/edges",
        about: "Who talks to whom, as whom, protected or not, and why not.",
        serve: || get(edges::edges),
        say: |operation| {
            let operation = operation.query::<edges::EdgesQuery>();
            asked(operation.answers::<edges::Edges>(200, "One for each pair, port and protocol."))
        },
    },
    Route {
        path: "/v1/tap",
        about: "Exchanges as they pass, until the reader goes away.",
        serve: || get(tap::tap),
        say: |operation| {
            let operation = operation.query::<tap::TapQuery>();
            unable(operation.lines::<tap::line::Line>("Lines of one exchange have the same id."))
        },
    },
    Route {
        path: "/v1/explain",
        about: "What would become of a connection or request, and which resource decides it, as the proxies of both sides say.",
        serve: || get(explain::explain),
        say: |operation| {
            let operation = operation.query::<explain::ExplainQuery>();
            unable(operation.answers::<explain::Explained>(200, "Also where it would be refused."))
        },
    },
    Route {
        path: "/v1/identity",
        about: "The certificates with which pods prove themselves, as their proxies hold them.",
        serve: || get(identity::identity),
        say: |operation| {
            let operation = operation.query::<identity::IdentityQuery>();
            asked(operation.answers::<identity::Identities>(200, "Never a key."))
        },
    },
    Route {
        path: "/v1/check",
        about: "What is well with the machine, captures, control and proxies, and what is not.",
        serve: || get(super::checks),
        say: |operation| {
            operation.answers::<check::Report>(200, "Also where something is not well.")
        },
    },
    Route {
        path: "/v1/capture",
        about: "Frames of a pod from both sides of its proxy, until the reader goes away.",
        serve: || get(frames::capture),
        say: |operation| {
            let operation = operation.query::<frames::FramesQuery>();
            unable(operation.bytes(200, "One interface for each side.", "application/x-pcapng"))
        },
    },
    Route {
        path: "/v1/inside",
        about: "What goes through a pod's mesh connections, in plain text and whole, until the reader goes away; refused unless the pod allows it.",
        serve: || get(inside::inside),
        say: |operation| {
            let operation = operation.query::<inside::InsideQuery>();
            unable(operation.lines::<inside::Line>("Headers, cookies and bodies as they are."))
        },
    },
    Route {
        path: "/v1/state",
        about: "What the kernels of both sides of a pod's proxy hold: sockets, rules, neighbours, routes.",
        serve: || get(frames::state),
        say: |operation| {
            let operation = operation.query::<frames::FramesQuery>();
            unable(operation.bytes(200, "For people.", "text/plain"))
        },
    },
    Route {
        path: "/v1/openapi.json",
        about: "This document.",
        serve: || get(async || Json(openapi())),
        say: |operation| operation.answers::<Value>(200, "OpenAPI 3.1."),
    },
    Route {
        path: "/metrics",
        about: "Control's own metrics.",
        serve: || get(super::metrics_text),
        say: |operation| {
            operation.bytes(
                200,
                "For Prometheus.",
                maille_chassis::metrics::CONTENT_TYPE,
            )
        },
    },
];

/// The document.
pub fn openapi() -> Value {
    let mut document = Document::new("Maille: the API for people", ABOUT, "1");
    for route in &ROUTES {
        (route.say)(document.operation(Method::Get, route.path, route.about)).end();
    }
    document.finish()
}

/// What may be wrong with a question.
fn asked(operation: Operation<'_>) -> Operation<'_> {
    operation.refuses::<Refusal<'_>>(&[
        (400, "The question makes no sense."),
        (404, "There is no such thing."),
    ])
}

/// And with one that others must answer.
fn unable(operation: Operation<'_>) -> Operation<'_> {
    asked(operation).refuses::<Refusal<'_>>(&[
        (409, "It cannot be answered now."),
        (502, "The pod's node does not answer."),
    ])
}
