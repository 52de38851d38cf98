// SPDX-License-Identifier: Apache-2.0
//! When a certificate is renewed.

use std::time::{Duration, SystemTime};

/// When to renew a certificate that is valid from `not_before` to `not_after`: at 70 % of its life. `jitter`, 0 to 1, moves
/// that up to 5 % of its life ahead, so that proxies that started together do not ask together. Never after `not_after`.
pub fn renew_at(not_before: SystemTime, not_after: SystemTime, jitter: f64) -> SystemTime {
    let life = not_after
        .duration_since(not_before)
        .unwrap_or(Duration::ZERO);
    let jitter = if jitter.is_finite() {
        jitter.clamp(0.0, 1.0)
    } else {
        0.0
    };
    not_before + life.mul_f64(0.70 - 0.05 * jitter)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn at_seventy_percent_or_a_little_before() {
        let (from, to) = (UNIX_EPOCH, UNIX_EPOCH + Duration::from_secs(1000));
        let second = |jitter| {
            let at = renew_at(from, to, jitter);
            at.duration_since(from).unwrap().as_secs_f64().round()
        };
        assert_eq!(second(0.0), 700.0);
        assert_eq!(second(1.0), 650.0);
        assert_eq!(second(7.0), 650.0);
        assert_eq!(second(f64::NAN), 700.0);
        assert_eq!(
            renew_at(to, from, 0.0),
            to,
            "a certificate that never was valid is renewed at once"
        );
    }
}
