// SPDX-License-Identifier: Apache-2.0
//! What is done about a call. Pure: the agent is asked, and files are touched, in `run.rs`.
//!
//! Who is meant for the mesh is what admission wrote on the pod. As a network of its own the plugin may not be told that: the agent finds
//! it out. STATUS never depends on the agent: a node whose STATUS fails takes no pods at all, those outside the mesh included.

use std::collections::BTreeMap;

use crate::call::{Command, Env, Netconf};
use crate::failure::Failure;
use crate::protocol::{Ask, CAPTURE, INBOARD_CNI, OURS, Sandbox};

/// What is done about a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Deed {
    /// Nothing is to be done; the result of the plugins before is the answer, if one is due.
    Pass,
    /// The agent has to do it, or the call fails.
    Ask(Ask),
    /// The agent may do it; where it is away, what it left is removed.
    End(Ask),
    /// The versions are the answer.
    Versions,
}

/// Says what is done.
pub fn decide(command: Command, env: &Env, netconf: &Netconf) -> Result<Deed, Failure> {
    match command {
        Command::Version => Ok(Deed::Versions),
        Command::Status => Ok(Deed::Pass),
        // What is listed there has this network; the runtime's own has more.
        Command::Gc if netconf.delegate => Ok(Deed::Pass),
        Command::Gc => Ok(Deed::End(Ask::Gc {
            keep: netconf.valid.clone(),
        })),
        // Also for pods that were never seen, and where the namespace has gone: the agent knows what there is.
        Command::Del => Ok(Deed::End(Ask::Del {
            container: env.container()?.to_owned(),
        })),
        Command::Add | Command::Check => {
            if netconf.previous.is_none() && !netconf.delegate {
                return Err(Failure::First);
            }
            let is_check = command == Command::Check;
            let annotations = match &netconf.annotations {
                Some(annotations) => annotations,
                None if netconf.delegate => {
                    let sandbox = sandbox(&BTreeMap::new(), env)?;
                    return Ok(Deed::Ask(match is_check {
                        true => Ask::CheckUntold(sandbox),
                        false => Ask::AddUntold(sandbox),
                    }));
                }
                None => return Err(Failure::NoAnnotations),
            };
            if !is_meant(annotations, env)? {
                return Ok(Deed::Pass);
            }
            if netconf.delegate
                && annotations
                    .get(CAPTURE)
                    .is_none_or(|how| how != INBOARD_CNI)
            {
                return Err(Failure::Delegate { pod: pod(env) });
            }
            let sandbox = sandbox(annotations, env)?;
            Ok(Deed::Ask(match is_check {
                true => Ask::Check(sandbox),
                false => Ask::Add(sandbox),
            }))
        }
    }
}

/// How people find the pod.
pub fn pod(env: &Env) -> String {
    let [namespace, name] = ["K8S_POD_NAMESPACE", "K8S_POD_NAME"].map(|key| env.argument(key));
    format!("{namespace}/{name}")
}

/// Whether the pod is to be captured here, from outside or inside, which the agent reads again. One that captures itself (inboard) is left alone.
fn is_meant(annotations: &BTreeMap<String, String>, env: &Env) -> Result<bool, Failure> {
    match annotations.get(CAPTURE).map(String::as_str) {
        Some("outboard" | INBOARD_CNI) => Ok(true),
        None | Some("none" | "inboard") => Ok(false),
        Some(other) => Err(Failure::Capture {
            pod: pod(env),
            value: other.chars().take(80).collect(),
        }),
    }
}

fn sandbox(annotations: &BTreeMap<String, String>, env: &Env) -> Result<Sandbox, Failure> {
    let uid = env.argument("K8S_POD_UID");
    if uid.is_empty() {
        return Err(Failure::Environment { name: "CNI_ARGS" });
    }
    let ours = annotations.iter().filter(|(key, _)| key.starts_with(OURS));
    Ok(Sandbox {
        container: env.container()?.to_owned(),
        interface: env.interface()?.to_owned(),
        namespace: env.argument("K8S_POD_NAMESPACE").to_owned(),
        name: env.argument("K8S_POD_NAME").to_owned(),
        uid: uid.to_owned(),
        annotations: ours
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
    })
}

#[cfg(test)]
mod tests;
