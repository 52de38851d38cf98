// SPDX-License-Identifier: Apache-2.0
//! The static table (RFC 7541, appendix A), and the hash by which both tables are searched. Read `encoder.rs` next.

/// Entries 1 to 61.
pub(super) const STATIC: [(&[u8], &[u8]); 61] = [
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""),
    (b"accept-ranges", b""),
    (b"accept", b""),
    (b"access-control-allow-origin", b""),
    (b"age", b""),
    (b"allow", b""),
    (b"authorization", b""),
    (b"cache-control", b""),
    (b"content-disposition", b""),
    (b"content-encoding", b""),
    (b"content-language", b""),
    (b"content-length", b""),
    (b"content-location", b""),
    (b"content-range", b""),
    (b"content-type", b""),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"expect", b""),
    (b"expires", b""),
    (b"from", b""),
    (b"host", b""),
    (b"if-match", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"if-range", b""),
    (b"if-unmodified-since", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"max-forwards", b""),
    (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""),
    (b"range", b""),
    (b"referer", b""),
    (b"refresh", b""),
    (b"retry-after", b""),
    (b"server", b""),
    (b"set-cookie", b""),
    (b"strict-transport-security", b""),
    (b"transfer-encoding", b""),
    (b"user-agent", b""),
    (b"vary", b""),
    (b"via", b""),
    (b"www-authenticate", b""),
];

/// The entry with this index, which is 1 to 61.
pub(super) fn entry(index: usize) -> Option<(&'static [u8], &'static [u8])> {
    STATIC.get(index.checked_sub(1)?).copied()
}

/// The first index of a name whose [`hash`] is given.
#[inline]
pub(super) fn find(name: &[u8], hash: u64) -> Option<usize> {
    let mut slot = slot(hash);
    loop {
        match SLOTS[slot] {
            0 => return None,
            index if STATIC[usize::from(index) - 1].0 == name => return Some(index.into()),
            _ => slot = (slot + 1) % SLOTS.len(),
        }
    }
}

/// The index of the field, given the first one of its name.
#[inline]
pub(super) fn find_value(first: usize, value: &[u8]) -> Option<usize> {
    let (name, _) = entry(first)?;
    let same = STATIC[first - 1..]
        .iter()
        .take_while(|(other, _)| *other == name);
    let place = same.into_iter().position(|(_, known)| *known == value)?;
    Some(first + place)
}

/// A hash of `bytes` that goes on from `seed`. Good enough to tell fields apart; an attacker who finds collisions makes
/// chains of entries that are compared, at most as many as the table has.
#[inline]
pub(super) const fn hash(bytes: &[u8], seed: u64) -> u64 {
    let mut rest = bytes;
    let mut hash = seed ^ bytes.len() as u64;
    while let Some((eight, more)) = rest.split_first_chunk::<8>() {
        hash = mix(hash, u64::from_le_bytes(*eight));
        rest = more;
    }
    let mut last = 0;
    while let [byte, more @ ..] = rest {
        last = last << 8 | *byte as u64;
        rest = more;
    }
    mix(hash, last)
}

const fn mix(hash: u64, word: u64) -> u64 {
    let wide = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    wide ^ wide >> 29
}

const fn slot(hash: u64) -> usize {
    // The eight highest bits, where multiplication mixes best.
    (hash >> 56) as usize
}

/// Indices of names by hash, the next free slot where two meet.
const SLOTS: [u8; 256] = slots();

const fn slots() -> [u8; 256] {
    let mut slots = [0; 256];
    let mut index = 0;
    while index < STATIC.len() {
        let name = STATIC[index].0;
        if index == 0 || !same(name, STATIC[index - 1].0) {
            let mut slot = slot(hash(name, 0));
            while slots[slot] != 0 {
                slot = (slot + 1) % slots.len();
            }
            #[expect(clippy::cast_possible_truncation, reason = "61 at most")]
            {
                slots[slot] = index as u8 + 1;
            }
        }
        index += 1;
    }
    slots
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_found() {
        for (place, &(name, value)) in STATIC.iter().enumerate() {
            let first = find(name, hash(name, 0)).unwrap();
            assert_eq!(STATIC[first - 1].0, name);
            assert_eq!(find_value(first, value), Some(place + 1));
            assert_eq!(find_value(first, b"something else"), None);
        }
        assert_eq!(find(b"Host", hash(b"Host", 0)), None);
        assert_eq!(entry(0), None);
        assert_eq!(entry(62), None);
    }
}
