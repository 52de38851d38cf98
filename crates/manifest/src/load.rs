// SPDX-License-Identifier: Apache-2.0
//! Files to objects: read (`read.rs`), split, walk (`walk.rs`), complete with defaults, then check what spans fields and objects
//! (`check.rs`).

use std::path::PathBuf;

use maille_model::Name;

use crate::addresses::{self, DNS_SERVICE};
use crate::check::{self, Source};
use crate::error::{ManifestError, Problem, Warning};
use crate::families;
use crate::fields::{KINDS, KindRule};
use crate::images::can_run;
use crate::objects::{ClusterIp, Container, IntOrText, Object, Service, ServiceType};
use crate::options::Options;
use crate::read::{File, read};
use crate::walk::{Report, Walk, suggest};
use crate::yaml::{self, Data, Node};

/// What manifests say, complete with defaults, in the order of files and documents.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// Every object.
    pub objects: Vec<Object>,
    /// What was ignored, and why that is harmless.
    pub warnings: Vec<Warning>,
}

/// Reads files, directories (their `.yaml`, `.yml` and `.json` files, sorted by name, not those below) and `-` (standard input).
///
/// Everything or nothing: one error, and there are no objects. At most 100 errors are given. The cluster's own service is refused:
/// a person's manifests may not declare it. What `options` do not allow is refused.
pub fn load_with(paths: &[PathBuf], options: &Options) -> Result<Loaded, Vec<ManifestError>> {
    let mut report = Report::default();
    let mut files = Vec::new();
    for path in paths {
        read(path, &mut files, &mut report);
    }
    let sources = parse(&files, &mut report);
    for source in &sources {
        not_the_clusters(source, &mut report);
    }
    finish(sources, options, report)
}

/// The same, where everything was allowed before.
pub fn load(paths: &[PathBuf]) -> Result<Loaded, Vec<ManifestError>> {
    load_with(paths, &Options::trusted())
}

/// The same from memory: name and text of each file. The cluster's own service is taken, for those who read it beside the others.
pub fn load_text(files: &[(String, String)]) -> Result<Loaded, Vec<ManifestError>> {
    load_text_with(files, &Options::trusted())
}

/// The same, against `options`.
pub fn load_text_with(files: &[File], options: &Options) -> Result<Loaded, Vec<ManifestError>> {
    let mut report = Report::default();
    let sources = parse(files, &mut report);
    finish(sources, options, report)
}

fn parse(files: &[File], report: &mut Report) -> Vec<Source> {
    let mut sources = Vec::new();
    for (file, text) in files {
        match yaml::documents(text) {
            Ok(documents) if documents.is_empty() => {
                report.warn(file, 0, "", "no object in it".to_owned());
            }
            Ok(documents) => {
                for node in documents {
                    document(file, node, &mut sources, report);
                }
            }
            Err(error) => report.error(file, error.line, "", Problem::Syntax(error.text)),
        }
    }
    if sources.is_empty() && report.errors.is_empty() {
        let file = files.first().map_or("-", |(file, _)| file);
        report.error(file, 0, "", Problem::Empty);
    }
    sources
}

fn not_the_clusters(source: &Source, report: &mut Report) {
    let metadata = source.object.metadata();
    let (namespace, name) = DNS_SERVICE;
    if matches!(source.object, Object::Service(_))
        && (metadata.namespace(), metadata.name.as_str()) == DNS_SERVICE
    {
        let path = "metadata.name";
        let problem = Problem::ClustersOwn { namespace, name };
        report.error(&source.file, source.node.line_at(path), path, problem);
    }
}

fn finish(
    mut sources: Vec<Source>,
    options: &Options,
    mut report: Report,
) -> Result<Loaded, Vec<ManifestError>> {
    complete(&mut sources, options, &mut report);
    check::objects(&sources, options, &mut report);
    if report.errors.is_empty() {
        Ok(Loaded {
            objects: sources.into_iter().map(|source| source.object).collect(),
            warnings: report.warnings,
        })
    } else {
        Err(report.errors)
    }
}

/// One document: an object, or a `List` of some.
fn document(file: &str, node: Node, sources: &mut Vec<Source>, report: &mut Report) {
    if let Some("List") = node.field("kind").and_then(Node::text) {
        let Some(items) = node.field("items") else {
            return report.error(
                file,
                node.line,
                "items",
                Problem::Missing {
                    what: "a List has items",
                },
            );
        };
        let Data::List(items) = &items.data else {
            let problem = Problem::Type {
                found: items.describe(),
                expected: "a list".to_owned(),
            };
            return report.error(file, items.line, "items", problem);
        };
        for item in items {
            single(file, item.clone(), sources, report);
        }
    } else {
        single(file, node, sources, report);
    }
}

fn single(file: &str, node: Node, sources: &mut Vec<Source>, report: &mut Report) {
    if !matches!(node.data, Data::Map(_)) {
        let problem = Problem::Type {
            found: node.describe(),
            expected: "a Kubernetes object".to_owned(),
        };
        return report.error(file, node.line, "", problem);
    }
    let mut required = |key: &'static str, what: &'static str| -> Option<String> {
        let problem = match node.field(key) {
            Some(value) => match value.text() {
                Some(text) => return Some(text.to_owned()),
                None => Problem::Type {
                    found: value.describe(),
                    expected: "text".to_owned(),
                },
            },
            None => Problem::Missing { what },
        };
        report.error(file, node.line_at(key), key, problem);
        None
    };
    let version = required(
        "apiVersion",
        "every object says which version of the API it is written for",
    );
    let kind = required("kind", "every object says what it is");
    let (Some(version), Some(kind)) = (version, kind) else {
        return;
    };
    let Some(rule) = rule(file, &node, &version, &kind, report) else {
        return;
    };
    match rule {
        KindRule::Take(fields) => {
            let before = report.errors.len();
            let value = Walk::new(file, report).object(&node, fields);
            if report.errors.len() == before {
                match object(&kind, value) {
                    Ok(object) => sources.push(Source {
                        file: file.to_owned(),
                        node,
                        object,
                    }),
                    Err(error) => {
                        report.error(file, node.line, "", Problem::Syntax(error.to_string()))
                    }
                }
            }
        }
        KindRule::Warn(reason) => report.warn(
            file,
            node.line,
            "",
            format!("ignored: kind {kind}: {reason}"),
        ),
        KindRule::Refuse(reason) => {
            report.error(
                file,
                node.line_at("kind"),
                "kind",
                Problem::UnsupportedKind { kind, reason },
            );
        }
    }
}

fn rule(
    file: &str,
    node: &Node,
    version: &str,
    kind: &str,
    report: &mut Report,
) -> Option<&'static KindRule> {
    let group = |version: &str| {
        version
            .rsplit_once('/')
            .map_or(String::new(), |(group, _)| group.to_owned())
    };
    let exact = KINDS.iter().find(|(v, k, _)| *k == kind && *v == version);
    let named = KINDS.iter().find(|(_, k, _)| *k == kind);
    match (exact, named) {
        (Some((_, _, rule)), _) => return Some(rule),
        // Another version of a kind that is not read anyway is not read either.
        (None, Some((v, _, rule)))
            if group(v) == group(version) && !matches!(rule, KindRule::Take(_)) =>
        {
            return Some(rule);
        }
        (None, Some((expected, _, KindRule::Take(_)))) => {
            let problem = Problem::ApiVersion {
                kind: kind.to_owned(),
                found: version.to_owned(),
                expected,
            };
            report.error(file, node.line_at("apiVersion"), "apiVersion", problem);
        }
        (None, _) => {
            let suggestion =
                suggest(kind, KINDS.iter().map(|(_, kind, _)| *kind)).filter(|s| s != kind);
            let problem = Problem::UnknownKind {
                api_version: version.to_owned(),
                kind: kind.to_owned(),
                suggestion,
            };
            report.error(file, node.line_at("kind"), "kind", problem);
        }
    }
    None
}

/// The object of `kind` that the walk has made `value` of.
pub(crate) fn object(kind: &str, value: serde_json::Value) -> Result<Object, serde_json::Error> {
    Ok(match kind {
        "Namespace" => Object::Namespace(serde_json::from_value(value)?),
        "ServiceAccount" => Object::ServiceAccount(serde_json::from_value(value)?),
        "Deployment" => Object::Deployment(Box::new(serde_json::from_value(value)?)),
        "Pod" => Object::Pod(Box::new(serde_json::from_value(value)?)),
        "Service" => Object::Service(serde_json::from_value(value)?),
        "Secret" => Object::Secret(serde_json::from_value(value)?),
        "ReplicaSet" => Object::ReplicaSet(serde_json::from_value(value)?),
        "StatefulSet" => Object::StatefulSet(serde_json::from_value(value)?),
        "DaemonSet" => Object::DaemonSet(serde_json::from_value(value)?),
        "Job" => Object::Job(serde_json::from_value(value)?),
        "CronJob" => Object::CronJob(serde_json::from_value(value)?),
        "EndpointSlice" => Object::EndpointSlice(serde_json::from_value(value)?),
        "PersistentVolumeClaim" => Object::PersistentVolumeClaim(serde_json::from_value(value)?),
        _ => Object::ConfigMap(serde_json::from_value(value)?),
    })
}

/// The defaults that an API server would fill in.
fn complete(sources: &mut [Source], options: &Options, report: &mut Report) {
    for source in sources.iter_mut() {
        pods(source, options, report);
        let global = matches!(source.object, Object::Namespace(_));
        let metadata = source.object.metadata_mut();
        if global {
            metadata.namespace = None;
        } else if metadata.namespace.is_none() {
            metadata.namespace = default_name();
        }
        if let Object::Secret(secret) = &mut source.object {
            secret.fold();
        }
        if let Object::Service(service) = &mut source.object {
            let mut problems = Vec::new();
            if options.own_addresses {
                problems.extend(families::outside(service));
            }
            problems.extend(families::complete(service));
            for (path, problem) in problems {
                report.error(&source.file, source.node.line_at(&path), &path, problem);
            }
            for port in &mut service.spec.ports {
                if port.target_port.is_none()
                    && service.spec.kind != ServiceType::ExternalName
                    && service.spec.cluster_ip != Some(ClusterIp::Headless)
                {
                    port.target_port = Some(IntOrText::Port(port.port));
                }
            }
        }
    }
    let mut owners = Vec::new();
    let mut services: Vec<&mut Service> = Vec::new();
    for (index, source) in sources.iter_mut().enumerate() {
        if let Object::Service(service) = &mut source.object {
            owners.push(index);
            services.push(service);
        }
    }
    let conflicts = addresses::assign(&mut services);
    for conflict in conflicts {
        let Some(source) = owners
            .get(conflict.index)
            .and_then(|index| sources.get(*index))
        else {
            continue;
        };
        let problem = match conflict.address {
            Some(address) => Problem::AddressTaken {
                address: address.to_string(),
                owner: conflict.owner,
            },
            None => Problem::NoAddressLeft,
        };
        let path = "spec.clusterIP";
        report.error(&source.file, source.node.line_at(path), path, problem);
    }
}

/// Old names, and the programs that stand for images.
fn pods(source: &mut Source, options: &Options, report: &mut Report) {
    let path = match &source.object {
        Object::Pod(_) => "spec",
        Object::CronJob(_) => "spec.jobTemplate.spec.template.spec",
        _ => "spec.template.spec",
    };
    let (file, node) = (&source.file, &source.node);
    let Some(spec) = source.object.pod_spec_mut() else {
        return;
    };
    let old = spec.service_account.take();
    if spec.service_account_name.is_none() {
        spec.service_account_name = old;
    }
    for (list, containers) in [
        ("initContainers", &mut spec.init_containers),
        ("containers", &mut spec.containers),
    ] {
        for (index, container) in containers.iter_mut().enumerate() {
            let at = format!("{path}.{list}[{index}]");
            capabilities(container);
            if let Some((field, problem)) = program(container, options) {
                let at = format!("{at}.{field}");
                report.error(file, node.line_at(&at), &at, problem);
            } else if let Some(reason) = missing(container, options) {
                let at = format!("{at}.command");
                report.warn(file, node.line_at(&at), &at, reason);
            }
        }
    }
}

/// `all` is `ALL`, as container runtimes have it.
fn capabilities(container: &mut Container) {
    let security = container.security_context.as_mut();
    let said = security.and_then(|security| security.capabilities.as_mut());
    for name in said
        .into_iter()
        .flat_map(|said| said.add.iter_mut().chain(&mut said.drop))
    {
        name.make_ascii_uppercase();
    }
}

/// Gives a container without a command the one that its image stands for. `Some`: there is none, by the field that should say it.
fn program(container: &mut Container, options: &Options) -> Option<(&'static str, Problem)> {
    if !container.command.is_empty() {
        return None;
    }
    let (Some(image), Some(path)) = (&container.image, &options.search_path) else {
        let what = "say which program of this machine to run";
        return Some(("command", Problem::Missing { what }));
    };
    let mut words = options.images.command(image).into_iter();
    let program = words.next().unwrap_or_default();
    if !can_run(&program, path) {
        let image = image.chars().take(200).collect();
        return Some(("image", Problem::NoProgram { image, program }));
    }
    if container.args.is_empty() {
        container.args = words.collect();
    }
    container.command = vec![program];
    None
}

/// Why the command of a container will not be found, where that is certain enough to say: it may still come from a volume.
fn missing(container: &Container, options: &Options) -> Option<String> {
    let path = options.search_path.as_ref()?;
    let program = container.command.first()?;
    let elsewhere = program.contains('/')
        || program.contains('$')
        || container.env.iter().any(|variable| variable.name == "PATH");
    if elsewhere || can_run(program, path) {
        return None;
    }
    Some(format!(
        "there is no program {program:?} on this machine: the container cannot be started"
    ))
}

fn default_name() -> Option<Name> {
    "default".parse().ok()
}

#[cfg(test)]
mod tests;
