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
mod tests;
