// SPDX-License-Identifier: Apache-2.0
//! What no single field can say: selectors and labels, names that refer to one another, objects declared twice.

use std::collections::BTreeMap;

use crate::error::Problem;
use crate::objects::{Object, PodSpec, Service, TextMap, selects};
use crate::terms;
use crate::walk::{Report, suggest};
use crate::yaml::Node;

mod pod;
mod rollout;

/// An object and where it was written.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) file: String,
    pub(crate) node: Node,
    pub(crate) object: Object,
}

/// One object under check: reports with file and line.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    source: &'a Source,
    report: &'a mut Report,
}

/// Everything that others may refer to.
#[derive(Debug, Default)]
pub(crate) struct Known<'a> {
    namespaces: Vec<&'a str>,
    /// Namespace, name.
    accounts: Vec<(&'a str, &'a str)>,
    /// Namespace, name, data.
    config_maps: Vec<(&'a str, &'a str, &'a TextMap)>,
    /// Namespace, labels, spec.
    pods: Vec<(&'a str, &'a TextMap, &'a PodSpec)>,
}

/// Checks all objects together.
pub(crate) fn objects(sources: &[Source], report: &mut Report) {
    duplicates(sources, report);
    let known = Known::collect(sources);
    for source in sources {
        let mut place = Place { source, report };
        namespace(&mut place, &known);
        match &source.object {
            Object::Deployment(deployment) => {
                let selector = &deployment.spec.selector.match_labels;
                let template = &deployment.spec.template;
                if selector.is_empty() {
                    let what = "it must select the template's labels";
                    place.fail("spec.selector.matchLabels", Problem::Missing { what });
                } else if !selects(selector, &template.metadata.labels) {
                    let selector = selector
                        .iter()
                        .map(|(k, v)| format!("{k}={v}"))
                        .collect::<Vec<_>>()
                        .join(",");
                    place.fail(
                        "spec.selector.matchLabels",
                        Problem::SelectorMismatch { selector },
                    );
                }
                if deployment.metadata.name.as_str().len() > 47 {
                    let value = deployment.metadata.name.to_string();
                    let expected = "short enough: its pods' names add 16 letters, and a host name has at most 63";
                    place.fail("metadata.name", Problem::Malformed { value, expected });
                }
                rollout::check(&mut place, &deployment.spec);
                let annotations = &template.metadata.annotations;
                pod::marks(&mut place, "spec.template.metadata", annotations);
                pod::check(&mut place, "spec.template.spec", &template.spec, &known);
            }
            Object::Pod(pod) => {
                pod::marks(&mut place, "metadata", &pod.metadata.annotations);
                pod::check(&mut place, "spec", &pod.spec, &known);
            }
            Object::Service(service) => self::service(&mut place, service, &known),
            Object::Namespace(namespace) => label(&mut place, namespace.metadata.name.as_str()),
            Object::ServiceAccount(_) | Object::ConfigMap(_) => {}
        }
    }
}

fn duplicates(sources: &[Source], report: &mut Report) {
    let mut seen: BTreeMap<(&str, &str, &str), &Source> = BTreeMap::new();
    for source in sources {
        let metadata = source.object.metadata();
        let key = (
            source.object.kind(),
            metadata.namespace(),
            metadata.name.as_str(),
        );
        if let Some(first) = seen.get(&key) {
            let problem = Problem::DuplicateObject {
                kind: source.object.kind(),
                name: metadata.name.to_string(),
                first: format!("{}:{}", first.file, first.node.line),
            };
            report.error(
                &source.file,
                source.node.line_at("metadata.name"),
                "metadata.name",
                problem,
            );
        } else {
            seen.insert(key, source);
        }
    }
}

fn namespace(place: &mut Place<'_>, known: &Known<'_>) {
    let namespace = place.source.object.metadata().namespace();
    if ["", "default", "kube-system"].contains(&namespace) || known.namespaces.contains(&namespace)
    {
        return;
    }
    let suggestion = suggest(namespace, known.namespaces.iter().copied());
    let hint = suggestion
        .map(|s| format!(", did you mean {s:?}?"))
        .unwrap_or_default();
    let path = "metadata.namespace";
    let line = place.source.node.line_at(path);
    let reason = format!("no Namespace {namespace:?} is declared{hint} It is made all the same");
    place.report.warn(&place.source.file, line, path, reason);
}

fn label(place: &mut Place<'_>, name: &str) {
    if name.len() > 63 || name.contains('.') {
        let expected = "a name for DNS: at most 63 lower-case letters, digits and '-'";
        place.fail(
            "metadata.name",
            Problem::Malformed {
                value: name.to_owned(),
                expected,
            },
        );
    }
}

fn service(place: &mut Place<'_>, service: &Service, known: &Known<'_>) {
    label(place, service.metadata.name.as_str());
    for (key, problem) in terms::read(service).1 {
        place.fail(&format!("metadata.annotations.{key}"), problem);
    }
    let spec = &service.spec;
    if service.is_alias() {
        return;
    }
    if spec.ports.is_empty() && !service.is_headless() {
        place.fail(
            "spec.ports",
            Problem::Missing {
                what: "give it at least one port, or clusterIP: None",
            },
        );
    }
    let pods: Vec<&PodSpec> = known
        .pods
        .iter()
        .filter(|(namespace, labels, _)| {
            *namespace == service.metadata.namespace() && selects(&spec.selector, labels)
        })
        .map(|(_, _, spec)| *spec)
        .collect();
    if pods.is_empty() {
        let line = place.source.node.line_at("spec.selector");
        let reason = "no pod here has these labels: the service has no endpoint".to_owned();
        place
            .report
            .warn(&place.source.file, line, "spec.selector", reason);
    }
    for (index, port) in spec.ports.iter().enumerate() {
        let path = format!("spec.ports[{index}]");
        let earlier = spec.ports.get(..index).unwrap_or_default();
        if port.name.is_empty() && spec.ports.len() > 1 {
            place.fail(
                &format!("{path}.name"),
                Problem::Missing {
                    what: "a service with several ports names each",
                },
            );
        }
        let first = earlier
            .iter()
            .position(|e| !port.name.is_empty() && e.name == port.name);
        place.twice(
            &format!("{path}.name"),
            &port.name,
            first.map(|i| format!("spec.ports[{i}]")),
        );
        let first = earlier
            .iter()
            .position(|e| e.port == port.port && e.protocol == port.protocol);
        place.twice(
            &format!("{path}.port"),
            &port.port.to_string(),
            first.map(|i| format!("spec.ports[{i}]")),
        );
        let target = port.target();
        if !pods.is_empty()
            && pods
                .iter()
                .all(|pod| pod.resolve_port(&target, port.protocol).is_none())
        {
            let names = pods
                .iter()
                .flat_map(|pod| &pod.containers)
                .flat_map(|c| &c.ports)
                .map(|p| p.name.as_str());
            let name = target.to_string();
            let suggestion = suggest(
                &name,
                names.filter(|candidate| *candidate != name && !candidate.is_empty()),
            );
            place.fail(
                &format!("{path}.targetPort"),
                Problem::UnknownPort { name, suggestion },
            );
        }
    }
}

// === impl Place ===

impl Place<'_> {
    fn fail(&mut self, path: &str, problem: Problem) {
        let line = self.source.node.line_at(path);
        self.report.error(&self.source.file, line, path, problem);
    }

    fn twice(&mut self, path: &str, value: &str, first: Option<String>) {
        if first.is_some() {
            self.fail(
                path,
                Problem::Duplicate {
                    value: value.to_owned(),
                    first,
                },
            );
        }
    }

    fn namespace(&self) -> &str {
        self.source.object.metadata().namespace()
    }
}

// === impl Known ===

impl<'a> Known<'a> {
    fn collect(sources: &'a [Source]) -> Self {
        let mut known = Self::default();
        for source in sources {
            let metadata = source.object.metadata();
            let (namespace, name) = (metadata.namespace(), metadata.name.as_str());
            match &source.object {
                Object::Namespace(_) => known.namespaces.push(name),
                Object::ServiceAccount(_) => known.accounts.push((namespace, name)),
                Object::ConfigMap(map) => known.config_maps.push((namespace, name, &map.data)),
                Object::Deployment(deployment) => {
                    let template = &deployment.spec.template;
                    known
                        .pods
                        .push((namespace, &template.metadata.labels, &template.spec));
                }
                Object::Pod(pod) => known.pods.push((namespace, &metadata.labels, &pod.spec)),
                Object::Service(_) => {}
            }
        }
        known
    }
}
