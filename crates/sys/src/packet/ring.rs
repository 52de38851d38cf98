// SPDX-License-Identifier: Apache-2.0
//! The ring (TPACKET_V3): blocks of memory that the kernel fills with frames and hands over whole.
//!
//! The memory is the kernel's and ours by turns: a block is read only between the moment that its status says `USER` and the
//! moment that we write `KERNEL` there.

use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Direction, EVERYWHERE, Frame, bind, length_of, packet_socket, set};
use crate::netns::NetNs;

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
pub struct Ring {
    memory: NonNull<u8>,
    size: RingSize,
    /// The block that the kernel fills next, or has filled.
    next: u32,
    dropped: u64,
    socket: OwnedFd,
}

// SAFETY: the mapping belongs to this value alone and is not tied to the thread that made it.
unsafe impl Send for Ring {}

/// A block that is not full is given to us after this long, in milliseconds.
const RETIRE_MS: u32 = 10;

impl Ring {
    /// Begins to capture everything in `namespace`, on interfaces that come later too. Interfaces without Ethernet headers
    /// (tunnels) are left out. Refuses sizes of zero and blocks that are no multiple of the page size.
    pub fn open(namespace: &NetNs, size: RingSize) -> io::Result<Self> {
        let socket = namespace.run(packet_socket)??;
        set(
            &socket,
            libc::PACKET_VERSION,
            &(libc::tpacket_versions::TPACKET_V3 as i32),
        )?;
        set(&socket, libc::PACKET_RX_RING, &request(size)?)?;
        let memory = map(&socket, total(size)?)?;
        let ring = Self {
            memory,
            size,
            next: 0,
            dropped: 0,
            socket,
        };
        // Only now: nothing is captured before there is a ring to put it in.
        bind(&ring.socket, EVERYWHERE)?;
        Ok(ring)
    }

    /// Gives each frame that is there to `take`, waiting at most `patience` for the first. Gives how many. One call reads
    /// the ring round once at most.
    pub fn read(
        &mut self,
        patience: Duration,
        mut take: impl FnMut(Frame<'_>),
    ) -> io::Result<usize> {
        if !self.is_ours() {
            let mut fds = [PollFd::new(
                self.socket.as_fd(),
                PollFlags::POLLIN | PollFlags::POLLERR,
            )];
            let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
            match poll(&mut fds, timeout) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut frames = 0;
        for _ in 0..self.size.blocks {
            if !self.is_ours() {
                break;
            }
            frames += each_frame(self.block(), &mut take);
            self.status()
                .store(libc::TP_STATUS_KERNEL, Ordering::Release);
            self.next = (self.next + 1) % self.size.blocks;
        }
        Ok(frames)
    }

    /// Frames that the kernel dropped since the start because the ring was full.
    pub fn dropped(&mut self) -> io::Result<u64> {
        let mut stats = libc::tpacket_stats_v3 {
            tp_packets: 0,
            tp_drops: 0,
            tp_freeze_q_cnt: 0,
        };
        let mut size = length_of::<libc::tpacket_stats_v3>();
        // SAFETY: the kernel writes at most `size` bytes into a live structure of that size; asking resets its counts.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut stats).cast(),
                &raw mut size,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        self.dropped += u64::from(stats.tp_drops);
        Ok(self.dropped)
    }

    fn is_ours(&self) -> bool {
        self.status().load(Ordering::Acquire) & libc::TP_STATUS_USER != 0
    }

    /// The word by which the next block changes hands.
    fn status(&self) -> &AtomicU32 {
        let at = offset_of!(libc::tpacket_block_desc, hdr);
        // SAFETY: `next` is below `blocks`, so the block lies in the mapping, which lives as long as `self`; a block begins
        // on a page, so the word is aligned; both sides access it atomically.
        unsafe { AtomicU32::from_ptr(self.start().add(at).cast()) }
    }

    /// The next block's bytes. Only while it is ours.
    fn block(&self) -> &[u8] {
        // SAFETY: the block lies in the mapping (see `status`), and the kernel does not write to it while it is ours.
        unsafe { std::slice::from_raw_parts(self.start(), self.size.block as usize) }
    }

    fn start(&self) -> *mut u8 {
        let offset = self.next as usize * self.size.block as usize;
        // SAFETY: `next` is below `blocks`, and `block * blocks` bytes are mapped.
        unsafe { self.memory.as_ptr().add(offset) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let length = self.size.block as usize * self.size.blocks as usize;
        // SAFETY: exactly what `map` mapped, and nothing borrows from it any more.
        let _ = unsafe { libc::munmap(self.memory.as_ptr().cast(), length) };
    }
}

/// Walks a block's frames. Whatever the block says, nothing outside it is read.
fn each_frame(block: &[u8], take: &mut impl FnMut(Frame<'_>)) -> usize {
    let Some(description) = read::<libc::tpacket_block_desc>(block, 0) else {
        return 0;
    };
    // SAFETY: `bh1` is the union's only member, and any bytes are valid in it.
    let header = unsafe { description.hdr.bh1 };
    let mut at = header.offset_to_first_pkt as usize;
    let mut frames = 0;
    for _ in 0..header.num_pkts {
        let Some(packet) = read::<libc::tpacket3_hdr>(block, at) else {
            break;
        };
        if let Some(frame) = frame(block, at, &packet) {
            frames += 1;
            take(frame);
        }
        at += packet.tp_next_offset as usize;
    }
    frames
}

fn frame<'a>(block: &'a [u8], at: usize, packet: &libc::tpacket3_hdr) -> Option<Frame<'a>> {
    let aligned = size_of::<libc::tpacket3_hdr>().next_multiple_of(libc::TPACKET_ALIGNMENT);
    let link = read::<libc::sockaddr_ll>(block, at + aligned)?;
    if !matches!(link.sll_hatype, libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK) {
        return None;
    }
    let start = at + usize::from(packet.tp_mac);
    let tagged = packet.tp_status & libc::TP_STATUS_VLAN_VALID != 0;
    Some(Frame {
        interface: u32::try_from(link.sll_ifindex).ok()?,
        direction: match link.sll_pkttype {
            libc::PACKET_OUTGOING => Direction::Out,
            _ => Direction::In,
        },
        bytes: block.get(start..start + packet.tp_snaplen as usize)?,
        wire_len: packet.tp_len as usize,
        vlan: tagged.then_some((packet.hv1.tp_vlan_tci & 0xffff) as u16),
        at: Duration::new(u64::from(packet.tp_sec), packet.tp_nsec),
    })
}

/// One of the kernel's structures out of a block.
fn read<T: Copy>(block: &[u8], at: usize) -> Option<T> {
    let bytes = block.get(at..at.checked_add(size_of::<T>())?)?;
    // SAFETY: the slice is as long as T, and every T here consists of integers, for which any bytes are valid.
    Some(unsafe { ptr::read_unaligned(bytes.as_ptr().cast()) })
}

fn request(size: RingSize) -> io::Result<libc::tpacket_req3> {
    // Frames are as long as they are in this version; the kernel only checks that the numbers agree.
    let frame = 2048;
    let frames = (size.block / frame).checked_mul(size.blocks);
    Ok(libc::tpacket_req3 {
        tp_block_size: size.block,
        tp_block_nr: size.blocks,
        tp_frame_size: frame,
        tp_frame_nr: frames.ok_or(io::ErrorKind::InvalidInput)?,
        tp_retire_blk_tov: RETIRE_MS,
        tp_sizeof_priv: 0,
        tp_feature_req_word: 0,
    })
}

fn total(size: RingSize) -> io::Result<usize> {
    (size.block as usize)
        .checked_mul(size.blocks as usize)
        .filter(|&bytes| bytes > 0)
        .ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

fn map(socket: &OwnedFd, length: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: a fresh mapping of the socket's ring at an address of the kernel's choice.
    let address = unsafe {
        libc::mmap(
            ptr::null_mut(),
            length,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            socket.as_raw_fd(),
            0,
        )
    };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(address.cast()).ok_or_else(|| io::Error::other("the ring was mapped at zero"))
}

#[cfg(test)]
mod tests;
