// SPDX-License-Identifier: Apache-2.0
//! What a machine must have for pods to run on it: each fact as it is, and what to type where it is not as needed. Reads only.
//!
//! Must never refuse anything itself: whoever starts something finds out better. Read `spawn/forbidden.rs` next, which explains refusals.

use std::path::Path;

use crate::nft;

/// The oldest kernel on which capture was tried.
const KERNEL: (u32, u32) = (5, 10);

/// One fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// What was looked at.
    pub name: &'static str,
    /// It is as needed.
    pub ok: bool,
    /// What was found.
    pub found: String,
    /// What to do; empty where all is well.
    pub hint: String,
}

/// Looks at everything, for the user who calls.
pub fn look() -> Vec<Fact> {
    let read = |path: &str| {
        let text = std::fs::read_to_string(path).ok()?;
        Some(text.trim().to_owned())
    };
    let root = nix::unistd::geteuid().is_root();
    vec![
        kernel(&release()),
        namespaces(read("/proc/sys/user/max_user_namespaces").as_deref(), root),
        policy(
            read("/proc/sys/kernel/unprivileged_userns_clone").as_deref() == Some("0"),
            read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1"),
            root,
        ),
        network_namespaces(read("/proc/sys/user/max_net_namespaces").as_deref()),
        nftables(nft::version()),
        addresses(Path::new("/proc/net/if_inet6").exists()),
    ]
}

fn fact(name: &'static str, ok: bool, found: String, hint: &str) -> Fact {
    Fact {
        name,
        ok,
        found,
        hint: if ok { String::new() } else { hint.to_owned() },
    }
}

/// The release of the running kernel, such as `6.1.0-54-cloud-amd64`; `unknown` where it does not say.
pub fn release() -> String {
    let name = nix::sys::utsname::uname().ok();
    let release = name.as_ref().and_then(|name| name.release().to_str());
    release.unwrap_or("unknown").to_owned()
}

fn kernel(release: &str) -> Fact {
    let found = release.to_owned();
    let mut numbers = found.split(|c: char| !c.is_ascii_digit());
    let mut number = || {
        numbers
            .next()
            .and_then(|text| text.parse().ok())
            .unwrap_or(0)
    };
    let version: (u32, u32) = (number(), number());
    fact(
        "the kernel is recent enough",
        version >= KERNEL,
        format!("Linux {found}"),
        "Linux 5.10 or later is needed: upgrade the distribution",
    )
}

fn namespaces(most: Option<&str>, root: bool) -> Fact {
    let some = most.is_some_and(|most| most != "0");
    let found = match most {
        None => "user namespaces are not built in".to_owned(),
        Some(most) => format!("user.max_user_namespaces={most}"),
    };
    fact(
        "user namespaces can be made",
        some || root,
        found,
        "sudo sysctl -w user.max_user_namespaces=15000, or run as root",
    )
}

/// Some distributions leave user namespaces to root.
fn policy(debian: bool, apparmor: bool, root: bool) -> Fact {
    let (found, hint) = if debian {
        (
            "kernel.unprivileged_userns_clone=0",
            "sudo sysctl -w kernel.unprivileged_userns_clone=1, or run as root",
        )
    } else if apparmor {
        (
            "kernel.apparmor_restrict_unprivileged_userns=1",
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or run as root",
        )
    } else {
        ("nothing forbids them", "")
    };
    fact(
        "user namespaces are not forbidden",
        root || !(debian || apparmor),
        found.to_owned(),
        hint,
    )
}

fn network_namespaces(most: Option<&str>) -> Fact {
    let number = most.and_then(|most| most.parse::<u64>().ok());
    fact(
        "network namespaces can be made",
        number.is_none_or(|number| number >= 64),
        match most {
            None => "no limit is known".to_owned(),
            Some(most) => format!("user.max_net_namespaces={most}"),
        },
        "sudo sysctl -w user.max_net_namespaces=15000: a pod takes two",
    )
}

fn nftables(version: Result<String, nft::NftError>) -> Fact {
    let (ok, found) = match version {
        Ok(version) => (true, version),
        Err(error) => (false, error.to_string()),
    };
    fact(
        "nftables is installed",
        ok,
        found,
        "sudo apt install nftables",
    )
}

fn addresses(v6: bool) -> Fact {
    fact(
        "the kernel has IPv6",
        v6,
        if v6 { "it has" } else { "it has not" }.to_owned(),
        "start the kernel without ipv6.disable=1: pods have addresses of both families",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels() {
        for (release, ok) in [
            ("6.18.2-1-amd64", true),
            ("5.10.0", true),
            ("5.4.0-200-generic", false),
            ("4.19", false),
            ("", false),
        ] {
            let fact = kernel(release);
            assert_eq!(fact.ok, ok, "{release}");
            assert_eq!(fact.hint.is_empty(), ok);
        }
    }

    #[test]
    fn limits() {
        assert!(!namespaces(Some("0"), false).ok);
        assert!(namespaces(Some("0"), true).ok);
        assert!(namespaces(Some("100"), false).ok);
        assert!(!policy(false, true, false).ok && policy(false, true, true).ok);
        assert!(policy(false, false, false).ok && !policy(true, false, false).ok);
        assert!(!network_namespaces(Some("3")).ok);
        assert!(network_namespaces(None).ok);
    }

    #[test]
    fn this_machine_is_looked_at() {
        let facts = look();
        assert!(facts.iter().all(|fact| !fact.found.is_empty()), "{facts:?}");
    }
}
