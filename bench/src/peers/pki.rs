// SPDX-License-Identifier: Apache-2.0
//! One authority and one leaf for all peers but Maille, which has its own: ECDSA P-256, as Maille's. Used by `peers.rs`.

use std::process::Command;

use anyhow::{Context as _, bail};

use crate::lab::Lab;

/// Writes `ca.pem`, `leaf.crt`, `leaf.key` and `leaf.pem`, which is both, to the scratch folder.
pub(super) fn create(lab: &Lab) -> anyhow::Result<()> {
    let run = |arguments: &str| -> anyhow::Result<()> {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(lab.scratch())
            .output()
            .context("running openssl")?;
        if !output.status.success() {
            bail!(
                "openssl {arguments}: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(())
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    run(&format!(
        "req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=bench-ca"
    ))?;
    run(&format!(
        "req {key} -keyout leaf.key -out leaf.csr -subj /CN=bench.local"
    ))?;
    lab.write(
        "leaf.ext",
        "subjectAltName=DNS:bench.local\nextendedKeyUsage=serverAuth,clientAuth\n",
    )?;
    run(
        "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out leaf.crt -days 2 -extfile leaf.ext",
    )?;
    let read = |name: &str| std::fs::read_to_string(lab.scratch().join(name));
    lab.write("leaf.pem", &(read("leaf.crt")? + &read("leaf.key")?))?;
    Ok(())
}
