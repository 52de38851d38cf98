// SPDX-License-Identifier: Apache-2.0
//! The size of a terminal (`ioctl_tty(2)`).

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

/// Rows and columns of the terminal behind `fd`.
pub fn size(fd: impl AsFd) -> io::Result<(u16, u16)> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: an open descriptor and a live structure of the request's type.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((size.ws_row, size.ws_col))
}

/// Gives the terminal behind `fd` another size; whoever runs on it is told by SIGWINCH.
pub fn resize(fd: impl AsFd, (rows, columns): (u16, u16)) -> io::Result<()> {
    let size = libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: an open descriptor and a live structure of the request's type.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_has_the_size_that_it_was_given() {
        let pty = nix::pty::openpty(None, None).unwrap();
        resize(&pty.master, (33, 101)).unwrap();
        assert_eq!(size(&pty.slave).unwrap(), (33, 101));
        assert!(size(std::fs::File::open("/dev/null").unwrap()).is_err());
    }
}
