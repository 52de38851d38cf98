// SPDX-License-Identifier: Apache-2.0
//! What the person and the machine allow, against which manifests are checked. Read [`crate::images`] for the rule of images.

use std::ffi::OsString;

use crate::images::Images;

/// What the person and the machine allow.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which programs stand for which images.
    pub images: Images,
    /// Where programs are looked for, as in `PATH`. `None`: they are not looked for, and an image alone is not enough.
    pub search_path: Option<OsString>,
    /// Whether containers may mount what is on this machine.
    pub host_path: bool,
    /// As whom containers can run.
    pub users: Users,
    /// Why containers cannot be limited; `None` where they can.
    pub no_limits: Option<String>,
    /// Whether the machine's own files are looked at (`hostPath`).
    pub look: bool,
    /// Whether a service may ask only for an address that is of services here.
    pub own_addresses: bool,
}

/// As whom containers can run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Users {
    /// As any user in these ranges: first, how many.
    Ranges(Vec<(u32, u32)>),
    /// As one, whatever number it has inside: an ordinary user has no other to give.
    One,
}

impl Options {
    /// For manifests that were checked before: nothing is asked of the machine, everything is allowed.
    pub fn trusted() -> Self {
        Self {
            images: Images::default(),
            search_path: None,
            host_path: true,
            users: Users::Ranges(vec![(0, u32::MAX)]),
            no_limits: None,
            look: false,
            own_addresses: false,
        }
    }
}

impl Users {
    /// From the text of `/proc/self/uid_map` and whether this is root; lines that are none are skipped.
    pub fn read(map: &str, root: bool) -> Self {
        if !root {
            return Self::One;
        }
        let range = |line: &str| {
            let mut numbers = line.split_whitespace().map(str::parse);
            match (numbers.next(), numbers.next(), numbers.next()) {
                (Some(Ok(first)), Some(_), Some(Ok(count))) => Some((first, count)),
                _ => None,
            }
        };
        Self::Ranges(map.lines().filter_map(range).collect())
    }

    /// Whether a container can run as `user`.
    pub fn has(&self, user: u32) -> bool {
        match self {
            Self::One => true,
            Self::Ranges(ranges) => ranges
                .iter()
                .any(|(first, count)| user >= *first && user - *first < *count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_those_of_the_map() {
        let all = Users::read("         0          0 4294967295\n", true);
        assert!(all.has(0) && all.has(65_532));
        let few = Users::read("0 100000 1\n1 200000 65535\n", true);
        assert!(few.has(0) && few.has(65_535) && !few.has(65_536));
        assert_eq!(Users::read("0 1000 1", false), Users::One);
    }
}
