// SPDX-License-Identifier: Apache-2.0
//! A container's environment and command line from its manifest, its pod and the ConfigMaps. Pure.
//!
//! Order as in Kubernetes: `envFrom`, then `env`, later ones winning; `$(VAR)` sees what came before, commands see everything.

use std::collections::BTreeMap;

use maille_manifest::objects::{ConfigMap, Container, EnvVarSource, Pod};
use maille_manifest::vars::expand;

/// What a process is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Launch {
    pub(crate) program: String,
    pub(crate) args: Vec<String>,
    /// In order of first mention, each name once.
    pub(crate) env: Vec<(String, String)>,
}

/// Why a container cannot be started as written. Rare: `maille_manifest::load` has checked all that files can say.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LaunchError {
    #[error("container {container}: command is empty, and images are not run here")]
    Command { container: String },
    #[error("ConfigMap {name} does not exist")]
    ConfigMap { name: String },
    #[error("ConfigMap {name} has no key {key}")]
    Key { name: String, key: String },
    #[error("no field {path} for variable {variable}")]
    Field { variable: String, path: String },
}

#[derive(Default)]
struct Env(Vec<(String, String)>);

/// Environment and command line of `container`. `path`, the machine's search path, comes first, so that the manifest may change it.
pub(crate) fn launch(
    container: &Container,
    pod: &Pod,
    maps: &BTreeMap<(String, String), ConfigMap>,
    path: &str,
) -> Result<Launch, LaunchError> {
    let mut env = Env::default();
    env.set("PATH", path.to_owned());
    env.set("HOSTNAME", pod.metadata.name.to_string());
    let map = |name: &str, optional: bool| -> Result<Option<&ConfigMap>, LaunchError> {
        let found = maps.get(&(pod.metadata.namespace().to_owned(), name.to_owned()));
        if found.is_none() && !optional {
            return Err(LaunchError::ConfigMap {
                name: name.to_owned(),
            });
        }
        Ok(found)
    };
    for from in &container.env_from {
        let Some(reference) = &from.config_map_ref else {
            continue;
        };
        let Some(found) = map(&reference.name, reference.optional)? else {
            continue;
        };
        for (key, value) in &found.data {
            env.set(&format!("{}{key}", from.prefix), value.clone());
        }
    }
    for variable in &container.env {
        match (&variable.value, &variable.value_from) {
            (_, Some(source)) => {
                let value = from_source(&variable.name, source, pod, &map)?;
                if let Some(value) = value {
                    env.set(&variable.name, value);
                }
            }
            (value, None) => {
                let text = value.as_deref().unwrap_or_default();
                let value = expand(text, |name| env.value(name));
                env.set(&variable.name, value);
            }
        }
    }
    let words: Vec<String> = container
        .command
        .iter()
        .chain(&container.args)
        .map(|word| expand(word, |name| env.value(name)))
        .collect();
    let Some((program, args)) = words
        .split_first()
        .filter(|_| !container.command.is_empty())
    else {
        return Err(LaunchError::Command {
            container: container.name.clone(),
        });
    };
    Ok(Launch {
        program: program.clone(),
        args: args.to_vec(),
        env: env.0,
    })
}

fn from_source<'m>(
    variable: &str,
    source: &EnvVarSource,
    pod: &Pod,
    map: &impl Fn(&str, bool) -> Result<Option<&'m ConfigMap>, LaunchError>,
) -> Result<Option<String>, LaunchError> {
    if let Some(reference) = &source.config_map_key_ref {
        let value =
            map(&reference.name, reference.optional)?.and_then(|map| map.data.get(&reference.key));
        return match value {
            None if !reference.optional => Err(LaunchError::Key {
                name: reference.name.clone(),
                key: reference.key.clone(),
            }),
            value => Ok(value.cloned()),
        };
    }
    let path = source
        .field_ref
        .as_ref()
        .map(|reference| reference.field_path.as_str())
        .unwrap_or_default();
    match field(path, pod) {
        Some(value) => Ok(Some(value)),
        None => Err(LaunchError::Field {
            variable: variable.to_owned(),
            path: path.to_owned(),
        }),
    }
}

/// A field of the pod, as text; an address that it does not have is empty, as is an absent label.
fn field(path: &str, pod: &Pod) -> Option<String> {
    let keyed = |prefix: &str| {
        path.strip_prefix(prefix)
            .and_then(|rest| rest.strip_suffix("']"))
    };
    if let Some(key) = keyed("metadata.labels['") {
        return Some(pod.metadata.labels.get(key).cloned().unwrap_or_default());
    }
    if let Some(key) = keyed("metadata.annotations['") {
        return Some(
            pod.metadata
                .annotations
                .get(key)
                .cloned()
                .unwrap_or_default(),
        );
    }
    Some(match path {
        "metadata.name" => pod.metadata.name.to_string(),
        "metadata.namespace" => pod.metadata.namespace().to_owned(),
        "metadata.uid" => pod.metadata.uid.clone(),
        "spec.nodeName" => "maille".to_owned(),
        "spec.serviceAccountName" => pod.service_account().to_owned(),
        "status.hostIP" => crate::host::NODE_V4.to_string(),
        "status.podIP" => pod
            .addresses()
            .next()
            .map(|ip| ip.to_string())
            .unwrap_or_default(),
        "status.podIPs" => pod
            .addresses()
            .map(|ip| ip.to_string())
            .collect::<Vec<_>>()
            .join(","),
        _ => return None,
    })
}

// === impl Env ===

impl Env {
    fn set(&mut self, name: &str, value: String) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests;
