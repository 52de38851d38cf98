// SPDX-License-Identifier: Apache-2.0
//! A timer as a descriptor of the kernel (timerfd_create(2)), for who has one among many sockets. A turn that no deadline has anything to do with does
//! nothing about time but compare, where the runtime's own timers would be asked before and after each of its sleeps.
//!
//! Must never ring later than it was set to; earlier is harmless.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A time of nothing would stop the timer.
const LEAST: Duration = Duration::from_nanos(1);

/// The descriptor, as the runtime wants to see one.
#[derive(Debug)]
struct Timer(TimerFd);

/// Rings once, when it was set to, and wakes the task that asked last.
#[derive(Debug)]
pub struct Alarm {
    timer: AsyncFd<Timer>,
    set: Option<Instant>,
}

impl Alarm {
    /// A timer that is not set. Must be called inside the runtime that watches it.
    pub fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        Ok(Self {
            // SAFETY: the descriptor is the timer's own, and is closed with it, after the registration.
            timer: unsafe { AsyncFd::register_with_interest(Timer(timer), Interest::READABLE) }?,
            set: None,
        })
    }

    /// Rings at `deadline` at the latest. One that is set to ring before that, and after `now`, is left alone: waking too early is harmless.
    pub fn keep(&mut self, deadline: Instant, now: Instant) -> io::Result<()> {
        if self.set.is_some_and(|at| at > now && at <= deadline) {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(now).max(LEAST);
        let once = Expiration::OneShot(TimeSpec::from_duration(left));
        self.timer
            .get_ref()
            .0
            .set(once, TimerSetTimeFlags::empty())?;
        self.set = Some(deadline);
        Ok(())
    }

    /// Whether it has rung since it was set; if not, `cx` is woken when it does.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Poll::Ready(Ok(mut ready)) = self.timer.poll_read_ready(cx) {
            // What was there before it was set anew is there no more.
            let read = ready.try_io(|timer| Ok(timer.get_ref().0.wait()?));
            if read.is_ok() {
                self.set = None;
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}

// === impl Timer ===

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn it_rings_when_it_was_set_to_and_sooner_when_set_anew() {
        let now = || tokio::time::Instant::now().into_std();
        let mut alarm = Alarm::new().unwrap();
        let begun = now();
        alarm
            .keep(begun + Duration::from_secs(3600), now())
            .unwrap();
        let pending = poll_fn(|cx| Poll::Ready(alarm.poll(cx).is_pending())).await;
        assert!(pending);
        let wanted = begun + Duration::from_millis(20);
        alarm.keep(wanted, now()).unwrap();
        // Later than what it is set to: nothing changes.
        alarm.keep(begun + Duration::from_secs(60), now()).unwrap();
        poll_fn(|cx| alarm.poll(cx)).await;
        assert!(now() >= wanted);
        // What has passed already rings at once.
        alarm.keep(begun, now()).unwrap();
        poll_fn(|cx| alarm.poll(cx)).await;
    }
}
