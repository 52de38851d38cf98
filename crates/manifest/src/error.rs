// SPDX-License-Identifier: Apache-2.0
//! What may be wrong with a manifest, where, and what to do about it. Every text here ends up before a person: name the fix.

use std::fmt;

/// One error: where, and what.
///
/// Shown on one line, without anything that a terminal would obey, and never longer than a screen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", shown(.file, *.line, .path, &.problem.to_string()))]
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

/// Something to know of a manifest that is taken: what was ignored, what will not work. Shown as an error is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// As the person named it.
    pub file: String,
    /// From 1.
    pub line: u64,
    /// `spec.nodeName`
    pub path: String,
    /// What, and why.
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
    #[error("{kind} {name:?} has no key {key:?}{}", hint(.suggestion))]
    UnknownKey {
        kind: &'static str,
        name: String,
        key: String,
        suggestion: Option<String>,
    },
    #[error("no volume of the pod is named {name:?}{}", hint(.suggestion))]
    UnknownVolume {
        name: String,
        suggestion: Option<String>,
    },
    #[error("Service {service:?} has no port named {name:?}{}", hint(.suggestion))]
    UnknownServicePort {
        service: String,
        name: String,
        suggestion: Option<String>,
    },
    #[error("must have exactly one of {0}")]
    ExactlyOne(&'static str),
    #[error("must have at most one of {0}")]
    AtMostOne(&'static str),
    #[error(
        "{value:?} has more than {longest} letters: its pods' names add {room}, and a host name has at most 63"
    )]
    TooLong {
        value: String,
        longest: usize,
        room: &'static str,
    },
    #[error(
        "image {image:?} stands for the program {program:?}, which this machine does not have: \
         say which one is meant (--image {image}=PROGRAM), or give the container a command"
    )]
    NoProgram { image: String, program: String },
    #[error("mounts {path:?} of this machine: allow it with --allow-host-path")]
    Consent { path: String },
    #[error("{path:?} {why}")]
    HostPath { path: String, why: String },
    #[error(
        "this is for kustomize: build it first and give the result to this command as - (kubectl kustomize {directory} | maille ... -)"
    )]
    Kustomize { directory: String },
    #[error(
        "this is a chart of Helm: render it first and give the result to this command as - (helm template {directory} | maille ... -)"
    )]
    Helm { directory: String },
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
    #[error("{value} is no address for services here: leave it out, or take one of {} or {}", ranges[0], ranges[1])]
    OutOfRange { value: String, ranges: [String; 2] },
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
        f.write_str(&shown(&self.file, self.line, &self.path, &self.reason))
    }
}

fn shown(file: &str, line: u64, path: &str, text: &str) -> String {
    /// Letters of a file's name, of a field's path, and of what is said about it.
    const MOST: [usize; 3] = [300, 300, 1000];
    let [file_most, path_most, text_most] = MOST;
    let file = place(&printable(file, file_most), line);
    let path = field(&printable(path, path_most));
    format!("{file}{path}{}", printable(text, text_most))
}

/// `text` as it may go to a terminal: no control characters, nothing that turns the direction of writing, at most `most` letters.
pub fn printable(text: &str, most: usize) -> String {
    let mut shown = String::with_capacity(text.len().min(4 * most));
    for (number, letter) in text.chars().enumerate() {
        if number == most {
            shown.push('…');
            break;
        }
        let turns = matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
        if letter.is_control() || turns {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
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
