// SPDX-License-Identifier: Apache-2.0
//! `maille inject` and `uninject`: manifests in, manifests out; what became of each workload goes to standard error.
//!
//! Must never write a byte when anything is wrong. The decisions are `maille-inject`'s. Read `install.rs` for the mesh itself.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use maille_inject::install::{CONFIG, CONTROL, GRPC_PORT, Options};
use maille_inject::{
    ControlAddress, Done, FileError, Handlers, NamespaceFacts, Report, Said, Settings,
};
use maille_model::{Identity, Name};
use serde_json::Value;

use crate::args::kubernetes::{Files, Inject, Uninject};
use crate::cluster::Cluster;
use crate::failure::{Expected, Undone};
use crate::screen::{Screen, print_exactly};
use crate::shapes::data;
use crate::text::clean_lines;

/// Where control is, and what is known of namespaces.
struct Known {
    settings: Settings,
    namespaces: Vec<NamespaceFacts>,
    /// Of objects that name none.
    namespace: String,
}

pub(crate) async fn inject(args: &Inject, screen: Screen) -> anyhow::Result<ExitCode> {
    let files = read(&args.files, screen)?;
    let known = match args.control_address {
        Some(address) => told(args, address)?,
        None => asked(args, &files).await?,
    };
    let done = maille_inject::inject(&files, &known.settings, &known.namespaces, &known.namespace);
    let done = done.map_err(|errors| refused(&errors, screen))?;
    write(&args.files, &done)?;
    report(&done, screen);
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn uninject(args: &Uninject, screen: Screen) -> anyhow::Result<ExitCode> {
    let files = read(&args.files, screen)?;
    let done = maille_inject::uninject(&files).map_err(|errors| refused(&errors, screen))?;
    write(&args.files, &done)?;
    report(&done, screen);
    Ok(ExitCode::SUCCESS)
}

fn read(args: &Files, screen: Screen) -> Result<Vec<(String, String)>, Expected> {
    maille_manifest::read_files(&args.paths()).map_err(|errors| {
        for error in &errors {
            let error = clean_lines(&error.to_string());
            screen.say(&format!("{} {error}", screen.red("error:")));
        }
        Expected::Manifests {
            count: errors.len(),
            undone: Undone::Written,
        }
    })
}

fn refused(errors: &[FileError], screen: Screen) -> Expected {
    for error in errors {
        let error = clean_lines(&error.to_string());
        screen.say(&format!("{} {error}", screen.red("error:")));
    }
    Expected::Manifests {
        count: errors.len(),
        undone: Undone::Written,
    }
}

/// Who control must be.
fn identity(options: (&Name, maille_model::TrustDomain)) -> anyhow::Result<Identity> {
    Ok(Identity {
        trust_domain: options.1,
        namespace: options.0.clone(),
        service_account: CONTROL.parse()?,
    })
}

/// From the command line alone.
fn told(args: &Inject, address: ControlAddress) -> anyhow::Result<Known> {
    let identity = identity((&args.mesh_namespace, args.trust_domain.clone()))?;
    let version = env!("CARGO_PKG_VERSION");
    let settings = Settings::new(version, &args.image_prefix, address, identity)
        .map_err(|error| wrong(error.to_string()))?;
    Ok(Known {
        settings,
        namespaces: Vec::new(),
        namespace: args
            .namespace
            .as_ref()
            .map_or("default", Name::as_str)
            .to_owned(),
    })
}

/// From the cluster.
async fn asked(args: &Inject, files: &[(String, String)]) -> anyhow::Result<Known> {
    let unknown = |error: Expected| Expected::NoControl {
        why: format!("{:#}", anyhow::Error::new(error)),
    };
    let cluster = Cluster::connect(&args.cluster).await.map_err(unknown)?;
    let settings = settings(&cluster, &args.mesh_namespace).await?;
    let namespace = args
        .namespace
        .as_ref()
        .map_or_else(|| cluster.namespace(), Name::as_str);
    let namespace = namespace.to_owned();
    let mut namespaces = Vec::new();
    let named = maille_inject::files::namespaces(files);
    for name in named
        .into_iter()
        .chain([namespace.clone()])
        .collect::<BTreeSet<_>>()
    {
        if name.parse::<Name>().is_err() {
            continue;
        }
        // Who may not look at a namespace learns from the API server what it forbids.
        if let Ok(Some(found)) = cluster.object(&format!("/api/v1/namespaces/{name}")).await {
            namespaces.push(NamespaceFacts::of(&name, &found["metadata"]["labels"]));
        }
    }
    Ok(Known {
        settings,
        namespaces,
        namespace,
    })
}

/// What admission in the cluster decides by.
pub(crate) async fn settings(cluster: &Cluster, mesh: &Name) -> anyhow::Result<Settings> {
    let unknown = |error: Expected| Expected::NoControl {
        why: format!("{:#}", anyhow::Error::new(error)),
    };
    let path = format!("/api/v1/namespaces/{mesh}");
    let config = cluster.object(&format!("{path}/configmaps/{CONFIG}")).await;
    let service = cluster.object(&format!("{path}/services/{CONTROL}")).await;
    let (Some(config), Some(service)) = (config.map_err(unknown)?, service.map_err(unknown)?)
    else {
        let why = format!(
            "no mesh is installed in namespace {mesh} of the cluster at {}",
            cluster.server()
        );
        return Err(Expected::NoControl { why }.into());
    };
    let options = Options::from_config(mesh.clone(), &data(&config))
        .map_err(|error| wrong(error.to_string()))?;
    let address = service["spec"]["clusterIP"].as_str().unwrap_or_default();
    let Ok(address) = address.parse::<std::net::IpAddr>() else {
        let why = format!("Service {mesh}/{CONTROL} has no cluster address");
        return Err(Expected::NoControl { why }.into());
    };
    let address = std::net::SocketAddr::new(address, GRPC_PORT).into();
    let identity = identity((mesh, options.trust_domain))?;
    let settings = Settings::new(&options.version, &options.image_prefix, address, identity)
        .map_err(|error| wrong(error.to_string()))?;
    Ok(Settings {
        nodes: options.nodes,
        handlers: handlers(cluster).await,
        ..settings
    })
}

/// What the cluster's runtime classes run pods by. Who may not look at them is told by their names.
async fn handlers(cluster: &Cluster) -> Handlers {
    let list = cluster.object("/apis/node.k8s.io/v1/runtimeclasses").await;
    let list = list.ok().flatten().unwrap_or_default();
    let one = |class: &Value| {
        let name = class["metadata"]["name"].as_str()?;
        Some((name.to_owned(), class["handler"].as_str()?.to_owned()))
    };
    let all = list["items"].as_array().into_iter().flatten();
    all.filter_map(one).collect()
}

fn wrong(what: String) -> Expected {
    Expected::Refused {
        what,
        hint: None,
        wrong: true,
    }
}

fn write(args: &Files, done: &[Done]) -> anyhow::Result<()> {
    let Some(dir) = &args.output else {
        print_exactly(&joined(done))?;
        return Ok(());
    };
    let mut names = BTreeSet::new();
    let mut targets: Vec<(PathBuf, &str)> = Vec::new();
    for one in done {
        let name = match Path::new(&one.file).file_name() {
            Some(name) if one.file != "-" => name.to_owned(),
            _ => "stdin.yaml".into(),
        };
        if !names.insert(name.clone()) {
            bail!(wrong(format!(
                "two files are named {}: give them one at a time",
                name.display()
            )));
        }
        targets.push((dir.join(name), &one.text));
    }
    fs::create_dir_all(dir).with_context(|| format!("failed to make {}", dir.display()))?;
    for (path, text) in targets {
        fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
    }
    Ok(())
}

/// The texts as one, with what parts documents where a file does not begin with it.
fn joined(done: &[Done]) -> String {
    let mut whole = String::new();
    for one in done.iter().filter(|one| !one.text.is_empty()) {
        if !whole.is_empty() {
            if !whole.ends_with('\n') {
                whole.push('\n');
            }
            if !one.text.starts_with("---") {
                whole.push_str("---\n");
            }
        }
        whole.push_str(&one.text);
    }
    whole
}

/// Says what became of each workload.
fn report(done: &[Done], screen: Screen) {
    let reports: Vec<&Report> = done.iter().flat_map(|one| &one.reports).collect();
    for report in &reports {
        screen.say(&clean_lines(&line(report)));
        for warning in &report.warnings {
            let warning = clean_lines(&format!("{}: {warning}", what(report)));
            screen.say(&format!("{} {warning}", screen.yellow("warning:")));
        }
    }
    let unknown = done.iter().flat_map(|one| &one.unknown);
    for object in unknown {
        let object = clean_lines(object);
        screen.say(&format!(
            "{} {object}: untouched: its kind is not known here. Label its pods' template maille.io/inject: enabled, and the webhook gives \
             them a sidecar",
            screen.yellow("warning:")
        ));
    }
    if reports.is_empty() {
        screen.say(&format!(
            "{} no object in it has pods: nothing was changed",
            screen.yellow("warning:")
        ));
    }
}

fn what(report: &Report) -> String {
    let place = report.namespace.as_ref().map(|name| format!(" in {name}"));
    format!(
        "{}/{}{}",
        report.kind,
        report.name,
        place.unwrap_or_default()
    )
}

fn line(report: &Report) -> String {
    let said = match &report.said {
        Said::Injected => "injected".to_owned(),
        Said::Updated => "injected, in place of another version's sidecar".to_owned(),
        Said::Uninjected => "uninjected".to_owned(),
        Said::Untouched(why) => format!("untouched: {why}"),
        Said::Nothing => "untouched: it has no sidecar".to_owned(),
    };
    format!("{}: {said}", what(report))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(texts: &[&str]) -> Vec<Done> {
        let one = |text: &&str| Done {
            file: "f".to_owned(),
            text: (*text).to_owned(),
            reports: Vec::new(),
            unknown: Vec::new(),
        };
        texts.iter().map(one).collect()
    }

    #[test]
    fn files_become_one_stream() {
        assert_eq!(
            joined(&done(&["a: 1", "---\nb: 2\n", "", "c: 3\n"])),
            "a: 1\n---\nb: 2\n---\nc: 3\n"
        );
        assert_eq!(joined(&done(&["a: 1"])), "a: 1");
    }

    #[test]
    fn what_became_of_a_workload_is_one_line() {
        let report = Report {
            kind: "deployment",
            namespace: Some("shop".to_owned()),
            name: "web".to_owned(),
            said: Said::Untouched(maille_inject::Untouched::HostNetwork),
            warnings: Vec::new(),
        };
        assert_eq!(
            line(&report),
            "deployment/web in shop: untouched: it uses its node's network (hostNetwork)"
        );
    }
}
