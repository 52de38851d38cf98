// SPDX-License-Identifier: Apache-2.0
//! What people chose for one pod, read from the annotations of its template. Parsed here, strictly, and never looked at again.
//!
//! An annotation of the mesh that nobody knows is refused, not skipped: it was meant. Read `sidecar.rs` for what comes of it.

use maille_manifest::objects::Quantity;
use maille_manifest::{marks, suggest};
use maille_model::Ports;
use serde_json::{Map, Value};

use crate::names::TAKEN_PORTS;
use crate::refusal::{Cause, Refusal};
use crate::settings::{Capture, Nodes};

/// Ranges that one annotation may name.
const MOST_PORTS: usize = 64;

/// Annotations that a template may have, for suggestions.
const KNOWN: [&str; 16] = [
    marks::INJECT,
    marks::INJECTED,
    marks::ADDED,
    marks::CAPTURE,
    marks::CAPTURE_BY,
    marks::ACCESS_LOG,
    marks::INSIDE,
    marks::UNCAPTURED,
    marks::SKIP_INBOUND,
    marks::SKIP_OUTBOUND,
    marks::CPU_REQUEST,
    marks::CPU_LIMIT,
    marks::MEMORY_REQUEST,
    marks::MEMORY_LIMIT,
    marks::LOG_LEVEL,
    marks::ROOM,
];

/// What people chose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Choices {
    pub(crate) capture: Capture,
    /// Who chose that.
    pub(crate) by: By,
    /// Ports that reach the application without its proxy.
    pub(crate) skip_inbound: Ports,
    /// Ports that the application dials without its proxy.
    pub(crate) skip_outbound: Ports,
    pub(crate) cpu: Share,
    pub(crate) memory: Share,
    pub(crate) log: Option<String>,
    pub(crate) access_log: Option<String>,
    /// Whether the proxy may show what goes through it. Silence is no consent.
    pub(crate) inside: Option<String>,
    /// Whether it may have interfaces that nobody captures.
    pub(crate) uncaptured: Option<String>,
    pub(crate) form: Form,
}

/// What is asked for, and what may be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) request: Option<Quantity>,
    pub(crate) limit: Option<Quantity>,
}

/// Who chose how a pod is captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum By {
    /// The pod, by its annotation.
    Pod,
    /// Its namespace, by its label.
    Namespace,
    /// Whoever installed the mesh.
    #[default]
    Install,
    /// What the pod runs on, which cannot be captured as was chosen for pods that do not say.
    Sandbox,
}

/// The form of a sidecar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Form {
    /// An init container that goes on: it is there before every other and after every other.
    #[default]
    Native,
    /// A container beside the others.
    Classic,
}

/// What a namespace is called, and how it says that its pods are captured.
type Namespace<'n> = (&'n str, Option<&'n Result<Capture, String>>);

impl Choices {
    /// Reads the annotations of a template of pods, whose namespace has a name and may say how its pods are captured, on these `nodes`.
    pub(crate) fn read(
        annotations: &Map<String, Value>,
        namespace: Namespace<'_>,
        nodes: Nodes,
    ) -> Result<Self, Vec<Refusal>> {
        let mut reader = Reader {
            annotations,
            refusals: Vec::new(),
        };
        reader.unknown();
        let (capture, by) = reader.capture(namespace, nodes);
        let choices = Self {
            capture,
            by,
            skip_inbound: reader.ports(marks::SKIP_INBOUND),
            skip_outbound: reader.ports(marks::SKIP_OUTBOUND),
            cpu: reader.share(marks::CPU_REQUEST, marks::CPU_LIMIT),
            memory: reader.share(marks::MEMORY_REQUEST, marks::MEMORY_LIMIT),
            log: reader.one_of(
                marks::LOG_LEVEL,
                &["error", "warn", "info", "debug", "trace"],
                "one of error, warn, info, debug and trace",
            ),
            access_log: reader.one_of(
                marks::ACCESS_LOG,
                &["json", "text", "off"],
                "one of json, text and off",
            ),
            inside: reader.one_of(
                marks::INSIDE,
                &["allowed", "refused"],
                "one of allowed and refused",
            ),
            uncaptured: reader.one_of(
                marks::UNCAPTURED,
                &[marks::ALLOWED, marks::REFUSED, marks::BY_NAMESPACE],
                "one of allowed and refused",
            ),
            form: match reader
                .one_of(
                    marks::SIDECAR,
                    &["native", "classic"],
                    "one of native and classic",
                )
                .as_deref()
            {
                Some("classic") => Form::Classic,
                _ => Form::Native,
            },
        };
        if reader.refusals.is_empty() {
            Ok(choices)
        } else {
            Err(reader.refusals)
        }
    }
}

// === impl By ===

impl By {
    const ALL: [Self; 4] = [Self::Pod, Self::Namespace, Self::Install, Self::Sandbox];

    /// As the annotation says it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Namespace => "namespace",
            Self::Install => "install",
            Self::Sandbox => "sandbox",
        }
    }
}

/// Where an annotation is, from the template.
pub(crate) fn path(annotation: &str) -> String {
    format!("metadata.annotations.{annotation}")
}

struct Reader<'a> {
    annotations: &'a Map<String, Value>,
    refusals: Vec<Refusal>,
}

// === impl Reader ===

impl<'a> Reader<'a> {
    fn refuse(&mut self, annotation: &str, cause: Cause) {
        self.refusals.push(Refusal::new(path(annotation), cause));
    }

    fn text(&mut self, annotation: &str) -> Option<&'a str> {
        match self.annotations.get(annotation)? {
            Value::String(text) => Some(text),
            Value::Null => None,
            other => {
                let (found, expected) = (type_of(other), "text: put it in quotes");
                self.refuse(annotation, Cause::Type { found, expected });
                None
            }
        }
    }

    fn unknown(&mut self) {
        for key in self.annotations.keys() {
            let ours = key.starts_with(marks::OURS);
            if ours && *key != marks::SIDECAR && !KNOWN.contains(&key.as_str()) {
                let known = KNOWN.into_iter().chain([marks::SIDECAR]);
                let suggestion = suggest(key, known);
                self.refuse(key, Cause::Unknown { suggestion });
            }
        }
    }

    fn capture(&mut self, (name, says): Namespace<'_>, nodes: Nodes) -> (Capture, By) {
        const EXPECTED: &str = "a mode of capture: use inboard, or inboard-cni or outboard where nodes have the mesh's agent";
        let (said, path, by) = match (self.text(marks::CAPTURE), says) {
            (Some(value), _) => (
                value.parse().map_err(|_| value.to_owned()),
                path(marks::CAPTURE),
                By::Pod,
            ),
            (None, Some(said)) => (
                said.clone(),
                format!("namespace {name}: metadata.labels.{}", marks::CAPTURE),
                By::Namespace,
            ),
            (None, None) => return (nodes.usual(), By::Install),
        };
        let by = self.written().unwrap_or(by);
        let cause = match said {
            Ok(capture) if nodes.can(capture) => return (capture, by),
            Ok(capture) => Cause::Outboard {
                value: capture.to_string(),
            },
            Err(value) => Cause::Malformed {
                value: value.chars().take(80).collect(),
                expected: EXPECTED,
            },
        };
        self.refusals.push(Refusal::new(path, cause));
        (nodes.usual(), by)
    }

    /// Who chose, where that was written with the choice.
    fn written(&self) -> Option<By> {
        self.annotations.get(marks::INJECTED)?;
        let word = self.annotations.get(marks::CAPTURE_BY)?.as_str()?;
        By::ALL.into_iter().find(|by| by.word() == word)
    }

    fn one_of(
        &mut self,
        annotation: &str,
        words: &[&str],
        expected: &'static str,
    ) -> Option<String> {
        let value = self.text(annotation)?;
        if !words.contains(&value) {
            let value = value.chars().take(80).collect();
            self.refuse(annotation, Cause::Malformed { value, expected });
            return None;
        }
        Some(value.to_owned())
    }

    /// `80, 8000-8010`.
    fn ports(&mut self, annotation: &str) -> Ports {
        let text = self.text(annotation).unwrap_or_default();
        let ports = match text.parse::<Ports>() {
            Ok(ports) => ports,
            Err(error) => {
                self.refuse(annotation, Cause::Ports(error));
                return Ports::default();
            }
        };
        if ports.ranges().len() > MOST_PORTS {
            self.refuse(annotation, Cause::TooManyPorts(MOST_PORTS));
        }
        for port in TAKEN_PORTS {
            // A wide range may span them; who names one means something else.
            if ports.ranges().contains(&(port..=port)) {
                self.refuse(annotation, Cause::OwnPort { port });
            }
        }
        ports
    }

    fn share(&mut self, request: &'static str, limit: &'static str) -> Share {
        let share = Share {
            request: self.quantity(request),
            limit: self.quantity(limit),
        };
        if let (Some(asked), Some(most)) = (&share.request, &share.limit)
            && asked.millis() > most.millis()
        {
            let cause = Cause::MoreThanLimit {
                request: asked.to_string(),
                limit: most.to_string(),
                of: limit,
            };
            self.refuse(request, cause);
        }
        share
    }

    fn quantity(&mut self, annotation: &str) -> Option<Quantity> {
        let text = self.text(annotation)?;
        let found = Quantity::parse(text).filter(|amount| amount.millis() > 0);
        if found.is_none() {
            let value = text.chars().take(80).collect();
            let expected = "an amount above zero, as in 100m or 64Mi";
            self.refuse(annotation, Cause::Malformed { value, expected });
        }
        found
    }
}

/// What kind of value it is, for an error.
pub(crate) const fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(annotations: Value) -> Result<Choices, String> {
        let read = Choices::read(
            annotations.as_object().unwrap(),
            ("shop", None),
            Nodes::Bare,
        );
        read.map_err(|refusals| {
            let lines: Vec<_> = refusals.iter().map(ToString::to_string).collect();
            lines.join("\n")
        })
    }

    #[test]
    fn everything_that_can_be_chosen() {
        let choices = read(json!({
            "example.com/other": 5,
            "maille.io/capture": "inboard",
            "maille.io/skip-inbound-ports": " 22, 8000-8010",
            "maille.io/proxy-cpu-request": "100m",
            "maille.io/proxy-cpu-limit": "0.5",
            "maille.io/proxy-log-level": "debug",
            "maille.io/capture-inside": "allowed",
            "maille.io/sidecar": "classic",
        }))
        .unwrap();
        assert_eq!(choices.inside.as_deref(), Some("allowed"));
        assert_eq!(choices.skip_inbound.to_string(), "22,8000-8010");
        assert_eq!(choices.cpu.limit.unwrap().millis(), 500);
        assert_eq!(choices.form, Form::Classic);
        assert_eq!(read(json!({})), Ok(Choices::default()));
    }

    #[test]
    fn the_pod_chooses_before_its_namespace_and_that_before_the_installation() {
        let chosen = |annotations: Value, label: Option<&str>, nodes| {
            let says = label.map(|value| value.parse().map_err(|_| value.to_owned()));
            let namespace = ("shop", says.as_ref());
            let read = Choices::read(annotations.as_object().unwrap(), namespace, nodes);
            read.map(|choices| (choices.capture, choices.by))
                .map_err(|refusals| refusals[0].to_string())
        };
        let agents = Nodes::Agents(Capture::Outboard);
        let pod = json!({"maille.io/capture": "inboard"});
        let namespace = Some("inboard-cni");
        assert_eq!(
            chosen(pod, namespace, agents),
            Ok((Capture::Inboard, By::Pod))
        );
        assert_eq!(
            chosen(json!({}), namespace, agents),
            Ok((Capture::InboardCni, By::Namespace))
        );
        assert_eq!(
            chosen(json!({}), None, agents),
            Ok((Capture::Outboard, By::Install))
        );
        let written = json!({"maille.io/capture": "outboard", "maille.io/injected": "1", "maille.io/capture-by": "install"});
        assert_eq!(
            chosen(written, None, agents),
            Ok((Capture::Outboard, By::Install))
        );
        let error = chosen(json!({}), namespace, Nodes::Bare).unwrap_err();
        assert!(
            error.starts_with("namespace shop: metadata.labels.maille.io/capture: \"inboard-cni\" needs the mesh's agent"),
            "{error}"
        );
        let error = chosen(json!({}), Some("outbord"), agents).unwrap_err();
        assert!(error.contains("\"outbord\" is not a mode"), "{error}");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_field_and_what_to_do() {
        for (key, value, said) in [
            ("skip-inbound-ports", json!("0"), "from 1 to 65535"),
            ("skip-inbound-ports", json!("80;81"), "80;81"),
            (
                "skip-inbound-ports",
                json!("90-80"),
                "ends before it begins",
            ),
            ("skip-outbound-ports", json!("65536"), "from 1 to 65535"),
            ("skip-outbound-ports", json!("+80"), "from 1 to 65535"),
            ("skip-outbound-ports", json!(80), "put it in quotes"),
            ("skip-inbound-ports", json!("15006"), "the proxy's own"),
            ("proxy-cpu-request", json!("much"), "100m"),
            ("proxy-cpu-request", json!("0"), "above zero"),
            ("proxy-memory-limit", json!("-1"), "64Mi"),
            ("proxy-log-level", json!("loud"), "debug"),
            ("sidecar", json!("ambient"), "native and classic"),
            ("capture", json!("outboard"), "agent on every node"),
            ("capture", json!("magic"), "use inboard"),
            ("access-log", json!("yes"), "json"),
            ("capture-inside", json!("true"), "allowed and refused"),
            ("capture-inside", json!(true), "put it in quotes"),
            ("uncaptured-interfaces", json!("no"), "allowed and refused"),
            (
                "skip-inbound-port",
                json!("80"),
                "did you mean maille.io/skip-inbound-ports?",
            ),
            ("whatever-this-is", json!("80"), "unknown annotation"),
        ] {
            let key = format!("maille.io/{key}");
            let error = read(json!({ key.clone(): value })).unwrap_err();
            let start = format!("metadata.annotations.{key}: ");
            assert!(error.starts_with(&start) && error.contains(said), "{error}");
        }
        let both = json!({"maille.io/proxy-memory-request": "1Gi", "maille.io/proxy-memory-limit": "64Mi"});
        assert!(read(both).unwrap_err().contains("more than the limit 64Mi"));
        let many: Vec<_> = (1..=65).map(|n| (2 * n).to_string()).collect();
        let many = json!({ "maille.io/skip-inbound-ports": many.join(",") });
        assert!(read(many).unwrap_err().contains("64"));
    }
}
