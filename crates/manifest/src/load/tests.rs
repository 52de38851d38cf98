// SPDX-License-Identifier: Apache-2.0
use std::path::PathBuf;

use super::*;

fn examples() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

fn errors(text: &str) -> Vec<String> {
    match load_text(&[("app.yaml".to_owned(), text.to_owned())]) {
        Ok(loaded) => panic!("taken: {loaded:?}"),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn the_examples_are_taken_as_they_are() {
    for name in ["demo/manifests", "hello"] {
        let loaded = load(&[examples().join(name)]).unwrap();
        assert!(loaded.objects.len() > 2, "{name}");
        assert!(loaded.warnings.is_empty(), "{name}: {:?}", loaded.warnings);
        for object in &loaded.objects {
            if let Object::Service(service) = object {
                assert_eq!(service.addresses().count(), 2, "{service:?}");
            }
        }
    }
}

#[test]
fn one_bad_field_is_named_with_its_line() {
    assert_eq!(
        errors("apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  prots:\n    - port: 80\n"),
        ["app.yaml:5: spec.prots: unknown field, did you mean \"ports\"?",]
    );
}
