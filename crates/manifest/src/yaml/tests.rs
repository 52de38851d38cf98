// SPDX-License-Identifier: Apache-2.0
use proptest::prelude::*;

use super::*;

fn one(text: &str) -> Node {
    let mut all = documents(text).unwrap();
    assert_eq!(all.len(), 1, "{text}");
    all.remove(0)
}

fn value(text: &str) -> String {
    one(&format!("v: {text}\n"))
        .field("v")
        .map_or_else(|| "nothing".to_owned(), Node::describe)
}

#[test]
fn scalars_are_what_kubectl_takes_them_for() {
    for (text, described) in [
        ("0644", "the number 420"),
        ("0o644", "the number 420"),
        ("1_000", "the number 1000"),
        ("yes", "the boolean true"),
        ("off", "the boolean false"),
        ("\"yes\"", "the text \"yes\""),
        ("'8080'", "the text \"8080\""),
        ("8080", "the number 8080"),
        ("1.5", "the number 1.5"),
        ("web", "the text \"web\""),
        ("null", "nothing"),
        ("~", "nothing"),
        ("[1]", "a list"),
        ("{a: 1}", "a map"),
    ] {
        assert_eq!(value(text), described, "{text}");
    }
}

#[test]
fn lines_are_those_of_the_file() {
    let node = one(
        "# comment\nkind: Service\nspec:\n  ports:\n    - port: 80\n\n    - name: b\n      port: 81\n",
    );
    assert_eq!(node.line_at("kind"), 2);
    assert_eq!(node.line_at("spec"), 3);
    assert_eq!(node.line_at("spec.ports[0].port"), 5);
    assert_eq!(node.line_at("spec.ports[1].port"), 8);
    assert_eq!(node.line_at("spec.ports[1].nope.deeper"), 7);
    assert_eq!(node.line_at("spec.ports[9]"), 4);
}

#[test]
fn what_is_no_yaml_is_refused_with_its_line() {
    for (text, line) in [
        ("a: 1\na: 2\n", 2),
        ("a:\n\t- b\n", 2),
        ("a: [1\n", 1),
        ("a: b: c\n", 1),
        ("a: *nope\n", 1),
    ] {
        let error = documents(text).unwrap_err();
        assert_eq!(error.line, line, "{text:?}: {}", error.text);
        assert!(!error.text.contains('\n'), "{}", error.text);
    }
}

#[test]
fn a_template_is_told_to_be_one() {
    let told = |text: &str| documents(text).unwrap_err().text.contains("helm template");
    assert!(told("metadata:\n  name: {{ .Values.name }}\n"));
    assert!(told("{{- if .Values.on }}\na: 1\n{{- end }}\n"));
    assert!(!told("a: {b\n"));
    assert!(documents("a: '{{ x }}'\n").is_ok());
}

#[test]
fn bombs_are_refused() {
    let mut laughs = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for n in 1..12 {
        let refs = vec![format!("*a{}", n - 1); 10].join(",");
        laughs.push_str(&format!("a{n}: &a{n} [{refs}]\n"));
    }
    let error = documents(&laughs).unwrap_err();
    assert_eq!(
        error.text,
        "with its aliases it is larger than any manifest"
    );
    assert!(documents(&"[".repeat(10_000)).is_err());
    assert!(documents(&"- ".repeat(10_000)).is_err());
}

#[test]
fn anchors_and_merges_are_resolved() {
    let node = one("base: &b {x: 1}\nuse:\n  <<: *b\n  y: 2\n");
    let used = node.field("use").unwrap();
    assert_eq!(used.field("x").unwrap().describe(), "the number 1");
    assert_eq!(used.field("y").unwrap().describe(), "the number 2");
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[ -~\n\t]{0,200}") {
        let _ = documents(&text);
    }
}
