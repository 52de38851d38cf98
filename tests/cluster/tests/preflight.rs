// SPDX-License-Identifier: Apache-2.0
//! A sidecar in guests whose kernels have different packet filters, each booted: none, the legacy one, nftables, both, and one that hangs in the question
//! where a connection was going. What can be captured is, what cannot says why, and nobody waits for it.
//!
//! `cargo xtask test cluster` builds the programs that this takes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use maille_cluster::booted::{self, Has};
use maille_cluster::guest::NFTABLES;
use maille_cluster::parts::Parts;
use maille_cluster::whole::Whole;

const LEGACY: [&str; 6] = [
    "iptable_nat",
    "ip6table_nat",
    "iptable_filter",
    "xt_REDIRECT",
    "xt_owner",
    "xt_tcpudp",
];
/// Answers come within this.
const SECONDS: f64 = 3.0;
/// As an injected pod has them; nobody is at the address of control.
const SETTINGS: [(&str, &str); 9] = [
    ("MAILLE_CAPTURE", "redirect"),
    ("MAILLE_SOURCE", "own"),
    ("MAILLE_OUTBOUND", "[::]:15001"),
    ("MAILLE_INBOUND", "[::]:15006"),
    ("MAILLE_MESH", "[::]:15008"),
    ("MAILLE_METRICS", "[::]:4191"),
    ("MAILLE_WORKLOAD", "a"),
    ("MAILLE_CONTROL", "127.0.0.1:9"),
    ("MAILLE_TRUST", "/ca.crt"),
];
/// Every answer of the kernel to the second such question and later ones comes an hour late; the first is whether a connection was made.
const HANGS: &str = "-D --seccomp-bpf -f -o /dev/null -e trace=getsockopt -e inject=getsockopt:delay_enter=3600000000:when=2+ /maille-proxy";

/// What a sidecar did in a guest.
#[derive(Debug)]
struct Found {
    release: String,
    /// How `maille-init` ended, and after how many seconds.
    init: (i32, f64),
    /// Whether the proxy took connections, and after how many seconds that was known.
    ready: (bool, f64),
    /// What both said.
    said: String,
}

fn beside(program: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let path = own.parent().and_then(Path::parent).unwrap().join(program);
    assert!(path.is_file(), "{} is missing", path.display());
    path
}

/// Boots a guest; in one that `hangs` the proxy is held as its kernel would hold it.
fn boot(modules: &[&str], hangs: bool) -> Found {
    let whole = Whole::ready(&Parts::ready().unwrap()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let anchor = rcgen::CertificateParams::default().self_signed(&key);
    let anchor = anchor.unwrap().pem();
    let settings: String = SETTINGS
        .iter()
        .map(|(name, value)| format!("export {name}='{value}'\n"))
        .collect();
    let (first, words) = if hangs {
        ("/strace", HANGS)
    } else {
        ("/maille-proxy", "")
    };
    let script = format!(
        "{settings}export MAILLE_TOKEN=/token\n\
         now() {{ cut -d' ' -f1 /proc/uptime; }}\n\
         begin=$(now); /maille-init >/said 2>&1; code=$?\n\
         echo \"found: init $code $begin $(now)\"\n\
         begin=$(now)\n\
         start-stop-daemon -S -c 2102:2102 -x {first} -- {words} >>/said 2>&1 & proxy=$!\n\
         until netstat -ltn | grep -q ':15008 '; do kill -0 $proxy 2>/dev/null || break; usleep 20000; done\n\
         kill -0 $proxy 2>/dev/null; echo \"found: proxy $? $begin $(now)\"\n\
         echo \"found: release $(uname -r)\"; cat /said\n"
    );
    let (init, proxy) = (beside("maille-init"), beside("maille-proxy"));
    let mut has = vec![
        Has::Program(&init, "/maille-init"),
        Has::Program(&proxy, "/maille-proxy"),
        Has::Program(Path::new("/usr/sbin/nft"), "/usr/sbin/nft"),
        Has::Text("/ca.crt", &anchor),
        Has::Text("/token", "nobody's"),
        Has::Text("/etc/passwd", "maille:x:2102:2102::/:/bin/sh\n"),
    ];
    if hangs {
        has.push(Has::Program(Path::new("/usr/bin/strace"), "/strace"));
    }
    let said = booted::run(&whole, modules, &has, &script).unwrap();
    Found::read(&said)
}

// === impl Found ===

impl Found {
    fn read(said: &str) -> Self {
        let words = |what: &str| -> Vec<String> {
            let mut lines = said.lines().map(str::trim_end);
            let line = lines.find_map(|line| line.strip_prefix("found: ")?.strip_prefix(what));
            let line = line.unwrap_or_else(|| panic!("{what}: {said}"));
            line.split_whitespace().map(str::to_owned).collect()
        };
        let timed = |what: &str| {
            let [code, begin, end] = &words(what)[..] else {
                panic!("{said}")
            };
            let seconds = |text: &str| text.parse::<f64>().unwrap();
            (code.parse().unwrap(), seconds(end) - seconds(begin))
        };
        let (absent, seconds): (i32, f64) = timed("proxy");
        Self {
            release: words("release").concat(),
            init: timed("init"),
            ready: (absent == 0, seconds),
            said: said.to_owned(),
        }
    }

    fn says(&self, parts: &[&str]) {
        for part in parts {
            assert!(self.said.contains(part), "{part}: {self:#?}");
        }
        assert!(self.init.1 < SECONDS && self.ready.1 < SECONDS, "{self:#?}");
        eprintln!(
            "Linux {}: init ended with {} after {:.2} s, the proxy {} after {:.2} s",
            self.release,
            self.init.0,
            self.init.1,
            if self.ready.0 {
                "was ready"
            } else {
                "had ended"
            },
            self.ready.1
        );
    }
}

#[test]
fn a_kernel_without_packet_filters_says_so_at_once() {
    let found = boot(&[], false);
    assert_ne!(found.init.0, 0, "{found:#?}");
    assert!(!found.ready.0, "{found:#?}");
    found.says(&["nftables:", "legacy", "maille.io/capture: outboard"]);
}

#[test]
fn a_kernel_with_either_packet_filter_is_captured_by_that() {
    for (modules, by) in [
        (&LEGACY[..], "legacy"),
        (&NFTABLES[..], "nftables"),
        (&[&NFTABLES[..], &LEGACY[..]].concat()[..], "nftables"),
    ] {
        let found = boot(modules, false);
        assert_eq!(found.init.0, 0, "{found:#?}");
        assert!(found.ready.0, "{found:#?}");
        found.says(&[by]);
    }
}

#[test]
fn a_kernel_that_hangs_is_named() {
    let found = boot(&NFTABLES, true);
    assert_eq!(found.init.0, 0, "{found:#?}");
    assert!(!found.ready.0, "{found:#?}");
    found.says(&[
        "this kernel deadlocks",
        &found.release,
        "maille.io/capture: outboard",
    ]);
}
