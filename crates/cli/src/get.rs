// SPDX-License-Identifier: Apache-2.0
//! `maille get`: what runs, object by object, with kubectl's columns. Must never change anything. Read `get/columns.rs` for the columns.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::args::orders::{Form, Get};
use crate::failure::Expected;
use crate::names::{Kind, Named, name, namespace};
use crate::node;
use crate::screen::{Screen, print, print_json, table};
use crate::state::Base;

mod age;
mod columns;
mod endpoints;

/// What `all` means, as for kubectl.
const ALL: &str = "pods,services,deployments,daemonsets,statefulsets,replicasets,jobs,cronjobs";

pub(crate) async fn run(args: &Get, base: &Base, screen: Screen) -> anyhow::Result<ExitCode> {
    let state = base.state(&args.which.name)?;
    let mut objects = node::objects(&state).await?;
    let endpoints = endpoints::of(&objects);
    objects.extend(endpoints);
    let selector = args.selector.as_deref().map(labels).transpose()?;
    let fits = |object: &Value| {
        let labels = &object["metadata"]["labels"];
        args.namespace
            .as_deref()
            .is_none_or(|wanted| namespace(object) == wanted || namespace(object).is_empty())
            && selector
                .iter()
                .flatten()
                .all(|(key, value)| labels[key] == value.as_str())
    };
    let groups = groups(args, &objects, fits)?;
    let all: Vec<&Value> = groups
        .iter()
        .flat_map(|(_, found)| found.iter().copied())
        .collect();
    if all.is_empty() {
        let place = args
            .namespace
            .as_deref()
            .map(|n| format!(" in {n} namespace"))
            .unwrap_or_default();
        screen.say(&format!("No resources found{place}."));
    }
    match args.output {
        Form::Json => {
            print_json(&listed(args, &all))?;
        }
        Form::Yaml => {
            print(&serde_saphyr::to_string(&listed(args, &all))?)?;
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

/// The kinds that were asked for, in that order, each with its objects by name.
fn groups<'a>(
    args: &Get,
    objects: &'a [Value],
    fits: impl Fn(&Value) -> bool,
) -> Result<Vec<(Kind, Vec<&'a Value>)>, Expected> {
    if args.kind.contains('/') {
        let each = std::iter::once(&args.kind).chain(&args.names).map(|text| {
            let named = Named::parse(text, "pod")?;
            let object = named.find(objects, args.namespace.as_deref())?;
            Ok((named.kind, vec![object]))
        });
        return each.collect();
    }
    let kinds = if args.kind == "all" { ALL } else { &args.kind };
    let of = |word: &str| {
        let kind = Kind::parse(word)?;
        if !args.names.is_empty() {
            let found = args.names.iter().map(|text| {
                let named = Named::parse(text, word)?;
                let wanted = args.namespace.as_deref();
                named.find(objects, wanted.filter(|_| kind.name != "Namespace"))
            });
            return Ok((kind, found.collect::<Result<_, _>>()?));
        }
        let mut found: Vec<&Value> = objects
            .iter()
            .filter(|object| object["kind"] == kind.name && fits(object))
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
    let wide = args.output == Form::Wide;
    let now = age::now();
    let mut head = columns::head(kind.name, wide);
    let whole = found.iter().all(|object| namespace(object).is_empty());
    let places = args.namespace.is_none() && !whole;
    if places {
        head.insert(0, "NAMESPACE");
    }
    let rows: Vec<Vec<String>> = found
        .iter()
        .map(|object| {
            let mut row = columns::row(kind.name, object, wide, now);
            if several && let Some(first) = row.first_mut() {
                *first = kind.report(first);
            }
            if places {
                row.insert(0, namespace(object).to_owned());
            }
            row
        })
        .collect();
    table(&head, &rows, &[])
}

/// `app=web,tier=front`
fn labels(text: &str) -> Result<Vec<(String, String)>, Expected> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once("==").or_else(|| pair.split_once('='))?;
        let plain = !key.is_empty() && !key.ends_with('!') && !value.contains(['(', '=']);
        plain.then(|| (key.trim().to_owned(), value.trim().to_owned()))
    };
    let pairs: Option<Vec<_>> = text.split(',').map(pair).collect();
    pairs.ok_or_else(|| Expected::Unknown {
        what: format!("{text:?} is no selector that is understood"),
        hint: "say KEY=VALUE, with commas between several".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
