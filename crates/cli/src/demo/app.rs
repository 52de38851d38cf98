// SPDX-License-Identifier: Apache-2.0
//! What `maille demo` runs: the manifests of `examples/demo`, part of this program, with this run's settings.
//!
//! Must never run anything that `maille up` could not: it only fills in settings. Read `verdict.rs` next.

use maille_manifest::Object;

use crate::args::Demo;
use crate::launch::beside;
use crate::manifests;
use crate::screen::Screen;

/// The load generator's workload.
pub(super) const LOAD: &str = "load";

/// The workload that stays outside the mesh on purpose.
pub(super) const LEGACY: &str = "legacy";

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../../examples/demo/manifests/", $name)))),*]
    };
}

const FILES: &[(&str, &str)] = files![
    "00-namespace.yaml",
    "10-settings.yaml",
    "20-catalog.yaml",
    "21-ledger.yaml",
    "22-cart.yaml",
    "23-legacy.yaml",
    "24-rates.yaml",
    "25-chat.yaml",
    "26-post.yaml",
    "27-vault.yaml",
    "30-front.yaml",
    "40-load.yaml",
];

/// The application of one run.
#[derive(Debug)]
pub(super) struct App {
    objects: Vec<Object>,
    marker: String,
    left_out: Vec<&'static str>,
}

impl App {
    /// The manifests with a marker that nobody can have sent by accident.
    pub(super) fn new(args: &Demo, screen: Screen) -> anyhow::Result<Self> {
        let program = beside("maille-demo")?.to_string_lossy().into_owned();
        let mut objects = manifests::embedded(FILES, screen)?;
        let marker: String = std::iter::repeat_with(fastrand::alphanumeric)
            .take(32)
            .collect();
        let seconds = if args.once { args.seconds } else { 0 };
        for object in &mut objects {
            match object {
                Object::ConfigMap(settings) => {
                    let mut set =
                        |key: &str, value: String| settings.data.insert(key.to_owned(), value);
                    set("DEMO_MARKER", marker.clone());
                    set("LOAD_RATE", args.rate.to_string());
                    set("LOAD_SECONDS", seconds.to_string());
                }
                Object::Deployment(deployment) => {
                    for container in &mut deployment.spec.template.spec.containers {
                        if let Some(first) = container.command.first_mut() {
                            first.clone_from(&program);
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(Self {
            objects,
            marker,
            left_out: vec![LEGACY],
        })
    }

    /// What to run.
    pub(super) fn objects(&self) -> &[Object] {
        &self.objects
    }

    /// What every payload carries.
    pub(super) fn marker(&self) -> &str {
        &self.marker
    }

    /// Workloads that are outside the mesh on purpose; all others must be inside.
    pub(super) fn left_out(&self) -> Vec<&'static str> {
        self.left_out.clone()
    }
}
