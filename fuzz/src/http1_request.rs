// SPDX-License-Identifier: Apache-2.0
//! Heads: pieces say what the whole says, and what is accepted is the same message when it is written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use maille_engine::http1::{
    Limits, RequestHead, RequestKind, ResponseHead, parse_request, parse_response, write_request,
    write_response,
};

const LIMITS: Limits = Limits {
    head: 2048,
    fields: 16,
};

fuzz_target!(|input: &[u8]| {
    let Some((&piece, bytes)) = input.split_first() else {
        return;
    };
    requests(bytes, usize::from(piece) + 1);
    responses(bytes, usize::from(piece) + 1);
});

fn requests(bytes: &[u8], piece: usize) {
    let mut head = RequestHead::default();
    let whole = parse_request(bytes, &LIMITS, &mut head);
    let mut parts = RequestHead::default();
    let by_parts = (0..=bytes.len())
        .step_by(piece)
        .chain([bytes.len()])
        .find_map(|end| parse_request(&bytes[..end], &LIMITS, &mut parts).transpose());
    if let Ok(Some(length)) = whole {
        assert_eq!(by_parts, Some(Ok(length)));
        assert!(length <= bytes.len());
        let mut out = Vec::new();
        let (method, target) = (head.method.of(bytes), head.target.of(bytes));
        write_request(&mut out, method, target, head.version, head.fields(bytes));
        let limits = Limits::default();
        assert_eq!(parse_request(&out, &limits, &mut parts), Ok(Some(out.len())));
        assert_eq!(parts.framing, head.framing);
        assert_eq!(parts.keep_alive, head.keep_alive);
        assert_eq!(parts.upgrade, head.upgrade);
        assert_eq!(parts.target.of(&out), target);
        assert!(parts.fields(&out).eq(head.fields(bytes)));
    } else {
        assert!(!matches!(by_parts, Some(Ok(_))));
    }
}

fn responses(bytes: &[u8], piece: usize) {
    for asked in [RequestKind::Other, RequestKind::Head, RequestKind::Connect] {
        let mut head = ResponseHead::default();
        let whole = parse_response(bytes, &LIMITS, asked, &mut head);
        let mut parts = ResponseHead::default();
        let by_parts = (0..=bytes.len())
            .step_by(piece)
            .chain([bytes.len()])
            .find_map(|end| parse_response(&bytes[..end], &LIMITS, asked, &mut parts).transpose());
        if let Ok(Some(length)) = whole {
            assert_eq!(by_parts, Some(Ok(length)));
            let mut out = Vec::new();
            let reason = head.reason.of(bytes);
            write_response(&mut out, head.version, head.status, reason, head.fields(bytes));
            let limits = Limits::default();
            assert_eq!(parse_response(&out, &limits, asked, &mut parts), Ok(Some(out.len())));
            assert_eq!(parts.framing, head.framing);
            assert_eq!(parts.status, head.status);
            assert!(parts.fields(&out).eq(head.fields(bytes)));
        } else {
            assert!(!matches!(by_parts, Some(Ok(_))));
        }
    }
}
