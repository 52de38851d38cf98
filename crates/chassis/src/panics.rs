// SPDX-License-Identifier: Apache-2.0
//! Panics of the whole process, whoever catches them: counted, and told by the log in one line.
//!
//! Must never print to standard error itself: the log is there, bounded, and what a peer can trigger once it can trigger often.

use std::panic;
use std::sync::atomic::{AtomicU64, Ordering};

static PANICS: AtomicU64 = AtomicU64::new(0);

/// Has every panic counted and logged from here on, in place of the usual message.
pub fn install() {
    panic::set_hook(Box::new(|panicked| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        let at = panicked.location().map(ToString::to_string);
        let text = panicked.payload_as_str().unwrap_or("no text");
        crate::limited!(error, at, text, "panic");
    }));
}

/// How many there were since [`install`].
pub fn count() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_counted() {
        let usual = panic::take_hook();
        install();
        let before = count();
        let caught = panic::catch_unwind(|| panic!("on purpose"));
        panic::set_hook(usual);
        assert!(caught.is_err() && count() > before);
    }
}
