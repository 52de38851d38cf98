// SPDX-License-Identifier: Apache-2.0
//! How much this machine has, as containers without limits of their own are told.

/// How much there is, for containers without a limit of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) cores: u64,
    /// Bytes of memory.
    pub(crate) memory: u64,
}

impl Machine {
    /// This one.
    pub(crate) fn read() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Self {
            cores: u64::try_from(cores).unwrap_or(1),
            memory: total(&text).unwrap_or(0),
        }
    }
}

/// `MemTotal` of `proc_meminfo(5)`, in bytes.
fn total(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let number: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    number.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_read() {
        assert_eq!(
            total("MemFree: 1 kB\nMemTotal:       2048 kB\n"),
            Some(2_097_152)
        );
        assert_eq!(total("nothing"), None);
        let machine = Machine::read();
        assert!(machine.cores > 0 && machine.memory > 1 << 20);
    }
}
