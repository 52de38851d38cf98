// SPDX-License-Identifier: Apache-2.0
//! The kernel: namespaces, links, rules, sockets, processes, packets. The only crate with `unsafe`.
//!
//! Blocks where it says so and knows nothing of Maille's meaning. Read [`netns`] first: everything that configures a
//! network does it inside a [`netns::NetNs`].

#![expect(
    unsafe_code,
    reason = "system calls without a safe wrapper; one function each"
)]

/// One timer beside many sockets.
pub mod alarm;
/// Capabilities, by name and number.
pub mod caps;
/// Control groups: how much processes may use.
pub mod cgroup;
/// Links, addresses, routes, policy rules and neighbours, by rtnetlink.
pub mod link;
/// What a machine must have.
pub mod machine;
/// Network namespaces held by a descriptor.
pub mod netns;
/// nftables rule sets, applied as one transaction.
pub mod nft;
/// Capturing and sending frames.
pub mod packet;
/// Who is at the other end of a unix socket.
pub mod peercred;
/// Sockets as a transparent proxy needs them.
pub mod socket;
/// Starting processes in namespaces: the isolated node, pods, proxies.
pub mod spawn;

/// The size of a terminal.
pub mod terminal;
/// The legacy packet filter's redirections, for kernels without nftables.
pub mod xtables;

pub use netns::NetNs;
