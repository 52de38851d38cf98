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

/// A file of a volume; names with two dots first are the volume's own.
pub(crate) const FILE_PATH: Check = Check {
    holds: |text| (RELATIVE_PATH.holds)(text) && !text.starts_with(".."),
    expected: "a relative path without '..'",
};

pub(crate) const OPERATOR: Check = Check {
    holds: |text| matches!(text, "In" | "NotIn" | "Exists" | "DoesNotExist"),
    expected: "In, NotIn, Exists or DoesNotExist",
};

pub(crate) const SCHEME: Check = Check {
    holds: |text| matches!(text, "HTTP" | "HTTPS"),
    expected: "HTTP or HTTPS",
};

pub(crate) const ACCESS_MODE: Check = Check {
    holds: |text| {
        matches!(
            text,
            "ReadWriteOnce" | "ReadOnlyMany" | "ReadWriteMany" | "ReadWriteOncePod"
        )
    },
    expected: "ReadWriteOnce, ReadOnlyMany, ReadWriteMany or ReadWriteOncePod",
};

pub(crate) const STRATEGY_TYPE: Check = Check {
    holds: |text| matches!(text, "RollingUpdate" | "Recreate"),
    expected: "RollingUpdate or Recreate",
};

pub(crate) const UPDATE_TYPE: Check = Check {
    holds: |text| matches!(text, "RollingUpdate" | "OnDelete"),
    expected: "RollingUpdate or OnDelete",
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

pub(crate) const BASE64: Check = Check {
    holds: |text| crate::objects::from_base64(text).is_some(),
    expected: "base64 (`printf %s TEXT | base64`; or put the text in stringData)",
};

pub(crate) const ADDRESS: Check = Check {
    holds: |text| text.parse::<IpAddr>().is_ok(),
    expected: "an IP address",
};

pub(crate) const ADDRESS_TYPE: Check = Check {
    holds: |text| matches!(text, "IPv4" | "IPv6"),
    expected: "IPv4 or IPv6: a service without a selector leads to addresses",
};

pub(crate) const PORT_NAME_OR_NONE: Check = Check {
    holds: |text| text.is_empty() || is_label(text),
    expected: "a port's name, or an empty text",
};

pub(crate) const NAME_OR_NONE: Check = Check {
    holds: |text| text.is_empty() || (NAME.holds)(text),
    expected: "the name of a Service",
};

pub(crate) const COMPLETION_MODE: Check = Check {
    holds: |text| matches!(text, "NonIndexed" | "Indexed"),
    expected: "NonIndexed or Indexed",
};

pub(crate) const CONCURRENCY: Check = Check {
    holds: |text| matches!(text, "Allow" | "Forbid" | "Replace"),
    expected: "Allow, Forbid or Replace",
};

pub(crate) const POD_MANAGEMENT: Check = Check {
    holds: |text| matches!(text, "OrderedReady" | "Parallel"),
    expected: "OrderedReady or Parallel",
};

pub(crate) const SCHEDULE: Check = Check {
    holds: crate::schedule::is_schedule,
    expected: "a schedule: minute, hour, day of the month, month, day of the week, as in \"*/5 * * * *\"; or @hourly, @daily, @weekly, @monthly, @yearly",
};

pub(crate) const TIME_ZONE: Check = Check {
    holds: crate::schedule::is_time_zone,
    expected: "a time zone, as in Europe/Berlin",
};

pub(crate) const HOST_PATH_TYPE: Check = Check {
    holds: |text| {
        matches!(
            text,
            "" | "Directory"
                | "DirectoryOrCreate"
                | "File"
                | "FileOrCreate"
                | "Socket"
                | "CharDevice"
                | "BlockDevice"
        )
    },
    expected: "Directory, DirectoryOrCreate, File, FileOrCreate, Socket, CharDevice or BlockDevice",
};

pub(crate) const MEDIUM: Check = Check {
    holds: |text| matches!(text, "" | "Memory"),
    expected: "Memory, or an empty text",
};

pub(crate) const CAPABILITY: Check = Check {
    holds: |text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'),
    expected: "a capability without CAP_, as in NET_BIND_SERVICE, or ALL",
};

pub(crate) const ENV_PREFIX: Check = Check {
    holds: |text| text.is_empty() || (ENV_NAME.holds)(text),
    expected: "the beginning of a variable's name: printable ASCII without '='",
};

pub(crate) const RESTART_POLICY: Check = Check {
    holds: |text| matches!(text, "Always" | "OnFailure" | "Never"),
    expected: "Always, OnFailure or Never",
};

pub(crate) const RESTART_ALWAYS: Check = Check {
    holds: |text| text == "Always",
    expected: "Always, the only policy of a container; the pod's restartPolicy is for all others",
};

pub(crate) const DNS_POLICY: Check = Check {
    holds: |text| {
        matches!(
            text,
            "ClusterFirst" | "ClusterFirstWithHostNet" | "Default" | "None"
        )
    },
    expected: "ClusterFirst, ClusterFirstWithHostNet, Default or None",
};

pub(crate) const WORD: Check = Check {
    holds: |text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b':'),
    expected: "one word of ASCII without ':'",
};

pub(crate) const SYSCTL: Check = Check {
    holds: |text| {
        let parts = text.split(['.', '/']);
        text.len() <= 253
            && parts.clone().count() > 1
            && parts.into_iter().all(|part| {
                !part.is_empty()
                    && part
                        .bytes()
                        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b))
            })
    },
    expected: "a setting of the kernel, as in net.core.somaxconn",
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
