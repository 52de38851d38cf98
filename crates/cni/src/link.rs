// SPDX-License-Identifier: Apache-2.0
//! Removing a link of the network namespace that this process is in: the one message of rtnetlink that the plugin needs, for when
//! there is no agent that could be asked.

use std::io;
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

/// `RTM_DELLINK`.
const DELETE: u16 = 17;
/// `NLM_F_REQUEST | NLM_F_ACK`.
const FLAGS: u16 = 1 | 4;
/// `IFLA_IFNAME`.
const NAME: u16 = 3;
/// `NLMSG_ERROR`, which also tells success.
const ANSWER: u16 = 2;
/// `ENODEV`, as a negative number.
const NO_SUCH: i32 = -19;

/// Removes the link `name`, and with it its peer. One that is not there is removed.
pub fn delete(name: &str) -> io::Result<()> {
    let kernel = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    let address = NetlinkAddr::new(0, 0);
    sendto(
        kernel.as_raw_fd(),
        &message(name),
        &address,
        MsgFlags::empty(),
    )?;
    let mut answer = [0; 256];
    let length = recv(kernel.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    match error(answer.get(..length).unwrap_or_default()) {
        Some(0 | NO_SUCH) => Ok(()),
        Some(error) => Err(io::Error::from_raw_os_error(-error)),
        None => Err(io::Error::other("the kernel's answer cannot be read")),
    }
}

/// `nlmsghdr`, `ifinfomsg`, and the name as an attribute.
fn message(name: &str) -> Vec<u8> {
    let mut attribute = name.as_bytes().to_vec();
    attribute.push(0);
    let length = u16::try_from(4 + attribute.len()).unwrap_or(u16::MAX);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    let whole = u32::try_from(16 + 16 + 4 + attribute.len()).unwrap_or(u32::MAX);
    let mut message = Vec::new();
    message.extend(whole.to_ne_bytes());
    message.extend(DELETE.to_ne_bytes());
    message.extend(FLAGS.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([0; 16]);
    message.extend(length.to_ne_bytes());
    message.extend(NAME.to_ne_bytes());
    message.extend(attribute);
    message
}

/// The error number of an answer; zero is success.
fn error(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let number = i32::from_ne_bytes(answer.get(16..20)?.try_into().ok()?);
    (kind == ANSWER).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_removed_once_or_never() {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let ip = |line: &str| {
            let status = std::process::Command::new("ip")
                .args(line.split(' '))
                .status();
            status.unwrap().success()
        };
        assert!(ip("link add up0 type veth peer name dn0"));
        delete("up0").unwrap();
        assert!(!ip("link show dn0"), "its peer goes with it");
        delete("up0").unwrap();
        assert!(delete("lo").is_err(), "which nobody can remove");
    }
}
