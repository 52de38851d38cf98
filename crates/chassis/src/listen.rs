// SPDX-License-Identifier: Apache-2.0
//! Listening sockets passed on by a supervisor: systemd's convention (`sd_listen_fds(3)`), so that systemd itself could do it.
//!
//! `LISTEN_FDS=N` says that descriptors 3 to 3+N-1 are ours, `LISTEN_FDNAMES=a:b` names them. `LISTEN_PID` is not
//! looked at: our supervisor starts us directly. Adopting a descriptor is `sys`'s business.

use std::os::fd::RawFd;

use crate::config::{Setting, SettingError, Source};

/// The first passed descriptor.
const FIRST: RawFd = 3;
/// More than any of our processes takes.
const MOST: RawFd = 64;

const FDS: Setting = Setting::new("LISTEN_FDS", "the number of passed sockets, 0 to 64");
const NAMES: Setting = Setting::new(
    "LISTEN_FDNAMES",
    "one name for each passed socket, separated by colons",
);

/// What [`inherited`] reads.
pub const SETTINGS: [Setting; 2] = [FDS, NAMES];

/// A descriptor that was passed to this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inherited {
    /// What it is for: `outbound`, `inbound`, `mesh`, `admin`.
    pub name: String,
    /// Its number, still to be adopted.
    pub fd: RawFd,
}

/// What was passed; empty where nothing was.
pub fn inherited(source: &dyn Source) -> Result<Vec<Inherited>, SettingError> {
    let count: RawFd = FDS.or(source, 0)?;
    let unusable = |setting: &Setting, value: String, reason: &str| SettingError::Unusable {
        key: setting.key,
        value,
        reason: reason.to_owned(),
        help: setting.help,
    };
    if !(0..=MOST).contains(&count) {
        return Err(unusable(&FDS, count.to_string(), "out of range"));
    }
    if count == 0 {
        return Ok(Vec::new());
    }
    let names: String = NAMES.required(source)?;
    let inherited: Vec<_> = names
        .split(':')
        .zip(FIRST..)
        .map(|(name, fd)| Inherited {
            name: name.to_owned(),
            fd,
        })
        .collect();
    if RawFd::try_from(inherited.len()) != Ok(count) {
        return Err(unusable(&NAMES, names, "not as many names as sockets"));
    }
    Ok(inherited)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn names_and_numbers_must_agree() {
        let source = HashMap::from([("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "mesh:inbound")]);
        let got = inherited(&source).unwrap();
        assert_eq!(
            got[1],
            Inherited {
                name: "inbound".into(),
                fd: 4
            }
        );
        assert!(
            inherited(&HashMap::from([
                ("LISTEN_FDS", "3"),
                ("LISTEN_FDNAMES", "mesh:inbound")
            ]))
            .is_err()
        );
        assert!(inherited(&HashMap::from([("LISTEN_FDS", "-1")])).is_err());
        assert!(inherited(&HashMap::from([("LISTEN_FDS", "1")])).is_err());
        assert_eq!(inherited(&HashMap::<&str, &str>::new()), Ok(Vec::new()));
    }
}
