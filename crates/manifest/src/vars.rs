// SPDX-License-Identifier: Apache-2.0
//! `$(VAR)` in commands, arguments and environments, as Kubernetes expands it: `$$` is a dollar, an unknown name stays as written.

/// `text` with every `$(NAME)` for which `value` knows one replaced. Replacements are not looked at again.
pub fn expand<'v>(text: &str, value: impl Fn(&str) -> Option<&'v str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let after = &from[1..];
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = after.strip_prefix('(').and_then(|t| t.split_once(')'))
        {
            match value(name) {
                Some(value) => out.push_str(value),
                None => out.push_str(&from[..name.len() + 3]),
            }
            rest = after;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::expand;

    #[test]
    fn expands_as_kubernetes_does() {
        let value = |name: &str| match name {
            "A" => Some("alpha"),
            "B" => Some("$(A)"),
            "EMPTY" => Some(""),
            _ => None,
        };
        for (text, expanded) in [
            ("", ""),
            ("$(A)", "alpha"),
            ("x$(A)y$(A)", "xalphayalpha"),
            ("$(B)", "$(A)"),
            ("$(UNKNOWN)", "$(UNKNOWN)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$alpha"),
            ("$A", "$A"),
            ("$(A", "$(A"),
            ("$", "$"),
            ("a$(EMPTY)b", "ab"),
            ("ä$(A)ö", "äalphaö"),
        ] {
            assert_eq!(expand(text, value), expanded, "{text}");
        }
    }
}
