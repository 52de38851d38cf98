// SPDX-License-Identifier: Apache-2.0
//! Every line of every table does what it says, alone and with a value of its type.

use serde_json::Value;

use super::*;
use crate::error::Problem;
use crate::walk::{Report, Walk};
use crate::yaml;

/// A value that `kind` takes, and one that it does not.
fn samples(kind: &Type) -> (String, String) {
    match kind {
        Type::Text(check) => (text(check), "[]".to_owned()),
        Type::Bool => ("true".to_owned(), "maybe".to_owned()),
        Type::Int(low, high) => {
            let beyond = i64::from(*high) + 1;
            (low.to_string(), beyond.to_string())
        }
        Type::PortOrName => ("http".to_owned(), "70000".to_owned()),
        Type::Amount => ("25%".to_owned(), "x".to_owned()),
        Type::Quantity => ("64Mi".to_owned(), "64Mib".to_owned()),
        Type::Object(fields) => (object(fields), "7".to_owned()),
        Type::List(item) => (format!("[{}]", samples(item).0), "{}".to_owned()),
        Type::Map(keys, values) => {
            let pair = format!("{{{}: {}}}", text(keys), samples(values).0);
            (pair, "[]".to_owned())
        }
    }
}

/// What is needed of an object and no more.
fn object(fields: &[Field]) -> String {
    let needed = fields.iter().filter(|field| field.required.is_some());
    let pairs = needed.map(|field| match &field.rule {
        Rule::Take(kind) => format!("{}: {}", field.name, samples(kind).0),
        other => panic!("{} is needed and {other:?}", field.name),
    });
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
}

/// Texts of which every check takes one.
const TRIED: &[&str] = &[
    "name",
    "In",
    "HTTPS",
    "HTTP",
    "ReadWriteOnce",
    "Recreate",
    "OnDelete",
    "Parallel",
    "Indexed",
    "Forbid",
    "UDP",
    "ExternalName",
    "NodePort",
    "/path",
    "TCP",
    "IPv4",
    "10.0.0.1",
    "ClusterIP",
    "None",
    "SingleStack",
    "Always",
    "PreferClose",
    "Memory",
    "Directory",
    "NAME",
    "RollingUpdate",
    "NonIndexed",
    "Allow",
    "OrderedReady",
    "* * * * *",
    "UTC",
    "ClusterFirst",
    "net.core.somaxconn",
    "aGVsbG8=",
];

/// A text that `check` takes.
fn text(check: &Check) -> String {
    let found = TRIED.iter().find(|text| (check.holds)(text));
    format!(
        "{:?}",
        found.unwrap_or_else(|| panic!("no text is {}", check.expected))
    )
}

/// What becomes of an object with what it needs and one field more.
fn walk(fields: &'static [Field], name: &str, value: &str) -> (Value, Report) {
    let needed = fields
        .iter()
        .filter(|field| field.required.is_some() && field.name != name);
    let mut text: String = needed
        .map(|field| match &field.rule {
            Rule::Take(kind) => format!("{}: {}\n", field.name, samples(kind).0),
            other => panic!("{} is needed and {other:?}", field.name),
        })
        .collect();
    text.push_str(&format!("{name}: {value}\n"));
    let nodes = yaml::documents(&text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
    let mut report = Report::default();
    let value = Walk::new("a.yaml", &mut report).object(&nodes[0], fields);
    (value, report)
}

fn problems(report: &Report) -> Vec<(&str, &Problem)> {
    let errors = report.errors.iter();
    errors
        .map(|error| (error.path.as_str(), &error.problem))
        .collect()
}

/// Every table there is: those of kinds, those with a section, and those below them.
fn tables() -> Vec<&'static [Field]> {
    fn below(kind: &'static Type, found: &mut Vec<&'static [Field]>) {
        match kind {
            Type::Object(fields) => add(fields, found),
            Type::List(item) | Type::Map(_, item) => below(item, found),
            _ => {}
        }
    }
    fn add(fields: &'static [Field], found: &mut Vec<&'static [Field]>) {
        if found.iter().any(|known| known.as_ptr() == fields.as_ptr()) {
            return;
        }
        found.push(fields);
        for field in fields {
            if let Rule::Take(kind) = &field.rule {
                below(kind, found);
            }
        }
    }
    let mut found = Vec::new();
    for (_, _, rule) in KINDS {
        if let KindRule::Take(fields) = rule {
            add(fields, &mut found);
        }
    }
    for (name, fields) in TYPES {
        let known = found.iter().any(|known| known.as_ptr() == fields.as_ptr());
        assert!(known, "{name} is a type of nothing");
    }
    found
}

#[test]
fn every_field_does_what_its_line_says() {
    let mut lines = 0;
    for fields in tables() {
        for field in fields {
            lines += 1;
            let name = field.name;
            match &field.rule {
                Rule::Take(kind) => {
                    let (good, bad) = samples(kind);
                    let (value, report) = walk(fields, name, &good);
                    assert_eq!(problems(&report), [], "{name}: {good}");
                    assert!(
                        report.warnings.is_empty() && !value[name].is_null(),
                        "{name}: {value}"
                    );
                    let (_, report) = walk(fields, name, &bad);
                    let first = report.errors.first();
                    assert_eq!(first.map(|error| error.path.as_str()), Some(name), "{bad}");
                }
                Rule::Warn(why) => {
                    let (value, report) = walk(fields, name, "anything");
                    assert_eq!(problems(&report), [], "{name}");
                    let told = report
                        .warnings
                        .iter()
                        .map(|w| (w.path.as_str(), w.reason.as_str()));
                    assert_eq!(
                        told.collect::<Vec<_>>(),
                        [(name, format!("ignored: {why}").as_str())]
                    );
                    assert!(value.get(name).is_none());
                }
                Rule::Refuse(why) => {
                    let (_, report) = walk(fields, name, "anything");
                    let expected = Problem::Unsupported { reason: why };
                    assert_eq!(problems(&report), [(name, &expected)]);
                }
                Rule::Only(values, why) => {
                    for value in *values {
                        let (_, report) = walk(fields, name, value);
                        assert_eq!(problems(&report), [], "{name}: {value}");
                        assert!(report.warnings.is_empty());
                    }
                    let (_, report) = walk(fields, name, "something-else");
                    let (value, reason) = ("something-else".to_owned(), *why);
                    let expected = Problem::UnsupportedValue { value, reason };
                    assert_eq!(problems(&report), [(name, &expected)]);
                }
            }
            // What is absent is asked for, where it is needed.
            if let Some(what) = field.required {
                let (_, report) = walk(fields, name, "null");
                let expected = Problem::Missing { what };
                assert_eq!(problems(&report), [(name, &expected)]);
            }
        }
        let (_, report) = walk(fields, "nobodyKnowsThis", "1");
        assert!(matches!(
            problems(&report)[..],
            [("nobodyKnowsThis", Problem::UnknownField { .. })]
        ));
    }
    assert!(lines > 300, "only {lines} lines were looked at");
}

#[test]
fn names_are_told_once() {
    for fields in tables() {
        for (index, field) in fields.iter().enumerate() {
            let twice = fields[..index].iter().any(|other| other.name == field.name);
            assert!(!twice, "{} stands twice", field.name);
        }
    }
}

#[test]
fn every_kind_does_what_its_line_says() {
    for (version, kind, rule) in KINDS {
        let body = match rule {
            KindRule::Take(fields) => object(fields),
            _ => "{metadata: {name: a}}".to_owned(),
        };
        let body = body.trim_start_matches('{').trim_end_matches('}');
        let closed = format!("{{apiVersion: {version}, kind: {kind}, {body}");
        let open = closed.matches('{').count() - closed.matches('}').count();
        let beside = "---\n{apiVersion: v1, kind: Namespace, metadata: {name: beside}}";
        let text = format!("{closed}{}\n{beside}\n", "}".repeat(open));
        let loaded = crate::load_text(&[("a.yaml".to_owned(), text.clone())]);
        let told: Vec<String> = match &loaded {
            Ok(loaded) => loaded.warnings.iter().map(ToString::to_string).collect(),
            Err(errors) => errors.iter().map(ToString::to_string).collect(),
        };
        match rule {
            // What the walk takes may still make no sense as a whole; but it is never of an unknown kind.
            KindRule::Take(_) => assert!(
                told.iter().all(|told| !told.contains("kind:")),
                "{text}: {told:?}"
            ),
            KindRule::Warn(why) => assert!(
                told[0].ends_with(&format!("kind {kind}: {why}")),
                "{told:?}"
            ),
            KindRule::Refuse(why) => {
                assert!(
                    told[0].ends_with(&format!("kind {kind} is not supported: {why}")),
                    "{told:?}"
                );
            }
        }
    }
}

/// Values of `kind`, of which at least one is nobody's default.
fn values(kind: &'static Type) -> Vec<Value> {
    match kind {
        Type::Text(check) => TRIED
            .iter()
            .filter(|text| (check.holds)(text))
            .map(|text| Value::from(*text))
            .collect(),
        Type::Bool => vec![true.into(), false.into()],
        Type::Int(low, high) => vec![7.clamp(*low, *high).into()],
        Type::PortOrName => vec!["http".into()],
        Type::Amount => vec!["30%".into()],
        Type::Quantity => vec!["64Mi".into()],
        Type::Object(fields) => vec![needed(fields)],
        Type::List(item) => values(item)
            .into_iter()
            .map(|one| vec![one].into())
            .collect(),
        Type::Map(keys, item) => {
            let key = TRIED.iter().find(|text| (keys.holds)(text)).unwrap();
            let values = values(item).into_iter();
            values.map(|one| serde_json::json!({ *key: one })).collect()
        }
    }
}

/// What is needed of an object and no more.
fn needed(fields: &'static [Field]) -> Value {
    let needed = fields.iter().filter(|field| field.required.is_some());
    let pairs = needed.map(|field| match &field.rule {
        Rule::Take(kind) => (field.name.to_owned(), values(kind)[0].clone()),
        other => panic!("{} is needed and {other:?}", field.name),
    });
    Value::Object(pairs.collect())
}

/// The fields below `fields` that hold a value of their own, each by its path: names, and an empty one for an item of a list.
fn leaves(
    fields: &'static [Field],
    above: &[&'static str],
    found: &mut Vec<(Vec<&'static str>, &'static Type)>,
) {
    for field in fields {
        let Rule::Take(kind) = &field.rule else {
            continue;
        };
        let mut path = [above, &[field.name]].concat();
        match kind {
            Type::Object(fields) => leaves(fields, &path, found),
            Type::List(Type::Object(fields)) => {
                path.push("");
                leaves(fields, &path, found);
            }
            kind => found.push((path, kind)),
        }
    }
}

/// An object with what it needs, and `value` at `path`.
fn with(fields: &'static [Field], path: &[&str], value: Value) -> Value {
    let mut object = needed(fields);
    let (name, rest) = path.split_first().unwrap();
    let field = fields.iter().find(|field| field.name == *name).unwrap();
    let Rule::Take(kind) = &field.rule else {
        panic!("{name}")
    };
    object[*name] = match (kind, rest) {
        (_, []) => value,
        (Type::Object(fields), rest) => with(fields, rest, value),
        (Type::List(Type::Object(fields)), ["", rest @ ..]) => {
            vec![with(fields, rest, value)].into()
        }
        (kind, rest) => panic!("{kind:?} {rest:?}"),
    };
    object
}

/// A line of a table that no object has would be a field that is taken and forgotten.
#[test]
fn what_is_taken_is_in_the_object() {
    let mut looked_at = 0;
    for (version, kind, rule) in KINDS {
        let KindRule::Take(fields) = rule else {
            continue;
        };
        let mut found = Vec::new();
        leaves(fields, &[], &mut found);
        for (path, leaf) in found {
            if path == ["apiVersion"]
                || path == ["kind"]
                || path.ends_with(&["", "apiVersion"])
                || path.ends_with(&["", "kind"])
            {
                continue;
            }
            looked_at += 1;
            let pointer: String = path
                .iter()
                .map(|step| {
                    if step.is_empty() {
                        "/0".to_owned()
                    } else {
                        format!("/{step}")
                    }
                })
                .collect();
            let kept = values(leaf).into_iter().any(|value| {
                let whole = with(fields, &path, value.clone());
                let object = crate::load::object(kind, whole.clone())
                    .unwrap_or_else(|error| panic!("{kind} {pointer}: {error}: {whole}"));
                let told: Value = serde_json::from_slice(&crate::object_json(&object)).unwrap();
                assert_eq!(told["apiVersion"], *version);
                told.pointer(&pointer) == Some(&value)
            });
            assert!(kept, "{kind} {pointer}: taken, and not in the object");
        }
    }
    assert!(looked_at > 900, "only {looked_at} fields were looked at");
}
