// SPDX-License-Identifier: Apache-2.0
//! How cases are written. Next: `play.rs`.
//!
//! ```text
//! == NAME | RFC 9112 9.3 | what it shows [| differs N]
//! c> TEXT        the client sends      s> TEXT        the server sends
//! c< TEXT        it must receive       s< TEXT        it must receive, on whatever connection
//! c< =           all that the server sent since     s< =           all that the client sent since
//!                                      s<+ , s<*      the same, on a new connection, on the same connection
//! c!> TEXT        as c>, but nobody shall receive it     s!> TEXT
//! c fin, c rst   it ends, it resets    s fin, s rst
//! c end          it must see FIN       s end
//! c reset        a reset               s reset
//! c cut          either                s cut
//! c refused 400              the mesh's own answer `malformed-request`, and the end of the connection
//! c answered 502 FLAG keep   its own answer, after which the connection stays (or `close`: ends); FLAG `-`: without its body, as to HEAD
//! c open         its connection takes another request, which the server answers
//! ```
//!
//! `differs N` names an entry of the list in `docs/wire.md` section 3: such a case is not played without a proxy, nor is one with
//! an answer of the mesh's own. A step after `[mesh]`, `[proxy]` or `[nothing]` is played only with that between. Lines that
//! begin with white space continue a text. `\r \n \t \0 \\ \xHH` are bytes, `\{70000*x}` is 70,000 of them.

use super::play::Between;

pub(super) struct Case {
    pub(super) file: &'static str,
    pub(super) name: String,
    pub(super) rfc: String,
    differs: bool,
    pub(super) steps: Vec<Step>,
}

pub(super) struct Step {
    pub(super) line: usize,
    only: Option<Between>,
    pub(super) who: Who,
    pub(super) what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Client,
    Server,
}

#[derive(Debug)]
pub(super) enum What {
    Sends(Vec<u8>),
    /// Nobody shall see it.
    SendsAside(Vec<u8>),
    Receives(Expected, On),
    Fin,
    Rst,
    Sees(End),
    /// The mesh answers by itself.
    Answered {
        status: u16,
        flag: String,
        closes: bool,
    },
    IsOpen,
}

#[derive(Debug)]
pub(super) enum Expected {
    /// What the other one has sent since this was last asked.
    Same,
    Bytes(Vec<u8>),
}

/// On which of its connections the server receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum On {
    Any,
    New,
    Same,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Fin,
    Reset,
    Either,
}

impl Case {
    pub(super) fn is_for(&self, between: Between) -> bool {
        between != Between::Nothing || !(self.differs || self.is_answered())
    }

    /// The mesh answers by itself.
    fn is_answered(&self) -> bool {
        let answered = |step: &Step| matches!(step.what, What::Answered { .. });
        self.steps.iter().any(answered)
    }

    /// Somebody's message was no message.
    pub(super) fn refuses(&self) -> bool {
        self.steps.iter().any(|step| {
            matches!(&step.what, What::Answered { flag, .. } if flag.starts_with("malformed"))
        })
    }
}

impl Step {
    pub(super) fn is_for(&self, between: Between) -> bool {
        self.only.is_none_or(|only| only == between)
    }
}

pub(super) fn parse(file: &'static str, text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let at = at + 1;
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(title) = line.strip_prefix("== ") {
            cases.push(title_of(file, title));
            continue;
        }
        let case = cases.last_mut().expect("a title first");
        if line.starts_with(' ') {
            match case.steps.last_mut().map(|step| &mut step.what) {
                Some(
                    What::Sends(bytes)
                    | What::SendsAside(bytes)
                    | What::Receives(Expected::Bytes(bytes), _),
                ) => bytes.extend(bytes_of(line.trim_start())),
                _ => panic!("{file}:{at}: nothing to continue"),
            }
            continue;
        }
        let step = step_of(line, at).unwrap_or_else(|| panic!("{file}:{at}: {line:?}"));
        case.steps.push(step);
    }
    cases
}

fn title_of(file: &'static str, title: &str) -> Case {
    let parts: Vec<_> = title.split(" | ").collect();
    assert!(matches!(parts.len(), 3 | 4), "{file}: {title:?}");
    let differs = parts.get(3).map(|differs| {
        let entry = differs.strip_prefix("differs ").expect("differs N");
        entry.parse::<u8>().expect("a number")
    });
    Case {
        file,
        name: parts[0].to_owned(),
        rfc: format!("{}: {}", parts[1], parts[2]),
        differs: differs.is_some(),
        steps: Vec::new(),
    }
}

fn step_of(line: &str, at: usize) -> Option<Step> {
    let (only, line) = match line.strip_prefix('[') {
        None => (None, line),
        Some(rest) => {
            let (word, rest) = rest.split_once("] ")?;
            let only = match word {
                "mesh" => Between::Mesh,
                "proxy" => Between::Proxy,
                "nothing" => Between::Nothing,
                _ => return None,
            };
            (Some(only), rest)
        }
    };
    let (who, rest) = match line.split_at_checked(1)? {
        ("c", rest) => (Who::Client, rest),
        ("s", rest) => (Who::Server, rest),
        _ => return None,
    };
    let what = if let Some(text) = rest.strip_prefix("> ") {
        What::Sends(bytes_of(text))
    } else if let Some(text) = rest.strip_prefix("!> ") {
        What::SendsAside(bytes_of(text))
    } else if let Some(rest) = rest.strip_prefix('<') {
        let (on, text) = match rest.split_at_checked(1)? {
            ("+", text) => (On::New, text),
            ("*", text) => (On::Same, text),
            _ => (On::Any, rest),
        };
        let expected = match text.strip_prefix(' ')? {
            "=" => Expected::Same,
            text => Expected::Bytes(bytes_of(text)),
        };
        What::Receives(expected, on)
    } else {
        command_of(rest.strip_prefix(' ')?)?
    };
    Some(Step {
        line: at,
        only,
        who,
        what,
    })
}

fn command_of(text: &str) -> Option<What> {
    let words: Vec<_> = text.split(' ').collect();
    Some(match words[..] {
        ["fin"] => What::Fin,
        ["rst"] => What::Rst,
        ["end"] => What::Sees(End::Fin),
        ["reset"] => What::Sees(End::Reset),
        ["cut"] => What::Sees(End::Either),
        ["open"] => What::IsOpen,
        ["refused", status] => What::Answered {
            status: status.parse().ok()?,
            flag: "malformed-request".to_owned(),
            closes: true,
        },
        ["answered", status, flag, after] => What::Answered {
            status: status.parse().ok()?,
            flag: flag.to_owned(),
            closes: match after {
                "close" => true,
                "keep" => false,
                _ => return None,
            },
        },
        _ => return None,
    })
}

fn bytes_of(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [byte, more @ ..] = rest {
        rest = more;
        if *byte != b'\\' {
            bytes.push(*byte);
            continue;
        }
        let [escape, more @ ..] = rest else {
            panic!("nothing behind a backslash: {text:?}");
        };
        rest = more;
        match escape {
            b'r' => bytes.push(b'\r'),
            b'n' => bytes.push(b'\n'),
            b't' => bytes.push(b'\t'),
            b'0' => bytes.push(0),
            b's' => bytes.push(b' '),
            b'\\' => bytes.push(b'\\'),
            b'x' => {
                let digits = std::str::from_utf8(&rest[..2]).unwrap();
                bytes.push(u8::from_str_radix(digits, 16).unwrap());
                rest = &rest[2..];
            }
            b'{' => {
                let end = rest.iter().position(|byte| *byte == b'}').unwrap();
                let inside = std::str::from_utf8(&rest[..end]).unwrap();
                let (times, what) = inside.split_once('*').unwrap();
                let times: usize = times.parse().unwrap();
                bytes.extend(bytes_of(what).repeat(times));
                rest = &rest[end + 1..];
            }
            _ => panic!("unknown escape: {text:?}"),
        }
    }
    bytes
}
