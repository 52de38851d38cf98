// SPDX-License-Identifier: Apache-2.0
//! Whether a guest's kernel can capture its own pods: a kernel's `.config` against the options that each kind of rules needs. Pure.
//!
//! What is said here is what the kernel was built with; whether it works is tried by the pod's preflight (`proxy::preflight`). Must
//! never call a kernel able that lacks an option. The rules themselves are in `node::capture::inboard`.

use std::collections::BTreeMap;

use super::all;
use crate::api::{Check, Checks};

/// More than any kernel's configuration.
pub(super) const LONGEST: u64 = 4 << 20;

/// Both kinds of rules need these.
const ALWAYS: [&str; 4] = ["NET", "INET", "NETFILTER", "NF_CONNTRACK"];
/// Rules of nftables, in one table for both families.
const NFTABLES: [&str; 6] = [
    "NF_TABLES",
    "NF_TABLES_INET",
    "NFT_CT",
    "NFT_NAT",
    "NFT_REDIR",
    "NFT_REJECT",
];
/// By which rules of nftables know whether anybody listens at a port.
const SOCKET: &str = "NFT_SOCKET";
/// Rules of the legacy packet filter, of IPv4.
const LEGACY: [&str; 4] = [
    "IP_NF_IPTABLES",
    "IP_NF_NAT",
    "NETFILTER_XT_TARGET_REDIRECT",
    "NETFILTER_XT_MATCH_OWNER",
];
/// And of IPv6, where the kernel has that.
const LEGACY_V6: [&str; 2] = ["IP6_NF_IPTABLES", "IP6_NF_NAT"];
/// The first release whose nftables have NAT in a table for both families.
const NAT_IN_INET: Release = Release(5, 2, 0);
/// Before this one sets were an option of their own.
const SETS: (Release, &str) = (Release(5, 7, 0), "NF_TABLES_SET");
/// In these the question where a redirected connection was going may hang for ever.
const HANGS: (Release, Release) = (Release(4, 14, 22), Release(4, 14, 40));

const OUTBOARD: &str = "outboard capture works with any kernel, and needs nothing in the guest: maille.io/capture: outboard, which is what pods get \
     where nodes have the mesh's agent (maille install --cni)";

/// The three numbers of a kernel's release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Release(u32, u32, u32);

/// A kernel's configuration.
#[derive(Debug)]
struct Kernel<'t> {
    options: BTreeMap<&'t str, &'t str>,
    release: Option<Release>,
}

/// Why there is nothing to judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum GuestError {
    #[error("it has no line like CONFIG_NET=y, so it is no kernel's configuration")]
    NoOptions,
}

/// Says which modes work in a guest with this kernel.
pub(super) fn judge(text: &str) -> Result<Checks, GuestError> {
    let kernel = Kernel::read(text)?;
    let category = match kernel.release {
        Some(Release(one, two, three)) => format!("guest kernel, Linux {one}.{two}.{three}"),
        None => "guest kernel".to_owned(),
    };
    let check = |name: &str, ok, message: String, hint: &str| Check {
        category: category.clone(),
        name: name.to_owned(),
        ok,
        message: Some(message).filter(|text| !text.is_empty()),
        hint: Some(hint.to_owned()).filter(|text| !text.is_empty()),
    };
    let outboard = check("outboard capture", true, String::new(), "");
    Ok(all(vec![outboard, inboard(&kernel, &check)]))
}

fn inboard(kernel: &Kernel<'_>, check: &dyn Fn(&str, bool, String, &str) -> Check) -> Check {
    let (nftables, legacy) = (kernel.nftables(), kernel.legacy());
    if kernel.hangs() {
        let message = "these releases may hang when a proxy asks where a connection was going (SO_ORIGINAL_DST)";
        return check("inboard capture", false, message.to_owned(), OUTBOARD);
    }
    let modules = kernel.modules();
    match (nftables.is_empty(), legacy.is_empty()) {
        (true, _) if kernel.has(SOCKET) => check(
            "inboard capture, by nftables",
            true,
            modules.clone().unwrap_or_default(),
            modules.map_or("", |_| MODULES),
        ),
        (true, _) => check(
            "inboard capture, by nftables",
            true,
            format!("it lacks {SOCKET}: the proxy takes connections to closed ports too"),
            "a tcpSocket probe always succeeds there: use another probe, or outboard capture",
        ),
        (false, true) => check(
            "inboard capture, by the legacy packet filter",
            true,
            "the proxy takes connections to closed ports too".to_owned(),
            "a tcpSocket probe always succeeds there: use another probe, or outboard capture",
        ),
        (false, false) => {
            let message = format!(
                "nftables: it lacks {}; legacy packet filter: it lacks {}",
                nftables.join(", "),
                legacy.join(", ")
            );
            check("inboard capture", false, message, OUTBOARD)
        }
    }
}

const MODULES: &str = "the guest's image must have these modules, and load them";

// === impl Kernel ===

impl<'t> Kernel<'t> {
    fn read(text: &'t str) -> Result<Self, GuestError> {
        let mut options = BTreeMap::new();
        let mut release = None;
        for line in text.lines().map(str::trim) {
            if let Some((name, value)) = line
                .strip_prefix("CONFIG_")
                .and_then(|line| line.split_once('='))
            {
                options.insert(name, value);
            } else if line.starts_with("# Linux/") && release.is_none() {
                release = line.split(' ').find_map(Release::read);
            }
        }
        if options.is_empty() {
            return Err(GuestError::NoOptions);
        }
        Ok(Self { options, release })
    }

    fn has(&self, option: &str) -> bool {
        matches!(self.options.get(option), Some(&("y" | "m")))
    }

    fn lacks(&self, options: &[&str]) -> Vec<String> {
        let absent = options.iter().filter(|option| !self.has(option));
        absent.map(|&option| option.to_owned()).collect()
    }

    /// What nftables lacks.
    fn nftables(&self) -> Vec<String> {
        let mut lacks = self.lacks(&ALWAYS);
        lacks.extend(self.lacks(&NFTABLES));
        if let Some(release) = self.release {
            if release < NAT_IN_INET {
                lacks.push("Linux 5.2".to_owned());
            }
            let (until, sets) = SETS;
            if release < until {
                lacks.extend(self.lacks(&[sets]));
            }
        }
        lacks
    }

    /// What the legacy packet filter lacks.
    fn legacy(&self) -> Vec<String> {
        let mut lacks = self.lacks(&ALWAYS);
        lacks.extend(self.lacks(&LEGACY));
        if self.has("IPV6") {
            lacks.extend(self.lacks(&LEGACY_V6));
        }
        lacks
    }

    fn hangs(&self) -> bool {
        let (first, last) = HANGS;
        self.release
            .is_some_and(|release| (first..=last).contains(&release))
    }

    /// What nftables needs that is not in the kernel itself.
    fn modules(&self) -> Option<String> {
        let of = ALWAYS.iter().chain(&NFTABLES);
        let modules: Vec<_> = of
            .filter(|option| self.options.get(**option) == Some(&"m"))
            .copied()
            .collect();
        (!modules.is_empty()).then(|| format!("as modules: {}", modules.join(", ")))
    }
}

// === impl Release ===

impl Release {
    /// `6.1.167-27.319.amzn2023.x86_64` is 6.1.167.
    fn read(word: &str) -> Option<Self> {
        let number = |text: &str| {
            let digits = text.find(|sign: char| !sign.is_ascii_digit());
            text.get(..digits.unwrap_or(text.len()))?.parse().ok()
        };
        let mut parts = word.splitn(3, '.');
        let (one, two) = (number(parts.next()?)?, number(parts.next()?)?);
        Some(Self(one, two, parts.next().and_then(number).unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! kernel {
        ($name:literal) => {
            include_str!(concat!("kernels/", $name, ".config"))
        };
    }

    fn inboard_of(text: &str) -> Check {
        let mut checks = judge(text).unwrap();
        let [outboard, _] = &checks.checks[..] else {
            panic!("{checks:?}");
        };
        assert!(outboard.ok && outboard.hint.is_none(), "{outboard:?}");
        let inboard = checks.checks.remove(1);
        assert_eq!(checks.ok, inboard.ok);
        inboard
    }

    #[test]
    fn kernels_as_others_publish_them() {
        let legacy = "inboard capture, by the legacy packet filter";
        for (text, name, ok, said) in [
            (
                kernel!("kata-4.1.0-common"),
                "inboard capture, by nftables",
                true,
                "",
            ),
            (
                kernel!("kata-x86_64-4.14.67"),
                "inboard capture",
                false,
                "IP6_NF_NAT",
            ),
            (
                kernel!("kata-s390-4.19.28"),
                "inboard capture",
                false,
                "nftables: it lacks NETFILTER, NF_CONNTRACK, NF_TABLES",
            ),
            (
                kernel!("firecracker-x86_64-5.10"),
                "inboard capture",
                false,
                "NF_TABLES_INET, NFT_REDIR",
            ),
            (
                kernel!("firecracker-x86_64-6.1"),
                "inboard capture",
                false,
                "NETFILTER_XT_MATCH_OWNER",
            ),
            (
                kernel!("firecracker-x86_64-6.18"),
                "inboard capture",
                false,
                "NETFILTER_XT_MATCH_OWNER",
            ),
            (
                kernel!("firecracker-aarch64-6.1"),
                "inboard capture",
                false,
                "NF_TABLES_INET, NFT_REDIR",
            ),
            (
                kernel!("debian-12-cloud-amd64-6.1.192"),
                "inboard capture, by nftables",
                true,
                "as modules: NF_CONNTRACK, NF_TABLES",
            ),
        ] {
            let inboard = inboard_of(text);
            let message = inboard.message.unwrap_or_default();
            assert_eq!((inboard.name.as_str(), inboard.ok), (name, ok), "{message}");
            assert!(message.contains(said), "{name}: {message}");
            let outboard = inboard.hint.is_some_and(|hint| hint.contains("outboard"));
            assert_eq!(
                !ok, outboard,
                "a kernel that cannot is told of the mode that works"
            );
        }
        // The same kernel with one family less.
        let without = kernel!("kata-x86_64-4.14.67").replace("CONFIG_IPV6=y", "");
        assert_eq!(inboard_of(&without).name, legacy);
    }

    #[test]
    fn every_option_is_needed() {
        let whole = kernel!("kata-4.1.0-common");
        let without = |option: &str| whole.replace(&format!("CONFIG_{option}=y\n"), "");
        for option in NFTABLES {
            assert_eq!(
                inboard_of(&without(option)).name,
                "inboard capture, by the legacy packet filter",
                "{option}"
            );
        }
        for option in ALWAYS {
            let inboard = inboard_of(&without(option));
            assert!(!inboard.ok, "{option}");
            assert!(inboard.message.unwrap().contains(option), "{option}");
        }
        let no_nftables = without("NF_TABLES");
        for option in LEGACY.iter().chain(&LEGACY_V6) {
            let text = no_nftables.replace(&format!("CONFIG_{option}=y\n"), "");
            assert!(!inboard_of(&text).ok, "{option}");
        }
        let open = inboard_of(&without(SOCKET));
        assert!(
            open.ok && open.hint.unwrap().contains("tcpSocket"),
            "{:?}",
            open.message
        );
    }

    #[test]
    fn releases() {
        let of = |release: &str| {
            format!(
                "# Linux/x86 {release} Kernel Configuration\n{}",
                kernel!("kata-4.1.0-common")
            )
        };
        for (release, name, ok) in [
            (
                "4.14.21",
                "inboard capture, by the legacy packet filter",
                true,
            ),
            ("4.14.22", "inboard capture", false),
            ("4.14.40", "inboard capture", false),
            (
                "4.14.41",
                "inboard capture, by the legacy packet filter",
                true,
            ),
            (
                "5.1.9",
                "inboard capture, by the legacy packet filter",
                true,
            ),
            // Sets are an option that is not there.
            (
                "5.4.0",
                "inboard capture, by the legacy packet filter",
                true,
            ),
            ("5.7.0", "inboard capture, by nftables", true),
            ("6.12.0-rc1", "inboard capture, by nftables", true),
        ] {
            let inboard = inboard_of(&of(release));
            assert_eq!((inboard.name.as_str(), inboard.ok), (name, ok), "{release}");
        }
        for text in ["", "hello\n", "# CONFIG_NET is not set\n"] {
            assert_eq!(judge(text).unwrap_err(), GuestError::NoOptions);
        }
    }
}
