// SPDX-License-Identifier: Apache-2.0
//! The ring (TPACKET_V3): blocks of memory that the kernel fills with frames and hands over whole, by a word in each.
//!
//! Layout: `include/uapi/linux/if_packet.h`. A block belongs to us exactly while its status word has TP_STATUS_USER; all
//! else in it is read as plain bytes, with every offset checked, because a wrong one must not become a wild read.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::{Direction, Frame, bind, readable, set, socket};
use crate::netns::NetNs;

/// `struct tpacket_block_desc`: where its fields are.
const STATUS: usize = 8;
const COUNT: usize = 12;
const FIRST: usize = 16;
/// `struct tpacket3_hdr`, then `struct sockaddr_ll`.
const HEADER: usize = 48;
const NEXT: usize = 0;
const SECONDS: usize = 4;
const NANOS: usize = 8;
const CAPTURED: usize = 12;
const LENGTH: usize = 16;
const FRAME_STATUS: usize = 20;
const MAC: usize = 24;
const VLAN: usize = 32;
const INTERFACE: usize = HEADER + 4;
const KIND: usize = HEADER + 10;

const VERSION_3: libc::c_int = 2;
const USER: u32 = 1;
const VLAN_VALID: u32 = 1 << 4;
/// A block that is not full is handed over after so many milliseconds.
const RETIRE_MILLIS: u32 = 20;

/// How large a ring is. Its memory is the product, all of it resident once used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSize {
    /// Bytes of a block: a power of two, at least 128 KiB so that the largest frame fits.
    pub block: u32,
    /// Blocks.
    pub blocks: u32,
}

/// An open capture.
#[derive(Debug)]
pub struct Ring {
    socket: OwnedFd,
    memory: NonNull<u8>,
    block: usize,
    blocks: usize,
    next: usize,
    dropped: u64,
}

// SAFETY: the mapping belongs to this value alone; which thread reads it does not matter.
unsafe impl Send for Ring {}

/// `struct tpacket_req3`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Request {
    block_size: u32,
    block_nr: u32,
    frame_size: u32,
    frame_nr: u32,
    retire_millis: u32,
    private: u32,
    features: u32,
}

impl Ring {
    /// Begins to capture everything in `namespace`, on interfaces that come later too.
    pub fn open(namespace: &NetNs, size: RingSize) -> io::Result<Self> {
        namespace.run(|| {
            let socket = socket()?;
            set(&socket, libc::PACKET_VERSION, &VERSION_3)?;
            let frame_size = 2048;
            let request = Request {
                block_size: size.block,
                block_nr: size.blocks,
                frame_size,
                frame_nr: size.block / frame_size * size.blocks,
                retire_millis: RETIRE_MILLIS,
                private: 0,
                features: 0,
            };
            set(&socket, libc::PACKET_RX_RING, &request)?;
            let (block, blocks) = (size.block as usize, size.blocks as usize);
            let memory = map(&socket, block * blocks)?;
            let ring = Self {
                socket,
                memory,
                block,
                blocks,
                next: 0,
                dropped: 0,
            };
            bind(&ring.socket, 0)?;
            Ok(ring)
        })?
    }

    /// Gives each frame that is there to `take`, waiting at most `patience` for the first. Gives how many.
    pub fn read(
        &mut self,
        patience: Duration,
        mut take: impl FnMut(Frame<'_>),
    ) -> io::Result<usize> {
        if self.status().load(Ordering::Acquire) & USER == 0 && !readable(&self.socket, patience)? {
            return Ok(0);
        }
        let mut given = 0;
        // At most once round, so that the caller can look at its clock.
        for _ in 0..self.blocks {
            if self.status().load(Ordering::Acquire) & USER == 0 {
                break;
            }
            given += walk(self.current(), &mut take);
            self.status().store(0, Ordering::Release);
            self.next = (self.next + 1) % self.blocks;
        }
        Ok(given)
    }

    /// Frames that the kernel dropped since the start because the ring was full.
    pub fn dropped(&mut self) -> io::Result<u64> {
        // `struct tpacket_stats_v3`: packets, drops, times the queue froze.
        let mut counts = [0_u32; 3];
        let mut size = libc::socklen_t::try_from(size_of_val(&counts)).unwrap_or(0);
        // SAFETY: room for the structure and its size. Reading resets the kernel's counters.
        let done = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                counts.as_mut_ptr().cast(),
                &raw mut size,
            )
        };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        self.dropped += u64::from(counts[1]);
        Ok(self.dropped)
    }

    fn status(&self) -> &AtomicU32 {
        // SAFETY: inside the mapping, four-byte aligned; the kernel writes it too, which is what atomics are for.
        unsafe {
            AtomicU32::from_ptr(
                self.memory
                    .add(self.next * self.block + STATUS)
                    .as_ptr()
                    .cast(),
            )
        }
    }

    /// The current block's bytes. Only while it is ours.
    fn current(&self) -> &[u8] {
        // SAFETY: inside the mapping; while the status says so, the kernel does not write to the block. The status word
        // itself is never read through this slice.
        unsafe {
            std::slice::from_raw_parts(self.memory.add(self.next * self.block).as_ptr(), self.block)
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: exactly what was mapped, and nothing borrowed from it is left.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), self.block * self.blocks) };
    }
}

fn map(socket: &OwnedFd, length: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: a new mapping at an address of the kernel's choice.
    let memory = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            length,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            socket.as_raw_fd(),
            0,
        )
    };
    if memory == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(memory.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))
}

/// Gives every frame of a block. Ends early at the first that does not fit into it.
fn walk(block: &[u8], take: &mut impl FnMut(Frame<'_>)) -> usize {
    let count = word(block, COUNT).unwrap_or(0);
    let mut at = word(block, FIRST).unwrap_or(0) as usize;
    for given in 0..count as usize {
        let Some((frame, next)) = block.get(at..).and_then(frame) else {
            return given;
        };
        take(frame);
        at += next;
    }
    count as usize
}

/// The frame whose header begins `bytes`, and where the next one is.
fn frame(bytes: &[u8]) -> Option<(Frame<'_>, usize)> {
    const OUTGOING: u8 = 4;
    let mac = usize::from(half(bytes, MAC)?);
    let captured = word(bytes, CAPTURED)? as usize;
    #[expect(clippy::cast_possible_truncation, reason = "the tag is the low half")]
    let vlan = (word(bytes, FRAME_STATUS)? & VLAN_VALID != 0).then_some(word(bytes, VLAN)? as u16);
    let frame = Frame {
        interface: word(bytes, INTERFACE)?,
        direction: if *bytes.get(KIND)? == OUTGOING {
            Direction::Out
        } else {
            Direction::In
        },
        bytes: bytes.get(mac..mac.checked_add(captured)?)?,
        wire_len: word(bytes, LENGTH)? as usize,
        vlan,
        at: Duration::new(u64::from(word(bytes, SECONDS)?), word(bytes, NANOS)?),
    };
    Some((frame, word(bytes, NEXT)? as usize))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}
