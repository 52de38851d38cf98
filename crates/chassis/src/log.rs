// SPDX-License-Identifier: Apache-2.0
//! Logs that never block the process and cannot be flooded.
//!
//! Lines go through a bounded queue to one writer thread; when the queue is full they are dropped and counted. What a
//! peer can trigger goes through a [`Limiter`]: a token bucket for each place in the code, which says how many it held back.

use std::io::{self, Write as _};
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use parking_lot::Mutex;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter cannot be read.
    #[error("log filter {filter:?} is not like info or info,maille_proxy=debug")]
    Filter {
        /// As given.
        filter: String,
        /// What the parser said.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// The format is unknown.
    #[error("log format {0:?} is neither text nor json")]
    Format(String),
    /// The writer thread could not be started.
    #[error("the log's writer thread could not be started")]
    Thread(#[source] io::Error),
    /// A log was set up before.
    #[error("a log was set up before")]
    Twice,
}

/// Lines that wait for the writer, at most.
const QUEUE: usize = 1024;

static DROPPED: AtomicU64 = AtomicU64::new(0);
static WRITER: OnceLock<SyncSender<Message>> = OnceLock::new();

/// Lines dropped so far because the writer was behind.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Sets up the process's log on standard error. Call once, first.
pub fn init(filter: &str, format: Format) -> Result<(), LogError> {
    let parsed = EnvFilter::try_new(filter).map_err(|source| LogError::Filter {
        filter: filter.to_owned(),
        source,
    })?;
    let (lines, queue) = sync_channel::<Message>(QUEUE);
    std::thread::Builder::new()
        .name("log".into())
        .stack_size(128 * 1024)
        .spawn(move || {
            let mut out = io::stderr();
            while let Ok(message) = queue.recv() {
                match message {
                    // A log that cannot be written has nowhere to say so.
                    Message::Line(line) => drop(out.write_all(&line)),
                    // Nobody waits any more, then.
                    Message::Flush(done) => drop(done.send(())),
                }
            }
        })
        .map_err(LogError::Thread)?;
    let writer = Queue(lines.clone());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_writer(writer)
        .with_ansi(false);
    let set = match format {
        Format::Text => builder.try_init(),
        Format::Json => builder.json().try_init(),
    };
    set.map_err(|_| LogError::Twice)?;
    // Set once: a second call has failed above.
    drop(WRITER.set(lines));
    Ok(())
}

/// Waits until what was logged so far is written, at most a second. Call it last: the end of a process drops what waits.
pub fn flush() {
    let Some(lines) = WRITER.get() else {
        return;
    };
    let (done, written) = sync_channel(1);
    if lines.try_send(Message::Flush(done)).is_ok() {
        // Late or gone: there is nothing more to be done for it.
        let _ = written.recv_timeout(Duration::from_secs(1));
    }
}

#[derive(Clone)]
struct Queue(SyncSender<Message>);

enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

struct Line<'a> {
    queue: &'a Queue,
    bytes: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line {
            queue: self,
            bytes: Vec::new(),
        }
    }
}

impl io::Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if self.bytes.is_empty() {
            return;
        }
        let line = Message::Line(std::mem::take(&mut self.bytes));
        match self.queue.0.try_send(line) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                DROPPED.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl FromStr for Format {
    type Err = LogError;

    fn from_str(text: &str) -> Result<Self, LogError> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(LogError::Format(other.to_owned())),
        }
    }
}

/// A token bucket: `BURST` lines at once, one more each second. Made for statics: `static LIMIT: Limiter = Limiter::new();`.
#[derive(Debug)]
pub struct Limiter {
    state: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    /// Seconds of the clock at which it was last filled.
    second: u64,
    tokens: u64,
    held_back: u64,
}

const BURST: u64 = 10;

impl Limiter {
    /// A full bucket.
    pub const fn new() -> Self {
        Self {
            state: Mutex::new(Bucket {
                second: 0,
                tokens: BURST,
                held_back: 0,
            }),
        }
    }

    /// Whether a line may be written at `second` (any monotonic count of seconds): `Some(lines held back before it)`.
    pub fn admit(&self, second: u64) -> Option<u64> {
        let mut bucket = self.state.lock();
        let passed = second.saturating_sub(bucket.second);
        bucket.second = bucket.second.max(second);
        bucket.tokens = bucket.tokens.saturating_add(passed).min(BURST);
        if bucket.tokens == 0 {
            bucket.held_back += 1;
            return None;
        }
        bucket.tokens -= 1;
        Some(std::mem::take(&mut bucket.held_back))
    }

    /// [`Limiter::admit`] by the wall clock.
    pub fn admit_now(&self) -> Option<u64> {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        self.admit(since.as_secs())
    }
}

impl Default for Limiter {
    fn default() -> Self {
        Self::new()
    }
}

/// Logs what a peer can trigger: `limited!(warn, peer = %addr, "handshake refused")`. Each place has its own [`Limiter`];
/// the field `held_back` says how many lines it kept to itself before this one.
#[macro_export]
macro_rules! limited {
    ($level:ident, $($rest:tt)+) => {{
        static LIMIT: $crate::log::Limiter = $crate::log::Limiter::new();
        if let Some(held_back) = LIMIT.admit_now() {
            $crate::log::tracing::$level!(held_back, $($rest)+);
        }
    }};
}

pub use tracing;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_one_a_second() {
        let limit = Limiter::new();
        assert_eq!((0..100).filter(|_| limit.admit(5).is_some()).count(), 10);
        assert_eq!(limit.admit(6), Some(90));
        assert_eq!(limit.admit(6), None);
        assert_eq!((0..100).filter(|_| limit.admit(1000).is_some()).count(), 10);
    }

    #[test]
    fn the_macro_expands() {
        limited!(debug, peer = "x", "said {}", 1);
    }

    #[test]
    fn formats() {
        assert_eq!("json".parse::<Format>().unwrap(), Format::Json);
        assert!("xml".parse::<Format>().is_err());
        assert!(matches!(
            init("info,=x=", Format::Text),
            Err(LogError::Filter { .. })
        ));
    }
}
