// SPDX-License-Identifier: Apache-2.0
//! The document (OpenAPI 3.1, whose schemas are those of JSON Schema 2020-12). Must never hold a schema twice. Next: `page.rs`.

use std::borrow::Cow;

use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

/// Where OpenAPI keeps schemas.
const HOME: &str = "/components/schemas";

/// How a page is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// A question.
    Get,
    /// An order.
    Post,
}

/// A document in the making.
#[derive(Debug)]
pub struct Document {
    title: String,
    about: String,
    version: String,
    paths: Map<String, Value>,
    /// Of what is read.
    taken: SchemaGenerator,
    /// Of what is written.
    told: SchemaGenerator,
}

/// One operation in the making; [`Operation::end`] puts it into its document.
#[derive(Debug)]
pub struct Operation<'a> {
    document: &'a mut Document,
    method: Method,
    path: &'static str,
    about: &'static str,
    parameters: Vec<Value>,
    body: Option<Value>,
    responses: Map<String, Value>,
}

// === impl Document ===

impl Document {
    /// Of an API that has this title; `about` is for people.
    pub fn new(title: &str, about: &str, version: &str) -> Self {
        let settings = || {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = Cow::Borrowed(HOME);
                settings.meta_schema = None;
            })
        };
        Self {
            title: title.to_owned(),
            about: about.to_owned(),
            version: version.to_owned(),
            paths: Map::new(),
            taken: settings().for_deserialize().into_generator(),
            told: settings().for_serialize().into_generator(),
        }
    }

    /// Begins an operation. A path's `{NAME}`s are parameters.
    pub fn operation(
        &mut self,
        method: Method,
        path: &'static str,
        about: &'static str,
    ) -> Operation<'_> {
        let names = path.split('{').skip(1);
        let names = names.filter_map(|rest| rest.split('}').next());
        let parameter = |name: &str| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}});
        Operation {
            parameters: names.map(parameter).collect(),
            document: self,
            method,
            path,
            about,
            body: None,
            responses: Map::new(),
        }
    }

    /// The whole.
    pub fn finish(mut self) -> Value {
        let mut schemas = self.told.take_definitions(true);
        for (name, schema) in self.taken.take_definitions(true) {
            schemas.entry(name).or_insert(schema);
        }
        schemas.sort_keys();
        json!({
            "openapi": "3.1.1",
            "info": {"title": self.title, "description": self.about, "version": self.version,
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
            "paths": self.paths,
            "components": {"schemas": schemas},
        })
    }
}

// === impl Operation ===

impl Operation<'_> {
    /// Its parameters are the fields of `T`.
    #[must_use]
    pub fn query<T: JsonSchema>(mut self) -> Self {
        let mut generator = SchemaSettings::draft2020_12()
            .for_deserialize()
            .with(|settings| settings.inline_subschemas = true)
            .into_generator();
        let schema = generator.root_schema_for::<T>();
        let required = schema.get("required").and_then(Value::as_array);
        let required = required.cloned().unwrap_or_default();
        let fields = schema.get("properties").and_then(Value::as_object);
        for (name, field) in fields.into_iter().flatten() {
            let mut field = present(field);
            let about = field.remove("description");
            self.parameters.push(json!({
                "name": name,
                "in": "query",
                "required": required.iter().any(|one| one == name),
                "description": about,
                "schema": field,
            }));
        }
        self
    }

    /// It takes a `T` as JSON.
    #[must_use]
    pub fn body<T: JsonSchema>(mut self) -> Self {
        let schema = self.document.taken.subschema_for::<T>();
        self.body =
            Some(json!({"required": true, "content": content("application/json", &schema)}));
        self
    }

    /// It answers with a `T` as JSON.
    #[must_use]
    pub fn answers<T: JsonSchema>(self, status: u16, about: &str) -> Self {
        self.tells::<T>(status, about, "application/json")
    }

    /// It answers with `T`s, one a line, as they come.
    #[must_use]
    pub fn lines<T: JsonSchema>(self, about: &str) -> Self {
        self.tells::<T>(200, about, "application/x-ndjson")
    }

    fn tells<T: JsonSchema>(mut self, status: u16, about: &str, kind: &str) -> Self {
        let schema = self.document.told.subschema_for::<T>();
        let answer = json!({"description": about, "content": content(kind, &schema)});
        self.responses.insert(status.to_string(), answer);
        self
    }

    /// It answers with something that is no JSON.
    #[must_use]
    pub fn bytes(mut self, status: u16, about: &str, kind: &str) -> Self {
        let answer = match kind {
            "" => json!({"description": about}),
            kind => json!({"description": about, "content": {kind: {}}}),
        };
        self.responses.insert(status.to_string(), answer);
        self
    }

    /// It may refuse, with an `E` as JSON.
    #[must_use]
    pub fn refuses<E: JsonSchema>(self, statuses: &[(u16, &str)]) -> Self {
        let refuse =
            |operation: Self, (status, about): &(u16, &str)| operation.answers::<E>(*status, about);
        statuses.iter().fold(self, refuse)
    }

    /// Puts it into its document.
    pub fn end(self) {
        let mut operation = json!({"summary": self.about, "responses": self.responses});
        if !self.parameters.is_empty() {
            operation["parameters"] = self.parameters.into();
        }
        if let Some(body) = self.body {
            operation["requestBody"] = body;
        }
        let method = match self.method {
            Method::Get => "get",
            Method::Post => "post",
        };
        let page = self.document.paths.entry(self.path);
        page.or_insert_with(|| json!({}))[method] = operation;
    }
}

fn content(kind: &str, schema: &Schema) -> Value {
    json!({kind: {"schema": schema}})
}

/// What a parameter is where it is there: `null` is no text of a query.
fn present(field: &Value) -> Map<String, Value> {
    let mut field = field.as_object().cloned().unwrap_or_default();
    if let Some(Value::Array(kinds)) = field.get("type") {
        let kinds: Vec<&Value> = kinds.iter().filter(|kind| **kind != "null").collect();
        if let [only] = kinds[..] {
            let only = only.clone();
            field.insert("type".to_owned(), only);
        }
    }
    field.remove("default");
    field
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    /// What is asked.
    #[derive(Deserialize, JsonSchema)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Asked {
        /// Whom.
        who: String,
        /// How often.
        times: Option<u16>,
    }

    /// What is told.
    #[derive(Serialize, JsonSchema)]
    struct Told {
        /// How many.
        count: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        more: Option<String>,
    }

    #[test]
    fn a_document_of_routes_and_types() {
        let mut document = Document::new("t", "about", "1");
        let operation = document.operation(Method::Get, "/v1/{pod}/x", "Says.");
        let operation = operation.query::<Asked>().answers::<Told>(200, "It is so.");
        operation.refuses::<Told>(&[(404, "Nobody.")]).end();
        let document = document.finish();
        let get = &document["paths"]["/v1/{pod}/x"]["get"];
        let parameters: Vec<_> = get["parameters"].as_array().unwrap().iter().collect();
        let said: Vec<_> = parameters
            .iter()
            .map(|one| {
                (
                    one["name"].as_str().unwrap(),
                    one["required"] == true,
                    &one["schema"]["type"],
                )
            })
            .collect();
        let string = json!("string");
        assert_eq!(said[0], ("pod", true, &string));
        assert_eq!(said[1], ("who", true, &string));
        assert_eq!(said[2], ("times", false, &json!("integer")));
        assert_eq!(parameters[2]["description"], "How often.");
        let schema = "#/components/schemas/Told";
        for status in ["200", "404"] {
            let content = &get["responses"][status]["content"]["application/json"];
            assert_eq!(content["schema"]["$ref"], schema, "{status}");
        }
        let told = &document["components"]["schemas"]["Told"];
        assert_eq!(told["required"], json!(["count"]));
        assert_eq!(told["properties"]["count"]["description"], "How many.");
    }
}
