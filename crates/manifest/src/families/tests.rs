// SPDX-License-Identifier: Apache-2.0
use crate::{Object, Options, Service, load_text, load_text_with, to_json};

const HEAD: &str =
    "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: default}\nspec:\n";

/// A service with these lines in its spec; the first is line 5.
fn text(lines: &str) -> Vec<(String, String)> {
    let lines: String = lines.lines().map(|line| format!("  {line}\n")).collect();
    vec![("app.yaml".to_owned(), format!("{HEAD}{lines}"))]
}

fn service(lines: &str) -> Service {
    let loaded = load_text(&text(&format!("{lines}\nports: [{{port: 80}}]"))).unwrap();
    let [Object::Service(service)] = &loaded.objects[..] else {
        panic!("{loaded:?}")
    };
    service.clone()
}

/// `POLICY FAMILIES CLUSTER-IPS` as they are written for others.
fn summary(service: &Service) -> String {
    let json: serde_json::Value = serde_json::from_slice(&to_json(service)).unwrap();
    let spec = &json["spec"];
    let list = |name: &str| {
        let items = spec[name].as_array().unwrap().iter();
        let items: Vec<&str> = items.map(|item| item.as_str().unwrap()).collect();
        items.join(",")
    };
    assert_eq!(spec["clusterIP"], spec["clusterIPs"][0]);
    let policy = spec["ipFamilyPolicy"].as_str().unwrap();
    format!("{policy} {} {}", list("ipFamilies"), list("clusterIPs"))
}

const WEB: &str = "selector: {app: web}\n";

#[test]
fn what_is_not_said_is_what_an_api_server_fills_in() {
    for (lines, expected) in [
        ("", "SingleStack IPv4 10.96.228.211"),
        (
            "ipFamilyPolicy: SingleStack",
            "SingleStack IPv4 10.96.228.211",
        ),
        ("ipFamilies: [IPv4]", "SingleStack IPv4 10.96.228.211"),
        ("ipFamilies: [IPv6]", "SingleStack IPv6 fd00:96::e4d3"),
        (
            "ipFamilyPolicy: PreferDualStack",
            "PreferDualStack IPv4,IPv6 10.96.228.211,fd00:96::e4d3",
        ),
        (
            "ipFamilyPolicy: RequireDualStack",
            "RequireDualStack IPv4,IPv6 10.96.228.211,fd00:96::e4d3",
        ),
        (
            "ipFamilyPolicy: PreferDualStack\nipFamilies: [IPv6]",
            "PreferDualStack IPv6,IPv4 fd00:96::e4d3,10.96.228.211",
        ),
        (
            "ipFamilyPolicy: RequireDualStack\nipFamilies: [IPv4, IPv6]",
            "RequireDualStack IPv4,IPv6 10.96.228.211,fd00:96::e4d3",
        ),
        (
            "ipFamilyPolicy: RequireDualStack\nipFamilies: [IPv6, IPv4]",
            "RequireDualStack IPv6,IPv4 fd00:96::e4d3,10.96.228.211",
        ),
        ("clusterIP: 10.96.0.77", "SingleStack IPv4 10.96.0.77"),
        ("clusterIP: 'fd00:96::77'", "SingleStack IPv6 fd00:96::77"),
        (
            "clusterIPs: ['fd00:96::77']",
            "SingleStack IPv6 fd00:96::77",
        ),
        (
            "clusterIP: 'fd00:96::77'\nipFamilyPolicy: PreferDualStack",
            "PreferDualStack IPv6,IPv4 fd00:96::77,10.96.228.211",
        ),
        (
            "clusterIPs: ['fd00:96::77', 10.96.0.77]\nipFamilyPolicy: PreferDualStack",
            "PreferDualStack IPv6,IPv4 fd00:96::77,10.96.0.77",
        ),
        ("clusterIP: None", "SingleStack IPv4 None"),
        ("clusterIPs: [None]", "SingleStack IPv4 None"),
        (
            "clusterIP: None\nipFamilies: [IPv6]",
            "SingleStack IPv6 None",
        ),
        (
            "clusterIP: None\nipFamilyPolicy: PreferDualStack",
            "PreferDualStack IPv4,IPv6 None",
        ),
    ] {
        let found = service(&format!("{WEB}{lines}"));
        assert_eq!(summary(&found), expected, "{lines}");
        // What `up` writes is what node and control read.
        let json = String::from_utf8(to_json(&found)).unwrap();
        let again = load_text(&[("app.json".to_owned(), json)]).unwrap();
        assert_eq!(again.objects, [Object::Service(found)], "{lines}");
    }
    let foreign = service("clusterIP: None");
    assert_eq!(summary(&foreign), "RequireDualStack IPv4,IPv6 None");
}

#[test]
fn contradictions_are_named_with_their_line() {
    for (lines, expected) in [
        (
            "ipFamilyPolicy: DualStack",
            "app.yaml:6: spec.ipFamilyPolicy: \"DualStack\" is not SingleStack, PreferDualStack or RequireDualStack",
        ),
        (
            "ipFamilies: [ipv4]",
            "app.yaml:6: spec.ipFamilies[0]: \"ipv4\" is not IPv4 or IPv6",
        ),
        (
            "ipFamilyPolicy: SingleStack\nipFamilies: [IPv4, IPv6]",
            "app.yaml:7: spec.ipFamilies: two families need spec.ipFamilyPolicy: PreferDualStack or RequireDualStack",
        ),
        (
            "ipFamilies: [IPv6, IPv4]",
            "app.yaml:6: spec.ipFamilies: two families need spec.ipFamilyPolicy: PreferDualStack or RequireDualStack",
        ),
        (
            "clusterIPs: [10.96.0.77, 'fd00:96::77']",
            "app.yaml:6: spec.clusterIPs: two families need spec.ipFamilyPolicy: PreferDualStack or RequireDualStack",
        ),
        (
            "ipFamilyPolicy: PreferDualStack\nipFamilies:\n- IPv4\n- IPv4",
            "app.yaml:9: spec.ipFamilies[1]: \"IPv4\" is used twice, first in spec.ipFamilies[0]",
        ),
        (
            "ipFamilyPolicy: PreferDualStack\nclusterIPs: [10.96.0.77, 10.96.0.78]",
            "app.yaml:7: spec.clusterIPs[1]: \"IPv4\" is used twice, first in spec.clusterIPs[0]",
        ),
        (
            "ipFamilies: [IPv4]\nclusterIP: 'fd00:96::77'",
            "app.yaml:7: spec.clusterIP: fd00:96::77 is not IPv4, which spec.ipFamilies[0] asks for",
        ),
        (
            "ipFamilyPolicy: PreferDualStack\nipFamilies: [IPv6, IPv4]\nclusterIPs:\n- fd00:96::77\n- fd00:96::78",
            "app.yaml:10: spec.clusterIPs[1]: \"IPv6\" is used twice, first in spec.clusterIPs[0]",
        ),
        (
            "ipFamilyPolicy: PreferDualStack\nipFamilies: [IPv6, IPv4]\nclusterIPs: [10.96.0.77]",
            "app.yaml:8: spec.clusterIPs[0]: 10.96.0.77 is not IPv6, which spec.ipFamilies[0] asks for",
        ),
        (
            "clusterIP: 10.96.0.77\nclusterIPs: [10.96.0.78]",
            "app.yaml:7: spec.clusterIPs[0]: is 10.96.0.78, must be 10.96.0.77 as spec.clusterIP is",
        ),
        (
            "clusterIP: 10.43.0.7",
            "app.yaml:6: spec.clusterIP: 10.43.0.7 is no address for services here: leave it out, or take one of 10.96.0.0/16 or fd00:96::/112",
        ),
        (
            "ipFamilyPolicy: PreferDualStack\nclusterIPs: [10.96.0.77, 'fd00::77']",
            "app.yaml:7: spec.clusterIPs[1]: fd00::77 is no address for services here: leave it out, or take one of 10.96.0.0/16 or fd00:96::/112",
        ),
        (
            "clusterIPs: [None, 10.96.0.77]",
            "app.yaml:6: spec.clusterIPs: None must be alone",
        ),
    ] {
        let options = Options {
            own_addresses: true,
            ..Options::trusted()
        };
        let text = text(&format!("{WEB}{lines}\nports: [{{port: 80}}]"));
        let errors = load_text_with(&text, &options).unwrap_err();
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(errors, [expected], "{lines}");
    }
}
