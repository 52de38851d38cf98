// SPDX-License-Identifier: Apache-2.0
//! This side of a command's streams: pipes, or a terminal that is all of them in one.

use std::io;
use std::os::fd::OwnedFd;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::net::unix::pipe::{Receiver, Sender};

/// What was kept of the streams.
#[derive(Debug)]
pub(crate) struct Ends {
    /// Takes what the command is to read.
    pub(crate) input: Option<Sender>,
    /// Gives what it writes.
    pub(crate) output: Receiver,
    /// The same for its errors; a terminal mixes the two.
    pub(crate) error: Option<Receiver>,
    /// To tell a terminal its size.
    pub(crate) terminal: Option<OwnedFd>,
}

impl Ends {
    pub(super) fn pipes(input: Option<Sender>, output: Receiver, error: Receiver) -> Self {
        Self {
            input,
            output,
            error: Some(error),
            terminal: None,
        }
    }

    pub(super) fn terminal(master: OwnedFd) -> io::Result<Self> {
        fcntl(
            &master,
            FcntlArg::F_SETFL(OFlag::O_NONBLOCK | OFlag::O_RDWR),
        )?;
        Ok(Self {
            input: Some(Sender::from_owned_fd_unchecked(master.try_clone()?)?),
            output: Receiver::from_owned_fd_unchecked(master.try_clone()?)?,
            error: None,
            terminal: Some(master),
        })
    }
}
