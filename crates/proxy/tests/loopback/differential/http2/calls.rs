// SPDX-License-Identifier: Apache-2.0
//! Generated HTTP/2 messages: what clients ask, what the server answers, and who resets what after how much. All of it follows from a seed.
//!
//! Next: `talk.rs` for those who say it, `../http2.rs` for what is compared.

use std::rc::Rc;

use fastrand::Rng;

/// What one client says on one connection.
#[derive(Debug)]
pub(super) struct Conversation {
    pub(super) calls: Vec<Rc<Call>>,
    /// Streams under way at the same time.
    pub(super) depth: usize,
}

/// Names with values, of which some stand there more than once.
pub(super) type Fields = Vec<(String, Vec<u8>)>;

/// One request with its answer.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) id: u64,
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) fields: Fields,
    pub(super) content: Content,
    pub(super) reply: Reply,
    pub(super) ending: Ending,
}

/// What follows a head.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// As they are handed to the sender; some are empty.
    pub(super) pieces: Vec<Vec<u8>>,
    pub(super) trailers: Option<Fields>,
    /// The end comes in an empty frame of its own.
    pub(super) apart: bool,
    /// The head says how long it is.
    pub(super) declared: bool,
}

#[derive(Debug)]
pub(super) struct Reply {
    pub(super) interims: Vec<(u16, Fields)>,
    pub(super) status: u16,
    pub(super) fields: Fields,
    pub(super) content: Content,
    /// All of it comes behind the request's head.
    pub(super) early: bool,
}

/// How a call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Both messages are whole.
    Whole,
    /// The client resets it with this code when the server has so many pieces of its request.
    ClientResets(usize, u32),
    /// The server does, when it has the request and the client so many pieces of the answer.
    ServerResets(usize, u32),
    /// The server does, in the place of an answer.
    Unanswered(u32),
    /// The server does not look at it.
    Refused,
}

impl Content {
    /// Whether the head is all there is.
    pub(super) fn is_nothing(&self) -> bool {
        self.pieces.is_empty() && self.trailers.is_none() && !self.apart
    }

    /// How many bytes the first `pieces` are.
    pub(super) fn length(&self, pieces: usize) -> usize {
        self.pieces[..pieces].iter().map(Vec::len).sum()
    }
}

/// `count` calls or a few more, in conversations. Ids begin behind `first`, on which nothing else depends.
pub(super) fn generate(seed: u64, first: u64, count: u64) -> Vec<Conversation> {
    let mut rng = Rng::with_seed(seed);
    let mut conversations = Vec::new();
    let mut id = first;
    while id < first + count {
        let length = rng.usize(1..30);
        let calls = (0..length).map(|_| {
            id += 1;
            Rc::new(call(&mut rng, id))
        });
        conversations.push(Conversation {
            calls: calls.collect(),
            depth: [1, 3, 10, 30][rng.usize(0..4)],
        });
    }
    conversations
}

fn call(rng: &mut Rng, id: u64) -> Call {
    let grpc = rng.u8(0..3) == 0;
    let method = match grpc {
        true => "POST",
        false => [
            "GET", "GET", "POST", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH",
        ][rng.usize(0..9)],
    };
    let mut request = fields(rng, "x-req");
    if grpc {
        request.push((
            "content-type".to_owned(),
            b"application/grpc+proto".to_vec(),
        ));
        request.push(("te".to_owned(), b"trailers".to_vec()));
    }
    let content = content(rng, grpc, "x-req-trailer");
    let reply = reply(rng, method, grpc);
    let ending = match rng.u8(0..16) {
        0 => Ending::ClientResets(rng.usize(0..=content.pieces.len()), code(rng)),
        1 => Ending::ServerResets(rng.usize(0..=reply.content.pieces.len()), code(rng)),
        2 if rng.bool() => Ending::Unanswered(code(rng)),
        2 => Ending::Refused,
        _ => Ending::Whole,
    };
    // A message that is over cannot be reset.
    let ending = match ending {
        Ending::ClientResets(..) if content.is_nothing() => Ending::Whole,
        Ending::ServerResets(..) if reply.content.is_nothing() => Ending::Whole,
        ending => ending,
    };
    Call {
        id,
        method,
        path: path(rng, id),
        fields: request,
        content,
        reply: Reply {
            early: reply.early && ending == Ending::Whole,
            interims: match ending {
                // A reset may overtake them.
                Ending::ClientResets(..) | Ending::Unanswered(_) => Vec::new(),
                _ => reply.interims,
            },
            ..reply
        },
        ending,
    }
}

fn code(rng: &mut Rng) -> u32 {
    // PROTOCOL_ERROR, INTERNAL_ERROR, CANCEL, CONNECT_ERROR, ENHANCE_YOUR_CALM, HTTP_1_1_REQUIRED, and one that nobody knows.
    [1, 2, 8, 10, 11, 13, 0x1234][rng.usize(0..7)]
}

fn path(rng: &mut Rng, id: u64) -> String {
    match rng.u8(0..6) {
        0 => format!("/{id}/{}", "long/".repeat(rng.usize(0..600))),
        1 => format!("/{id}/a//..;p=1?q=a&b=%20?/:@|"),
        2 => format!("/{id}/shop.Web/Call"),
        _ => format!("/{id}?n={}", rng.u8(..)),
    }
}

fn fields(rng: &mut Rng, prefix: &str) -> Fields {
    const VALUES: [&[u8]; 8] = [
        b"",
        b"a",
        b"a, b",
        b"\"quoted; text\"",
        b"x\ty  z",
        b"caf\xc3\xa9",
        b"\xff\x80",
        b"W/\"e-tag\"",
    ];
    const NAMES: [&str; 8] = [
        "accept",
        "cookie",
        "via",
        "x-forwarded-for",
        "!#$%&'*+-.^_`|~0",
        "trailer",
        "traceparent",
        "grpc-timeout",
    ];
    let count = match rng.u8(0..20) {
        0 => rng.usize(0..150),
        _ => rng.usize(0..8),
    };
    let field = |_| {
        let name = match rng.bool() {
            true => NAMES[rng.usize(0..NAMES.len())].to_owned(),
            false => format!("{prefix}-{}", rng.u8(0..4)),
        };
        let value = match rng.u8(0..12) {
            0 => vec![b'v'; rng.usize(0..8_000) / count.max(1)],
            _ => VALUES[rng.usize(0..VALUES.len())].to_vec(),
        };
        (name, value)
    };
    (0..count).map(field).collect()
}

fn bytes(rng: &mut Rng) -> Vec<u8> {
    let length = match rng.u8(0..48) {
        0 => rng.usize(0..600_000),
        1..=6 => rng.usize(0..40_000),
        7..=14 => 0,
        _ => rng.usize(0..600),
    };
    let start = rng.usize(0..251);
    (start..start + length)
        .map(crate::origin::pattern)
        .collect()
}

fn content(rng: &mut Rng, grpc: bool, trailer: &str) -> Content {
    let least = usize::from(grpc);
    let pieces = (0..rng.usize(least..5)).map(|_| bytes(rng)).collect();
    Content {
        pieces,
        trailers: (rng.u8(0..3) == 0).then(|| fields(rng, trailer)),
        apart: rng.bool(),
        declared: !grpc && rng.bool(),
    }
}

fn reply(rng: &mut Rng, method: &str, grpc: bool) -> Reply {
    const STATUSES: [u16; 12] = [200, 200, 200, 201, 204, 206, 301, 304, 404, 500, 503, 999];
    const INTERIMS: [u16; 4] = [100, 102, 103, 199];
    let interims = match rng.u8(0..8) {
        0 => rng.usize(0..4),
        1 if rng.u8(0..8) == 0 => 16,
        _ => 0,
    };
    let interims = (0..interims).map(|_| (INTERIMS[rng.usize(0..4)], fields(rng, "x-hint")));
    let interims = interims.collect();
    let status = match grpc {
        true => 200,
        false => STATUSES[rng.usize(0..STATUSES.len())],
    };
    let mut head = fields(rng, "x-res");
    let mut body = content(rng, grpc, "x-res-trailer");
    let said = (
        "grpc-status".to_owned(),
        rng.u8(0..17).to_string().into_bytes(),
    );
    if grpc && rng.u8(0..4) == 0 {
        // Trailers alone.
        head.push(said);
        body = Content::default();
    } else if grpc {
        body.trailers.get_or_insert_default().push(said);
    }
    if method == "HEAD" || matches!(status, 204 | 304) {
        body = Content::default();
    }
    Reply {
        interims,
        status,
        fields: head,
        content: body,
        early: rng.u8(0..4) == 0,
    }
}
