// SPDX-License-Identifier: Apache-2.0
//! What was probably meant, where something that was named is not there: a name that is nearly the same, or a longer one. Pure.
//!
//! Must never put another thing in the place of the one that was named, nor name anything of a namespace that was not asked about: who asks
//! may know of no other. Next: [`super`].

use std::collections::BTreeSet;

use crate::index::Index;
use crate::resource::{Kind, Resource};

/// The kinds among which a bare name is looked for, in this order.
pub(super) const BARE: [&str; 8] = ["deploy", "sts", "ds", "job", "cj", "rs", "svc", "po"];

/// Names that are shown at most.
const SHOWN: usize = 3;

/// For a resource that is not there.
pub(super) fn instead(resource: &Resource, index: &Index) -> String {
    let name = resource.name.as_deref().unwrap_or_default();
    let kind = resource.kind.to_string();
    let named = |name: &str| format!("{kind}/{name}");
    let near = near(name, &resource.names(index));
    if !near.is_empty() {
        return question(near.iter().map(|name| named(name)));
    }
    format!("maille stat {kind} shows what there is")
}

/// For a bare name that nothing has.
pub(super) fn anything(name: &str, namespace: Option<&str>, index: &Index) -> String {
    for kind in BARE {
        let Ok(resource) = Resource::parse(kind, namespace) else {
            continue;
        };
        let near = near(name, &resource.names(index));
        if !near.is_empty() {
            return question(near.iter().map(|name| format!("{kind}/{name}")));
        }
    }
    "maille stat all shows what there is; or say an address, or NAME.NAMESPACE".to_owned()
}

/// For a word that is no kind.
pub(super) fn kind(word: &str) -> String {
    let words = Kind::every_word();
    match maille_manifest::suggest(word, words.iter().copied()) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("KIND or KIND/NAME; kinds are {}", Kind::words()),
    }
}

/// Names that go on where this one ends, else the one that is most like it.
fn near(name: &str, names: &BTreeSet<String>) -> Vec<String> {
    let longer = names
        .iter()
        .filter(|one| !name.is_empty() && one.starts_with(name));
    let longer: Vec<String> = longer.take(SHOWN).cloned().collect();
    if !longer.is_empty() {
        return longer;
    }
    let names = names.iter().map(String::as_str);
    maille_manifest::suggest(name, names).into_iter().collect()
}

fn question(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.collect();
    format!("did you mean {}?", names.join(", or "))
}

#[cfg(test)]
mod tests {
    use maille_manifest::{Object, from_json};

    use super::*;
    use crate::index::Change;

    fn index() -> Index {
        let mut index = Index::default();
        for (namespace, name, owner) in [
            ("shop", "web-1", "web"),
            ("shop", "web-2", "web"),
            ("test", "ledger-1", "ledger"),
        ] {
            let json = format!(
                r#"{{"metadata":{{"name":"{name}","namespace":"{namespace}","uid":"{name}","ownerReferences":[{{"kind":"Deployment","name":"{owner}"}}]}},
                    "spec":{{"containers":[]}},"status":{{"phase":"Running"}}}}"#
            );
            let object = Object::Pod(Box::new(from_json(json.as_bytes()).unwrap()));
            index.apply(Change::read(&object).unwrap().unwrap());
        }
        index
    }

    #[test]
    fn what_is_near_is_asked_about() {
        let hint = |text: &str, namespace: Option<&str>| {
            instead(&Resource::parse(text, namespace).unwrap(), &index())
        };
        assert_eq!(hint("deploy/webb", None), "did you mean deploy/web?");
        assert_eq!(hint("po/web", None), "did you mean po/web-1, or po/web-2?");
        assert_eq!(
            hint("deploy/ledger", Some("shop")),
            "maille stat deploy shows what there is",
            "that there is one elsewhere is not said"
        );
        assert_eq!(
            hint("deploy/xyzzy", None),
            "maille stat deploy shows what there is"
        );
        assert_eq!(
            anything("ledgr", None, &index()),
            "did you mean deploy/ledger?"
        );
        assert_eq!(anything("web-", None, &index()), "did you mean deploy/web?");
        assert_eq!(
            anything("ledger", Some("shop"), &index()),
            "maille stat all shows what there is; or say an address, or NAME.NAMESPACE"
        );
        assert_eq!(kind("deploymnts"), "did you mean deployments?");
        assert!(kind("xyzzy").starts_with("KIND or KIND/NAME"));
    }
}
