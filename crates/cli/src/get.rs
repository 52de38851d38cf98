// SPDX-License-Identifier: Apache-2.0
//! `maille get`: what runs, object by object, with kubectl's columns. Must never change anything. Read `get/columns.rs` for the columns.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::args::orders::{Form, Get};
use crate::failure::Expected;
use crate::names::{Kind, Named, name, namespace};
use crate::node;
use crate::screen::{Screen, print, print_json, table};
use crate::state::{Base, State};
use crate::text::{clean, guard_json, is_plain};

mod age;
mod columns;
mod endpoints;
mod watch;

/// What `all` means, as for kubectl.
const ALL: &str = "pods,services,deployments,daemonsets,statefulsets,replicasets,jobs,cronjobs";

pub(crate) async fn run(args: &Get, base: &Base, screen: Screen) -> anyhow::Result<ExitCode> {
    let state = base.state(&args.which.name)?;
    let selector = args.selector.as_deref().map(labels).transpose()?;
    kinds(args)?;
    let objects = read(&state).await?;
    let groups = groups(args, &objects, selector.as_deref(), Absent::Refused)?;
    let all = flat(&groups);
    if all.is_empty() {
        let place = args
            .namespace
            .as_deref()
            .map(|n| format!(" in {n} namespace"))
            .unwrap_or_default();
        screen.say(&format!("No resources found{place}."));
    }
    if args.watch {
        return watch::run(args, &state, &groups, selector.as_deref()).await;
    }
    match args.output {
        Form::Json => {
            print_json(&listed(args, &all))?;
        }
        Form::Yaml => {
            print(&yaml(&listed(args, &all))?)?;
        }
        Form::Name if all.is_empty() => {}
        Form::Name => {
            let lines: Vec<String> = groups
                .iter()
                .flat_map(|(kind, found)| found.iter().map(|object| kind.report(name(object))))
                .collect();
            print(&lines.join("\n"))?;
        }
        Form::Table | Form::Wide => {
            let shown = groups.iter().filter(|(_, found)| !found.is_empty());
            let several = shown.clone().count() > 1;
            let tables: Vec<String> = shown
                .map(|(kind, found)| rows(args, *kind, found, several))
                .collect();
            if !tables.is_empty() {
                print(&tables.join("\n"))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Every object, with those that are made of others.
async fn read(state: &State) -> Result<Vec<Value>, Expected> {
    let mut objects = node::objects(state).await?;
    let endpoints = endpoints::of(&objects);
    objects.extend(endpoints);
    Ok(objects)
}

/// What an object is that was named and is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Absent {
    /// A mistake.
    Refused,
    /// One that went, while it was watched.
    Gone,
}

/// Kinds, each with objects.
type Groups<'a> = Vec<(Kind, Vec<&'a Value>)>;

fn flat<'a>(groups: &Groups<'a>) -> Vec<&'a Value> {
    let each = groups.iter().flat_map(|(_, found)| found.iter().copied());
    each.collect()
}

/// Whether an object is where, and labelled as, it was asked for.
fn fits(args: &Get, selector: Option<&[(String, String)]>, object: &Value) -> bool {
    let labels = &object["metadata"]["labels"];
    let wanted = args.namespace.as_deref();
    let here = namespace(object);
    let mut pairs = selector.into_iter().flatten();
    wanted.is_none_or(|wanted| here == wanted || here.is_empty())
        && pairs.all(|(key, value)| labels[key] == value.as_str())
}

/// What was asked for, as far as it can be understood without knowing what runs.
fn kinds(args: &Get) -> Result<(), Expected> {
    if args.kind.contains('/') {
        let mut each = std::iter::once(&args.kind).chain(&args.names);
        return each.try_for_each(|text| Named::parse(text, "pod").map(drop));
    }
    let words = if args.kind == "all" { ALL } else { &args.kind };
    words.split(',').try_for_each(|word| {
        Kind::parse(word)?;
        let mut names = args.names.iter();
        names.try_for_each(|text| Named::parse(text, word).map(drop))
    })
}

/// The kinds that were asked for, in that order, each with its objects by name.
fn groups<'a>(
    args: &Get,
    objects: &'a [Value],
    selector: Option<&[(String, String)]>,
    absent: Absent,
) -> Result<Groups<'a>, Expected> {
    let find = |named: &Named, wanted: Option<&str>| match named.find(objects, wanted) {
        Ok(object) => Ok(Some(object)),
        Err(error) if absent == Absent::Refused => Err(error),
        Err(_) => Ok(None),
    };
    if args.kind.contains('/') {
        let each = std::iter::once(&args.kind).chain(&args.names).map(|text| {
            let named = Named::parse(text, "pod")?;
            let object = find(&named, args.namespace.as_deref())?;
            Ok((named.kind, object.into_iter().collect()))
        });
        return each.collect();
    }
    let kinds = if args.kind == "all" { ALL } else { &args.kind };
    let of = |word: &str| {
        let kind = Kind::parse(word)?;
        if !args.names.is_empty() {
            let mut found = Vec::new();
            for text in &args.names {
                let named = Named::parse(text, word)?;
                let wanted = args.namespace.as_deref();
                found.extend(find(&named, wanted.filter(|_| kind.name != "Namespace"))?);
            }
            return Ok((kind, found));
        }
        let mut found: Vec<&Value> = objects
            .iter()
            .filter(|object| object["kind"] == kind.name && fits(args, selector, object))
            .collect();
        found.sort_by_key(|object| (namespace(object), name(object)));
        Ok((kind, found))
    };
    kinds.split(',').map(of).collect()
}

/// One object where one was named, else a List.
fn listed(args: &Get, all: &[&Value]) -> Value {
    let named = args.names.len() + usize::from(args.kind.contains('/'));
    match all {
        [only] if named == 1 => (*only).clone(),
        _ => json!({"apiVersion": "v1", "kind": "List", "items": all}),
    }
}

fn rows(args: &Get, kind: Kind, found: &[&Value], several: bool) -> String {
    let whole = found.iter().all(|object| namespace(object).is_empty());
    let places = args.namespace.is_none() && !whole;
    let rows = cells(args, kind, found, (several, places));
    table(&head(args, kind, places), &rows, &[])
}

fn head(args: &Get, kind: Kind, places: bool) -> Vec<&'static str> {
    let mut head = columns::head(kind.name, args.output == Form::Wide);
    if places {
        head.insert(0, "NAMESPACE");
    }
    head
}

/// A row for each object; with the kind before its name, and with its namespace, where that is wanted.
fn cells(
    args: &Get,
    kind: Kind,
    found: &[&Value],
    (several, places): (bool, bool),
) -> Vec<Vec<String>> {
    let wide = args.output == Form::Wide;
    let now = age::now();
    found
        .iter()
        .map(|object| {
            let mut row = columns::row(kind.name, object, wide, now);
            if several && let Some(first) = row.first_mut() {
                *first = kind.report(first);
            }
            if places {
                row.insert(0, clean(namespace(object)));
            }
            row
        })
        .collect()
}

/// YAML; where a text holds what no terminal should be shown, in YAML's other form, which is JSON and has escapes for it.
fn yaml(value: &Value) -> anyhow::Result<String> {
    if holds_only_plain(value) {
        return Ok(serde_saphyr::to_string(value)?);
    }
    Ok(guard_json(&serde_json::to_string_pretty(value)?))
}

fn holds_only_plain(value: &Value) -> bool {
    match value {
        Value::String(text) => is_plain(text),
        Value::Array(list) => list.iter().all(holds_only_plain),
        Value::Object(map) => map
            .iter()
            .all(|(key, value)| is_plain(key) && holds_only_plain(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
    }
}

/// `app=web,tier=front`
fn labels(text: &str) -> Result<Vec<(String, String)>, Expected> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once("==").or_else(|| pair.split_once('='))?;
        let plain = !key.is_empty() && !key.ends_with('!') && !value.contains(['(', '=']);
        plain.then(|| (key.trim().to_owned(), value.trim().to_owned()))
    };
    let pairs: Option<Vec<_>> = text.split(',').map(pair).collect();
    pairs.ok_or_else(|| Expected::Wrong {
        what: format!("{text:?} is no selector that is understood"),
        hint: "say KEY=VALUE, with commas between several".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_is_yaml_and_harms_nobody() {
        let plain = json!({"a": "text\nof two\tlines", "b": [1, null, true]});
        let hostile = json!({"a": "\u{1b}[2J", "\u{202e}": ["\u{9b}\r"]});
        for value in [plain, hostile] {
            let text = yaml(&value).unwrap();
            assert!(is_plain(&text), "{text:?}");
            assert_eq!(serde_saphyr::from_str::<Value>(&text).unwrap(), value);
        }
    }

    #[test]
    fn selectors() {
        let pairs = labels("app=web,tier==front").unwrap();
        assert_eq!(
            pairs,
            [
                ("app".to_owned(), "web".to_owned()),
                ("tier".to_owned(), "front".to_owned())
            ]
        );
        for wrong in ["app", "app!=web", "app in (a,b)", "=x"] {
            assert!(labels(wrong).is_err(), "{wrong}");
        }
    }
}
