// SPDX-License-Identifier: Apache-2.0
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
