// SPDX-License-Identifier: Apache-2.0
//! The limits of SPECIFICATION, between two real proxies and a control: memory of idle connections and of slow ones, descriptors, lines of the log.
//!
//! Scaled down; with `MAILLE_TEST_SECONDS` of 60 or more in full. Bounds are the same, but for that of idle connections, which is by
//! connection. Memory is the resident set, as the kernel counts it, and its peak.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "limits/clients.rs"]
mod clients;
#[path = "refusals/world.rs"]
mod world;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use maille_chassis::clock::Clock;
use maille_testkit::proc;

use clients::{apart, dial, echo};
use world::{App, PATIENCE, QUIETLY, World};

const MIB: u64 = 1 << 20;

/// They would measure each other.
static ALONE: Mutex<()> = Mutex::new(());

/// Whether everything is done at its full length.
fn full() -> bool {
    let seconds = std::env::var_os("MAILLE_TEST_SECONDS");
    let seconds = seconds.and_then(|text| text.to_str()?.parse::<u64>().ok());
    seconds.is_some_and(|seconds| seconds >= 60)
}

/// How many connections come and go: as many as are asked for, or as there are compared exchanges.
fn connections() -> usize {
    let number = |name| {
        let text = std::env::var_os(name)?;
        text.to_str()?.parse().ok()
    };
    let count = number("MAILLE_TEST_CONNECTIONS").or_else(|| number("MAILLE_TEST_EXCHANGES"));
    count.unwrap_or(5_000)
}

/// So many clients bring them.
const CLIENTS: usize = 4;

/// A world with its two proxies at work.
struct Pair {
    world: World,
    pids: [i32; 2],
    proxies: [world::Proxy; 2],
}

impl Pair {
    fn start() -> Self {
        let world = World::new(Duration::from_secs(3600));
        // Nobody says what the port speaks: the first bytes do.
        let service = world.state.path().join("manifests/web.yaml");
        let text = fs::read_to_string(&service).unwrap();
        fs::write(&service, text.replace("name: http", "name: any")).unwrap();
        let proxies = [world.client_proxy(), world.server_proxy(QUIETLY)];
        let state = world.state.path().to_str().unwrap();
        let own = proc::tree(i32::try_from(std::process::id()).unwrap());
        let pid = |uid: &str| {
            let is = |process: &&proc::Process| {
                let agent = process.env("MAILLE_AGENT").unwrap_or_default();
                agent.starts_with(state) && process.env("MAILLE_WORKLOAD").as_deref() == Some(uid)
            };
            own.iter().find(is).unwrap().pid
        };
        Self {
            pids: [pid("client"), pid("server")],
            world,
            proxies,
        }
    }

    /// Resident bytes of both.
    fn resident(&self) -> [u64; 2] {
        self.pids.map(|pid| status(pid, "VmRSS:"))
    }

    /// The most that they had since [`Self::forget_peak`].
    fn peak(&self) -> [u64; 2] {
        self.pids.map(|pid| status(pid, "VmHWM:"))
    }

    fn forget_peak(&self) {
        for pid in self.pids {
            fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
        }
    }

    fn descriptors(&self) -> [usize; 2] {
        self.pids
            .map(|pid| fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count())
    }

    /// Waits until both have no more descriptors than `before`.
    fn settles(&self, before: [usize; 2], spare: usize) {
        let clock = Clock::start();
        loop {
            let now = self.descriptors();
            if now
                .iter()
                .zip(before)
                .all(|(now, before)| *now <= before + spare)
            {
                return;
            }
            assert!(
                clock.elapsed() < PATIENCE,
                "{before:?} descriptors have become {now:?}"
            );
            thread::yield_now();
        }
    }
}

/// A value of /proc/PID/status, in bytes.
fn status(pid: i32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap();
    let kb: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kb * 1024
}

fn request(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")?;
    let mut answer = [0; 40];
    stream.read_exact(&mut answer)?;
    assert!(
        answer.ends_with(b"ok"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    Ok(())
}

#[test]
fn idle_connections_are_small() {
    let _alone = ALONE.lock().unwrap_or_else(|broken| broken.into_inner());
    let pair = Pair::start();
    let count: usize = if full() { 10_000 } else { 2_000 };
    let listener = TcpListener::bind(pair.world.app()).unwrap();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let server = apart(move || echo(&listener, count + 1, &stopped));
    // The first brings up everything that there is once.
    let mut first = dial(pair.world.outbound());
    clients::say(&mut first);
    let before: u64 = pair.resident().iter().sum();
    let mut all = Vec::new();
    for _ in 0..count {
        let mut stream = dial(pair.world.outbound());
        clients::say(&mut stream);
        all.push(stream);
    }
    let after: u64 = pair.resident().iter().sum();
    let more = after.saturating_sub(before);
    eprintln!(
        "{count} idle connections: {} KiB more than {} KiB, {} bytes each",
        more >> 10,
        before >> 10,
        more / count as u64
    );
    let bound = 64 * MIB * count as u64 / 10_000;
    assert!(more <= bound, "{more} bytes for {count} connections");
    for stream in &mut all {
        clients::say(stream);
    }
    drop((all, first, stop));
    server.join().unwrap();
}

#[test]
fn a_slow_reader_stops_the_sender() {
    let _alone = ALONE.lock().unwrap_or_else(|broken| broken.into_inner());
    let pair = Pair::start();
    let length = if full() { 1024 * MIB } else { 64 * MIB };
    let listener = TcpListener::bind(pair.world.app()).unwrap();
    let sent = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            clients::hear(&mut stream);
            let chunk = vec![0xa5; 64 * 1024];
            while sent.load(Ordering::Relaxed) < length {
                stream.write_all(&chunk).unwrap();
                sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            }
        });
        let mut stream = dial(pair.world.outbound());
        stream.write_all(b"\x01").unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        let before = pair.resident();
        pair.forget_peak();
        // Until nothing moves any more: the sender stands.
        let mut last = u64::MAX;
        while sent.load(Ordering::Relaxed) != last {
            last = sent.load(Ordering::Relaxed);
            clients::pause(Duration::from_millis(300));
        }
        assert!(last < length, "nothing held the sender back");
        let mut chunk = vec![0; 64 * 1024];
        let mut left = length - 1;
        while left > 0 {
            let n = stream.read(&mut chunk).unwrap();
            assert!(n > 0, "{left} bytes are missing");
            left -= n as u64;
        }
        told("slow reader", length, before, pair.peak(), last);
    });
}

#[test]
fn a_slow_sender_costs_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(|broken| broken.into_inner());
    let pair = Pair::start();
    let length = if full() { 1024 * MIB } else { 16 * MIB };
    let listener = TcpListener::bind(pair.world.app()).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = dial(pair.world.outbound());
            stream.set_nodelay(true).unwrap();
            // Small pieces, each of which travels by itself.
            let piece = [0x5a; 1024];
            for _ in 0..length / piece.len() as u64 {
                stream.write_all(&piece).unwrap();
            }
        });
        let (mut stream, _) = listener.accept().unwrap();
        clients::hear(&mut stream);
        let before = pair.resident();
        pair.forget_peak();
        let mut chunk = vec![0; 1024];
        let mut left = length - 1;
        while left > 0 {
            let n = stream.read(&mut chunk).unwrap();
            assert!(n > 0, "{left} bytes are missing");
            left -= n as u64;
        }
        told("slow sender", length, before, pair.peak(), 0);
    });
}

/// The bound of a slow side, for each proxy.
fn told(what: &str, length: u64, before: [u64; 2], peak: [u64; 2], held: u64) {
    let more: Vec<_> = peak
        .iter()
        .zip(before)
        .map(|(peak, before)| peak.saturating_sub(before))
        .collect();
    eprintln!(
        "{what} of {} MiB: {:?} KiB more, {} KiB under way while it stood",
        length / MIB,
        more.iter().map(|bytes| bytes >> 10).collect::<Vec<_>>(),
        held >> 10
    );
    assert!(more.iter().all(|more| *more <= 8 * MIB), "{more:?}");
}

#[test]
fn what_strangers_trigger_is_said_seldom() {
    let _alone = ALONE.lock().unwrap_or_else(|broken| broken.into_inner());
    let pair = Pair::start();
    let clock = Clock::start();
    for _ in 0..500 {
        let mut stream = dial(pair.world.server_mesh());
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        // An alert at most, then the end.
        let _ = stream.read_to_end(&mut Vec::new());
    }
    let said = pair.proxies[1].said("mesh connection refused").len();
    let most = 11 + clock.elapsed().as_secs();
    assert!(said > 0 && said as u64 <= most, "{said} lines");
}

/// A connection that comes and goes, in one of five ways.
fn visit(world: &World, n: usize) {
    let mut stream = dial(world.outbound());
    match n % 5 {
        0 => request(&mut stream).unwrap(),
        1 => drop(stream.write_all(b"GET / HT")),
        2 => {
            stream.shutdown(Shutdown::Write).unwrap();
            drop(stream.read(&mut [0]));
        }
        3 => {
            let _ = stream.write_all(b"\x16\x03\x01\x00\x05nonsense");
            socket2::SockRef::from(&stream)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
        }
        // To the other proxy, which no client of it should reach.
        _ => {
            let mut stranger = dial(world.server_mesh());
            let _ = stranger.write_all(b"GET / HTTP/1.1\r\n\r\n");
            let _ = stranger.read(&mut [0; 64]);
        }
    }
}

#[test]
fn no_connection_leaves_a_descriptor() {
    let _alone = ALONE.lock().unwrap_or_else(|broken| broken.into_inner());
    let pair = Pair::start();
    let app = App::start(pair.world.app());
    let count = connections();
    let mut stays = dial(pair.world.outbound());
    request(&mut stays).unwrap();
    let before = pair.descriptors();
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let world = &pair.world;
            scope.spawn(move || {
                (client..count)
                    .step_by(CLIENTS)
                    .for_each(|n| visit(world, n))
            });
        }
    });
    request(&mut stays).unwrap();
    drop(stays);
    // Idle connections to the application are kept for a while.
    pair.settles(before, 8);
    eprintln!(
        "{count} connections, {} of the application's: {before:?} descriptors before, {:?} after",
        app.accepted(),
        pair.descriptors()
    );
}

#[test]
fn without_descriptors_what_is_open_goes_on_and_the_rest_waits() {
    let _alone = ALONE.lock().unwrap_or_else(|broken| broken.into_inner());
    let pair = Pair::start();
    let _app = App::start(pair.world.app());
    let mut old = dial(pair.world.outbound());
    request(&mut old).unwrap();
    let [open, _] = pair.descriptors();
    let limit = |most: usize| {
        let pid = pair.pids[0].to_string();
        let nofile = format!("--nofile={most}:20000");
        let done = Command::new("prlimit")
            .args(["--pid", &pid, &nofile])
            .status();
        assert!(done.unwrap().success());
    };
    limit(open + 10);
    let mut crowd: Vec<_> = (0..50).map(|_| dial(pair.world.outbound())).collect();
    let served = crowd.iter_mut().take(5).map(request);
    assert!(
        served.into_iter().all(|done| done.is_ok()),
        "the first have places"
    );
    for _ in 0..100 {
        request(&mut old).unwrap();
    }
    let waiting = crowd.split_off(5);
    drop(crowd);
    // Places that are given back are taken: everybody is served in the end, five or so at a time.
    for mut stream in waiting {
        request(&mut stream).unwrap();
    }
    limit(20_000);
    let mut all: Vec<_> = (0..100).map(|_| dial(pair.world.outbound())).collect();
    for stream in &mut all {
        request(stream).unwrap();
    }
    request(&mut old).unwrap();
}
