// SPDX-License-Identifier: Apache-2.0
//! Lists of fields as bytes: heads and trailers of HTTP/2 messages that wait, or that may have to be sent again.
//!
//! Each field is the lengths of its name and of its value, four bytes each, and the two. Must never be sent as it is. Next: `message.rs`.

/// Appends a field. Both parts are far shorter than 4 GiB: the codec bounds them.
pub(super) fn push(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, value] {
        let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&length.to_ne_bytes());
    }
    out.extend_from_slice(name);
    out.extend_from_slice(value);
}

/// The fields of a list, in their order.
pub(super) fn iter(mut bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
    std::iter::from_fn(move || {
        let (name, rest) = bytes.split_first_chunk::<4>()?;
        let (value, rest) = rest.split_first_chunk::<4>()?;
        let length = |of: &[u8; 4]| usize::try_from(u32::from_ne_bytes(*of)).ok();
        let (name, rest) = rest.split_at_checked(length(name)?)?;
        let (value, rest) = rest.split_at_checked(length(value)?)?;
        bytes = rest;
        Some((name, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_come_back() {
        let mut list = Vec::new();
        let fields: [(&[u8], &[u8]); 3] = [(b":method", b"GET"), (b"a", b""), (b"a", b"b")];
        for (name, value) in fields {
            push(&mut list, name, value);
        }
        assert_eq!(iter(&list).collect::<Vec<_>>(), fields);
        list.pop();
        assert_eq!(iter(&list).count(), 2);
    }
}
