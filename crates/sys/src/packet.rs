// SPDX-License-Identifier: Apache-2.0
//! Capturing frames on every interface of a namespace through a ring shared with the kernel (`packet(7)`, TPACKET_V3).

use std::io;
use std::time::Duration;

use crate::netns::NetNs;

/// Which way a frame went, seen from the namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Into it.
    In,
    /// Out of it.
    Out,
}

/// A captured frame.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The interface's number in the namespace.
    pub interface: u32,
    /// Which way.
    pub direction: Direction,
    /// From the Ethernet header on.
    pub bytes: &'a [u8],
    /// How long it was on the wire; more than `bytes` if it was cut.
    pub wire_len: usize,
    /// VLAN tag (TCI) that the kernel took out of the frame.
    pub vlan: Option<u16>,
    /// When, since 1970.
    pub at: Duration,
}

/// How large a ring is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSize {
    /// Bytes of a block; a multiple of the page size.
    pub block: u32,
    /// Blocks.
    pub blocks: u32,
}

/// An open capture.
#[derive(Debug)]
pub struct Ring {}

impl Ring {
    /// Begins to capture everything in `namespace`, on interfaces that come later too.
    pub fn open(namespace: &NetNs, size: RingSize) -> io::Result<Self> {
        let _ = (namespace, size);
        todo!()
    }

    /// Gives each frame that is there to `take`, waiting at most `patience` for the first. Gives how many.
    pub fn read(&mut self, patience: Duration, take: impl FnMut(Frame<'_>)) -> io::Result<usize> {
        let _ = (patience, take);
        todo!()
    }

    /// Frames that the kernel dropped since the start because the ring was full.
    pub fn dropped(&mut self) -> io::Result<u64> {
        todo!()
    }
}
