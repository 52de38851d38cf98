// SPDX-License-Identifier: Apache-2.0
//! Whether the rules of a namespace were changed at all, for whoever looks often: the kernel counts each change, and says the count in one
//! message of nfnetlink, where listing the rules takes a process.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use crate::netns::NetNs;

/// `NFT_MSG_GETGEN` and `NFT_MSG_NEWGEN` of `NFNL_SUBSYS_NFTABLES`.
const ASK: u16 = 10 << 8 | 16;
const TOLD: u16 = 10 << 8 | 15;
/// `NLM_F_REQUEST`.
const REQUEST: u16 = 1;
/// `NFTA_GEN_ID`.
const ID: u16 = 1;
/// `nlmsghdr` and `nfgenmsg`.
const HEADER: usize = 16;
const FAMILY: usize = 4;

/// The count of changes of one namespace's rules.
#[derive(Debug)]
pub struct Generation {
    kernel: OwnedFd,
}

// === impl Generation ===

impl Generation {
    /// That of `namespace`.
    pub fn of(namespace: &NetNs) -> io::Result<Self> {
        let kernel = namespace.run(|| {
            let kernel = socket(
                AddressFamily::Netlink,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::NetlinkNetFilter,
            )?;
            setsockopt(&kernel, sockopt::ReceiveTimeout, &TimeVal::seconds(1))?;
            Ok::<_, io::Error>(kernel)
        })??;
        Ok(Self { kernel })
    }

    /// The count now: equal to an earlier one where nothing was changed since.
    pub fn now(&self) -> io::Result<u32> {
        let mut question = Vec::with_capacity(HEADER + FAMILY);
        let whole = u32::try_from(HEADER + FAMILY).map_err(io::Error::other)?;
        question.extend(whole.to_ne_bytes());
        question.extend(ASK.to_ne_bytes());
        question.extend(REQUEST.to_ne_bytes());
        question.extend([0; 8 + FAMILY]);
        let to = NetlinkAddr::new(0, 0);
        sendto(self.kernel.as_raw_fd(), &question, &to, MsgFlags::empty())?;
        let mut answer = [0; 512];
        let length = recv(self.kernel.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        let answer = answer.get(..length).unwrap_or_default();
        id(answer)
            .ok_or_else(|| io::Error::other("the kernel does not say how often rules were changed"))
    }
}

/// The count in an answer.
fn id(answer: &[u8]) -> Option<u32> {
    let half = |at: usize| Some(u16::from_ne_bytes(answer.get(at..at + 2)?.try_into().ok()?));
    if half(4)? != TOLD {
        return None;
    }
    let mut at = HEADER + FAMILY;
    loop {
        let (length, kind) = (usize::from(half(at)?), half(at + 2)?);
        if kind == ID {
            return Some(u32::from_be_bytes(
                answer.get(at + 4..at + 8)?.try_into().ok()?,
            ));
        }
        // One without a length would be for ever.
        at += length.max(4).next_multiple_of(4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft;

    #[test]
    fn every_change_is_counted_and_a_look_is_none() {
        let (one, other) = (NetNs::create().unwrap(), NetNs::create().unwrap());
        let generation = Generation::of(&one).unwrap();
        let first = generation.now().unwrap();
        assert_eq!(generation.now().unwrap(), first);
        nft::apply(&one, "add table inet t").unwrap();
        let second = generation.now().unwrap();
        assert_ne!(second, first);
        nft::stateless(&one).unwrap();
        nft::apply(&other, "add table inet t").unwrap();
        assert_eq!(generation.now().unwrap(), second);
        nft::apply(&one, "flush ruleset").unwrap();
        assert_ne!(generation.now().unwrap(), second);
    }

    #[test]
    fn what_is_no_answer_is_none() {
        assert_eq!(id(&[]), None);
        assert_eq!(id(&[0; 64]), None);
        let mut endless = vec![0; 64];
        endless[4..6].copy_from_slice(&TOLD.to_ne_bytes());
        assert_eq!(id(&endless), None);
    }
}
