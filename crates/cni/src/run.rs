// SPDX-License-Identifier: Apache-2.0
//! A call from its beginning to its end: what is printed, and how the process ends.
//!
//! Read `decide.rs` for what is done about which call.

use std::fs::File;
use std::io;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::ask::{ask, end};
use crate::call::{Command, Env, NEWEST, Netconf, VERSIONS};
use crate::decide::{Deed, decide, pod};
use crate::failure::Failure;
use crate::protocol::{Answer, Ask};

/// Does what is called for with the configuration `input`: what to print, and the status to end with.
pub fn run(env: &Env, input: &[u8]) -> (String, ExitCode) {
    match called(env, input) {
        Ok(text) => (text, ExitCode::SUCCESS),
        Err(failure) => failed(&failure, input),
    }
}

/// The same where there is no configuration.
pub fn unread(error: &io::Error) -> (String, ExitCode) {
    let error = io::Error::new(error.kind(), error.to_string());
    failed(&Failure::Input(error), b"")
}

fn failed(failure: &Failure, input: &[u8]) -> (String, ExitCode) {
    (failure.object(&version(input)), ExitCode::FAILURE)
}

/// In which version an error is told: the call's, where it is one of ours.
fn version(input: &[u8]) -> String {
    let object: Value = serde_json::from_slice(input).unwrap_or_default();
    let said = object["cniVersion"].as_str().unwrap_or(NEWEST);
    let ours = VERSIONS.iter().find(|ours| **ours == said);
    (*ours.unwrap_or(&NEWEST)).to_owned()
}

fn called(env: &Env, input: &[u8]) -> Result<String, Failure> {
    let command = env.command()?;
    if command == Command::Version {
        // Its input has a version and nothing else, and may have none.
        return Ok(
            json!({"cniVersion": version(input), "supportedVersions": VERSIONS}).to_string(),
        );
    }
    let netconf = Netconf::read(input)?;
    match decide(command, env, &netconf)? {
        Deed::Versions | Deed::Pass => {}
        Deed::Ask(wish) => asked(wish, env, &netconf)?,
        Deed::End(wish) => ended(&wish, &netconf)?,
    }
    match (command, &netconf.previous) {
        (Command::Add, Some(result)) => Ok(result.to_string()),
        // A network that gives the pod nothing.
        (Command::Add, None) => Ok(
            json!({"cniVersion": netconf.version, "interfaces": [], "ips": [], "dns": {}})
                .to_string(),
        ),
        _ => Ok(String::new()),
    }
}

/// Has the agent do it.
fn asked(wish: Ask, env: &Env, netconf: &Netconf) -> Result<(), Failure> {
    let namespace = File::open(env.namespace()).map_err(Failure::Namespace)?;
    let pod = pod(env);
    let is_untold = matches!(wish, Ask::AddUntold(_) | Ask::CheckUntold(_));
    match ask(&netconf.state, wish, Some(&namespace)) {
        Ok(Answer::Done) => Ok(()),
        Ok(Answer::Refused { reason, details }) => Err(Failure::Refused {
            pod,
            reason,
            details,
        }),
        Err(source) if is_untold => Err(Failure::AwayUntold { pod, source }),
        Err(source) => Err(Failure::Away { pod, source }),
    }
}

/// Has the agent end it, or does what can be done without.
fn ended(wish: &Ask, netconf: &Netconf) -> Result<(), Failure> {
    let away = match ask(&netconf.state, wish.clone(), None::<&File>) {
        Ok(Answer::Done) => return Ok(()),
        Ok(Answer::Refused { .. }) | Err(_) => wish,
    };
    match away {
        Ask::Del { container } => end(&netconf.state, container).map_err(|source| Failure::Left {
            container: container.clone(),
            source,
        }),
        // An agent that comes back looks for itself what is still there.
        Ask::Gc { .. } | Ask::Add(_) | Ask::Check(_) | Ask::AddUntold(_) | Ask::CheckUntold(_) => {
            Ok(())
        }
    }
}
