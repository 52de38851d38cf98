// SPDX-License-Identifier: Apache-2.0
//! Heads of requests and responses, parsed in one pass where they lie. `facts.rs` says what the fields mean for the message.
//!
//! A head that is not complete is looked at once; after that only the bytes that came since are, until its empty line is there.

use super::chars::{TARGET, TOKEN, end_of_text, is};
use super::facts::{RequestFacts, ResponseFacts};
use super::target;
use super::{Limits, Malformed, RequestHead, RequestKind, ResponseHead, Span, Version};

/// Stops a parse.
enum Stop {
    /// More bytes may make it whole.
    Short,
    Bad(Malformed),
}

/// Where a parse is.
struct Cursor<'a> {
    buf: &'a [u8],
    at: usize,
}

impl From<Malformed> for Stop {
    fn from(malformed: Malformed) -> Self {
        Self::Bad(malformed)
    }
}

/// Parses the head of a request at the beginning of `buf`.
///
/// `Some(n)`: it is `n` bytes long, and `head` is filled. `None`: incomplete; call again with the same `head` and the same
/// bytes with more behind them (or with a fresh head). An error is final.
pub fn parse_request(
    buf: &[u8],
    limits: &Limits,
    head: &mut RequestHead,
) -> Result<Option<usize>, Malformed> {
    let which_part = |malformed| match malformed {
        Malformed::HeadTooLarge => too_large(within(buf, limits)),
        other => other,
    };
    if !may_be_whole(buf, limits, &mut head.scanned).map_err(which_part)? {
        return Ok(None);
    }
    let outcome = request(within(buf, limits), limits, head);
    settle(buf, limits, outcome, &mut head.scanned).map_err(which_part)
}

/// What is too large of a request: its target (RFC 9112, section 3), where not even the first line has ended.
fn too_large(buf: &[u8]) -> Malformed {
    let line = buf.strip_prefix(b"\r\n").unwrap_or(buf);
    if line.contains(&b' ') && !line.contains(&b'\n') {
        Malformed::TargetTooLong
    } else {
        Malformed::HeadTooLarge
    }
}

/// Parses the head of a response, in the same way; `asked` is the request that it answers.
pub fn parse_response(
    buf: &[u8],
    limits: &Limits,
    asked: RequestKind,
    head: &mut ResponseHead,
) -> Result<Option<usize>, Malformed> {
    if !may_be_whole(buf, limits, &mut head.scanned)? {
        return Ok(None);
    }
    let outcome = response(within(buf, limits), limits, asked, head);
    settle(buf, limits, outcome, &mut head.scanned)
}

fn within<'a>(buf: &'a [u8], limits: &Limits) -> &'a [u8] {
    &buf[..buf.len().min(limits.head)]
}

/// Looks at what came since the last time: whether the first line's end is there, or the empty line. The first time everything is parsed instead.
fn may_be_whole(buf: &[u8], limits: &Limits, scanned: &mut usize) -> Result<bool, Malformed> {
    let known = std::mem::take(scanned).min(buf.len());
    if known == 0 {
        return Ok(!buf.is_empty());
    }
    let mut from = known;
    while let Some(found) = buf[from..].iter().position(|&byte| byte == b'\n') {
        let place = from + found;
        if place == 0 || buf[place - 1] != b'\r' {
            return Err(Malformed::LineEnd);
        }
        // The first line is judged when it is there: behind one that is wrong nothing may ever follow.
        let first = !buf[2.min(place)..place].contains(&b'\n');
        if first || buf[..place].ends_with(b"\r\n\r") {
            return Ok(true);
        }
        from = place + 1;
    }
    if buf.len() >= limits.head {
        return Err(Malformed::HeadTooLarge);
    }
    *scanned = buf.len();
    Ok(false)
}

fn settle(
    buf: &[u8],
    limits: &Limits,
    outcome: Result<usize, Stop>,
    scanned: &mut usize,
) -> Result<Option<usize>, Malformed> {
    match outcome {
        Ok(length) => Ok(Some(length)),
        Err(Stop::Bad(malformed)) => Err(malformed),
        Err(Stop::Short) if buf.len() >= limits.head => Err(Malformed::HeadTooLarge),
        Err(Stop::Short) => {
            *scanned = buf.len();
            Ok(None)
        }
    }
}

fn request(buf: &[u8], limits: &Limits, head: &mut RequestHead) -> Result<usize, Stop> {
    let mut cursor = Cursor { buf, at: 0 };
    if buf[0] == b'\r' {
        cursor.line_end()?;
    }
    head.start = cursor.at;
    head.method = cursor.word(TOKEN)?;
    head.target = cursor.word(TARGET)?;
    target::check(head.method.of(buf), head.target.of(buf))?;
    head.version = cursor.version()?;
    cursor.line_end()?;
    head.fields.clear();
    let mut facts = RequestFacts::default();
    while let Some((name, value)) = cursor.field()? {
        if head.fields.len() == limits.fields {
            return Err(Malformed::TooManyFields.into());
        }
        facts.see(buf, name, value)?;
        head.fields.push((name, value));
    }
    facts.settle(buf, head)?;
    Ok(cursor.at)
}

fn response(
    buf: &[u8],
    limits: &Limits,
    asked: RequestKind,
    head: &mut ResponseHead,
) -> Result<usize, Stop> {
    let mut cursor = Cursor { buf, at: 0 };
    head.version = cursor.version()?;
    head.status = cursor.status()?;
    head.reason = cursor.reason()?;
    cursor.line_end()?;
    head.fields.clear();
    let mut facts = ResponseFacts::default();
    while let Some((name, value)) = cursor.field()? {
        if head.fields.len() == limits.fields {
            return Err(Malformed::TooManyFields.into());
        }
        facts.see(buf, name, value)?;
        head.fields.push((name, value));
    }
    facts.settle(asked, head)?;
    Ok(cursor.at)
}

// === impl Cursor ===

impl Cursor<'_> {
    #[inline]
    fn peek(&self) -> Result<u8, Stop> {
        self.buf.get(self.at).copied().ok_or(Stop::Short)
    }

    /// Bytes of the class, at least one, and the space behind them.
    fn word(&mut self, class: u8) -> Result<Span, Stop> {
        let start = self.at;
        while is(self.peek()?, class) {
            self.at += 1;
        }
        if self.at == start || self.buf[self.at] != b' ' {
            return Err(Malformed::StartLine.into());
        }
        let span = Span::new(start, self.at);
        self.at += 1;
        Ok(span)
    }

    fn version(&mut self) -> Result<Version, Stop> {
        const FORM: &[u8] = b"HTTP/0.0";
        let rest = &self.buf[self.at..];
        let version = match rest.get(..FORM.len()) {
            Some(b"HTTP/1.1") => Version::Http11,
            Some(b"HTTP/1.0") => Version::Http10,
            _ => {
                let fits = |(&byte, &form): (&u8, &u8)| match form {
                    b'0' => byte.is_ascii_digit(),
                    _ => byte == form,
                };
                return Err(if !rest.iter().zip(FORM).all(fits) {
                    Malformed::Version.into()
                } else if rest.len() < FORM.len() {
                    Stop::Short
                } else {
                    Malformed::UnknownVersion.into()
                });
            }
        };
        self.at += FORM.len();
        Ok(version)
    }

    fn status(&mut self) -> Result<u16, Stop> {
        if self.peek()? != b' ' {
            return Err(Malformed::StartLine.into());
        }
        self.at += 1;
        let mut status = 0;
        for _ in 0..3 {
            let digit = self.peek()?;
            if !digit.is_ascii_digit() {
                return Err(Malformed::StartLine.into());
            }
            status = status * 10 + u16::from(digit - b'0');
            self.at += 1;
        }
        if status < 100 {
            return Err(Malformed::StartLine.into());
        }
        Ok(status)
    }

    /// The phrase and the space before it, which some servers leave out with an empty phrase.
    fn reason(&mut self) -> Result<Span, Stop> {
        match self.peek()? {
            b'\r' => return Ok(Span::new(self.at, self.at)),
            b' ' => self.at += 1,
            _ => return Err(Malformed::StartLine.into()),
        }
        let start = self.at;
        self.at = end_of_text(self.buf, self.at);
        Ok(Span::new(start, self.at))
    }

    /// CR LF and nothing else.
    #[inline]
    fn line_end(&mut self) -> Result<(), Stop> {
        if self.peek()? != b'\r' {
            return Err(Malformed::LineEnd.into());
        }
        self.at += 1;
        if self.peek()? != b'\n' {
            return Err(Malformed::LineEnd.into());
        }
        self.at += 1;
        Ok(())
    }

    /// The next field; `None` at the empty line.
    #[inline]
    fn field(&mut self) -> Result<Option<(Span, Span)>, Stop> {
        let start = self.at;
        while is(self.peek()?, TOKEN) {
            self.at += 1;
        }
        let name = Span::new(start, self.at);
        match self.buf[self.at] {
            b':' if self.at > start => self.at += 1,
            b'\r' | b'\n' if self.at == start => {
                self.line_end()?;
                return Ok(None);
            }
            _ => return Err(Malformed::FieldName.into()),
        }
        while matches!(self.peek()?, b' ' | b'\t') {
            self.at += 1;
        }
        let begin = self.at;
        self.at = end_of_text(self.buf, begin);
        let mut end = self.at;
        while end > begin && matches!(self.buf[end - 1], b' ' | b'\t') {
            end -= 1;
        }
        match self.peek()? {
            b'\r' | b'\n' => self.line_end()?,
            _ => return Err(Malformed::FieldValue.into()),
        }
        Ok(Some((name, Span::new(begin, end))))
    }
}
