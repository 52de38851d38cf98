// SPDX-License-Identifier: Apache-2.0
//! Why this machine does not let us make namespaces, named by the setting that says so. Read `launch.rs` for the user.

use std::path::Path;
use std::{fs, io};

use crate::failure::Expected;

/// Settings that forbid user namespaces: where they are, the value that forbids, and the one that allows.
const SETTINGS: &[(&str, &str, &str)] = &[
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
    ("kernel/unprivileged_userns_clone", "0", "1"),
    ("user/max_user_namespaces", "0", "10000"),
];

/// Turns a refusal of the kernel into an error that names what to change.
pub(crate) fn refused(what: &str, error: &io::Error) -> Expected {
    explain(what, error, Path::new("/proc/sys"))
}

fn explain(what: &str, error: &io::Error, settings: &Path) -> Expected {
    let forbids = |(path, forbids, _): &&(&str, &str, &str)| {
        let value = fs::read_to_string(settings.join(path)).unwrap_or_default();
        value.trim() == *forbids
    };
    let setting = SETTINGS.iter().find(forbids);
    let hint = setting.map(|(path, _, allows)| {
        let name = path.replace('/', ".");
        format!("{name} forbids it here: run as root, or `sudo sysctl -w {name}={allows}`")
    });
    Expected::Machine {
        what: format!("{what}: {error}"),
        hint: hint
            .or_else(|| Some("run it as root, or outside of the container that forbids it".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = io::Error::from_raw_os_error(1);
        let hint = || explain("no", &error, dir.path()).hint().unwrap();
        assert!(hint().contains("as root"));
        fs::create_dir(dir.path().join("kernel")).unwrap();
        let setting = dir
            .path()
            .join("kernel/apparmor_restrict_unprivileged_userns");
        fs::write(&setting, "1\n").unwrap();
        assert!(hint().contains("sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"));
        fs::write(&setting, "0\n").unwrap();
        assert!(!hint().contains("apparmor"));
    }
}
