// SPDX-License-Identifier: Apache-2.0
//! Generated traffic: what clients ask, what the server answers, and who leaves in the middle. It knows no protocol's bytes.
//!
//! All of it follows from a seed. Next: `http1.rs` for the bytes, `../differential.rs` for what is compared.

use std::rc::Rc;

use fastrand::Rng;

/// What one client says on one connection, and what it is answered.
#[derive(Debug)]
pub(super) struct Conversation {
    pub(super) exchanges: Vec<Rc<Exchange>>,
    /// Requests under way at the same time.
    pub(super) depth: usize,
    /// Both sides write in small pieces.
    pub(super) pieces: bool,
}

#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) id: u64,
    pub(super) method: &'static str,
    pub(super) target: String,
    pub(super) fields: Vec<Field>,
    pub(super) body: Body,
    pub(super) reply: Reply,
    pub(super) ending: Ending,
}

#[derive(Debug)]
pub(super) struct Reply {
    pub(super) interims: Vec<(u16, Vec<Field>)>,
    pub(super) status: u16,
    pub(super) reason: Reason,
    pub(super) fields: Vec<Field>,
    pub(super) body: Body,
    pub(super) when: When,
}

/// A field; `style` says how its line is written, where there are ways.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) style: u8,
}

#[derive(Debug)]
pub(super) enum Body {
    None,
    Length(Vec<u8>),
    /// Chunks, which may have extensions, and trailers.
    Chunks(Vec<(&'static str, Vec<u8>)>, Vec<Field>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Canonical,
    Own,
    Empty,
    /// Not even the space before it.
    Missing,
}

/// When the server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// When it has read the request.
    Whole,
    /// Interim answers behind the request's head, the rest as above.
    Interim,
    /// All of it behind the request's head.
    Early,
}

/// What is special about the last exchange of a connection. The others are `Open`.
#[derive(Debug)]
pub(super) enum Ending {
    Open,
    ClientCloses,
    ServerCloses,
    /// The answer's body ends with the connection.
    UntilClose,
    /// HTTP/1.0, which closes.
    Old,
    /// Both ways become bytes.
    Tunnel {
        up: Vec<u8>,
        down: Vec<u8>,
    },
    /// The client leaves after so many thousandths of its request.
    ClientLeaves(usize, Leaves),
    /// The server leaves after so many thousandths of its answer.
    ServerLeaves(usize, Leaves),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaves {
    Fin,
    Rst,
}

/// `count` exchanges or a few more, in conversations. Ids begin behind `first`, on which nothing else depends.
pub(super) fn generate(seed: u64, first: u64, count: u64) -> Vec<Conversation> {
    let mut rng = Rng::with_seed(seed);
    let mut conversations = Vec::new();
    let mut id = first;
    while id < first + count {
        let length = 1 + rng.usize(0..10);
        let mut exchanges: Vec<_> = (1..=length)
            .map(|at| {
                id += 1;
                exchange(&mut rng, id, at == length)
            })
            .collect();
        if let [.., before, last] = &mut exchanges[..]
            && matches!(last.ending, Ending::ClientLeaves(..))
        {
            // A reset takes along what the server has not read yet.
            before.reply.when = When::Whole;
        }
        conversations.push(Conversation {
            exchanges: exchanges.into_iter().map(Rc::new).collect(),
            depth: [1, 1, 2, 5][rng.usize(0..4)],
            pieces: rng.u8(0..4) == 0,
        });
    }
    conversations
}

fn exchange(rng: &mut Rng, id: u64, last: bool) -> Exchange {
    const METHODS: [&str; 12] = [
        "GET", "GET", "GET", "POST", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH",
        "M-SEARCH", "get",
    ];
    let ending = if last { ending(rng) } else { Ending::Open };
    let old = matches!(ending, Ending::Old);
    let method = METHODS[rng.usize(0..METHODS.len())];
    // A tunnel has a GET before it, and an answer to HEAD has no body to end with the connection.
    let method = match (method, &ending) {
        (_, Ending::Tunnel { .. }) | ("HEAD", Ending::UntilClose) => "GET",
        _ => method,
    };
    let body = match body(rng, "x-req-trailer") {
        Body::Chunks(..) if old => Body::Length(b"no chunks in 1.0".to_vec()),
        body => body,
    };
    Exchange {
        id,
        method,
        target: target(rng, method),
        fields: fields(rng, "x-req"),
        body,
        reply: reply(rng, &ending),
        ending,
    }
}

fn ending(rng: &mut Rng) -> Ending {
    let leaves = if rng.bool() { Leaves::Fin } else { Leaves::Rst };
    match rng.u8(0..16) {
        0 | 1 => Ending::ClientCloses,
        2 | 3 => Ending::ServerCloses,
        4 | 5 => Ending::UntilClose,
        6 => Ending::Old,
        7 => Ending::Tunnel {
            up: bytes(rng),
            down: bytes(rng),
        },
        8 | 9 => Ending::ClientLeaves(rng.usize(0..1000), leaves),
        10 | 11 => Ending::ServerLeaves(rng.usize(0..1000), leaves),
        _ => Ending::Open,
    }
}

fn target(rng: &mut Rng, method: &str) -> String {
    match rng.u8(0..10) {
        0 if method == "OPTIONS" => "*".to_owned(),
        1 => format!("http://web:{}/a/{}", rng.u16(1..), rng.u32(..)),
        2 => format!("/{}", "long/".repeat(rng.usize(0..800))),
        3 => "//a/..//%2e%zz;p=1?q=a&b=%20?/:@|\\^".to_owned(),
        4 => format!("/caf\u{e9}/\u{1f600}?{}", rng.u32(..)),
        _ => format!("/{}?n={}", rng.u16(..), rng.u8(..)),
    }
}

fn fields(rng: &mut Rng, prefix: &str) -> Vec<Field> {
    const VALUES: [&str; 10] = [
        "",
        "a",
        "a, b",
        "\"quoted; text\"",
        "x\ty  z",
        "caf\u{e9}",
        "keep",
        "0",
        "W/\"e-tag\"",
        "bytes=0-1,2-",
    ];
    const NAMES: [&str; 9] = [
        "Accept",
        "ACCEPT",
        "cookie",
        "Via",
        "X-Forwarded-For",
        "!#$%&'*+-.^_`|~0",
        "Trailer",
        "TE",
        "traceparent",
    ];
    let count = match rng.u8(0..20) {
        0 => rng.usize(0..200),
        _ => rng.usize(0..8),
    };
    let field = |_| Field {
        name: match rng.u8(0..3) {
            0 => NAMES[rng.usize(0..NAMES.len())].to_owned(),
            1 => format!("{prefix}-{}", rng.u8(0..4)),
            _ => format!("{}-{}", prefix.to_uppercase(), rng.u8(0..4)),
        },
        value: match rng.u8(0..12) {
            0 => "v".repeat(rng.usize(0..3000) / count.max(1)),
            _ => VALUES[rng.usize(0..VALUES.len())].to_owned(),
        },
        style: rng.u8(0..8),
    };
    (0..count).map(field).collect()
}

fn bytes(rng: &mut Rng) -> Vec<u8> {
    let length = match rng.u8(0..64) {
        0 => rng.usize(0..600_000),
        1..=6 => rng.usize(0..40_000),
        7..=12 => 0,
        _ => rng.usize(0..600),
    };
    let start = rng.usize(0..251);
    (start..start + length)
        .map(crate::origin::pattern)
        .collect()
}

fn body(rng: &mut Rng, trailer: &str) -> Body {
    const EXTENSIONS: [&str; 6] = ["", "", "", ";a", ";a=\"b c\";d=e", " ; x = y"];
    match rng.u8(0..5) {
        0 | 1 => Body::None,
        2 | 3 => Body::Length(bytes(rng)),
        _ => {
            let chunk = |rng: &mut Rng| {
                let mut content = bytes(rng);
                if content.is_empty() {
                    content.push(b'x');
                }
                (EXTENSIONS[rng.usize(0..EXTENSIONS.len())], content)
            };
            let chunks = (0..rng.usize(0..5)).map(|_| chunk(rng)).collect();
            let trailers = if rng.bool() {
                Vec::new()
            } else {
                fields(rng, trailer)
            };
            Body::Chunks(chunks, trailers)
        }
    }
}

fn reply(rng: &mut Rng, ending: &Ending) -> Reply {
    const STATUSES: [u16; 16] = [
        200, 200, 200, 201, 202, 204, 206, 301, 304, 400, 404, 413, 500, 503, 299, 999,
    ];
    const INTERIMS: [u16; 4] = [100, 102, 103, 199];
    let interims = match rng.u8(0..8) {
        0 => rng.usize(0..4),
        1 if rng.u8(0..8) == 0 => 16,
        _ => 0,
    };
    let interims = (0..interims).map(|_| {
        let fields = if rng.bool() {
            Vec::new()
        } else {
            fields(rng, "x-hint")
        };
        (INTERIMS[rng.usize(0..INTERIMS.len())], fields)
    });
    let interims = interims.collect();
    let (status, when) = match ending {
        Ending::Tunnel { .. } => (101, When::Whole),
        // Its answer is read by nobody.
        Ending::ClientLeaves(..) => (200, When::Whole),
        Ending::UntilClose => ([200, 404, 500][rng.usize(0..3)], When::Whole),
        _ => {
            let when = [When::Whole, When::Whole, When::Interim, When::Early];
            let status = STATUSES[rng.usize(0..STATUSES.len())];
            (status, when[rng.usize(0..4)])
        }
    };
    let reasons = [
        Reason::Canonical,
        Reason::Canonical,
        Reason::Own,
        Reason::Empty,
        Reason::Missing,
    ];
    let body = match (body(rng, "x-res-trailer"), ending) {
        (_, Ending::Tunnel { .. }) => Body::None,
        (Body::Chunks(..), Ending::Old | Ending::UntilClose) => {
            Body::Length(b"no chunks here".to_vec())
        }
        // Without a length only the end of the connection would end it.
        (Body::None, _) => Body::Length(Vec::new()),
        (body, _) => body,
    };
    Reply {
        interims,
        status,
        reason: reasons[rng.usize(0..reasons.len())],
        fields: fields(rng, "x-res"),
        body,
        when,
    }
}
