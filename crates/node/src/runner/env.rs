// SPDX-License-Identifier: Apache-2.0
//! A container's environment and command line from its manifest, its pod, the ConfigMaps and Secrets. Pure.
//!
//! Order as in Kubernetes: `envFrom`, then `env`, later ones winning; `$(VAR)` sees what came before, commands see everything.

use maille_manifest::objects::{Container, EnvVarSource, Pod};
use maille_manifest::vars::expand;

use super::fields::{field, resource};
use crate::data::{Data, Kind, MissingData};

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
    #[error("container {container}: there is no command")]
    Command { container: String },
    #[error(transparent)]
    Data(#[from] MissingData),
    #[error("variable {variable} cannot hold {what}: it is no text")]
    Bytes { variable: String, what: String },
    #[error("no field {path} for variable {variable}")]
    Field { variable: String, path: String },
}

#[derive(Default)]
struct Env(Vec<(String, String)>);

/// Environment and command line of `container`. `path`, the machine's search path, comes first, so that the manifest may change it.
pub(crate) fn launch(
    container: &Container,
    pod: &Pod,
    data: &Data,
    path: &str,
) -> Result<Launch, LaunchError> {
    let mut env = Env::default();
    env.set("PATH", path.to_owned());
    env.set("HOSTNAME", pod.host_name().to_owned());
    let namespace = pod.metadata.namespace();
    for from in &container.env_from {
        let references = [
            (Kind::ConfigMap, &from.config_map_ref),
            (Kind::Secret, &from.secret_ref),
        ];
        for (kind, reference) in references {
            let Some(reference) = reference else { continue };
            let all = data.all(kind, namespace, &reference.name, reference.optional)?;
            for (key, bytes) in all {
                // Bytes that are no text were not meant to be a variable.
                if let Some(text) = text(bytes) {
                    env.set(&format!("{}{key}", from.prefix), text);
                }
            }
        }
    }
    for variable in &container.env {
        match (&variable.value, &variable.value_from) {
            (_, Some(source)) => {
                let value = from_source(&variable.name, source, (pod, container), data)?;
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

fn from_source(
    variable: &str,
    source: &EnvVarSource,
    (pod, container): (&Pod, &Container),
    data: &Data,
) -> Result<Option<String>, LaunchError> {
    let keyed = [
        (Kind::ConfigMap, &source.config_map_key_ref),
        (Kind::Secret, &source.secret_key_ref),
    ];
    for (kind, reference) in keyed {
        let Some(reference) = reference else { continue };
        let wanted = (reference.name.as_str(), reference.key.as_str());
        let bytes = data.one(kind, pod.metadata.namespace(), wanted, reference.optional)?;
        let what = || {
            format!(
                "key {} of {} {}",
                reference.key,
                kind.name(),
                reference.name
            )
        };
        let no_text = || LaunchError::Bytes {
            variable: variable.to_owned(),
            what: what(),
        };
        return bytes
            .map(|bytes| text(bytes).ok_or_else(no_text))
            .transpose();
    }
    let (path, value) = match (&source.field_ref, &source.resource_field_ref) {
        (Some(reference), _) => {
            let path = reference.field_path.as_str();
            (path, field(path, pod))
        }
        (None, Some(reference)) => {
            let value = resource(reference, pod, Some(container), data.machine);
            (reference.resource.as_str(), value)
        }
        (None, None) => ("", None),
    };
    match value {
        Some(value) => Ok(Some(value)),
        None => Err(LaunchError::Field {
            variable: variable.to_owned(),
            path: path.to_owned(),
        }),
    }
}

fn text(bytes: Vec<u8>) -> Option<String> {
    String::from_utf8(bytes)
        .ok()
        .filter(|text| !text.contains('\0'))
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
