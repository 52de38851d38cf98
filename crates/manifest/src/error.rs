// SPDX-License-Identifier: Apache-2.0
//! What may be wrong with a manifest, where, and what to do about it. Every text here ends up before a person: name the fix.

use std::fmt;

/// One error: where, and what.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}{problem}", place(.file, *.line), field(.path))]
pub struct ManifestError {
    /// As the person named it; `-` is standard input.
    pub file: String,
    /// From 1; 0 when the error is about the whole file.
    pub line: u64,
    /// `spec.ports[0].targetPort`; empty when it is about a whole object or file.
    pub path: String,
    /// What is wrong.
    pub problem: Problem,
}

/// Something that was ignored and changes nothing that matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// As the person named it.
    pub file: String,
    /// From 1.
    pub line: u64,
    /// `spec.nodeName`
    pub path: String,
    /// Why it may be ignored.
    pub reason: String,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the texts are the documentation")]
pub enum Problem {
    #[error("cannot be read: {0}")]
    Read(String),
    #[error("is larger than {0} bytes, which no manifest is")]
    TooLarge(usize),
    #[error("no .yaml, .yml or .json file in this directory")]
    NoFiles,
    #[error("no object in it")]
    Empty,
    #[error("is not YAML: {0}")]
    Syntax(String),
    #[error("more errors than are shown: mend the first {0} and try again")]
    TooMany(usize),
    #[error("unknown field{}", hint(.suggestion))]
    UnknownField { suggestion: Option<String> },
    #[error("unknown annotation{}", hint(.suggestion))]
    UnknownAnnotation { suggestion: Option<String> },
    #[error("is not supported: {reason}")]
    Unsupported { reason: &'static str },
    #[error("{value:?} is not supported: {reason}")]
    UnsupportedValue { value: String, reason: &'static str },
    #[error("missing: {what}")]
    Missing { what: &'static str },
    #[error("is {found}, must be {expected}")]
    Type { found: String, expected: String },
    #[error("unknown kind {kind:?} of {api_version:?}{}", hint(.suggestion))]
    UnknownKind {
        api_version: String,
        kind: String,
        suggestion: Option<String>,
    },
    #[error("kind {kind} is not supported: {reason}")]
    UnsupportedKind { kind: String, reason: &'static str },
    #[error("is {found:?}, must be {expected:?} for kind {kind}")]
    ApiVersion {
        kind: String,
        found: String,
        expected: &'static str,
    },
    #[error("{0}")]
    Name(maille_model::NameError),
    #[error("{value:?} is not {expected}")]
    Malformed {
        value: String,
        expected: &'static str,
    },
    #[error("{value:?} is used twice{}", earlier(.first))]
    Duplicate {
        value: String,
        first: Option<String>,
    },
    #[error("{kind} {name} is declared twice, first at {first}")]
    DuplicateObject {
        kind: &'static str,
        name: String,
        first: String,
    },
    #[error("selects {selector}, which the template's labels do not have: use the same in both")]
    SelectorMismatch { selector: String },
    #[error("no container of the pods has a port named {name:?}{}", hint(.suggestion))]
    UnknownPort {
        name: String,
        suggestion: Option<String>,
    },
    #[error("there is no {kind} {name:?} here{}", hint(.suggestion))]
    UnknownObject {
        kind: &'static str,
        name: String,
        suggestion: Option<String>,
    },
    #[error("ConfigMap {name:?} has no key {key:?}{}", hint(.suggestion))]
    UnknownKey {
        name: String,
        key: String,
        suggestion: Option<String>,
    },
    #[error("no volume of the pod is named {name:?}{}", hint(.suggestion))]
    UnknownVolume {
        name: String,
        suggestion: Option<String>,
    },
    #[error("must have exactly one of {0}")]
    ExactlyOne(&'static str),
    #[error("address {address} is already {owner}'s")]
    AddressTaken { address: String, owner: String },
    #[error("{address} is not {family}, which spec.ipFamilies[{index}] asks for")]
    AddressFamily {
        address: String,
        index: usize,
        family: &'static str,
    },
    #[error("two families need spec.ipFamilyPolicy: PreferDualStack or RequireDualStack")]
    SingleStack,
    #[error("is {value}, must be {single} as spec.clusterIP is")]
    NotFirst { value: String, single: String },
    #[error("None must be alone")]
    NoneAlone,
    #[error("a service that is another name has no address")]
    AliasAddress,
    #[error("Service {namespace}/{name} is the cluster's own: use another name or namespace")]
    ClustersOwn {
        namespace: &'static str,
        name: &'static str,
    },
    #[error("no service address is left in the range")]
    NoAddressLeft,
}

// === impl Warning ===

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}{}ignored: {}",
            place(&self.file, self.line),
            field(&self.path),
            self.reason
        )
    }
}

fn place(file: &str, line: u64) -> String {
    if line == 0 {
        format!("{file}: ")
    } else {
        format!("{file}:{line}: ")
    }
}

fn field(path: &str) -> String {
    if path.is_empty() {
        String::new()
    } else {
        format!("{path}: ")
    }
}

fn hint(suggestion: &Option<String>) -> String {
    suggestion
        .as_ref()
        .map(|s| format!(", did you mean {s:?}?"))
        .unwrap_or_default()
}

fn earlier(first: &Option<String>) -> String {
    first
        .as_ref()
        .map(|f| format!(", first in {f}"))
        .unwrap_or_default()
}
