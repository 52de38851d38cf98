// SPDX-License-Identifier: Apache-2.0
//! Why a pod's capture is not as it was asked for, and work that blocks, which all who capture have in common.
//!
//! Read `sandboxes.rs` for who is told.

use std::io;

use super::inside::InsideFailure;
use crate::agent::MeantError;
use crate::capture::CaptureError;

/// Why a question has no good answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum SandboxError {
    #[error("the plugin did not pass the pod's network namespace")]
    NoNamespace,
    #[error("the pod's network is not captured")]
    Capture(#[from] CaptureError),
    #[error("the agent's directory cannot be written")]
    Io(#[from] io::Error),
    #[error("the pod's proxy cannot be started")]
    Proxy(#[source] io::Error),
    #[error("the pod is not captured")]
    Unknown,
    #[error("what is captured is another network than the pod's")]
    Other,
    #[error("the pod is not captured as it was: {0}")]
    Drift(String),
    #[error("the pod cannot be captured from inside")]
    Inside(#[from] InsideFailure),
    #[error("admission wrote {0:?}, which this agent cannot do: it is of another version")]
    Mode(String),
    #[error("nobody told what the pod is meant for, and control could not be asked")]
    Untold(#[from] MeantError),
    #[error(
        "it is to be captured from outside (maille.io/capture: outboard), which a network of its own cannot do: it takes maille-cni chained \
         behind the pod's network; inboard-cni can be done here"
    )]
    Delegate,
    #[error(
        "its interfaces {0} would go past its proxy, which its namespace or itself refuses: take them out, capture it inboard-cni, or \
         allow them with the annotation maille.io/uncaptured-interfaces: allowed"
    )]
    Uncaptured(String),
    #[error("the agent was interrupted")]
    Interrupted,
}

/// Work that enters namespaces, off the runtime's thread.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SandboxError> + Send + 'static,
) -> Result<T, SandboxError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| SandboxError::Interrupted)?
}
