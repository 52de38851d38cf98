// SPDX-License-Identifier: Apache-2.0
//! Somebody on the switch between the nodes, or on a node at its pods' wires, who says what went by: the mesh's observer, told which
//! addresses belong to its pods.
//!
//! Must never forget an address that a meshed pod has had: what was sent there is judged at the end.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Child;

use anyhow::{Context as _, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::machine::Machine;
use crate::meshed::{Meshed, text};

/// A witness at work; it ends with the test.
#[derive(Debug)]
pub struct Witness {
    child: Option<Child>,
    report: PathBuf,
    expect: PathBuf,
    /// Who has had each address.
    known: BTreeMap<String, String>,
}

impl Witness {
    /// Begins to look between the nodes.
    ///
    /// # Errors
    ///
    /// The observer is not built, or cannot be started.
    pub fn start(up: &Meshed) -> anyhow::Result<Self> {
        Self::on(up, up.cluster().control_plane())
    }

    /// Begins to look at every wire of a machine.
    ///
    /// # Errors
    ///
    /// The observer is not built, or cannot be started.
    pub fn on(up: &Meshed, machine: &Machine) -> anyhow::Result<Self> {
        let name = machine.name();
        let report = up.path(&format!("observed-{name}.json"));
        let expect = up.path(&format!("expect-{name}.json"));
        fs::write(&expect, r#"{"pods":[]}"#)?;
        // Who judges is not the one to wait where everybody does.
        let mut observer = machine.on_network("nice")?;
        observer
            .args(["-n", "-10"])
            .arg(up.program("maille-observer")?)
            .arg("--report")
            .arg(&report)
            .arg("--expect")
            .arg(&expect);
        let child = observer.spawn().context("the observer")?;
        Ok(Self {
            child: Some(child),
            report,
            expect,
            known: BTreeMap::new(),
        })
    }

    /// What these pods exchange, at the addresses that they have now too, has to be protected.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn expect(&mut self, pods: &[Value]) -> anyhow::Result<()> {
        for pod in pods {
            let name = format!(
                "{}/{}",
                text(pod, "/metadata/namespace"),
                text(pod, "/metadata/name")
            );
            let addresses = pod["status"]["podIPs"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            for address in addresses {
                self.known
                    .insert(text(&address, "/ip").to_owned(), name.clone());
            }
        }
        let one = |(address, name)| json!({"address": address, "meshed": true, "name": name});
        let pods: Vec<Value> = self.known.iter().map(one).collect();
        let new = self.expect.with_extension("new");
        fs::write(&new, json!({ "pods": pods }).to_string())?;
        fs::rename(new, &self.expect)?;
        Ok(())
    }

    /// Ends it: its report, which must find nothing that should not be.
    ///
    /// # Errors
    ///
    /// Something was seen that should not be, or nothing at all.
    pub fn end(self) -> anyhow::Result<Value> {
        let (report, is_content) = self.report()?;
        ensure!(report["bytes_plain_between_meshed"] == 0, "{report:#}");
        let tls = report["bytes_tls"].as_u64().unwrap_or_default();
        ensure!(tls > 10_000, "{report:#}");
        ensure!(is_content, "{report:#}");
        Ok(report)
    }

    /// Ends it: its report, whatever it found, and whether it is content.
    ///
    /// # Errors
    ///
    /// It did not write one.
    pub fn report(mut self) -> anyhow::Result<(Value, bool)> {
        let mut child = self.child.take().context("a witness ends once")?;
        stop(&child)?;
        let status = child.wait()?;
        let report = serde_json::from_slice(&fs::read(&self.report)?)?;
        Ok((report, status.success()))
    }
}

fn stop(child: &Child) -> anyhow::Result<()> {
    let pid = i32::try_from(child.id())?;
    Ok(kill(Pid::from_raw(pid), Signal::SIGTERM)?)
}

impl Drop for Witness {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It goes with its network at the latest.
            let _ = stop(&child);
            let _ = child.wait();
        }
    }
}
