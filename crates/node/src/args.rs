// SPDX-License-Identifier: Apache-2.0
//! The command line of `maille-node run`. Not for people: `maille up` writes it.

use std::path::PathBuf;

/// What to run, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Args {
    /// The state directory, which holds `manifests/`.
    pub state: PathBuf,
    /// The name of this `up`.
    pub name: String,
    /// Where the other programs are. `None`: beside this one.
    pub bin_dir: Option<PathBuf>,
    /// Whether the witness runs.
    pub observe: bool,
    /// What it searches for, in hexadecimal.
    pub markers: Vec<String>,
    /// Whether there is a mesh at all.
    pub mesh: bool,
    /// The lifetime of certificates, as control reads it.
    pub leaf_lifetime: Option<String>,
    /// The trust domain.
    pub trust_domain: String,
    /// Where claims of storage are kept. `None`: in the state directory, as long as that is there.
    pub storage: Option<PathBuf>,
}

/// What is wrong with a command line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgsError {
    /// Something unknown.
    #[error("unknown argument {0:?}; usage: {USAGE}")]
    Unknown(String),
    /// A flag without its value.
    #[error("{0} needs a value; usage: {USAGE}")]
    NoValue(String),
    /// A flag that must be there.
    #[error("{0} is missing; usage: {USAGE}")]
    Missing(&'static str),
}

const USAGE: &str = "maille-node run --state DIR --name NAME [--bin-dir DIR] [--observe] [--marker HEX]... \
    [--no-mesh] [--leaf-lifetime TIME] [--trust-domain NAME] [--storage DIR]";

/// Reads the command line after the program's name.
pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Args, ArgsError> {
    let mut args = args.into_iter();
    match args.next() {
        Some(verb) if verb == "run" => {}
        other => return Err(ArgsError::Unknown(other.unwrap_or_default())),
    }
    let (mut state, mut name, mut bin_dir, mut leaf_lifetime) = (None, None, None, None);
    let mut trust_domain = "cluster.local".to_owned();
    let mut storage = None;
    let (mut observe, mut mesh, mut markers) = (false, true, Vec::new());
    while let Some(flag) = args.next() {
        let mut value = || args.next().ok_or_else(|| ArgsError::NoValue(flag.clone()));
        match flag.as_str() {
            "--state" => state = Some(PathBuf::from(value()?)),
            "--name" => name = Some(value()?),
            "--bin-dir" => bin_dir = Some(PathBuf::from(value()?)),
            "--marker" => markers.push(value()?),
            "--leaf-lifetime" => leaf_lifetime = Some(value()?),
            "--trust-domain" => trust_domain = value()?,
            "--storage" => storage = Some(PathBuf::from(value()?)),
            "--observe" => observe = true,
            "--no-mesh" => mesh = false,
            _ => return Err(ArgsError::Unknown(flag)),
        }
    }
    Ok(Args {
        state: state.ok_or(ArgsError::Missing("--state"))?,
        name: name.ok_or(ArgsError::Missing("--name"))?,
        bin_dir,
        observe,
        markers,
        mesh,
        leaf_lifetime,
        trust_domain,
        storage,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Result<Args, ArgsError> {
        parse(line.split(' ').map(str::to_owned))
    }

    #[test]
    fn reads_what_up_writes() {
        let args =
            of("run --state /s --name a --observe --marker 6d --marker 6e --no-mesh").unwrap();
        assert_eq!(
            (args.markers.len(), args.observe, args.mesh),
            (2, true, false)
        );
        assert_eq!(of("run --state /s"), Err(ArgsError::Missing("--name")));
        assert_eq!(of("run --state"), Err(ArgsError::NoValue("--state".into())));
        assert_eq!(of("walk"), Err(ArgsError::Unknown("walk".into())));
        assert_eq!(of("run --fast"), Err(ArgsError::Unknown("--fast".into())));
    }
}
