// SPDX-License-Identifier: Apache-2.0
//! What a text may be: one predicate and one phrase each. The rules are those of Kubernetes' own validation.

use std::net::IpAddr;

/// A rule for a text.
#[derive(Debug)]
pub(crate) struct Check {
    pub(crate) holds: fn(&str) -> bool,
    /// Completes "is not ...".
    pub(crate) expected: &'static str,
}

pub(crate) const ANY: Check = Check {
    holds: |text| !text.contains('\0'),
    expected: "text without a NUL byte",
};

pub(crate) const NAME: Check = Check {
    holds: |text| text.parse::<maille_model::Name>().is_ok(),
    expected: "a name: lower-case letters, digits, '-' and '.', each part starting and ending with a letter or digit",
};

pub(crate) const LABEL: Check = Check {
    holds: is_label,
    expected: "a name of at most 63 lower-case letters, digits and '-', starting and ending with a letter or digit",
};

pub(crate) const PORT_NAME: Check = Check {
    holds: is_port_name,
    expected: "a port's name: at most 15 of a-z, 0-9 and '-', with at least one letter",
};

pub(crate) const ENV_NAME: Check = Check {
    holds: |text| {
        !text.is_empty()
            && text
                .bytes()
                .all(|b| (b' '..=b'~').contains(&b) && b != b'=')
    },
    expected: "a variable's name: printable ASCII without '='",
};

pub(crate) const CONFIG_KEY: Check = Check {
    holds: |text| {
        (1..=253).contains(&text.len())
            && text != "."
            && !text.starts_with("..")
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    },
    expected: "a key: letters, digits, '-', '_' and '.'",
};

pub(crate) const ABSOLUTE_PATH: Check = Check {
    holds: |text| {
        text.starts_with('/') && !text.contains('\0') && !text.split('/').any(|part| part == "..")
    },
    expected: "an absolute path without '..'",
};

pub(crate) const RELATIVE_PATH: Check = Check {
    holds: |text| {
        !text.is_empty()
            && !text.starts_with('/')
            && !text.contains('\0')
            && !text
                .split('/')
                .any(|part| part.is_empty() || part == ".." || part == ".")
    },
    expected: "a relative path without '..'",
};

pub(crate) const STRATEGY_TYPE: Check = Check {
    holds: |text| matches!(text, "RollingUpdate" | "Recreate"),
    expected: "RollingUpdate or Recreate",
};

pub(crate) const TRANSPORT: Check = Check {
    holds: |text| matches!(text, "TCP" | "UDP"),
    expected: "TCP or UDP",
};

pub(crate) const TRAFFIC_DISTRIBUTION: Check = Check {
    holds: |text| matches!(text, "PreferClose" | "PreferSameZone" | "PreferSameNode"),
    expected: "PreferClose, PreferSameZone or PreferSameNode",
};

pub(crate) const SERVICE_TYPE: Check = Check {
    holds: |text| {
        matches!(
            text,
            "ClusterIP" | "NodePort" | "LoadBalancer" | "ExternalName"
        )
    },
    expected: "ClusterIP, NodePort, LoadBalancer or ExternalName",
};

pub(crate) const DNS_NAME: Check = Check {
    holds: |text| {
        let name = text.strip_suffix('.').unwrap_or(text);
        name.parse::<maille_model::ServerName>().is_ok() && name.parse::<IpAddr>().is_err()
    },
    expected: "a name that DNS knows",
};

pub(crate) const IP_OR_NONE: Check = Check {
    holds: |text| text == "None" || text.parse::<IpAddr>().is_ok(),
    expected: "an IP address or None",
};

pub(crate) const IP_FAMILY: Check = Check {
    holds: |text| matches!(text, "IPv4" | "IPv6"),
    expected: "IPv4 or IPv6",
};

pub(crate) const IP_FAMILY_POLICY: Check = Check {
    holds: |text| matches!(text, "SingleStack" | "PreferDualStack" | "RequireDualStack"),
    expected: "SingleStack, PreferDualStack or RequireDualStack",
};

pub(crate) const HTTP_TOKEN: Check = Check {
    holds: |text| {
        !text.is_empty()
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    },
    expected: "a field name of HTTP",
};

pub(crate) const HTTP_VALUE: Check = Check {
    holds: |text| text.bytes().all(|b| b == b'\t' || (b >= b' ' && b != 0x7f)),
    expected: "a field value of HTTP",
};

pub(crate) const LABEL_KEY: Check = Check {
    holds: |text| {
        let (prefix, name) = text
            .rsplit_once('/')
            .map_or((None, text), |(prefix, name)| (Some(prefix), name));
        prefix.is_none_or(|prefix| prefix.parse::<maille_model::Name>().is_ok())
            && is_label_text(name)
    },
    expected: "a label's key: an optional domain and '/', then at most 63 letters, digits, '-', '_' and '.'",
};

pub(crate) const LABEL_VALUE: Check = Check {
    holds: |text| text.is_empty() || is_label_text(text),
    expected: "a label's value: at most 63 letters, digits, '-', '_' and '.', starting and ending with a letter or digit",
};

fn is_label(text: &str) -> bool {
    text.len() <= 63 && !text.contains('.') && text.parse::<maille_model::Name>().is_ok()
}

fn is_label_text(text: &str) -> bool {
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    text.len() <= 63
        && edge(text.bytes().next())
        && edge(text.bytes().next_back())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// IANA_SVC_NAME of RFC 6335.
pub(crate) fn is_port_name(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && text.bytes().any(|b| b.is_ascii_lowercase())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && !text.contains("--")
}
