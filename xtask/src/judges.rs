// SPDX-License-Identifier: Apache-2.0
//! The judges of the ring `suites` that are Go programs: others' from their modules, and ours from `tests/suites/go`.
//!
//! Must never build what `go.sum` does not pin. Read `rings.rs` for the user.

use std::fs;

use crate::shell::{Cmd, root};

/// Where the judges are, beside the programs.
pub(crate) const DIR: &str = "judges";

/// Programs of others whose own names say too little, and what they are called here.
const RENAMED: &[(&str, &str)] = &[
    ("google.golang.org/grpc/interop/client", "interop-client"),
    ("google.golang.org/grpc/interop/server", "interop-server"),
];

/// Programs that keep their names: everything of ours, and one of others.
const NAMED: &[&str] = &["./...", "github.com/summerwind/h2spec/cmd/h2spec"];

/// Builds them all into a directory beside the programs that are released.
pub(crate) fn build() -> anyhow::Result<()> {
    let judges = root().join("target/release").join(DIR);
    fs::create_dir_all(&judges)?;
    let go = |output: &str, packages: &[&str]| {
        Cmd::new("go")
            .dir(root().join("tests/suites/go"))
            .env("CGO_ENABLED", "0")
            .args(["build", "-trimpath", "-o"])
            .args([judges.join(output)])
            .args(packages)
            .run()
    };
    go("", NAMED)?;
    for (package, name) in RENAMED {
        go(name, &[package])?;
    }
    Ok(())
}
