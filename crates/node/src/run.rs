// SPDX-License-Identifier: Apache-2.0
//! From command line to last process: what is started in which order, and stopped in the reverse.
//!
//! Witness, control, DNS, service addresses, API, pods; and at the end pods, control, witness. Read `runner.rs` next.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use maille_chassis::clock::Clock;
use maille_chassis::config::{Env, Setting, Source as _};
use maille_chassis::drain::Signals;
use maille_chassis::log::{self, Format};
use maille_chassis::tasks::Tasks;
use maille_chassis::without::{self, Without};
use maille_manifest::addresses::{DNS_V4, DNS_V6};
use maille_manifest::objects::Object;
use parking_lot::RwLock;

use crate::agent::{Agent, Control};
use crate::api::{self, Api};
use crate::args::Args;
use crate::cluster::{Cluster, tell};
use crate::daemon::{Daemon, Plan};
use crate::limits::Limiter;
use crate::machine::Machine;
use crate::network::{self, Network};
use crate::objects::Objects;
use crate::processes::{Processes, Role};
use crate::runner::{Pods, Surroundings};
use crate::{dns, frames, kube_dns, logs, witness};

pub(crate) const LOG: Setting = log::filter("info");
const PATH: Setting = Setting::with_default(
    "PATH",
    "where containers' programs are looked for",
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
);

/// Every setting of this process. The first two are passed on to control and proxies, where they are given.
pub const SETTINGS: [Setting; 4] = [LOG, log::FORMAT, PATH, without::SETTING];

/// Everything that is stopped at the end.
struct Running {
    pods: Arc<Pods>,
    control: Option<Arc<Daemon>>,
    observer: Option<Daemon>,
    limiter: Arc<Limiter>,
}

/// Runs until it is told to stop.
pub async fn run(args: Args) -> anyhow::Result<()> {
    // Outside of namespaces of its own it would rewire the machine, and nothing would clean up.
    if std::process::id() != 1 {
        bail!("this must be the first process of its own namespaces, as `maille up` starts it");
    }
    let env = Env::process();
    let filter: String = LOG.required(&env)?;
    let format: Format = log::FORMAT.required(&env)?;
    log::init(&filter, format)?;
    let mut signals = Signals::install().context("signals cannot be heard")?;
    // Each program has defaults of its own: only what somebody said is passed on.
    let said = [LOG, log::FORMAT, without::SETTING]
        .map(|one| Some((one.key.to_owned(), env.get(one.key)?)));
    let settings = said.into_iter().flatten().collect();
    let path = PATH.required(&env)?;
    let without = without::SETTING.required(&env)?;
    let tasks = Tasks::new();
    let running = tokio::select! {
        running = start(&args, (settings, path, without), &tasks) => running?,
        () = signals.next() => bail!("told to stop before everything was started"),
    };
    tell(&serde_json::json!({"event": "started", "name": args.name}));
    signals.next().await;
    tell(&serde_json::json!({"event": "stopping"}));
    running.stop().await;
    tell(&serde_json::json!({"event": "stopped"}));
    Ok(())
}

async fn start(
    args: &Args,
    (settings, path, without): (Vec<(String, String)>, String, Without),
    tasks: &Tasks,
) -> anyhow::Result<Running> {
    let clock = Clock::start();
    tasks.spawn("orphans", crate::reap::orphans(clock));
    let mut objects = manifests(&args.state)?;
    let bin_dir = bin_dir(args)?;
    tasks.spawn("logs", logs::keep_small(args.state.clone(), clock));
    std::fs::create_dir_all(args.state.join("pods"))
        .context("the state directory cannot be written")?;
    kube_dns::declare(&args.state, &mut objects)?;
    let processes = Arc::new(Processes::default());
    let cluster = Arc::new(Cluster::new(&args.state, Machine::read()));
    cluster.declare(&objects);
    let network = Network::prepare()
        .await
        .context("the node's network cannot be prepared")?;

    let observer = match args.observe {
        true => Some(witness::start(args, &bin_dir, &cluster, &processes, tasks, clock).await?),
        false => None,
    };
    let control = match args.mesh {
        true => Some(Arc::new(
            Daemon::start(control(args, &bin_dir), processes.clone(), tasks, clock).await?,
        )),
        false => None,
    };
    services(&cluster, tasks, clock).await?;

    let agent = args.mesh.then(|| {
        Agent::new(
            (&bin_dir.join("maille-proxy"), &args.state),
            Control::beside(&args.state),
            settings,
            processes.clone(),
            tasks.clone(),
            clock,
        )
    });
    let limiter = Limiter::new(&args.state).context("the state directory cannot be written")?;
    let limiter = Arc::new(limiter);
    let around = Surroundings {
        cluster: cluster.clone(),
        processes: processes.clone(),
        network,
        limiter: limiter.clone(),
        agent,
        state_dir: args.state.clone(),
        claims: claims(args),
        path: format!("{path}:{}", bin_dir.display()),
        alias: has_one_user(),
        tasks: tasks.clone(),
        clock,
        without,
    };
    let pods = Arc::new(Pods::new(Arc::new(around)));
    let objects = Objects::begin(&args.state, objects, cluster.clone(), pods.clone(), clock);
    frames::serve(&args.state.join("frames.sock"), processes.clone(), tasks)
        .context("frames.sock cannot be served")?;
    let api = Api {
        cluster,
        processes,
        pods: pods.clone(),
        objects: Arc::new(objects),
        control: control.clone(),
        limiter: limiter.clone(),
        clock,
        tasks: tasks.clone(),
    };
    api::serve(&args.state.join("node.sock"), api, tasks).context("node.sock cannot be served")?;
    Ok(Running {
        pods,
        control,
        observer,
        limiter,
    })
}

/// Services by name and by address, from now on as they are.
async fn services(cluster: &Arc<Cluster>, tasks: &Tasks, clock: Clock) -> anyhow::Result<()> {
    let names = Arc::new(RwLock::new(Arc::new(cluster.names())));
    let dns: Vec<SocketAddr> = [IpAddr::from(DNS_V4), IpAddr::from(DNS_V6)]
        .into_iter()
        .chain(kube_dns::ENDPOINTS)
        .map(|ip| SocketAddr::new(ip, 53))
        .collect();
    dns::serve(&dns, &names, tasks)
        .await
        .context("DNS cannot be served")?;
    tasks.spawn(
        "service addresses",
        network::follow(cluster.clone(), names, clock),
    );
    Ok(())
}

/// Where claims of storage are.
fn claims(args: &Args) -> PathBuf {
    let own = || args.state.join("claims");
    args.storage.clone().unwrap_or_else(own)
}

/// Everything that was asked for.
fn manifests(state_dir: &Path) -> anyhow::Result<Vec<Object>> {
    let loaded = maille_manifest::load(&[state_dir.join("manifests")]).map_err(|errors| {
        anyhow::anyhow!(
            "{}",
            errors
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n")
        )
    })?;
    Ok(loaded.objects)
}

/// Whether this process's user namespace has one user only, as an ordinary user's has.
fn has_one_user() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let mut numbers = map.split_whitespace();
    numbers.nth(2) == Some("1") && numbers.next().is_none()
}

/// Where the other programs are.
fn bin_dir(args: &Args) -> anyhow::Result<PathBuf> {
    if let Some(dir) = &args.bin_dir {
        return Ok(dir.clone());
    }
    let own = std::fs::read_link("/proc/self/exe").context("this program cannot be found")?;
    own.parent()
        .map(Path::to_owned)
        .context("this program is in no directory")
}

fn control(args: &Args, bin_dir: &Path) -> Plan {
    let mut flags = vec![
        "--state".to_owned(),
        args.state.display().to_string(),
        "--trust-domain".to_owned(),
        args.trust_domain.clone(),
    ];
    if let Some(lifetime) = &args.leaf_lifetime {
        flags.extend(["--leaf-lifetime".to_owned(), lifetime.clone()]);
    }
    for range in [
        "10.244.0.0/16",
        "fd00:244::/48",
        "10.96.0.0/16",
        "fd00:96::/112",
    ] {
        flags.extend(["--cluster-range".to_owned(), range.to_owned()]);
    }
    Plan {
        role: Role::Control,
        program: bin_dir.join("maille-control"),
        args: flags,
        log: args.state.join("control.log"),
        grace: Duration::from_secs(1),
    }
}

impl Running {
    async fn stop(self) {
        self.pods.shutdown().await;
        // What is left here is taken away by whoever removes the state directory.
        if let Err(error) = self.limiter.end() {
            tracing::warn!(%error, "a control group cannot be removed");
        }
        if let Some(control) = self.control {
            control.stop().await;
        }
        // Last, so that it has seen everything.
        if let Some(observer) = self.observer {
            observer.stop().await;
        }
    }
}
