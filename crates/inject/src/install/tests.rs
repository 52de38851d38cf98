// SPDX-License-Identifier: Apache-2.0
use maille_manifest::yaml;

use super::*;

fn options(control: Replicas) -> Options {
    Options {
        version: "1.0.0".to_owned(),
        namespace: "maille-system".parse().unwrap(),
        image_prefix: "maille.io".to_owned(),
        trust_domain: "cluster.local".parse().unwrap(),
        control,
        nodes: Nodes::Bare,
        chain: true,
    }
}

fn with_agents() -> Options {
    Options {
        nodes: Nodes::Agents(Capture::Outboard),
        ..options(Replicas::One)
    }
}

#[test]
fn golden() {
    for (options, file) in [
        (options(Replicas::One), "install.yaml"),
        (options(Replicas::Three), "install-ha.yaml"),
        (with_agents(), "install-cni.yaml"),
    ] {
        let text = manifest(&options).unwrap();
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("src/install")
            .join(file);
        if std::env::var_os("MAILLE_WRITE_REFERENCE").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            kept, text,
            "{file}: MAILLE_WRITE_REFERENCE=1 cargo test -p maille-inject golden"
        );
    }
}

#[test]
fn agents_that_leave_the_configuration_alone_are_told_so_and_stay_so() {
    let options = Options {
        chain: false,
        ..with_agents()
    };
    let said = |options: &Options| manifest(options).unwrap().contains("- \"--no-chain\"");
    assert!(said(&options) && !said(&with_agents()));
    let read =
        |data: &BTreeMap<String, String>| Options::from_config(options.namespace.clone(), data);
    let data = options.to_config();
    assert_eq!(read(&data).unwrap(), options);
    let mut wrong = data;
    wrong.insert("chain".to_owned(), "perhaps".to_owned());
    assert!(read(&wrong).is_err());
    assert_eq!(read(&with_agents().to_config()).unwrap(), with_agents());
}

#[test]
fn how_pods_are_captured_unless_told_follows_the_chain() {
    let changed = |nodes, chain| {
        let mut options = Options {
            nodes,
            ..options(Replicas::One)
        };
        options.set_chain(chain);
        assert_eq!(options.chain, chain);
        options.nodes
    };
    let [outboard, cni, inboard] =
        [Capture::Outboard, Capture::InboardCni, Capture::Inboard].map(Nodes::Agents);
    assert_eq!(changed(outboard, false), cni);
    assert_eq!(changed(outboard, true), outboard);
    assert_eq!(changed(inboard, false), inboard, "it was chosen");
    assert_eq!(changed(Nodes::Bare, false), Nodes::Bare);
    let mut back = Options {
        nodes: cni,
        chain: false,
        ..options(Replicas::One)
    };
    back.set_chain(true);
    assert_eq!(back, with_agents());
}

#[test]
fn what_is_printed_is_what_was_meant() {
    let objects = objects(&options(Replicas::Three)).unwrap();
    let nodes = yaml::documents(&text(&objects)).unwrap();
    let read: Vec<Value> = nodes.iter().map(yaml::Node::to_json).collect();
    let meant: Vec<Value> = objects.iter().map(emit::plain).collect();
    assert_eq!(read, meant);
}

#[test]
fn every_pod_passes_the_restricted_standard() {
    for object in objects(&options(Replicas::Three)).unwrap() {
        let spec = &object["spec"]["template"]["spec"];
        let containers = ["initContainers", "containers"].map(|key| spec[key].as_array());
        for container in containers.into_iter().flatten().flatten() {
            assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
            assert_eq!(
                spec["securityContext"]["seccompProfile"]["type"],
                "RuntimeDefault"
            );
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], false);
            assert_eq!(security["capabilities"], json!({"drop": ["ALL"]}));
            assert_eq!(security["readOnlyRootFilesystem"], true);
        }
        for volume in spec["volumes"].as_array().into_iter().flatten() {
            let allowed = ["emptyDir", "projected"];
            assert!(
                allowed.iter().any(|kind| volume[kind].is_object()),
                "{volume}"
            );
        }
    }
}

/// Control's pods have a proxy that needs nothing but the control beside it, which does not wait for it.
#[test]
fn control_is_meshed_without_a_cycle() {
    let objects = objects(&options(Replicas::One)).unwrap();
    let control = objects.iter().find(|one| one["kind"] == "Deployment");
    let template = &control.unwrap()["spec"]["template"];
    assert_eq!(
        template["metadata"]["annotations"]["maille.io/injected"],
        "1.0.0"
    );
    let (proxy, control) = (
        &template["spec"]["initContainers"][0],
        &template["spec"]["containers"][0],
    );
    assert_eq!(proxy["startupProbe"]["httpGet"]["path"], "/live");
    assert!(proxy["readinessProbe"].is_null());
    assert_eq!(proxy["restartPolicy"], "Always");
    let env = |name: &str| {
        let all = proxy["env"].as_array().unwrap().iter();
        let mut found = all.filter(|one| one["name"] == name);
        found.next().unwrap()["value"].as_str().unwrap().to_owned()
    };
    assert_eq!(env("MAILLE_CONTROL"), "127.0.0.1:15010");
    let args: Vec<_> = control["args"].as_array().unwrap().iter().collect();
    assert!(
        args.contains(&&json!(env("MAILLE_TRUST"))),
        "one file for both"
    );
    let (_, behind) = env("MAILLE_APPLICATION")
        .rsplit_once(':')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    assert!(
        args.contains(&&json!(format!("[::]:{behind}"))),
        "control is behind its proxy"
    );
    let account = "/var/run/secrets/kubernetes.io/serviceaccount";
    assert_eq!(template["spec"]["automountServiceAccountToken"], false);
    assert!(control["volumeMounts"].to_string().contains(account));
    assert!(!proxy["volumeMounts"].to_string().contains(account));
}

#[test]
fn every_right_has_a_reason_and_none_is_for_everything() {
    for object in objects(&options(Replicas::One)).unwrap() {
        for rule in object["rules"].as_array().into_iter().flatten() {
            assert!(
                rule[COMMENT].is_string() || object[COMMENT].is_string(),
                "{rule}"
            );
            assert!(!rule.to_string().contains('*'), "{rule}");
            if object["kind"] == "ClusterRole" {
                assert!(!rule.to_string().contains("secrets"), "{rule}");
            }
        }
    }
}

#[test]
fn no_key_and_no_certificate_is_printed() {
    let text = manifest(&options(Replicas::Three)).unwrap();
    for secret in ["kind: Secret", "BEGIN", "caBundle", "tls.key"] {
        assert!(!text.contains(secret), "{secret}");
    }
}

#[test]
fn options_are_kept_and_found_again() {
    let kept = options(Replicas::Three);
    let again = Options::from_config(kept.namespace.clone(), &kept.to_config());
    assert_eq!(again, Ok(kept.clone()));
    let mut wrong = kept.to_config();
    wrong.insert("controlReplicas".to_owned(), "2".to_owned());
    let error = Options::from_config(kept.namespace.clone(), &wrong).unwrap_err();
    assert!(error.to_string().contains("controlReplicas"));
    wrong.remove("trustDomain");
    let error = Options::from_config(kept.namespace, &wrong).unwrap_err();
    assert_eq!(error, ConfigError::Missing("trustDomain"));
}

#[test]
fn removal_begins_with_the_webhook_and_ends_with_the_namespace() {
    let removed = removal(&options(Replicas::One)).unwrap();
    assert_eq!(removed[0]["kind"], "MutatingWebhookConfiguration");
    assert_eq!(removed.last().unwrap()["kind"], "Namespace");
    assert_eq!(
        removed.len(),
        objects(&options(Replicas::One)).unwrap().len()
    );
}
