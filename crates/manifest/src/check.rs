// SPDX-License-Identifier: Apache-2.0
//! What no single field can say: selectors and labels, names that refer to one another, objects declared twice, and what the
//! machine has to allow.

use std::collections::BTreeMap;

use crate::error::Problem;
use crate::objects::{
    ConfigMap, EndpointSlice, Object, PodSpec, Secret, Service, TextMap, slice::SERVICE_NAME,
};
use crate::options::Options;
use crate::walk::{Report, suggest};
use crate::yaml::Node;

mod container;
mod data;
mod pod;
mod refs;
mod rollout;
mod security;
mod service;
mod volume;
mod workload;

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

/// Everything that others may refer to, and what is allowed.
#[derive(Debug)]
pub(crate) struct Known<'a> {
    options: &'a Options,
    namespaces: Vec<&'a str>,
    /// Namespace, name.
    accounts: Vec<(&'a str, &'a str)>,
    /// Namespace, name, data.
    config_maps: Vec<(&'a str, &'a str, &'a ConfigMap)>,
    /// Namespace, name, data.
    secrets: Vec<(&'a str, &'a str, &'a Secret)>,
    /// Namespace, labels, spec.
    pods: Vec<(&'a str, &'a TextMap, &'a PodSpec)>,
    /// Namespace, name.
    services: Vec<(&'a str, &'a str, &'a Service)>,
    /// Namespace, name; those that StatefulSets make included.
    claims: Vec<(&'a str, String)>,
    /// Namespace, service.
    slices: Vec<(&'a str, &'a str, &'a EndpointSlice)>,
}

/// Checks all objects together.
pub(crate) fn objects(sources: &[Source], options: &Options, report: &mut Report) {
    duplicates(sources, report);
    let known = Known::collect(sources, options);
    for source in sources {
        let mut place = Place { source, report };
        namespace(&mut place, &known);
        match &source.object {
            Object::Pod(pod) => {
                pod::marks(&mut place, "metadata", &pod.metadata.annotations);
                pod::check(&mut place, "spec", &pod.spec, &known);
            }
            Object::Service(service) => service::check(&mut place, service, &known),
            Object::EndpointSlice(slice) => service::slice(&mut place, slice, &known),
            Object::Namespace(namespace) => label(&mut place, namespace.metadata.name.as_str()),
            Object::ServiceAccount(_)
            | Object::ConfigMap(_)
            | Object::Secret(_)
            | Object::PersistentVolumeClaim(_) => {}
            _ => workload::check(&mut place, &known),
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
        .map(|s| format!(" (did you mean {s:?}?)"))
        .unwrap_or_default();
    let reason = format!("no Namespace {namespace:?} is declared{hint}: it is made all the same");
    place.warn("metadata.namespace", reason);
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

// === impl Place ===

impl<'a> Place<'a> {
    fn fail(&mut self, path: &str, problem: Problem) {
        let line = self.source.node.line_at(path);
        self.report.error(&self.source.file, line, path, problem);
    }

    fn warn(&mut self, path: &str, reason: String) {
        let line = self.source.node.line_at(path);
        self.report.warn(&self.source.file, line, path, reason);
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

    /// `false`, and an error, unless exactly one of the named parts is there.
    fn one_of(&mut self, path: &str, there: &[bool], names: &'static str) -> bool {
        let one = there.iter().filter(|there| **there).count() == 1;
        if !one {
            self.fail(path, Problem::ExactlyOne(names));
        }
        one
    }

    fn namespace(&self) -> &'a str {
        self.source.object.metadata().namespace()
    }
}

// === impl Known ===

impl<'a> Known<'a> {
    fn collect(sources: &'a [Source], options: &'a Options) -> Self {
        let mut known = Self {
            options,
            namespaces: Vec::new(),
            accounts: Vec::new(),
            config_maps: Vec::new(),
            secrets: Vec::new(),
            pods: Vec::new(),
            services: Vec::new(),
            claims: Vec::new(),
            slices: Vec::new(),
        };
        for source in sources {
            let metadata = source.object.metadata();
            let (namespace, name) = (metadata.namespace(), metadata.name.as_str());
            match &source.object {
                Object::Namespace(_) => known.namespaces.push(name),
                Object::ServiceAccount(_) => known.accounts.push((namespace, name)),
                Object::ConfigMap(map) => known.config_maps.push((namespace, name, map)),
                Object::Secret(secret) => known.secrets.push((namespace, name, secret)),
                Object::Service(service) => known.services.push((namespace, name, service)),
                Object::EndpointSlice(slice) => {
                    let service = metadata.labels.get(SERVICE_NAME);
                    let service = service.map(String::as_str).unwrap_or_default();
                    known.slices.push((namespace, service, slice));
                }
                Object::PersistentVolumeClaim(_) => known.claims.push((namespace, name.to_owned())),
                Object::Pod(pod) => known.pods.push((namespace, &metadata.labels, &pod.spec)),
                other => {
                    if let Object::StatefulSet(set) = other {
                        let made = set.numbers().flat_map(|number| set.claims(number));
                        let names = made.filter_map(|made| made.persistent_volume_claim);
                        known
                            .claims
                            .extend(names.map(|claim| (namespace, claim.claim_name)));
                    }
                    let template = other.template().into_iter();
                    let pods = template.map(|t| (namespace, &t.metadata.labels, &t.spec));
                    known.pods.extend(pods);
                }
            }
        }
        known
    }
}
