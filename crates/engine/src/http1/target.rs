// SPDX-License-Identifier: Apache-2.0
//! The four forms of a request target (RFC 9112, section 3.2), each where it may stand.
//!
//! Must never let a target pass that one reader takes for another host or another path than the next reader does: a form in
//! the wrong place, user information, a fragment. Read `facts.rs` next.

use super::Malformed;
use super::facts::is_host;

/// Checks the form of a target, whose bytes were looked at already.
pub(super) fn check(method: &[u8], target: &[u8]) -> Result<(), Malformed> {
    let form = match (method, target) {
        (b"CONNECT", _) => is_authority(target),
        (b"OPTIONS", b"*") => true,
        (_, [b'/', ..]) => true,
        _ => is_absolute(target),
    };
    (form && !target.contains(&b'#'))
        .then_some(())
        .ok_or(Malformed::Target)
}

/// `uri-host ":" port`, neither of them empty.
fn is_authority(target: &[u8]) -> bool {
    let port = target.rsplit(|&byte| byte == b':').next().unwrap_or(b"");
    let host = target.len().saturating_sub(port.len() + 1);
    host > 0 && !port.is_empty() && is_host(target) && port.iter().all(u8::is_ascii_digit)
}

/// `scheme ":" hier-part`; of `http` and `https` the authority is looked at, which must not have user information (RFC 9110, section 4.2.4).
fn is_absolute(target: &[u8]) -> bool {
    let Some(colon) = target.iter().position(|&byte| byte == b':') else {
        return false;
    };
    let (scheme, rest) = target.split_at(colon);
    let Some((first, others)) = scheme.split_first() else {
        return false;
    };
    let of_scheme = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    if !first.is_ascii_alphabetic() || !others.iter().all(of_scheme) {
        return false;
    }
    let web = scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https");
    match rest.strip_prefix(b"://") {
        Some(rest) if web => {
            let end = rest.iter().position(|byte| b"/?".contains(byte));
            let authority = &rest[..end.unwrap_or(rest.len())];
            !authority.is_empty() && authority[0] != b':' && is_host(authority)
        }
        _ => !web && rest.len() > 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (method, target) in [
            ("GET", "/"),
            ("GET", "//a//b?c=/d&e:f"),
            ("GET", "/a|b{c}\"<>\\^`"),
            ("OPTIONS", "*"),
            ("OPTIONS", "/"),
            ("OPTIONS", "http://a"),
            ("GET", "http://a"),
            ("GET", "HTTP://a:80/b?c"),
            ("GET", "https://[::1]:443?c"),
            ("GET", "ftp://u:p@a/b"),
            ("GET", "urn:a:b"),
            ("CONNECT", "a:443"),
            ("CONNECT", "[::1]:443"),
        ] {
            assert_eq!(
                check(method.as_bytes(), target.as_bytes()),
                Ok(()),
                "{method} {target}"
            );
        }
        for (method, target) in [
            ("GET", "*"),
            ("OPTIONS", "**"),
            ("GET", "a"),
            ("GET", "a/b"),
            ("GET", "?a"),
            ("GET", "/a#b"),
            ("GET", "http://a/#b"),
            ("GET", "http:///a"),
            ("GET", "http://:80/a"),
            ("GET", "http:/a"),
            ("GET", "http:a"),
            ("GET", "http://u@a/"),
            ("GET", "http://u:p@a/"),
            ("GET", "http://a:b/"),
            ("GET", "http://a\\b/"),
            ("GET", "1a://b/"),
            ("GET", ":a"),
            ("GET", "urn:"),
            ("GET", "a:443#"),
            ("CONNECT", "/"),
            ("CONNECT", "*"),
            ("CONNECT", "a"),
            ("CONNECT", "a:"),
            ("CONNECT", ":443"),
            ("CONNECT", "a:b"),
            ("CONNECT", "u@a:443"),
            ("CONNECT", "http://a:443"),
            ("CONNECT", "[::1]"),
        ] {
            let found = check(method.as_bytes(), target.as_bytes());
            assert_eq!(found, Err(Malformed::Target), "{method} {target}");
        }
    }
}
