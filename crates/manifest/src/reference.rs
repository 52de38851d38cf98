// SPDX-License-Identifier: Apache-2.0
//! What is supported, as a document: made of the tables of `fields.rs`, and of nothing else (`docs/reference/manifests.md`).

use std::fmt::Write as _;

use crate::fields::{Field, KINDS, KindRule, Rule, TYPES, Type};

/// Every kind and every field, in Markdown.
pub fn reference() -> String {
    let mut text = String::from("## Kinds\n\n| kind | apiVersion | |\n|---|---|---|\n");
    for (version, kind, rule) in KINDS {
        let told = match rule {
            KindRule::Take(_) => format!("taken: [fields](#{})", kind.to_lowercase()),
            KindRule::Warn(why) => format!("ignored, with a warning: {why}"),
            KindRule::Refuse(why) => format!("refused: {why}"),
        };
        let told = told.replace('|', "\\|");
        let _ = writeln!(text, "| {kind} | `{version}` | {told} |");
    }
    text.push_str("\nA `List` of these is its items. Any other kind is refused.\n");
    for (_, kind, rule) in KINDS {
        if let KindRule::Take(fields) = rule {
            section(&mut text, kind, fields);
        }
    }
    for (name, fields) in TYPES {
        section(&mut text, name, fields);
    }
    text
}

fn section(text: &mut String, name: &str, fields: &[Field]) {
    let _ = write!(text, "\n## {name}\n\n| field | |\n|---|---|\n");
    rows(text, "", fields);
}

fn rows(text: &mut String, above: &str, fields: &[Field]) {
    for field in fields {
        let path = format!("{above}{}", field.name);
        let needed = if field.required.is_some() {
            "needed; "
        } else {
            ""
        };
        let note = match field.note {
            "" => String::new(),
            note => format!("; {note}"),
        };
        let told = match &field.rule {
            Rule::Take(kind) => format!("{needed}{}{note}", describe(kind)),
            Rule::Warn(why) => format!("ignored, with a warning: {why}"),
            Rule::Refuse(why) => format!("refused: {why}"),
            Rule::Only(values, why) => {
                let values: Vec<String> = values.iter().map(|v| format!("`{v}`")).collect();
                format!("only {}: {why}", values.join(" or "))
            }
        };
        let _ = writeln!(text, "| `{path}` | {} |", told.replace('|', "\\|"));
        if let Rule::Take(kind) = &field.rule
            && let Some((fields, list)) = own_fields(kind)
        {
            let below = if list { "[]." } else { "." };
            rows(text, &format!("{path}{below}"), fields);
        }
    }
}

/// The fields of a type without a section of its own, and whether there is a list of it.
fn own_fields(kind: &Type) -> Option<(&'static [Field], bool)> {
    match kind {
        Type::Object(fields) if section_of(fields).is_none() => Some((fields, false)),
        Type::List(item) => own_fields(item).map(|(fields, _)| (fields, true)),
        _ => None,
    }
}

fn section_of(fields: &[Field]) -> Option<&'static str> {
    let mut types = TYPES.iter();
    // The same table, not an equal one.
    types
        .find(|(_, known)| known.as_ptr() == fields.as_ptr() && known.len() == fields.len())
        .map(|(name, _)| *name)
}

fn describe(kind: &Type) -> String {
    match kind {
        Type::Text(check) => check.expected.to_owned(),
        Type::Bool => "true or false".to_owned(),
        Type::Int(low, high) => format!("a number, {low} to {high}"),
        Type::PortOrName => "a port, or its name".to_owned(),
        Type::Amount => "a number, or a percentage".to_owned(),
        Type::Quantity => "an amount, as in 500m or 64Mi".to_owned(),
        Type::Object(fields) => match section_of(fields) {
            Some(name) => {
                let anchor = name.to_lowercase().replace(' ', "-");
                format!("[{name}](#{anchor})")
            }
            None => "a map".to_owned(),
        },
        Type::List(item) => format!("a list of: {}", describe(item)),
        Type::Map(keys, values) => {
            format!(
                "a map; keys: {}; values: {}",
                keys.expected,
                describe(values)
            )
        }
    }
}
