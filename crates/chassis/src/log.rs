// SPDX-License-Identifier: Apache-2.0
//! Logs that never block the process and cannot be flooded.
//!
//! Lines go through a bounded queue to one writer thread; when the queue is full they are dropped and counted. What a
//! peer can trigger goes through a [`Limiter`]: a token bucket for each place in the code, which says how many it held back.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::Setting;

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

/// How lines look.
pub const FORMAT: Setting = Setting::with_default(
    "MAILLE_LOG_FORMAT",
    "how log lines look: text or json",
    "text",
);

/// What is logged; `default` is the program's own choice.
pub const fn filter(default: &'static str) -> Setting {
    Setting::with_default(
        "MAILLE_LOG",
        "what is logged: a filter such as `info` or `info,maille_proxy=debug`",
        default,
    )
}

/// Lines that wait for the writer, at most: so many of the access log, and as many others.
const QUEUE: usize = 1024;

static DROPPED: AtomicU64 = AtomicU64::new(0);
static HELD_BACK: AtomicU64 = AtomicU64::new(0);
static ACCESS_DROPPED: AtomicU64 = AtomicU64::new(0);
static ACCESS_WAITING: AtomicUsize = AtomicUsize::new(0);
static WRITER: OnceLock<SyncSender<Message>> = OnceLock::new();

/// Lines dropped so far because the writer was behind.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Lines of the access log dropped so far for the same reason.
pub fn access_dropped() -> u64 {
    ACCESS_DROPPED.load(Ordering::Relaxed)
}

/// Lines that [`Limiter`]s held back so far.
pub fn held_back() -> u64 {
    HELD_BACK.load(Ordering::Relaxed)
}

/// Writes a line of the access log, without waiting: `fields` as `format` has them, to which the time is added. Without room it is
/// dropped and counted; whatever its number, room for the process's own lines is left.
pub fn access(format: Format, fields: Vec<u8>) {
    let Some(lines) = WRITER.get() else {
        return;
    };
    let line = Message::Access {
        at: SystemTime::now(),
        format,
        fields,
    };
    let room = ACCESS_WAITING.fetch_add(1, Ordering::Relaxed) < QUEUE;
    if !(room && lines.try_send(line).is_ok()) {
        ACCESS_WAITING.fetch_sub(1, Ordering::Relaxed);
        ACCESS_DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}

/// Sets up the process's log on standard error. Call once, first.
pub fn init(filter: &str, format: Format) -> Result<(), LogError> {
    init_to(filter, format, io::stderr())
}

/// The same on `out`, which may block: it has a thread of its own.
pub fn init_to(
    filter: &str,
    format: Format,
    mut out: impl io::Write + Send + 'static,
) -> Result<(), LogError> {
    let parsed = EnvFilter::try_new(filter).map_err(|source| LogError::Filter {
        filter: filter.to_owned(),
        source,
    })?;
    let (lines, queue) = sync_channel::<Message>(2 * QUEUE);
    std::thread::Builder::new()
        .name("log".into())
        .stack_size(128 * 1024)
        .spawn(move || {
            while let Ok(message) = queue.recv() {
                match message {
                    // A log that cannot be written has nowhere to say so.
                    Message::Line(line) => drop(out.write_all(&line)),
                    Message::Access { at, format, fields } => {
                        ACCESS_WAITING.fetch_sub(1, Ordering::Relaxed);
                        drop(out.write_all(&timed(at, format, &fields)));
                    }
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

/// The whole line.
fn timed(at: SystemTime, format: Format, fields: &[u8]) -> Vec<u8> {
    let time = Utc(at);
    let (before, after) = match format {
        Format::Text => (format!("{time} access "), "\n"),
        Format::Json => (format!("{{\"time\":\"{time}\",\"log\":\"access\","), "}\n"),
    };
    [before.as_bytes(), fields, after.as_bytes()].concat()
}

/// A time as RFC 3339 has it, to the microsecond.
struct Utc(SystemTime);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.0.duration_since(SystemTime::UNIX_EPOCH);
        let since = since.unwrap_or_default();
        let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        // Years that begin in March, in eras of 400 of them.
        let shifted = days + 719_468;
        let (era, day) = (shifted / 146_097, shifted % 146_097);
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let date = day - (153 * month + 2) / 5 + 1;
        let (month, later) = if month < 10 {
            (month + 3, 0)
        } else {
            (month - 9, 1)
        };
        write!(
            f,
            "{:04}-{month:02}-{date:02}T{:02}:{:02}:{:02}.{:06}Z",
            year + era * 400 + later,
            second / 3_600,
            second / 60 % 60,
            second % 60,
            since.subsec_micros()
        )
    }
}

#[derive(Clone)]
struct Queue(SyncSender<Message>);

enum Message {
    Line(Vec<u8>),
    Access {
        at: SystemTime,
        format: Format,
        fields: Vec<u8>,
    },
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
            HELD_BACK.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        bucket.tokens -= 1;
        Some(std::mem::take(&mut bucket.held_back))
    }

    /// [`Limiter::admit`] by the wall clock.
    pub fn admit_now(&self) -> Option<u64> {
        let since = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
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
    fn times_are_those_of_the_calendar() {
        let text = |seconds| Utc(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).to_string();
        assert_eq!(text(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(text(951_782_400), "2000-02-29T00:00:00.000000Z");
        assert_eq!(text(4_107_542_399), "2100-02-28T23:59:59.000000Z");
        assert_eq!(text(4_107_542_400), "2100-03-01T00:00:00.000000Z");
        let json = timed(SystemTime::UNIX_EPOCH, Format::Json, b"\"a\":1");
        assert_eq!(
            json,
            b"{\"time\":\"1970-01-01T00:00:00.000000Z\",\"log\":\"access\",\"a\":1}\n"
        );
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
