// SPDX-License-Identifier: Apache-2.0
//! Clients and servers of these tests: plain bytes, each answered, and connections that wait for nothing for ever.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};

use crate::world::PATIENCE;

/// A connection whose reads and writes do not wait for ever.
pub(crate) fn dial(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Runs `work` on a thread with descriptors of its own: one process may not have that many.
pub(crate) fn apart(work: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    thread::spawn(move || {
        unshare(CloneFlags::CLONE_FILES).unwrap();
        work();
    })
}

/// One byte that is no HTTP, there and back.
pub(crate) fn say(stream: &mut TcpStream) {
    stream.write_all(b"\x01").unwrap();
    let mut byte = [0];
    stream.read_exact(&mut byte).unwrap();
    assert_eq!(byte, [1]);
}

/// The first byte of a connection.
pub(crate) fn hear(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let mut byte = [0];
    stream.read_exact(&mut byte).unwrap();
}

/// Waits for something that does not come.
pub(crate) fn pause(time: Duration) {
    let (_open, nothing) = channel::<()>();
    assert_eq!(nothing.recv_timeout(time), Err(RecvTimeoutError::Timeout));
}

/// Answers each byte of `count` connections by itself, until told to stop.
pub(crate) fn echo(listener: &TcpListener, count: usize, stopped: &Receiver<()>) {
    let mut streams = Vec::new();
    for _ in 0..count {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        stream.write_all(&byte).unwrap();
        streams.push(stream);
    }
    for stream in streams.iter_mut().skip(1) {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        stream.write_all(&byte).unwrap();
    }
    // The other end is gone: that is what is waited for.
    let _ = stopped.recv();
}
