// SPDX-License-Identifier: Apache-2.0
//! What a proxy says about itself beside what every process does: version, certificate, snapshot. Next: `../telemetry/totals.rs`.

use std::time::SystemTime;

use maille_chassis::metrics::{Labels, Text, process};
use maille_engine::snapshot::Snapshot;
use maille_identity::Credentials;

use super::{BUILD, CERTIFICATE, COMPLETE, REFRESHES, SNAPSHOT};

/// Writes it.
pub fn write(
    text: &mut Text,
    started: SystemTime,
    snapshot: &Snapshot,
    credentials: Option<&Credentials>,
) {
    process::write(text, started);
    text.family(&BUILD);
    let version = Labels::new().with("version", env!("CARGO_PKG_VERSION"));
    text.sample(&BUILD, &version, 1);
    let expires = credentials.map_or(0, |held| process::seconds(held.not_after()));
    text.single(&CERTIFICATE, expires);
    text.single(&REFRESHES, credentials.map_or(0, Credentials::generation));
    let entries =
        snapshot.addresses().count() + snapshot.services().count() + snapshot.groups().count();
    text.single(&SNAPSHOT, entries);
    text.single(&COMPLETE, u64::from(snapshot.is_complete()));
}
