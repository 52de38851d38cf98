// SPDX-License-Identifier: Apache-2.0
//! The rings: what each runs.
//!
//! Must never count a ring as passed that did not run. Read `test.rs` for the order, `suite.rs` for how tests
//! are counted, CONTRIBUTING for the reasons.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use nix::unistd::geteuid;

use crate::build::{self, Profile, Program};
use crate::counts::Counts;
use crate::fuzz;
use crate::images;
use crate::judges;
use crate::shell::{Cmd, print, root, say, which as which_program};
use crate::suite::{self, Watch};
use crate::tidy;

/// The ordinary user as whom root repeats the outer rings: `nobody`, who exists everywhere and owns nothing.
const NOBODY: &str = "65534";

const PURE: &[&str] = &[
    "maille-model",
    "maille-engine",
    "maille-wire",
    "maille-manifest",
    "maille-inject",
];

const NETNS: &[&str] = &["maille-tests-netns"];

/// Of the same ring: they need two users, which an ordinary user's namespace has not.
const INBOARD: &[&str] = &["maille-tests-inboard"];

const E2E: &[&str] = &["maille-tests-e2e"];

const SUITES: &[&str] = &["maille-tests-suites"];

const CLUSTER: &[&str] = &["maille-cluster"];

/// Of the same ring: it waits, for longer than a token of Kubernetes lasts, and does little meanwhile. It runs beside the others.
const BESIDE: &str = "token";

/// Of the same ring: what CI runs. Installed, injected, captured by a node, on two of them with a witness between.
const BRIEF: &[&str] = &["mesh", "outboard"];

/// Of the same ring, for the record: once more on a machine with control groups of version 2 alone, which is emulated.
const VERSION_TWO: &[&str] = &["room"];

/// How long a test may take there.
const EMULATED: Duration = Duration::from_secs(3_600);

/// How long that may take: ten minutes of a token and one of grace, what is before and after, on a busy machine.
const WAITING: Duration = Duration::from_secs(1_500);

/// No test takes longer, not even on a busy machine.
const LONGEST: Duration = Duration::from_secs(300);

/// Nor longer than this for the record: 100,000 compared exchanges, each flood held against quiet five times.
const LONGEST_FOR_THE_RECORD: Duration = Duration::from_secs(1_800);

/// The tests, from quick and narrow to slow and wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ring {
    Tidy,
    Pure,
    Fuzz,
    Component,
    Netns,
    E2e,
    Suites,
    Counts,
    Cluster,
    Bench,
}

/// How much of a ring runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// What CI has time for: of the ring `cluster` only [`BRIEF`].
    Brief,
    /// All of it, for a few seconds each.
    Usual,
    /// All of it, for as long and as often as the record wants.
    Full,
}

/// As whom the tests of a ring run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Users {
    /// As who this is.
    This,
    /// If this is root, then as an ordinary user too.
    AlsoOrdinary,
}

impl Ring {
    /// All of them, in order.
    pub(crate) const ALL: [Self; 10] = [
        Self::Tidy,
        Self::Pure,
        Self::Fuzz,
        Self::Component,
        Self::Netns,
        Self::E2e,
        Self::Suites,
        Self::Counts,
        Self::Cluster,
        Self::Bench,
    ];

    /// As it is typed.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tidy => "tidy",
            Self::Pure => "pure",
            Self::Fuzz => "fuzz",
            Self::Component => "component",
            Self::Netns => "netns",
            Self::E2e => "e2e",
            Self::Suites => "suites",
            Self::Counts => "counts",
            Self::Cluster => "cluster",
            Self::Bench => "bench",
        }
    }
}

/// Runs one ring. A failed test is a count; an error is a ring that could not run.
pub(crate) fn run(ring: Ring, filter: Option<&str>, extent: Extent) -> anyhow::Result<Counts> {
    let full = extent == Extent::Full;
    match ring {
        Ring::Tidy => tidy_ring(full),
        Ring::Pure => inner(|program| PURE.contains(&&*program.package), filter, full),
        Ring::Fuzz => fuzz::run(filter, full),
        Ring::Component => {
            let others = [PURE, NETNS, INBOARD, CLUSTER].concat();
            // Of these only what stands beside their code: the rest is tested with released programs.
            let released = [E2E, SUITES].concat();
            let wanted = |program: &Program| {
                let package = &&*program.package;
                !others.contains(package) && (program.unit || !released.contains(package))
            };
            inner(wanted, filter, full)
        }
        Ring::Netns => {
            let mut counts = outer(NETNS, Profile::Debug, Users::AlsoOrdinary, filter, full)?;
            counts.sum(outer(INBOARD, Profile::Debug, Users::This, filter, full)?);
            Ok(counts)
        }
        Ring::E2e => outer(E2E, Profile::Release, Users::AlsoOrdinary, filter, full),
        Ring::Suites => {
            judges::build()?;
            outer(SUITES, Profile::Release, Users::AlsoOrdinary, filter, full)
        }
        Ring::Counts => {
            build::all(Profile::Release)?;
            let mut counts = Counts::default();
            for planted in [&[][..], &["--planted"]] {
                counts.add(counted(&Profile::Release.dir(), planted).run());
            }
            Ok(counts)
        }
        Ring::Cluster => {
            build::all(Profile::Release)?;
            build::all(Profile::Debug)?;
            images::of(&Profile::Release.dir())?;
            Cmd::new(Profile::Debug.dir().join("maille-cluster"))
                .args(["build"])
                .run()?;
            cluster_ring(filter, extent)
        }
        Ring::Bench => {
            let quick =
                "--rounds=3 --seconds=2 --only=http/64/plain --peers=maille,haproxy --gate=1.35";
            let mut counts = Counts::default();
            counts.add(bench()?.args(quick.split(' ')).run());
            Ok(counts)
        }
    }
}

/// The bench, with the proxy that ships: what it is held against is what its distributions ship.
pub(crate) fn bench() -> anyhow::Result<Cmd> {
    build::all(Profile::Release)?;
    let programs = root().join("target/bench");
    fs::create_dir_all(&programs).with_context(|| programs.display().to_string())?;
    let released = ["maille-control", "maille-bench"].map(|name| Profile::Release.dir().join(name));
    for program in released.into_iter().chain([images::proxy()?]) {
        let name = program.file_name().context("a program has a name")?;
        let to = programs.join(name);
        fs::copy(&program, &to).with_context(|| to.display().to_string())?;
    }
    // It looks for the others beside itself.
    Ok(Cmd::new(programs.join("maille-bench")))
}

/// What a request costs, counted in namespaces of its own, by whoever this is.
pub(crate) fn counted<S: AsRef<OsStr>>(programs: &Path, args: &[S]) -> Cmd {
    let mut command = Cmd::new("unshare").args(["--net", "--mount", "--pid", "--fork"]);
    if !geteuid().is_root() {
        command = command.args(["--user", "--map-root-user"]);
    }
    // `ip netns` keeps its names there.
    let script = "mount -t tmpfs none /run && exec \"$@\"";
    command
        .args(["--mount-proc", "sh", "-c", script, "sh"])
        .args([programs.join("maille-bench")])
        .args(["counts"])
        .args(args)
}

/// `cargo xtask cluster ARGS`.
pub(crate) fn cluster(args: &[&str]) -> anyhow::Result<()> {
    let build = ["build", "--quiet", "--package", "maille-cluster"];
    Cmd::new("cargo").args(build).run()?;
    let program = root().join("target/debug/maille-cluster");
    Cmd::new(program).args(args).run()
}

fn tidy_ring(full: bool) -> anyhow::Result<Counts> {
    let mut counts = Counts::default();
    let problems = tidy::check()?;
    for problem in &problems {
        say(problem);
    }
    counts.passed += usize::from(problems.is_empty());
    for problem in problems {
        counts.fail(problem);
    }
    counts.add(Cmd::new("cargo").args(["fmt", "--all", "--check"]).run());
    counts.add(crate::lint());
    if full {
        counts.add(crate::generate(&["--check".to_owned()]));
    }
    Ok(counts)
}

/// Runs the tests of the packages that are `wanted`, each program after the other.
fn inner(
    wanted: impl Fn(&Program) -> bool,
    filter: Option<&str>,
    full: bool,
) -> anyhow::Result<Counts> {
    let mut counts = Counts::default();
    for program in build::all(Profile::Debug)? {
        if wanted(&program) {
            let command = lengths(Cmd::new(&program.path), full);
            let watch = Watch {
                limit: longest(full),
                ..watch(filter, None)
            };
            counts.sum(suite::run(command, &program, watch)?);
        }
    }
    Ok(counts)
}

/// Runs the tests that need a cluster, and beside them the one that mostly waits.
fn cluster_ring(filter: Option<&str>, extent: Extent) -> anyhow::Result<Counts> {
    let full = extent == Extent::Full;
    let mut programs = build::all(Profile::Debug)?;
    programs.retain(|program| CLUSTER.contains(&&*program.package));
    if extent == Extent::Brief {
        programs.retain(|program| !program.unit && BRIEF.contains(&&*program.name()));
        return one_by_one(&programs, filter, full);
    }
    let is_beside = |program: &Program| !program.unit && program.name() == BESIDE;
    let (waiting, others): (Vec<_>, Vec<_>) = programs.into_iter().partition(is_beside);
    let waiting = waiting.first();
    let waiting = waiting.with_context(|| format!("no test program {BESIDE}"))?;
    let beside = || {
        let nice = Cmd::new("nice").args([&waiting.path]);
        let watch = Watch {
            limit: WAITING,
            label: "beside: ",
            ..watch(filter, Some(1))
        };
        suite::run(lengths(nice, full), waiting, watch)
    };
    let (mut counts, others) = thread::scope(|scope| {
        let beside = scope.spawn(beside);
        let others = one_by_one(&others, filter, full);
        let beside = beside.join().map_err(|_| anyhow!("a thread panicked"));
        anyhow::Ok((others?, beside??))
    })?;
    counts.sum(others);
    if full {
        counts.sum(version_two(filter)?);
    }
    Ok(counts)
}

/// Runs tests on an emulated machine.
fn version_two(filter: Option<&str>) -> anyhow::Result<Counts> {
    let mut counts = Counts::default();
    let dir = Profile::Debug.dir();
    let scratch = dir.with_file_name("tmp");
    let mut programs = build::all(Profile::Debug)?;
    programs.retain(|program| {
        CLUSTER.contains(&&*program.package)
            && !program.unit
            && VERSION_TWO.contains(&&*program.name())
    });
    for program in &programs {
        let machine = Cmd::new(dir.join("maille-cluster")).args(["version-two"]);
        let command = machine.args([&scratch, &program.path]);
        let watch = Watch {
            limit: EMULATED,
            label: "version 2: ",
            ..watch(filter, Some(1))
        };
        counts.sum(suite::run(command, program, watch)?);
    }
    Ok(counts)
}

/// Runs tests that bring whole machines up: side by side they would measure each other.
fn one_by_one(programs: &[Program], filter: Option<&str>, full: bool) -> anyhow::Result<Counts> {
    let mut counts = Counts::default();
    for program in programs {
        let command = lengths(Cmd::new(&program.path), full);
        counts.sum(suite::run(command, program, long(filter, full))?);
    }
    Ok(counts)
}

/// How long a test may take.
const fn longest(full: bool) -> Duration {
    if full {
        LONGEST_FOR_THE_RECORD
    } else {
        LONGEST
    }
}

/// As [`watch`], of tests one after the other that may last as long as the record wants.
const fn long(filter: Option<&str>, full: bool) -> Watch<'_> {
    Watch {
        limit: longest(full),
        ..watch(filter, Some(1))
    }
}

/// Runs tests that make namespaces.
fn outer(
    packages: &[&str],
    profile: Profile,
    users: Users,
    filter: Option<&str>,
    full: bool,
) -> anyhow::Result<Counts> {
    let mut programs = build::all(profile)?;
    programs.retain(|program| packages.contains(&&*program.package));
    let this = || one_by_one(&programs, filter, full);
    if users == Users::This || !geteuid().is_root() {
        return this();
    }
    let stage = Stage::new(&profile.dir(), &programs)?;
    let ordinary = || as_ordinary(packages, &stage, full, long(filter, full));
    // Two machines at once are no more than a busy one, which short tests must bear. At full length each is alone.
    let (mut counts, others) = if full {
        (this()?, ordinary()?)
    } else {
        thread::scope(|scope| {
            let others = scope.spawn(ordinary);
            let own = this();
            let others = others.join().map_err(|_| anyhow!("a thread panicked"));
            anyhow::Ok((own?, others??))
        })?
    };
    counts.sum(others);
    Ok(counts)
}

/// The same tests as an ordinary user.
fn as_ordinary(
    packages: &[&str],
    stage: &Stage,
    full: bool,
    watch: Watch<'_>,
) -> anyhow::Result<Counts> {
    let setpriv = which_program("setpriv").context("setpriv is missing")?;
    let as_nobody = ["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"];
    let also = ["--inh-caps=-all", "--"];
    // The product makes its user namespace itself; tests of the kernel's parts are given one.
    let given = ["unshare", "--user", "--map-root-user", "--"];
    let given = (packages == NETNS).then_some(given).into_iter().flatten();
    let watch = Watch {
        label: "as an ordinary user: ",
        ..watch
    };
    let mut counts = Counts::default();
    for program in &stage.programs {
        let command = Cmd::new(&setpriv).args(as_nobody).args(also);
        let command = command.args(given.clone()).args([&program.path]);
        // Who runs this has a home that others may not enter.
        let command = command.env("HOME", &stage.dir);
        counts.sum(suite::run(lengths(command, full), program, watch)?);
    }
    Ok(counts)
}

/// How long tests under load last, and how much traffic is compared: a few seconds, or as the record wants.
fn lengths(command: Cmd, full: bool) -> Cmd {
    if full {
        command
            .env("MAILLE_TEST_SECONDS", "60")
            .env("MAILLE_TEST_EXCHANGES", "100000")
            .env("MAILLE_TEST_MANY", "100")
    } else {
        command
    }
}

const fn watch(filter: Option<&str>, threads: Option<usize>) -> Watch<'_> {
    Watch {
        filter,
        threads,
        limit: LONGEST,
        label: "",
        show,
    }
}

/// A line on standard output; nobody reads it when that is gone.
fn show(line: &str) {
    let _ = print(&format!("{line}\n"));
}

/// A copy of programs and tests that every user may enter: a checkout often lies in a home that only its owner may.
#[derive(Debug)]
struct Stage {
    dir: PathBuf,
    programs: Vec<Program>,
}

impl Stage {
    fn new(target: &Path, programs: &[Program]) -> anyhow::Result<Self> {
        let dir = std::env::temp_dir().join(format!("maille-stage-{}", std::process::id()));
        fs::create_dir(&dir)?;
        let mut stage = Self {
            dir,
            programs: Vec::new(),
        };
        let deps = stage.dir.join("deps");
        fs::create_dir(&deps)?;
        for dir in [&stage.dir, &deps] {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
        }
        copy(target, &stage.dir, |name| {
            name.starts_with("maille") && !name.contains('.')
        })?;
        let judges = target.join(judges::DIR);
        if judges.is_dir() {
            let here = stage.dir.join(judges::DIR);
            fs::create_dir(&here)?;
            fs::set_permissions(&here, fs::Permissions::from_mode(0o755))?;
            copy(&judges, &here, |_| true)?;
        }
        for program in programs {
            let copy = deps.join(program.path.file_name().unwrap_or_default());
            fs::copy(&program.path, &copy)?;
            stage.programs.push(Program {
                path: copy,
                dir: stage.dir.clone(),
                package: program.package.clone(),
                unit: program.unit,
            });
        }
        Ok(stage)
    }
}

/// Copies the files of a directory that are `wanted` by name.
fn copy(from: &Path, to: &Path, wanted: impl Fn(&str) -> bool) -> anyhow::Result<()> {
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if wanted(&name.to_string_lossy()) && path.is_file() {
            fs::copy(&path, to.join(name))?;
        }
    }
    Ok(())
}

impl Drop for Stage {
    fn drop(&mut self) {
        // What cannot be removed lies in the directory for temporary files.
        let _ = fs::remove_dir_all(&self.dir);
    }
}
