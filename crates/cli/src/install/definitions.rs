// SPDX-License-Identifier: Apache-2.0
//! Kinds of objects that a mesh has brought (CustomResourceDefinitions): whoever deletes one deletes every object of that kind with it,
//! which people wrote. Must never name one for deletion of which somebody has an object. Read `../install.rs` next.

use maille_inject::install::{PART_OF, identity};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::failure::Expected;
use crate::shapes::text;
use crate::text::clean;

const PATH: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
/// Objects that are named before the rest is counted.
const SHOWN: usize = 3;

/// What becomes of those that the cluster has.
#[derive(Debug, Default)]
pub(super) struct Definitions {
    /// Nobody has an object of these.
    pub(super) unused: Vec<Value>,
    /// Why each of the others stays.
    pub(super) kept: Vec<String>,
}

/// Looks at every one that is marked as part of the mesh.
pub(super) async fn look(cluster: &Cluster) -> Result<Definitions, Expected> {
    let label = format!("{}={}", PART_OF.0, PART_OF.1);
    let mut all = Definitions::default();
    for mut definition in cluster.all(PATH, Some(&label)).await? {
        // Items of a list do not say what they are.
        definition["apiVersion"] = "apiextensions.k8s.io/v1".into();
        definition["kind"] = "CustomResourceDefinition".into();
        let objects = match collection(&definition) {
            Some(path) => cluster.all(&path, None).await?,
            // What no version of is served holds what nobody can see.
            None => Vec::new(),
        };
        match kept(&definition, &objects) {
            Some(why) => all.kept.push(why),
            None => all.unused.push(identity(&definition)),
        }
    }
    Ok(all)
}

/// Where its objects are.
fn collection(definition: &Value) -> Option<String> {
    let spec = &definition["spec"];
    let mut versions = spec["versions"].as_array()?.iter();
    let served = versions.find(|version| version["served"] == true)?;
    let (group, version) = (text(spec, "/group"), text(served, "/name"));
    Some(format!(
        "/apis/{group}/{version}/{}",
        text(spec, "/names/plural")
    ))
}

/// Why it stays, if it does.
fn kept(definition: &Value, objects: &[Value]) -> Option<String> {
    if objects.is_empty() {
        return None;
    }
    let name = |object: &Value| {
        let (namespace, name) = (
            text(object, "/metadata/namespace"),
            text(object, "/metadata/name"),
        );
        match namespace {
            "" => clean(name),
            namespace => format!("{}/{}", clean(namespace), clean(name)),
        }
    };
    let shown: Vec<_> = objects.iter().take(SHOWN).map(name).collect();
    let more = match objects.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let definition = clean(text(definition, "/metadata/name"));
    Some(format!(
        "CustomResourceDefinition {definition}, for it holds what people wrote: {}{more}; `kubectl delete crd {definition}` removes them with it",
        shown.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn definition() -> Value {
        json!({"metadata": {"name": "rules.maille.io"}, "spec": {"group": "maille.io", "names": {"plural": "rules"},
            "versions": [{"name": "v1alpha1", "served": false}, {"name": "v1", "served": true}]}})
    }

    #[test]
    fn what_holds_objects_stays_and_says_whose() {
        assert_eq!(
            collection(&definition()).as_deref(),
            Some("/apis/maille.io/v1/rules")
        );
        assert_eq!(kept(&definition(), &[]), None);
        let object = |name: &str| json!({"metadata": {"namespace": "shop", "name": name}});
        let all = ["a", "b", "c", "d"].map(object);
        let why = kept(&definition(), &all).unwrap();
        assert!(why.contains("shop/a, shop/b, shop/c and 1 more"), "{why}");
        assert!(why.contains("kubectl delete crd rules.maille.io"), "{why}");
    }
}
