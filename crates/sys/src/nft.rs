// SPDX-License-Identifier: Apache-2.0
//! nftables rule sets: text in, one transaction, all or nothing.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::netns::NetNs;

mod generation;

pub use generation::Generation;

/// Why a rule set was not applied. Nothing of it is in force then.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// `nft` is not there, or the namespace cannot be entered.
    #[error("nft cannot be run (package nftables)")]
    Run(#[source] io::Error),
    /// `nft` or the kernel refused the rules.
    #[error("nft refused the rules: {0}")]
    Refused(String),
}

/// Applies `rules` (nft's own language) inside `namespace`.
pub fn apply(namespace: &NetNs, rules: &str) -> Result<(), NftError> {
    run(namespace, &["-f", "-"], rules).map(drop)
}

/// [`apply`] in the namespace that the caller is in, which it need not be allowed to enter.
pub fn apply_here(rules: &str) -> Result<(), NftError> {
    said(feed(&["-f", "-"], rules).map_err(NftError::Run)?).map(drop)
}

/// The rules in force inside `namespace`, as nft lists them.
pub fn list(namespace: &NetNs) -> Result<String, NftError> {
    run(namespace, &["list", "ruleset"], "")
}

/// The same without counts, which change by themselves.
pub fn stateless(namespace: &NetNs) -> Result<String, NftError> {
    run(namespace, &["-s", "list", "ruleset"], "")
}

/// The table `name` inside `namespace` (`inet t`), without counts. One that is not there is a refusal.
pub fn table(namespace: &NetNs, name: &str) -> Result<String, NftError> {
    let words = ["-s", "list", "table"].into_iter().chain(name.split(' '));
    run(namespace, &words.collect::<Vec<_>>(), "")
}

/// What `nft` says that it is.
pub fn version() -> Result<String, NftError> {
    let output = Command::new(program()).arg("--version").output();
    let output = output.map_err(NftError::Run)?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn run(namespace: &NetNs, arguments: &[&str], input: &str) -> Result<String, NftError> {
    let output = namespace.run(|| feed(arguments, input));
    said(output.and_then(|output| output).map_err(NftError::Run)?)
}

fn feed(arguments: &[&str], input: &str) -> io::Result<Output> {
    let mut child = Command::new(program())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    child.wait_with_output()
}

fn said(output: Output) -> Result<String, NftError> {
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(NftError::Refused(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        ))
    }
}

/// Distributions install it where the `PATH` of ordinary users does not lead.
fn program() -> &'static str {
    let usual = ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"];
    usual
        .into_iter()
        .find(|path| Path::new(path).exists())
        .unwrap_or("nft")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_or_nothing() {
        let namespace = NetNs::create().unwrap();
        apply(
            &namespace,
            "table inet t {\n chain c {\n type filter hook input priority 0;\n }\n}",
        )
        .unwrap();
        let error = apply(
            &namespace,
            "table inet u { }\ntable inet v { chain c { nonsense } }",
        )
        .unwrap_err();
        assert!(
            matches!(&error, NftError::Refused(text) if text.contains("nonsense")),
            "{error}"
        );
        let rules = list(&namespace).unwrap();
        assert!(
            rules.contains("table inet t") && !rules.contains("table inet u"),
            "{rules}"
        );
    }
}
