// SPDX-License-Identifier: Apache-2.0
//! The Helm chart, made of the same objects: what differs by a value is written as that value. `deploy/chart/maille` is what this makes.
//!
//! Must never hold an object that `maille install` does not print. Read [`super`] for the objects.

use serde_json::Value;

use super::{Nodes, Options, Replicas, identity, objects};
use crate::emit;
use crate::settings::SettingsError;

/// What stands in the objects for a value, and the value's name in the chart.
const VALUES: [(&str, &str); 4] = [
    ("maille-chart-namespace", ".Release.Namespace"),
    ("maille-chart-prefix", ".Values.imagePrefix"),
    ("maille-chart-domain", ".Values.trustDomain"),
    ("maille-chart-version", ".Chart.AppVersion"),
];

/// The chart's files, by their paths in it.
pub fn files(version: &str) -> Result<Vec<(&'static str, String)>, SettingsError> {
    Ok(vec![
        ("Chart.yaml", description(version)),
        ("values.yaml", values()),
        ("templates/maille.yaml", template()?),
    ])
}

fn description(version: &str) -> String {
    format!(
        "# Made by `MAILLE_WRITE_REFERENCE=1 cargo test -p maille-inject chart`.\napiVersion: v2\nname: maille\n\
         description: A service mesh\ntype: application\nversion: {version}\nappVersion: {version}\nkubeVersion: \">=1.29.0-0\"\n"
    )
}

fn values() -> String {
    "# Made by `MAILLE_WRITE_REFERENCE=1 cargo test -p maille-inject chart`. The same as the options of `maille install`.\n\
     # Run control three times, on nodes apart.\nha: false\n\
     # What the images' names begin with.\nimagePrefix: maille.io\n\
     # Who vouches for identities: the first part of every one of them.\ntrustDomain: cluster.local\n\
     # Whether the chart makes the release's namespace, with its labels; false where it is there before (helm --create-namespace).\n\
     createNamespace: false\n"
        .to_owned()
}

fn template() -> Result<String, SettingsError> {
    let one = objects(&options(Replicas::One))?;
    let three = objects(&options(Replicas::Three))?;
    let mut text =
        "{{/* Made by `MAILLE_WRITE_REFERENCE=1 cargo test -p maille-inject chart`. */}}\n"
            .to_owned();
    for object in &three {
        let alone = one.iter().find(|other| identity(other) == identity(object));
        let highly = written(object);
        match alone.map(written) {
            _ if object["kind"] == "Namespace" => {
                text.push_str(&format!(
                    "{{{{- if .Values.createNamespace }}}}\n{highly}{{{{- end }}}}\n"
                ));
            }
            Some(same) if same == highly => text.push_str(&highly),
            Some(other) => text.push_str(&format!(
                "{{{{- if .Values.ha }}}}\n{highly}{{{{- else }}}}\n{other}{{{{- end }}}}\n"
            )),
            None => text.push_str(&format!(
                "{{{{- if .Values.ha }}}}\n{highly}{{{{- end }}}}\n"
            )),
        }
    }
    Ok(text)
}

fn options(control: Replicas) -> Options {
    let [(namespace, _), (prefix, _), (domain, _), (version, _)] = VALUES;
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
        nodes: Nodes::Bare,
    }
}

/// An object as a template. A value that is a whole text is quoted, so that it stays one.
fn written(object: &Value) -> String {
    let mut text = format!("---\n{}", emit::document(object));
    for (stands_for, value) in VALUES {
        for before in [": ", "- "] {
            let whole = format!("{before}{stands_for}\n");
            text = text.replace(&whole, &format!("{before}{{{{ {value} | quote }}}}\n"));
        }
        text = text.replace(stands_for, &format!("{{{{ {value} }}}}"));
    }
    text
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

    /// What Helm makes of the template: values, and lines that are conditions, none within another.
    fn rendered(ha: bool) -> Vec<Value> {
        let mut text = String::new();
        let mut shown = true;
        for line in template().unwrap().lines() {
            match line {
                "{{- if .Values.ha }}" => shown = ha,
                "{{- if .Values.createNamespace }}" => shown = true,
                "{{- else }}" => shown = !ha,
                "{{- end }}" => shown = true,
                line if line.starts_with("{{/*") => {}
                line if shown => text.push_str(&format!("{line}\n")),
                _ => {}
            }
        }
        for (name, value) in [
            (".Release.Namespace", "mesh"),
            (".Values.imagePrefix", "registry.example.com/m"),
            (".Values.trustDomain", "example.com"),
            (".Chart.AppVersion", "1.10"),
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
        for (ha, control) in [(false, Replicas::One), (true, Replicas::Three)] {
            let options = Options {
                version: "1.10".to_owned(),
                namespace: "mesh".parse().unwrap(),
                image_prefix: "registry.example.com/m".to_owned(),
                trust_domain: "example.com".parse().unwrap(),
                control,
                nodes: Nodes::Bare,
            };
            let printed: Vec<_> = objects(&options).unwrap().iter().map(emit::plain).collect();
            assert_eq!(rendered(ha), printed);
        }
    }
}
