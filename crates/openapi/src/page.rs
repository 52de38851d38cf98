// SPDX-License-Identifier: Apache-2.0
//! A document as a page in Markdown: a table of the operations, then one of the fields of each schema. Must never say what the document does not.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// The operations and schemas of `document`, each heading below one of two signs.
pub fn page(document: &Value) -> String {
    let mut text = String::from("| request | parameters | answers |\n|---|---|---|\n");
    for (path, methods) in object(&document["paths"]) {
        for (method, operation) in object(methods) {
            let parameters = list(&operation["parameters"]).iter().map(parameter);
            let mut parameters: Vec<String> = parameters.collect();
            if operation["requestBody"].is_object() {
                let body = &operation["requestBody"]["content"];
                parameters.push(format!("body: {}", told(body)));
            }
            let answers = object(&operation["responses"]);
            let answers = answers.filter(|(status, _)| status.as_str() < "400");
            let answers: Vec<String> = answers.map(|(status, one)| answer(status, one)).collect();
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(
                text,
                "| `{} {path}`<br>{} | {} | {} |",
                method.to_uppercase(),
                words(&operation["summary"]),
                or_dash(&parameters.join("<br>")),
                or_dash(&answers.join("<br>")),
            );
        }
    }
    text.push_str(&schemas(&document["components"]["schemas"]));
    text
}

/// The fields of each of `schemas` that has some.
pub fn schemas(schemas: &Value) -> String {
    let mut text = String::new();
    for (name, schema) in object(schemas) {
        let fields: Vec<String> = object(&schema["properties"])
            .map(|(name, field)| {
                let optional = if list(&schema["required"]).iter().any(|one| one == name) {
                    ""
                } else {
                    ", may be left out"
                };
                let about = or_dash(&words(&field["description"]));
                format!("| `{name}` | {}{optional} | {about} |\n", kind(field))
            })
            .collect();
        if fields.is_empty() {
            continue;
        }
        let _ = writeln!(text, "\n### {name}\n");
        if !words(&schema["description"]).is_empty() {
            let _ = writeln!(text, "{}\n", words(&schema["description"]));
        }
        let _ = write!(
            text,
            "| field | type | what |\n|---|---|---|\n{}",
            fields.concat()
        );
    }
    text
}

fn parameter(parameter: &Value) -> String {
    let name = words(&parameter["name"]);
    if parameter["in"] == "path" {
        return format!("`{{{name}}}`");
    }
    let needed = if parameter["required"] == true {
        ", needed"
    } else {
        ""
    };
    let about = words(&parameter["description"]);
    format!("`{name}` ({}{needed}): {about}", kind(&parameter["schema"]))
}

fn answer(status: &str, answer: &Value) -> String {
    let about = words(&answer["description"]);
    let told = told(&answer["content"]);
    match told.as_str() {
        "" => format!("{status}: {about}"),
        told => format!("{status}: {told}. {about}"),
    }
}

/// What a body is.
fn told(content: &Value) -> String {
    let one = |(kind, what): (&String, &Value)| match (kind.as_str(), &what["schema"]) {
        (kind, Value::Null) => format!("`{kind}`"),
        ("application/json", schema) => self::kind(schema),
        (kind, schema) => format!("`{kind}` of {}", self::kind(schema)),
    };
    object(content).map(one).collect::<Vec<_>>().join(", ")
}

/// A schema in a few words.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap_or_default();
        return format!("[{name}](#{})", name.to_lowercase());
    }
    for key in ["anyOf", "oneOf"] {
        if schema[key].is_array() {
            let some: Vec<String> = list(&schema[key]).iter().map(kind).collect();
            return some.join(" or ");
        }
    }
    if schema["type"] == "array" {
        return format!("list of {}", kind(&schema["items"]));
    }
    if schema["additionalProperties"].is_object() {
        return format!("map of {}", kind(&schema["additionalProperties"]));
    }
    match &schema["type"] {
        Value::String(one) => one.clone(),
        Value::Array(some) => {
            let some: Vec<String> = some.iter().map(words).collect();
            some.join(" or ")
        }
        _ => "anything".to_owned(),
    }
}

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Text of one line, fit for a table.
fn words(value: &Value) -> String {
    let text = value.as_str().unwrap_or_default();
    text.replace('\n', " ").replace('|', "\\|")
}

fn or_dash(text: &str) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn operations_and_fields() {
        let document = json!({
            "paths": {"/v1/x": {"get": {"summary": "Says.", "parameters": [
                {"name": "who", "in": "query", "required": true, "description": "Whom.", "schema": {"type": "string"}}],
                "responses": {"200": {"description": "Said.", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Told"}}}},
                    "404": {"description": "Nobody."}}}}},
            "components": {"schemas": {"Told": {"description": "It is | so.", "required": ["a"], "properties": {
                "a": {"type": "array", "items": {"type": "integer"}, "description": "Some."},
                "b": {"anyOf": [{"$ref": "#/components/schemas/Told"}, {"type": "null"}]}}}}},
        });
        assert_eq!(
            page(&document),
            "| request | parameters | answers |\n|---|---|---|\n\
             | `GET /v1/x`<br>Says. | `who` (string, needed): Whom. | 200: [Told](#told). Said. |\n\
             \n### Told\n\nIt is \\| so.\n\n| field | type | what |\n|---|---|---|\n\
             | `a` | list of integer | Some. |\n\
             | `b` | [Told](#told) or null, may be left out | - |\n"
        );
    }
}
