// SPDX-License-Identifier: Apache-2.0
//! The bucket scheme of latency histograms, shared by those who count and those who read.
//!
//! Log-linear: 16 linear buckets for each power of two, so a value read back is within 6.25 % of the truth. Unit: microseconds.

/// Number of buckets; the last one takes everything from about 33 minutes up.
pub const BUCKETS: usize = 464;

const SUB_BITS: u32 = 4;

/// The bucket that counts a latency of `micros`.
pub fn bucket(micros: u64) -> usize {
    if micros < 1 << SUB_BITS {
        return usize::try_from(micros).unwrap_or(0);
    }
    let exponent = micros.ilog2();
    let sub = (micros >> (exponent - SUB_BITS)) & 0xf;
    let index = u64::from(exponent - SUB_BITS + 1) * 16 + sub;
    usize::try_from(index).map_or(BUCKETS - 1, |index| index.min(BUCKETS - 1))
}

/// The lowest latency, in microseconds, that `bucket` counts. Indexes past the end mean the last bucket.
pub fn floor(bucket: usize) -> u64 {
    let index = bucket.min(BUCKETS - 1) as u64;
    if index < 16 {
        return index;
    }
    (16 + index % 16) << (index / 16 - 1)
}

/// The latency, in microseconds, below which the share `quantile` (0 to 1) of `counts` lies; middle of the bucket. `None` without counts.
pub fn quantile(counts: &[u64], quantile: f64) -> Option<u64> {
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return None;
    }
    let mut left = (quantile.clamp(0.0, 1.0) * total as f64).ceil().max(1.0);
    for (index, count) in counts.iter().enumerate() {
        left -= *count as f64;
        if left <= 0.0 {
            return Some(floor(index).midpoint(floor(index + 1).max(floor(index))));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn floors_are_where_their_buckets_begin() {
        for index in 0..BUCKETS {
            assert_eq!(bucket(floor(index)), index);
        }
    }

    #[test]
    fn quantiles_of_a_known_set() {
        let mut counts = vec![0; BUCKETS];
        for micros in 1..=1000 {
            counts[bucket(micros)] += 1;
        }
        let p50 = quantile(&counts, 0.5).unwrap();
        assert!((470..=530).contains(&p50), "{p50}");
        assert_eq!(quantile(&[0; BUCKETS], 0.5), None);
    }

    proptest! {
        #[test]
        fn a_bucket_is_within_a_sixteenth(micros in 0u64..1 << 30) {
            let low = floor(bucket(micros));
            prop_assert!(low <= micros);
            prop_assert!(micros - low <= micros / 16 + 1);
        }
    }
}
