// SPDX-License-Identifier: Apache-2.0
//! The Helm chart, made of the same objects: what differs by a value is written as that value. `deploy/chart/maille` is what this makes.
//!
//! Must never hold an object that `maille install` does not print. Read [`super`] for the objects.

use serde_json::Value;

use super::{Nodes, Options, Replicas, identity, objects};
use crate::emit;
use crate::settings::{Capture, SettingsError};

mod values;

/// What stands in the objects for a value, and the value's name in the chart.
const VALUES: [(&str, &str); 5] = [
    ("maille-chart-namespace", ".Release.Namespace"),
    ("maille-chart-prefix", ".Values.imagePrefix"),
    ("maille-chart-domain", ".Values.trustDomain"),
    ("maille-chart-version", ".Chart.AppVersion"),
    // The one that no object names but as what was chosen.
    (Capture::InboardCni.word(), CAPTURE),
];

/// How pods are captured where the values do not say, as [`Nodes::agents`] has it.
const CAPTURE: &str =
    "(.Values.capture | default (ternary \"outboard\" \"inboard-cni\" .Values.chain))";

/// The chart's files, by their paths in it.
pub fn files(version: &str) -> Result<Vec<(&'static str, String)>, SettingsError> {
    Ok(vec![
        ("Chart.yaml", description(version)),
        ("values.yaml", values::usual()),
        ("values.schema.json", values::schema()),
        ("templates/maille.yaml", template()?),
    ])
}

fn description(version: &str) -> String {
    format!(
        "# Made by `MAILLE_WRITE_REFERENCE=1 cargo test -p maille-inject chart`.\napiVersion: v2\nname: maille\n\
         description: A service mesh\ntype: application\nversion: {version}\nappVersion: {version}\nkubeVersion: \">=1.29.0-0\"\n"
    )
}

/// A line of a template, or lines that differ by a value that is true or false.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Line(String),
    Choice {
        value: &'static str,
        yes: Vec<Self>,
        no: Vec<Self>,
    },
}

fn template() -> Result<String, SettingsError> {
    let agents = Nodes::Agents(Capture::InboardCni);
    let mut all = Vec::new();
    for control in [Replicas::One, Replicas::Three] {
        for (nodes, chain) in [(Nodes::Bare, true), (agents, true), (agents, false)] {
            all.push(objects(&options(control, nodes, chain))?);
        }
    }
    let mut text =
        "{{/* Made by `MAILLE_WRITE_REFERENCE=1 cargo test -p maille-inject chart`. */}}\n"
            .to_owned();
    // What is made for both has every object that there is.
    for object in all.last().into_iter().flatten() {
        let mut variants = all.iter().map(|objects| {
            let same = |other: &&Value| identity(other) == identity(object);
            objects.iter().find(same).map(lines).unwrap_or_default()
        });
        let mut next = || variants.next().unwrap_or_default();
        let [one, three] = [(); 2].map(|()| {
            let [bare, chained, alone] = [(); 3].map(|()| next());
            let agents = chosen(".Values.chain", chained, alone);
            chosen(".Values.cni", agents, bare)
        });
        let mut pieces = chosen(".Values.ha", three, one);
        if object["kind"] == "Namespace" {
            pieces = chosen(".Values.createNamespace", pieces, Vec::new());
        }
        write(&pieces, &mut text);
    }
    Ok(text)
}

fn lines(object: &Value) -> Vec<Piece> {
    let line = |line: &str| Piece::Line(line.to_owned());
    written(object).lines().map(line).collect()
}

/// `yes` where `value` is true and `no` where it is not, with what both have in common said once.
fn chosen(value: &'static str, yes: Vec<Piece>, no: Vec<Piece>) -> Vec<Piece> {
    // How many pieces the two have in common from here on, in order.
    let mut common = vec![vec![0_usize; no.len() + 1]; yes.len() + 1];
    for at in (0..yes.len()).rev() {
        for other in (0..no.len()).rev() {
            common[at][other] = if yes[at] == no[other] {
                common[at + 1][other + 1] + 1
            } else {
                common[at + 1][other].max(common[at][other + 1])
            };
        }
    }
    let (mut pieces, mut apart) = (Vec::new(), (Vec::new(), Vec::new()));
    let part = |apart: &mut (Vec<Piece>, Vec<Piece>), pieces: &mut Vec<Piece>| {
        let (yes, no) = std::mem::take(apart);
        if !yes.is_empty() || !no.is_empty() {
            pieces.push(Piece::Choice { value, yes, no });
        }
    };
    let (mut at, mut other) = (0, 0);
    while at < yes.len() || other < no.len() {
        if at < yes.len() && other < no.len() && yes[at] == no[other] {
            part(&mut apart, &mut pieces);
            pieces.push(yes[at].clone());
            (at, other) = (at + 1, other + 1);
        } else if at < yes.len()
            && (other == no.len() || common[at + 1][other] >= common[at][other + 1])
        {
            apart.0.push(yes[at].clone());
            at += 1;
        } else {
            apart.1.push(no[other].clone());
            other += 1;
        }
    }
    part(&mut apart, &mut pieces);
    pieces
}

/// As Helm reads it: what stands between braces takes the end of the line before away, and leaves its own.
fn write(pieces: &[Piece], text: &mut String) {
    for piece in pieces {
        match piece {
            Piece::Line(line) => text.push_str(&format!("{line}\n")),
            Piece::Choice { value, yes, no } => {
                let (first, second, not) = match yes.is_empty() {
                    true => (no, yes, "not "),
                    false => (yes, no, ""),
                };
                text.push_str(&format!("{{{{- if {not}{value} }}}}\n"));
                write(first, text);
                if !second.is_empty() {
                    text.push_str("{{- else }}\n");
                    write(second, text);
                }
                text.push_str("{{- end }}\n");
            }
        }
    }
}

fn options(control: Replicas, nodes: Nodes, chain: bool) -> Options {
    let [(namespace, _), (prefix, _), (domain, _), (version, _), _] = VALUES;
    let name = |text: &str| text.parse();
    Options {
        version: version.to_owned(),
        // They are names, and a test would say so if they were not.
        namespace: name(namespace).unwrap_or_else(|_| unreachable!("{namespace} is a name")),
        image_prefix: prefix.to_owned(),
        trust_domain: domain
            .parse()
            .unwrap_or_else(|_| unreachable!("{domain} is a trust domain")),
        control,
        nodes,
        chain,
    }
}

/// An object as a template.
fn written(object: &Value) -> String {
    let text = format!("---\n{}", emit::document(object));
    let valued = |text: String, (stands_for, value)| valued(&text, stands_for, value);
    VALUES.into_iter().fold(text, valued)
}

/// With the value where `stands_for` is. One that is a whole text is quoted, so that it stays one.
fn valued(text: &str, stands_for: &str, value: &str) -> String {
    let mut valued = String::new();
    let mut parts = text.split(stands_for).peekable();
    while let Some(before) = parts.next() {
        valued.push_str(before);
        if let Some(after) = parts.peek() {
            let begins = before.ends_with(": ") || before.ends_with("- ");
            let quoted = match begins && after.starts_with('\n') {
                true => " | quote",
                false => "",
            };
            valued.push_str(&format!("{{{{ {value}{quoted} }}}}"));
        }
    }
    valued
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use maille_manifest::yaml;

    use super::*;

    #[test]
    fn chart() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/chart/maille");
        for (name, text) in files(env!("CARGO_PKG_VERSION")).unwrap() {
            let path = dir.join(name);
            if std::env::var_os("MAILLE_WRITE_REFERENCE").is_some() {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, &text).unwrap();
            }
            let kept = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(
                kept, text,
                "{name}: MAILLE_WRITE_REFERENCE=1 cargo test -p maille-inject chart"
            );
        }
    }

    /// What Helm makes of the template: values, and lines that are conditions.
    fn rendered(ha: bool, cni: bool, chain: bool) -> Vec<Value> {
        let (mut text, mut shown) = (String::new(), Vec::new());
        for line in template().unwrap().lines() {
            let condition = line
                .strip_prefix("{{- if ")
                .and_then(|line| line.strip_suffix(" }}"));
            match (condition, line) {
                (Some(condition), _) => shown.push(match condition {
                    ".Values.ha" => ha,
                    "not .Values.ha" => !ha,
                    ".Values.cni" => cni,
                    "not .Values.cni" => !cni,
                    ".Values.chain" => chain,
                    "not .Values.chain" => !chain,
                    ".Values.createNamespace" => true,
                    other => panic!("{other}"),
                }),
                (None, "{{- else }}") => {
                    let last = shown.last_mut().unwrap();
                    *last = !*last;
                }
                (None, "{{- end }}") => assert!(shown.pop().is_some()),
                (None, line) if line.starts_with("{{/*") => {}
                (None, line) if shown.iter().all(|one| *one) => text.push_str(&format!("{line}\n")),
                (None, _) => {}
            }
        }
        assert!(shown.is_empty());
        for (name, value) in [
            (".Release.Namespace", "mesh"),
            (".Values.imagePrefix", "registry.example.com/m"),
            (".Values.trustDomain", "example.com"),
            (".Chart.AppVersion", "1.10"),
            (CAPTURE, if chain { "outboard" } else { "inboard-cni" }),
        ] {
            text = text.replace(
                &format!("{{{{ {name} | quote }}}}"),
                &format!("\"{value}\""),
            );
            text = text.replace(&format!("{{{{ {name} }}}}"), value);
        }
        let nodes = yaml::documents(&text).unwrap();
        nodes.iter().map(yaml::Node::to_json).collect()
    }

    #[test]
    fn the_chart_is_what_install_prints() {
        for ha in [false, true] {
            for (cni, chain) in [(false, true), (true, true), (true, false)] {
                let options = Options {
                    version: "1.10".to_owned(),
                    namespace: "mesh".parse().unwrap(),
                    image_prefix: "registry.example.com/m".to_owned(),
                    trust_domain: "example.com".parse().unwrap(),
                    control: if ha { Replicas::Three } else { Replicas::One },
                    nodes: match cni {
                        true => Nodes::agents(None, chain),
                        false => Nodes::Bare,
                    },
                    chain,
                };
                let printed: Vec<_> = objects(&options).unwrap().iter().map(emit::plain).collect();
                assert_eq!(rendered(ha, cni, chain), printed);
            }
        }
    }

    #[test]
    fn what_two_have_in_common_is_said_once() {
        let line = |text: &str| Piece::Line(text.to_owned());
        let of = |text: &str| text.chars().map(|one| line(&one.to_string())).collect();
        let mut text = String::new();
        write(&chosen("V", of("abxd"), of("abyde")), &mut text);
        assert_eq!(
            text,
            "a\nb\n{{- if V }}\nx\n{{- else }}\ny\n{{- end }}\nd\n{{- if not V }}\ne\n{{- end }}\n"
        );
        let mut text = String::new();
        let nested = chosen("V", of("ab"), of("a"));
        write(&chosen("W", nested.clone(), nested), &mut text);
        assert_eq!(text, "a\n{{- if V }}\nb\n{{- end }}\n");
    }
}
