// SPDX-License-Identifier: Apache-2.0
//! The kernel: namespaces, netlink, nftables, sockets, packet capture.
