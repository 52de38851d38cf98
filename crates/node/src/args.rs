// SPDX-License-Identifier: Apache-2.0
//! The command line of `maille-node`. Not for people: `maille up` writes `run`, and a DaemonSet `--kubernetes`.

use std::net::SocketAddr;
use std::path::PathBuf;

use maille_cni::protocol::STATE;
use maille_model::Identity;
use maille_reach::direct::Direct;

/// What this process is.
#[derive(Clone, Debug)]
pub enum Role {
    /// A machine that is a whole cluster.
    Run(Box<Args>),
    /// The agent of a node of a cluster.
    Kubernetes(Box<Kubernetes>),
    /// Who shows what passes a captured pod of a cluster.
    Frames(Frames),
    /// Who says what the kernel holds of the network that it is in: that of a sandbox.
    Here,
}

/// Which pod's frames, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frames {
    /// The agent's directory.
    pub directory: PathBuf,
    /// The pod's namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// Only these, in tcpdump's words.
    pub filter: String,
    /// Bytes of each that are kept.
    pub snaplen: Option<usize>,
    /// What the kernels hold, in place of frames.
    pub state: bool,
}

/// The agent of a node: where everything is.
#[derive(Clone, Debug)]
pub struct Kubernetes {
    /// Its own directory, of the same name for the plugin.
    pub state: PathBuf,
    /// The host's directory of plugins.
    pub cni_bin: PathBuf,
    /// The host's directory of networks' configurations.
    pub cni_conf: PathBuf,
    /// Where the host's control groups are mounted.
    pub cgroups: PathBuf,
    /// The socket at which the container runtime takes plugins on.
    pub nri: PathBuf,
    /// Control, and what both sides believe each other by.
    pub control: Direct,
    /// Where the kubelet asks.
    pub health: SocketAddr,
    /// Whether the node's configuration is to be as it was before, and nothing else.
    pub leave: bool,
    /// Whether the plugin is chained into the node's configuration.
    pub chain: bool,
}

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
    /// A flag with a value that makes no sense.
    #[error("{flag} {value:?} makes no sense; usage: {USAGE}")]
    Wrong {
        /// Which.
        flag: &'static str,
        /// What it has.
        value: String,
    },
    /// A flag that must be there.
    #[error("{0} is missing; usage: {USAGE}")]
    Missing(&'static str),
}

const USAGE: &str = "maille-node run --state DIR --name NAME [--bin-dir DIR] [--observe] [--marker HEX]... \
    [--no-mesh] [--leaf-lifetime TIME] [--trust-domain NAME] [--storage DIR]; or maille-node --kubernetes --control ADDRESS:PORT \
    --control-identity ID [--trust FILE] [--token FILE] [--state DIR] [--cni-bin DIR] [--cni-conf DIR] \
    [--cgroups DIR] [--nri SOCKET] [--health ADDRESS:PORT] [--leave] [--no-chain]; or maille-node --frames NAMESPACE/POD [--directory DIR] \
    [--filter TEXT] [--snaplen N] [--state]; or maille-node --here";

/// Reads the command line after the program's name.
pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Role, ArgsError> {
    let mut args = args.into_iter();
    match args.next() {
        Some(verb) if verb == "run" => Ok(Role::Run(Box::new(machine(args)?))),
        Some(verb) if verb == "--kubernetes" => Ok(Role::Kubernetes(Box::new(kubernetes(args)?))),
        Some(verb) if verb == "--frames" => Ok(Role::Frames(frames(args)?)),
        Some(verb) if verb == "--here" => match args.next() {
            None => Ok(Role::Here),
            Some(more) => Err(ArgsError::Unknown(more)),
        },
        other => Err(ArgsError::Unknown(other.unwrap_or_default())),
    }
}

fn frames(mut args: impl Iterator<Item = String>) -> Result<Frames, ArgsError> {
    let flag = "--frames";
    let pod = args.next().ok_or_else(|| ArgsError::NoValue(flag.into()))?;
    let Some((namespace, name)) = pod.split_once('/') else {
        return Err(ArgsError::Wrong { flag, value: pod });
    };
    let mut frames = Frames {
        directory: PathBuf::from(STATE),
        namespace: namespace.to_owned(),
        pod: name.to_owned(),
        filter: String::new(),
        snaplen: None,
        state: false,
    };
    while let Some(flag) = args.next() {
        let mut value = || args.next().ok_or_else(|| ArgsError::NoValue(flag.clone()));
        match flag.as_str() {
            "--directory" => frames.directory = value()?.into(),
            "--filter" => frames.filter = value()?,
            "--snaplen" => frames.snaplen = Some(read("--snaplen", value()?)?),
            "--state" => frames.state = true,
            _ => return Err(ArgsError::Unknown(flag)),
        }
    }
    Ok(frames)
}

fn kubernetes(mut args: impl Iterator<Item = String>) -> Result<Kubernetes, ArgsError> {
    let (mut control, mut identity, mut leave, mut chain) = (None, None, false, true);
    let mut health = "127.0.0.1:15020".to_owned();
    let mut state = PathBuf::from(STATE);
    let mut cni_bin = PathBuf::from("/host/opt/cni/bin");
    let mut cni_conf = PathBuf::from("/host/etc/cni/net.d");
    let mut cgroups = PathBuf::from("/host/sys/fs/cgroup");
    let mut nri = PathBuf::from("/host/run/nri/nri.sock");
    let mut trust = PathBuf::from("/var/run/maille/trust/ca.crt");
    let mut token = PathBuf::from("/var/run/maille/token/token");
    while let Some(flag) = args.next() {
        let mut value = || args.next().ok_or_else(|| ArgsError::NoValue(flag.clone()));
        match flag.as_str() {
            "--control" => control = Some(value()?),
            "--control-identity" => identity = Some(value()?),
            "--trust" => trust = value()?.into(),
            "--token" => token = value()?.into(),
            "--state" => state = value()?.into(),
            "--cni-bin" => cni_bin = value()?.into(),
            "--cni-conf" => cni_conf = value()?.into(),
            "--cgroups" => cgroups = value()?.into(),
            "--nri" => nri = value()?.into(),
            "--health" => health = value()?,
            "--leave" => leave = true,
            "--no-chain" => chain = false,
            _ => return Err(ArgsError::Unknown(flag)),
        }
    }
    let control = control.ok_or(ArgsError::Missing("--control"))?;
    let identity = identity.ok_or(ArgsError::Missing("--control-identity"))?;
    Ok(Kubernetes {
        state,
        cni_bin,
        cni_conf,
        cgroups,
        nri,
        control: Direct {
            address: address("--control", control)?,
            identity: read::<Identity>("--control-identity", identity)?,
            trust,
            token,
        },
        health: address("--health", health)?,
        leave,
        chain,
    })
}

/// An address and a port; one of IPv6 may be without brackets, as the kubelet says it.
fn address(flag: &'static str, text: String) -> Result<SocketAddr, ArgsError> {
    let bare = text
        .rsplit_once(':')
        .and_then(|(ip, port)| Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?)));
    match bare {
        Some(address) => Ok(address),
        None => read(flag, text),
    }
}

fn read<T: std::str::FromStr>(flag: &'static str, value: String) -> Result<T, ArgsError> {
    value.parse().map_err(|_| ArgsError::Wrong { flag, value })
}

fn machine(mut args: impl Iterator<Item = String>) -> Result<Args, ArgsError> {
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
        match parse(line.split(' ').map(str::to_owned))? {
            Role::Run(args) => Ok(*args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn reads_whose_frames_are_wanted() {
        let of = |line: &str| parse(line.split(' ').map(str::to_owned));
        let line = "--frames shop/web-1 --filter tcp --snaplen 96";
        let Role::Frames(frames) = of(line).unwrap() else {
            panic!("it shows frames");
        };
        let wanted = (
            frames.namespace.as_str(),
            frames.pod.as_str(),
            frames.snaplen,
        );
        assert_eq!(wanted, ("shop", "web-1", Some(96)));
        for wrong in [
            "--frames",
            "--frames web-1",
            "--frames a/b --snaplen x",
            "--frames a/b c",
            "--here a/b",
        ] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn reads_what_a_daemon_set_writes() {
        let of = |line: &str| parse(line.split(' ').map(str::to_owned));
        let whole = "--kubernetes --control 10.96.0.7:15010 --control-identity spiffe://cluster.local/ns/m/sa/maille-control";
        let Role::Kubernetes(agent) = of(whole).unwrap() else {
            panic!("it is a node's agent");
        };
        assert_eq!((agent.control.address.port(), agent.leave), (15010, false));
        assert_eq!(agent.state, PathBuf::from("/run/maille/node"));
        let wrong = of(&whole.replace("10.96.0.7", "$(NOBODY)")).unwrap_err();
        assert!(wrong.to_string().contains("--control "), "{wrong}");
        let missing = of("--kubernetes --control 10.96.0.7:15010").unwrap_err();
        assert_eq!(missing, ArgsError::Missing("--control-identity"));
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
