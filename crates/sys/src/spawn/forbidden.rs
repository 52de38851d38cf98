// SPDX-License-Identifier: Apache-2.0
//! Which setting of the machine forbids namespaces: a pure function of what the kernel said and of what /proc says.
//!
//! Must never blame a setting that could not have caused the error. Read `parent.rs` for who asks.

use nix::errno::Errno;

/// A setting that forbids namespaces, as it stands, and the command that changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    /// As `sysctl` shows it.
    pub(super) name: &'static str,
    pub(super) fix: &'static str,
}

struct Rule {
    file: &'static str,
    /// The value that forbids.
    value: &'static str,
    /// Only ordinary users are forbidden.
    ordinary: bool,
    /// What the kernel says then.
    errors: &'static [Errno],
    setting: Setting,
}

/// The kernel's own limits, which hold for everybody.
const fn limit(file: &'static str, name: &'static str, fix: &'static str) -> Rule {
    Rule {
        file,
        value: "0",
        ordinary: false,
        errors: &[Errno::ENOSPC, Errno::EUSERS],
        setting: Setting { name, fix },
    }
}

/// What distributions add, for ordinary users alone. AppArmor lets the namespace be made and denies every right in it.
const fn policy(
    file: &'static str,
    value: &'static str,
    name: &'static str,
    fix: &'static str,
) -> Rule {
    Rule {
        file,
        value,
        ordinary: true,
        errors: &[Errno::EPERM, Errno::EACCES],
        setting: Setting { name, fix },
    }
}

macro_rules! limits {
    ($($kind:literal),*) => {
        [$(limit(
            concat!("/proc/sys/user/max_", $kind, "_namespaces"),
            concat!("user.max_", $kind, "_namespaces=0"),
            concat!("sudo sysctl -w user.max_", $kind, "_namespaces=10000"),
        )),*]
    };
}

const LIMITS: [Rule; 6] = limits!["user", "mnt", "net", "pid", "ipc", "uts"];

const POLICIES: [Rule; 2] = [
    policy(
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        "kernel.unprivileged_userns_clone=0",
        "sudo sysctl -w kernel.unprivileged_userns_clone=1",
    ),
    policy(
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "kernel.apparmor_restrict_unprivileged_userns=1",
        "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    ),
];

/// The setting that explains `errno`, if there is one. `ordinary`: the process is to have a user namespace of its own; `read`
/// gives the text of a file of /proc, where it exists.
pub(super) fn by(
    errno: i32,
    ordinary: bool,
    read: impl Fn(&str) -> Option<String>,
) -> Option<Setting> {
    let errno = Errno::from_raw(errno);
    let holds = |rule: &&Rule| {
        rule.errors.contains(&errno)
            && (ordinary || !rule.ordinary)
            && read(rule.file).is_some_and(|text| text.trim() == rule.value)
    };
    let mut rules = LIMITS.iter().chain(&POLICIES);
    rules.find(holds).map(|rule| rule.setting)
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: &str = "/proc/sys/user/max_user_namespaces";
    const NET: &str = "/proc/sys/user/max_net_namespaces";
    const CLONE: &str = "/proc/sys/kernel/unprivileged_userns_clone";
    const APPARMOR: &str = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";

    /// A machine with these files.
    fn blamed(errno: Errno, ordinary: bool, files: &[(&str, &str)]) -> Option<&'static str> {
        let read = |file: &str| {
            let found = files.iter().find(|(name, _)| *name == file);
            found.map(|(_, text)| format!("{text}\n"))
        };
        by(errno as i32, ordinary, read).map(|setting| setting.name)
    }

    #[test]
    fn each_setting_is_named_for_its_own_error() {
        // Ubuntu 24.04, Debian before 11, and a machine whose administrator said no.
        let ubuntu = [(USER, "31191"), (CLONE, "1"), (APPARMOR, "1")];
        let debian = [(USER, "31191"), (CLONE, "0")];
        let none = [(USER, "0")];
        for (errno, files, name) in [
            (
                Errno::EPERM,
                &ubuntu[..],
                "kernel.apparmor_restrict_unprivileged_userns=1",
            ),
            (
                Errno::EACCES,
                &ubuntu,
                "kernel.apparmor_restrict_unprivileged_userns=1",
            ),
            (Errno::EPERM, &debian, "kernel.unprivileged_userns_clone=0"),
            (Errno::ENOSPC, &none, "user.max_user_namespaces=0"),
            (Errno::EUSERS, &none, "user.max_user_namespaces=0"),
            (
                Errno::ENOSPC,
                &[(USER, "9"), (NET, "0")],
                "user.max_net_namespaces=0",
            ),
        ] {
            assert_eq!(blamed(errno, true, files), Some(name), "{errno}");
        }
    }

    #[test]
    fn nothing_is_blamed_that_did_not_do_it() {
        let ubuntu = [(USER, "31191"), (CLONE, "1"), (APPARMOR, "1")];
        for (errno, ordinary, files) in [
            // A file that is missing, a full disk: not the machine's policy.
            (Errno::ENOENT, true, &ubuntu[..]),
            (Errno::ENOSPC, true, &ubuntu),
            // Root needs no user namespace.
            (Errno::EPERM, false, &ubuntu),
            // A machine that forbids nothing, or has no such settings.
            (
                Errno::EPERM,
                true,
                &[(CLONE, "1"), (APPARMOR, "0"), (USER, "0")],
            ),
            (Errno::EPERM, true, &[]),
        ] {
            assert_eq!(blamed(errno, ordinary, files), None, "{errno} {files:?}");
        }
        // Limits hold for root too.
        assert_eq!(
            blamed(Errno::ENOSPC, false, &[(NET, "0")]),
            Some("user.max_net_namespaces=0")
        );
    }

    #[test]
    fn the_command_undoes_the_setting() {
        for rule in LIMITS.iter().chain(&POLICIES) {
            let (key, value) = rule.setting.name.split_once('=').unwrap();
            assert_eq!(value, rule.value);
            let path = format!("/proc/sys/{}", key.replace('.', "/"));
            assert_eq!(path, rule.file);
            let command = format!("sudo sysctl -w {key}=");
            let new = rule.setting.fix.strip_prefix(&command).unwrap();
            assert_ne!(new, value);
        }
    }
}
