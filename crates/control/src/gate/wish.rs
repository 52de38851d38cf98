// SPDX-License-Identifier: Apache-2.0
//! What a question of the aggregated API needs, and how it is asked of [`crate::api`]. Pure.
//!
//! The API server has allowed the path before it passed the question on; what is in the query it does not know, so every
//! namespace that a question reaches is a wish of its own. Must never let a question reach further than its wishes.

use axum::extract::Query;
use axum::http::{StatusCode, Uri};

use super::status::Status;
use crate::api::frames::escaped;
use crate::cluster::review::Wish;
use crate::resource::{Kind, Resource};

/// The verb that the API server makes of GET on a collection.
const VERB: &str = "list";

/// Parameters that name a resource.
const RESOURCES: [&str; 5] = ["resource", "from", "to", "src", "dst"];

/// What can be asked: its name in paths and in roles, whether it can be asked in one namespace, and what its query says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct What {
    /// Its name.
    pub(super) name: &'static str,
    /// Its kind, in discovery.
    pub(super) kind: &'static str,
    reach: Reach,
}

/// How the namespaces of a question are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// It is about everything.
    Everywhere,
    /// `namespace`, and nothing else.
    Namespace,
    /// The same, and only with a `resource`.
    Resource,
    /// The same, and `from_namespace` and `to_namespace` of `from` and `to`.
    FromTo,
    /// The same, and whatever `dst` names.
    Destination,
}

/// Everything that can be asked.
pub(super) const ALL: [What; 8] = [
    What::new("check", "Check", Reach::Everywhere),
    What::new("edges", "Edges", Reach::Namespace),
    What::new("explain", "Explanation", Reach::Destination),
    What::new("identity", "Identities", Reach::Resource),
    What::new("pods", "Pods", Reach::Namespace),
    What::new("stat", "Stat", Reach::FromTo),
    What::new("tap", "Tap", Reach::FromTo),
    What::new("version", "Version", Reach::Everywhere),
];

/// A question that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    /// Everything that must be allowed.
    pub(super) wishes: Vec<Wish>,
    /// How the API is asked.
    pub(super) uri: String,
}

// === impl What ===

impl What {
    const fn new(name: &'static str, kind: &'static str, reach: Reach) -> Self {
        Self { name, kind, reach }
    }

    /// Whether it can be asked in one namespace.
    pub(super) fn is_namespaced(self) -> bool {
        self.reach != Reach::Everywhere
    }
}

// === impl Question ===

impl Question {
    /// Understands `GET .../[namespaces/NAMESPACE/]WHAT?QUERY`.
    pub(super) fn parse(what: &str, namespace: Option<&str>, uri: &Uri) -> Result<Self, Status> {
        let found = ALL.into_iter().find(|known| known.name == what);
        let found = found.filter(|what| namespace.is_none() || what.is_namespaced());
        let what = found.ok_or_else(|| {
            let all = ALL.map(|what| what.name).join(", ");
            let message = match namespace {
                None => format!("there is no {what:?} here: known are {all}"),
                Some(_) => format!("{what:?} cannot be asked in one namespace"),
            };
            Status::new(StatusCode::NOT_FOUND, message)
        })?;
        let query = Query::<Vec<(String, String)>>::try_from_uri(uri);
        let Query(mut query) = query.map_err(|error| Status::bad(error.to_string()))?;
        if let Some(namespace) = namespace {
            what.confine(&mut query, namespace)?;
        }
        let text: Vec<String> = query
            .iter()
            .map(|(name, value)| format!("{}={}", escaped(name), escaped(value)))
            .collect();
        Ok(Self {
            wishes: what.wishes(&query),
            uri: format!("/v1/{}?{}", what.name, text.join("&")),
        })
    }
}

fn value<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = query.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value.as_str())
}

impl What {
    /// Says in the query what the path says.
    fn confine(self, query: &mut Vec<(String, String)>, namespace: &str) -> Result<(), Status> {
        match value(query, "namespace") {
            Some(said) if said != namespace => {
                return Err(Status::bad(format!(
                    "the path says namespace {namespace:?}, the query {said:?}"
                )));
            }
            Some(_) => {}
            None => query.push(("namespace".to_owned(), namespace.to_owned())),
        }
        let needs_resource = matches!(self.reach, Reach::Resource | Reach::FromTo);
        if needs_resource && value(query, "resource").is_none() {
            return Err(Status::bad(format!(
                "{} in a namespace needs a resource, for example ?resource=deploy",
                self.name
            )));
        }
        if self.reach == Reach::FromTo {
            for side in ["from", "to"] {
                let place = format!("{side}_namespace");
                if value(query, side).is_some() && value(query, &place).is_none() {
                    query.push((place, namespace.to_owned()));
                }
            }
        }
        Ok(())
    }

    /// Every namespace that the question reaches; one that it does not name is all of them.
    fn wishes(self, query: &[(String, String)]) -> Vec<Wish> {
        let said = |name: &str| value(query, name).map(str::to_owned);
        let mut places = match self.reach {
            Reach::Everywhere => vec![None],
            _ => vec![said("namespace")],
        };
        match self.reach {
            Reach::FromTo => {
                for side in ["from", "to"] {
                    if value(query, side).is_some() {
                        places.push(said(&format!("{side}_namespace")));
                    }
                }
            }
            // A name or an address may lead anywhere.
            Reach::Destination if !value(query, "dst").is_some_and(is_local) => places.push(None),
            _ => {}
        }
        // A namespace as a resource is a namespace.
        let named = query
            .iter()
            .filter(|(name, _)| RESOURCES.contains(&name.as_str()));
        let named = named.filter_map(|(_, text)| Resource::parse(text, None).ok());
        let named = named.filter(|resource| resource.kind == Kind::Namespace);
        places.extend(named.filter_map(|resource| resource.name.map(Some)));
        // A parameter said twice is refused by who reads it; until then it must not hide the other one.
        for (name, place) in query {
            if name == "namespace" || name.ends_with("_namespace") {
                places.push(Some(place.clone()));
            }
        }
        places.sort();
        places.dedup();
        let wish = |namespace| Wish {
            verb: VERB,
            resource: self.name,
            namespace,
        };
        places.into_iter().map(wish).collect()
    }
}

/// Whether a destination is `KIND/NAME`, which is looked for in the question's own namespace.
fn is_local(destination: &str) -> bool {
    let letters = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphabetic());
    let kind_and_name = destination.split_once('/');
    kind_and_name.is_some_and(|(kind, name)| letters(kind) && !name.contains('/'))
}
