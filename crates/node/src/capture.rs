// SPDX-License-Identifier: Apache-2.0
//! Outboard capture: a namespace of the proxy's own between the wire and the pod. Whole, or not at all.

use std::os::fd::OwnedFd;

use maille_sys::NetNs;

/// What may differ from pod to pod.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Options {}

/// The listening sockets of a captured pod, made in its mesh namespace before anything is sent to them. Whoever holds
/// them keeps connections waiting while no proxy is there.
#[derive(Debug)]
pub struct Listeners {
    /// Takes what the pod begins.
    pub outbound: OwnedFd,
    /// Takes what comes to the pod in plain text.
    pub inbound: OwnedFd,
    /// Takes what comes to port 15008.
    pub mesh: OwnedFd,
}

/// A captured pod. Dropping the last holder of `mesh` (this, and processes inside) takes the pod's network away.
#[derive(Debug)]
pub struct Captured {
    /// Where the proxy lives.
    pub mesh: NetNs,
    /// Its sockets.
    pub listeners: Listeners,
}

/// Why a pod is not captured. It is then as it was before.
#[derive(Debug, thiserror::Error)]
#[error("capture failed")]
pub struct CaptureError;

/// Captures `pod`, whose wire is its interface `interface`. Blocks.
pub fn insert(pod: &NetNs, interface: &str, options: &Options) -> Result<Captured, CaptureError> {
    let _ = (pod, interface, options);
    todo!()
}

/// Ends the capture of a pod: takes its wire away. Ending one that has ended is no error. Blocks.
pub fn remove(mesh: &NetNs) -> Result<(), CaptureError> {
    let _ = mesh;
    todo!()
}
