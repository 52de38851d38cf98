// SPDX-License-Identifier: Apache-2.0
//! Amounts of CPU and memory as Kubernetes writes them (`500m`, `1.5Gi`, `1e3`). Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An amount, kept as written. [`crate::load`] has checked that it is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Quantity(String);

impl Quantity {
    /// Takes a text that is an amount.
    pub fn parse(text: &str) -> Option<Self> {
        nanos(text)?;
        Some(Self(text.to_owned()))
    }

    /// In thousandths, rounded up; more than there is becomes the most there is.
    pub fn millis(&self) -> u64 {
        let nanos = nanos(&self.0).unwrap_or(0);
        u64::try_from(nanos.div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }

    /// Whole ones, rounded up.
    pub fn whole(&self) -> u64 {
        let nanos = nanos(&self.0).unwrap_or(0);
        u64::try_from(nanos.div_ceil(1_000_000_000)).unwrap_or(u64::MAX)
    }

    /// How often `divisor` goes into it, rounded up. One of nothing goes once.
    pub fn over(&self, divisor: &Self) -> u64 {
        let own = nanos(&self.0).unwrap_or(0);
        let other = nanos(&divisor.0).filter(|n| *n > 0);
        u64::try_from(own.div_ceil(other.unwrap_or(1_000_000_000))).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// In thousand-millionths, rounded up. `None`: it is no amount, is negative, or is larger than any machine.
fn nanos(text: &str) -> Option<u128> {
    /// Ten digits more than a machine's memory in bytes.
    const MOST_DIGITS: usize = 24;
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = whole.len() + fraction.len();
    if digits == 0 || digits > MOST_DIGITS || fraction.contains('.') {
        return None;
    }
    let mantissa: u128 = format!("{whole}{fraction}").parse().ok()?;
    let fraction = u32::try_from(fraction.len()).ok()?;
    let (up, down) = scale(suffix)?;
    let value = mantissa.checked_mul(up)?.checked_mul(1_000_000_000)?;
    let value = value.div_ceil(down.checked_mul(10_u128.checked_pow(fraction)?)?);
    Some(value)
}

/// What a suffix multiplies by, and divides by.
fn scale(suffix: &str) -> Option<(u128, u128)> {
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let ten = 10_u128.checked_pow(power.unsigned_abs())?;
            if power < 0 { (1, ten) } else { (ten, 1) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_what_kubernetes_says() {
        for (text, millis, whole) in [
            ("0", 0, 0),
            ("1", 1000, 1),
            ("500m", 500, 1),
            ("0.5", 500, 1),
            (".5", 500, 1),
            ("1.", 1000, 1),
            ("100u", 1, 1),
            ("1k", 1_000_000, 1000),
            ("64Mi", 67_108_864_000, 67_108_864),
            ("1.5Gi", 1_610_612_736_000, 1_610_612_736),
            ("1e3", 1_000_000, 1000),
            ("1E3", 1_000_000, 1000),
            ("12e-1", 1200, 2),
            (
                "1E",
                1_000_000_000_000_000_000_000,
                1_000_000_000_000_000_000,
            ),
        ] {
            let amount = Quantity::parse(text).unwrap();
            assert_eq!(
                (u128::from(amount.millis()), amount.whole()),
                (u128::min(millis, u64::MAX.into()), whole),
                "{text}"
            );
        }
        for text in [
            "",
            ".",
            "-1",
            "1.2.3",
            "1 Gi",
            "Gi",
            "1gi",
            "1e",
            "1e99",
            "0x1",
            "1Mi5",
            "9999999999999999999999999",
        ] {
            assert_eq!(Quantity::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_divisor_rounds_up() {
        let amount = |text| Quantity::parse(text).unwrap();
        for (value, divisor, told) in [
            ("64Mi", "1Mi", 64),
            ("64Mi", "1", 67_108_864),
            ("1500m", "1", 2),
            ("1500m", "1m", 1500),
            ("1", "0", 1),
        ] {
            assert_eq!(
                amount(value).over(&amount(divisor)),
                told,
                "{value}/{divisor}"
            );
        }
    }
}
