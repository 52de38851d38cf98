// SPDX-License-Identifier: Apache-2.0
//! Names and uids of pods: `DEPLOYMENT-HASH-SUFFIX`, where the hash tells one template from the next.

use std::io::Read as _;

use maille_manifest::objects::PodTemplate;

/// Without vowels and look-alikes, as Kubernetes does, so that no name says anything.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// What tells a template from the next one.
pub(crate) fn hash(template: &PodTemplate) -> String {
    // Keys are strings and no value has a fallible serialisation.
    hash_of(&serde_json::to_vec(template).unwrap_or_default())
}

fn hash_of(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    letters(hash, 9)
}

/// A pod's name from its Deployment's, the template's hash, and randomness.
pub(crate) fn pod(deployment: &str, hash: &str, random: u64) -> String {
    format!("{deployment}-{hash}-{}", letters(random, 5))
}

/// A pod's name from its owner's and randomness.
pub(crate) fn short(owner: &str, random: u64) -> String {
    format!("{owner}-{}", letters(random, 5))
}

fn letters(mut number: u64, count: usize) -> String {
    let mut text = String::with_capacity(count);
    for _ in 0..count {
        let index = usize::try_from(number % 27).unwrap_or(0);
        text.push(char::from(ALPHABET.get(index).copied().unwrap_or(b'x')));
        number /= 27;
    }
    text
}

/// A version 4 uuid (RFC 9562) of 16 random bytes.
pub(crate) fn uid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default().concat();
    format!(
        "{}-{}-{}-{}-{}",
        part(0, 4),
        part(4, 6),
        part(6, 8),
        part(8, 10),
        part(10, 16)
    )
}

/// Random bytes of the kernel.
pub(crate) fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names_and_tell_templates_apart() {
        let (one, other) = (hash_of(b"{}"), hash_of(b"{ }"));
        assert_ne!(one, other);
        assert_eq!(pod("web", &one, 7), pod("web", &one, 7));
        assert_ne!(pod("web", &one, 7), pod("web", &one, 8));
        assert_eq!(pod("web", &one, 7).len(), "web".len() + 16);
        for random in [0, 1, u64::MAX] {
            let name = pod(&"a".repeat(47), &one, random);
            assert!(name.parse::<maille_model::Name>().is_ok());
        }
    }

    #[test]
    fn uids_are_version_four() {
        assert_eq!(uid([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(uid([0; 16]), "00000000-0000-4000-8000-000000000000");
        assert_ne!(random::<16>().unwrap(), random::<16>().unwrap());
    }
}
