// SPDX-License-Identifier: Apache-2.0
//! What the runner asks of the kernel, in its own words: the only file here that knows how `maille_sys` says it.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
pub(crate) use maille_sys::caps::CapSet;
pub(crate) use maille_sys::cgroup::Group;
use maille_sys::link::{self, Net, Route};
pub(crate) use maille_sys::netns::NetNs;
use maille_sys::spawn::{Bind, Spawn, SpawnError};
pub(crate) use maille_sys::spawn::{Child, Exit, Handle, User};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::capture::{Captured, Listeners};

/// The node's own address, outside of the cluster's ranges as nodes' are.
pub(crate) const NODE_V4: Ipv4Addr = Ipv4Addr::new(10, 245, 0, 1);
/// The same.
const NODE_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x245, 0, 0, 0, 0, 0, 1);
/// Both.
pub(crate) const NODE: [IpAddr; 2] = [IpAddr::V4(NODE_V4), IpAddr::V6(NODE_V6)];
/// The node, as pods see it.
const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The same.
const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const MTU: u32 = 1500;
const MAIN_TABLE: u32 = 254;
/// Where control groups are.
const GROUPS: &str = "/sys/fs/cgroup";

/// A file or directory of the pod in place of the machine's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) from: PathBuf,
    pub(crate) at: PathBuf,
    pub(crate) writable: bool,
}

/// A container to start.
#[derive(Debug)]
pub(crate) struct Spec {
    pub(crate) program: String,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) cwd: String,
    pub(crate) log: File,
    pub(crate) mounts: Vec<Mount>,
    /// Not to be seen.
    pub(crate) hide: PathBuf,
    pub(crate) rights: Rights,
    /// How much it may use.
    pub(crate) group: Option<Group>,
}

/// As whom a process runs, and with which rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rights {
    /// `None`: as whoever runs this.
    pub(crate) user: Option<User>,
    pub(crate) capabilities: CapSet,
    pub(crate) no_new_privileges: bool,
    pub(crate) read_only_root: bool,
}

/// What another process in a container is started with.
#[derive(Clone, Debug)]
pub(crate) struct Inside {
    pub(crate) env: Vec<(String, String)>,
    pub(crate) cwd: String,
    pub(crate) rights: Rights,
    /// How much the container may use.
    pub(crate) group: Option<Group>,
}

/// A proxy to start.
#[derive(Debug)]
pub(crate) struct ProxySpec {
    pub(crate) program: PathBuf,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) log: File,
    pub(crate) captured: Arc<Captured>,
    /// Not to be seen, but for `own_dir`.
    pub(crate) state_dir: PathBuf,
    pub(crate) own_dir: PathBuf,
}

/// What the containers of one pod share: a network namespace and a host name.
#[derive(Debug)]
pub(crate) struct Sandbox {
    net: NetNs,
    hostname: String,
}

// === impl Sandbox ===

impl Sandbox {
    /// A new, empty one.
    pub(crate) fn create(hostname: &str) -> io::Result<Self> {
        Ok(Self {
            net: NetNs::create()?,
            hostname: hostname.to_owned(),
        })
    }

    /// One that has the node's network.
    pub(crate) fn of_node(hostname: &str) -> io::Result<Self> {
        Ok(Self {
            net: NetNs::current()?,
            hostname: hostname.to_owned(),
        })
    }

    /// Its network namespace.
    pub(crate) fn net(&self) -> &NetNs {
        &self.net
    }

    /// Starts a container: pid 1 of namespaces of its own, but for the network. It must be called on the main thread, because
    /// a child dies with the thread that started it.
    pub(crate) fn spawn(&self, spec: Spec) -> Result<Child, SpawnError> {
        let mut spawn = Spawn::new(&spec.program)
            .args(&spec.args)
            .cwd(&spec.cwd)
            .pod(&self.net, &self.hostname)
            .hide(&spec.hide);
        if let Some(group) = &spec.group {
            spawn = spawn.group(group);
            // It can read its limits there, as programs do, but not change them.
            if Path::new(GROUPS).exists() {
                spawn = spawn.bind(Bind {
                    from: PathBuf::from(GROUPS),
                    at: PathBuf::from(GROUPS),
                    writable: false,
                });
            }
        }
        if spec.rights.read_only_root {
            spawn = spawn.read_only_root();
        }
        spawn = limited(spawn, &spec.rights, true);
        for (name, value) in &spec.env {
            spawn = spawn.env(name, value);
        }
        for mount in &spec.mounts {
            spawn = spawn.bind(Bind {
                from: mount.from.clone(),
                at: mount.at.clone(),
                writable: mount.writable,
            });
        }
        logging(spawn, spec.log)?.start()
    }
}

/// Starts `command` where `process` is, which must be a container's. On the main thread, for the same reason.
pub(crate) fn spawn_inside(
    process: &Handle,
    inside: &Inside,
    command: &[String],
    log: File,
) -> Result<Child, SpawnError> {
    let program = command.first().map(String::as_str).unwrap_or_default();
    let mut spawn = Spawn::new(program)
        .args(command.iter().skip(1))
        .cwd(&inside.cwd)
        .inside(process.clone());
    if let Some(group) = &inside.group {
        spawn = spawn.group(group);
    }
    for (name, value) in &inside.env {
        spawn = spawn.env(name, value);
    }
    // One whose user is only a name has it from the namespace that it enters.
    let alias = inside.rights.user.as_ref().is_some_and(|user| user.alias);
    logging(limited(spawn, &inside.rights, !alias), log)?.start()
}

fn limited(spawn: Spawn, rights: &Rights, with_user: bool) -> Spawn {
    let mut spawn = spawn.capabilities(rights.capabilities);
    if rights.no_new_privileges {
        spawn = spawn.no_new_privileges();
    }
    match &rights.user {
        Some(user) if with_user => spawn.user(user.clone()),
        _ => spawn,
    }
}

/// Starts a proxy in its pod's mesh namespace, with the pod's listening sockets and no sight of other pods' files. One that is born into
/// `apart`, groups that are not this process's, goes on when this process ends, and sees nothing of this one's root: that may be an image
/// which ends too. Blocks.
pub(crate) fn spawn_proxy(spec: ProxySpec, apart: Option<&[PathBuf]>) -> Result<Child, SpawnError> {
    let spawn = Spawn::new(&spec.program);
    let spawn = match apart {
        Some(groups) => spawn.alone().outlives().groups(groups),
        None => spawn.hide(&spec.state_dir),
    };
    let mut spawn = spawn
        .pod(&spec.captured.mesh, "maille-proxy")
        .bind(Bind {
            from: spec.own_dir.clone(),
            at: spec.own_dir,
            writable: true,
        })
        .capabilities(CapSet::PROXY)
        .confined()
        .env("LISTEN_FDS", "4")
        .env("LISTEN_FDNAMES", "outbound:inbound:mesh:metrics");
    for (name, value) in &spec.env {
        spawn = spawn.env(name, value);
    }
    let listeners = &spec.captured.listeners;
    let all = [
        &listeners.outbound,
        &listeners.inbound,
        &listeners.mesh,
        &listeners.metrics,
    ];
    for (listener, number) in all.into_iter().zip(3..) {
        let fd = listener
            .try_clone()
            .map_err(|source| step(&spec.program, "duplicating a listening socket", source))?;
        spawn = spawn.fd(fd, number);
    }
    logging(spawn, spec.log)?.start()
}

/// The listening sockets that [`spawn_proxy`] gave to a proxy.
pub(crate) fn listeners_of(proxy: &Child) -> io::Result<Listeners> {
    Ok(Listeners {
        outbound: proxy.descriptor(3)?,
        inbound: proxy.descriptor(4)?,
        mesh: proxy.descriptor(5)?,
        metrics: proxy.descriptor(6)?,
    })
}

fn logging(spawn: Spawn, log: File) -> Result<Spawn, SpawnError> {
    let other = log
        .try_clone()
        .map_err(|source| step(&PathBuf::new(), "duplicating the log", source))?;
    Ok(spawn.output(OwnedFd::from(log), OwnedFd::from(other)))
}

fn step(program: &Path, what: &'static str, source: io::Error) -> SpawnError {
    SpawnError::Step {
        program: program.display().to_string(),
        step: what,
        source,
    }
}

/// How a process ended, for people.
pub(crate) fn describe(exit: &io::Result<Exit>) -> String {
    match exit {
        Ok(Exit::Code(code)) => format!("exited with status {code}"),
        Ok(Exit::Signal(number)) => match nix::sys::signal::Signal::try_from(*number) {
            Ok(signal) => format!("killed by {signal}"),
            Err(_) => format!("killed by signal {number}"),
        },
        Ok(Exit::Untold) => "ended, and another process was told how".to_owned(),
        Err(error) => format!("lost: {error}"),
    }
}

/// The same as a shell says it.
pub(crate) fn code(exit: &io::Result<Exit>) -> i32 {
    match exit {
        Ok(Exit::Code(code)) => *code,
        Ok(Exit::Signal(number)) => 128 + number,
        Ok(Exit::Untold) | Err(_) => 255,
    }
}

/// A file system of memory at `at`, no larger than `bytes`, for everybody here; it stays until [`unmount`] or this namespace's end.
pub(crate) fn mount_memory(at: &Path, bytes: Option<u64>) -> io::Result<()> {
    let mut options = "mode=0777".to_owned();
    if let Some(bytes) = bytes {
        options.push_str(&format!(",size={bytes}"));
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    Ok(mount(
        Some("memory"),
        at,
        Some("tmpfs"),
        flags,
        Some(options.as_str()),
    )?)
}

/// Undoes [`mount_memory`], also while somebody uses it.
pub(crate) fn unmount(at: &Path) -> io::Result<()> {
    Ok(umount2(at, MntFlags::MNT_DETACH)?)
}

/// Puts a mesh namespace between the wire and `pod`: whole, or not at all and an error.
pub(crate) async fn insert(pod: NetNs) -> io::Result<Captured> {
    blocking(move || {
        crate::capture::insert(&pod, "eth0", &crate::capture::Options::default())
            .map_err(io::Error::other)
    })
    .await
}

/// Makes this process's namespace a router with `addresses` of its own, that knows a way to `services`.
pub(crate) async fn prepare_node(addresses: Vec<IpAddr>, services: Vec<IpNet>) -> io::Result<()> {
    blocking(move || {
        let own = NetNs::current()?;
        for (name, value) in [
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
            ("net/ipv4/conf/all/rp_filter", "0"),
            ("net/ipv4/conf/default/rp_filter", "0"),
            ("net/ipv6/conf/default/accept_dad", "0"),
        ] {
            own.sysctl(name, value)?;
        }
        link::inside(&own, async move |net| {
            net.up("lo").await?;
            for address in addresses {
                net.add_address("lo", IpNet::from(address)).await?;
            }
            // For what is on the node's network: the way is looked up before the rules give it an endpoint.
            for services in services {
                net.add_route("lo", &route(services, None)).await?;
            }
            Ok(())
        })
        .map_err(io::Error::other)
    })
    .await
}

/// Connects `pod` by a veth whose end here is `name`, and routes `addresses` there.
pub(crate) async fn attach(pod: NetNs, name: String, addresses: Vec<IpAddr>) -> io::Result<()> {
    blocking(move || {
        let own = NetNs::current()?;
        pod.sysctl("net/ipv6/conf/default/accept_dad", "0")?;
        let (peer, link) = (pod.clone(), name.clone());
        let node_side = async move |net: Net| {
            net.add_veth(&link, "eth0", &peer, MTU).await?;
            // First, so that the node speaks to its pods with an address of its own.
            for address in NODE {
                net.add_address(&link, IpNet::from(address)).await?;
            }
            net.add_address(&link, IpNet::from(IpAddr::from(GATEWAY_V4)))
                .await?;
            net.add_address(&link, link_local(GATEWAY_V6)).await?;
            net.up(&link).await
        };
        link::inside(&own, node_side).map_err(io::Error::other)?;
        let pods = addresses.clone();
        let pod_side = async move |net: Net| {
            net.up("lo").await?;
            net.up("eth0").await?;
            for address in pods {
                net.add_address("eth0", IpNet::from(address)).await?;
            }
            for (gateway, everything) in [
                (IpAddr::from(GATEWAY_V4), IpNet::from(Ipv4Net::default())),
                (IpAddr::from(GATEWAY_V6), IpNet::from(Ipv6Net::default())),
            ] {
                net.add_route("eth0", &route(everything, Some(gateway)))
                    .await?;
            }
            Ok(())
        };
        link::inside(&pod, pod_side).map_err(io::Error::other)?;
        link::inside(&own, async move |net| {
            for address in addresses {
                net.add_route(&name, &route(IpNet::from(address), None))
                    .await?;
            }
            Ok(())
        })
        .map_err(io::Error::other)
    })
    .await
}

/// Removes a veth by the name of its end here.
pub(crate) async fn detach(name: String) -> io::Result<()> {
    blocking(move || {
        link::inside(&NetNs::current()?, async move |net| net.delete(&name).await)
            .map_err(io::Error::other)
    })
    .await
}

/// Applies rules in this process's namespace.
pub(crate) async fn apply(rules: String) -> io::Result<()> {
    blocking(move || maille_sys::nft::apply(&NetNs::current()?, &rules).map_err(io::Error::other))
        .await
}

fn route(destination: IpNet, gateway: Option<IpAddr>) -> Route {
    Route {
        destination,
        gateway,
        onlink: gateway.is_some(),
        table: MAIN_TABLE,
        metric: 0,
    }
}

fn link_local(address: Ipv6Addr) -> IpNet {
    Ipv6Net::new_assert(address, 64).into()
}

/// Work that enters namespaces or waits for programs, off the runtime's thread.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}
