// SPDX-License-Identifier: Apache-2.0
//! A capture that fails at any step leaves the pod as it was, with the real kernel doing every other step.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io;

use maille_node::capture::apply::{ApplyError, Kernel, Linux, StepError, apply};
use maille_node::capture::{Options, PodNet, Step, insert, plan};
use maille_sys::NetNs;
use maille_sys::link::inside;
use maille_tests_netns::lab::{Kind, Node};

/// The machine's kernel, which refuses one step.
struct Refusing {
    linux: Linux,
    left: Option<usize>,
}

impl Kernel for Refusing {
    fn run(&mut self, step: &Step) -> Result<(), StepError> {
        match &mut self.left {
            Some(0) => {
                self.left = None;
                Err(io::Error::other("injected").into())
            }
            Some(left) => {
                *left -= 1;
                self.linux.run(step)
            }
            None => self.linux.run(step),
        }
    }
}

fn links(namespace: &NetNs) -> Vec<(String, bool)> {
    let links = inside(namespace, async |net| net.links().await).unwrap();
    links.into_iter().map(|link| (link.name, link.up)).collect()
}

#[test]
fn a_failure_at_any_step_leaves_the_pod_as_it_was() {
    let node = Node::new(&[Kind::Plain]);
    let pod = &node.pods[0].namespace;
    let before = (
        PodNet::read(pod, "eth0").unwrap(),
        links(pod),
        links(&node.namespace),
    );
    let plan = plan(&before.0, &Options::default());
    for step in 0..plan.steps.len() {
        let linux = Linux::new(pod.clone(), NetNs::create().unwrap());
        let mut kernel = Refusing {
            linux,
            left: Some(step),
        };
        let error = apply(&plan, &mut kernel).unwrap_err();
        assert!(matches!(error, ApplyError::Undone { .. }), "{error:?}");
        drop(kernel);
        let after = (
            PodNet::read(pod, "eth0").unwrap(),
            links(pod),
            links(&node.namespace),
        );
        assert_eq!(after, before, "step {}: {:?}", step + 1, plan.steps[step]);
    }
    // And it can be captured still.
    let captured = insert(pod, "eth0", &Options::default()).unwrap();
    assert_eq!(PodNet::read(pod, "eth0").unwrap(), before.0);
    assert_eq!(
        PodNet::read(&captured.mesh, "up0").unwrap().addresses,
        before.0.addresses
    );
}

#[test]
fn a_pod_without_addresses_is_refused() {
    let (node, pod) = (NetNs::create().unwrap(), NetNs::create().unwrap());
    inside(&node, async |net| {
        net.add_veth("m1", "eth0", &pod, 1500).await
    })
    .unwrap();
    let error = insert(&pod, "eth0", &Options::default()).unwrap_err();
    assert!(error.to_string().contains("no address"), "{error}");
    let error = insert(&pod, "eth1", &Options::default()).unwrap_err();
    assert_eq!(error.to_string(), "the pod's network cannot be read");
}
