// SPDX-License-Identifier: Apache-2.0
//! Bodies: where they end, what is refused, and that splitting changes neither.

use proptest::prelude::*;

use super::*;

/// Follows `bytes` in pieces of `size`.
fn follow(framing: Framing, bytes: &[u8], size: usize) -> Result<(usize, Body), Malformed> {
    let mut body = Body::new(framing);
    let mut taken = 0;
    for piece in bytes.chunks(size.max(1)) {
        let step = body.advance(piece)?;
        taken += step.taken;
        assert_eq!(step.ended, body.ended());
        if step.taken < piece.len() {
            assert!(step.ended, "bytes are left only behind the end");
            break;
        }
    }
    Ok((taken, body))
}

#[test]
fn simple_framings() {
    let mut none = Body::new(Framing::None);
    assert!(none.ended() && none.eof());
    assert_eq!(
        none.advance(b"next"),
        Ok(Advance {
            taken: 0,
            ended: true
        })
    );
    assert!(Body::new(Framing::Length(0)).ended());

    let (taken, body) = follow(Framing::Length(5), b"helloGET", 2).unwrap();
    assert_eq!((taken, body.ended()), (5, true));
    let (_, body) = follow(Framing::Length(5), b"hell", 9).unwrap();
    assert!(!body.ended() && !body.eof());

    let (taken, body) = follow(Framing::UntilClose, b"all of it", 4).unwrap();
    assert_eq!(taken, 9);
    assert!(!body.ended() && body.eof() && body.ends_with_connection());
}

#[test]
fn chunked() {
    for text in [
        "0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        "000000000000000a\r\n0123456789\r\n0000\r\n\r\n",
        "A;x=y\r\n0123456789\r\n0\r\n\r\n",
        "1 ;a\t=\"b;c\"\r\n\r\r\n0;last\r\n\r\n",
        "2\r\n\r\n\r\n0\r\nDigest: abc\r\nX:\r\n\r\n",
        "1; \ta;b=c\r\na\r\n0\r\n\r\n",
        "1\r\na\r\n0\r\nHost-: b\r\nContent-Length-Of-It: 5\r\nContent: 1\r\n\r\n",
    ] {
        for size in [1, 2, 3, 1000] {
            let (taken, body) = follow(Framing::Chunked, text.as_bytes(), size).unwrap();
            assert_eq!((taken, body.ended()), (text.len(), true), "{text:?}");
            let more = format!("{text}GET / HTTP/1.1\r\n");
            let (taken, body) = follow(Framing::Chunked, more.as_bytes(), size).unwrap();
            assert_eq!((taken, body.ended()), (text.len(), true), "{more:?}");
            let (_, body) =
                follow(Framing::Chunked, &text.as_bytes()[..text.len() - 1], size).unwrap();
            assert!(!body.eof());
        }
    }
}

#[test]
fn malformed_chunks() {
    let long = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(5000));
    let spaces = format!("1{};a\r\na\r\n0\r\n\r\n", " ".repeat(5000));
    let trailers = format!("0\r\nX: {}\r\n\r\n", "x".repeat(17_000));
    let many = format!("0\r\n{}\r\n", "X: y\r\n".repeat(3000));
    for text in [
        "\r\n",
        "x\r\n",
        "-1\r\n",
        "+1\r\n",
        "0x1\r\n",
        " 1\r\n",
        "1 \r\n",
        "1\n",
        "1\r\r\n",
        "1\rx",
        "00000000000000001\r\n",
        "fffffffffffffffff\r\n",
        "8000000000000000\r\n",
        "ffffffffffffffff\r\n",
        "1;\r\n",
        "1; \r\n",
        "1;=a\r\n",
        ";x\r\n",
        "1;a\nb\r\n",
        "1;a\0\r\n",
        "1;\x7f\r\n",
        "1;a\rb\r\n",
        "1\r\nab\r\n",
        "1\r\na\n",
        "1\r\na\r\r",
        "1\r\na0\r\n",
        "0\r\n\n",
        "0\r\n\rx",
        "0\r\n X: y\r\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "0\r\nX\r\n\r\n",
        "0\r\n: y\r\n\r\n",
        "0\r\nX: y\n\r\n",
        "0\r\nX: y\r\n z\r\n\r\n",
        "0\r\nX: \0\r\n\r\n",
        "0\r\nX: y\r\nContent-Length: 5\r\n\r\n",
        "0\r\ntransfer-ENCODING: chunked\r\n\r\n",
        "0\r\nhost: a\r\n\r\n",
        "1 a\r\n",
        "1,1\r\n",
        "1\t\r\n",
        &long,
        &spaces,
        &trailers,
        &many,
    ] {
        for size in [1, 3, 100_000] {
            let refused = follow(Framing::Chunked, text.as_bytes(), size);
            assert!(
                matches!(refused, Err(Malformed::Chunk | Malformed::Trailer)),
                "{text:?} {refused:?}"
            );
        }
    }
}

fn chunked_body() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let extension = prop_oneof![3 => Just(""), 1 => Just(";a=b"), 1 => Just(" ;q=\"x y\"")];
    let chunk = (
        prop::collection::vec(any::<u8>(), 1..40),
        extension,
        any::<bool>(),
    );
    let trailers = prop_oneof![2 => Just(""), 1 => Just("A: b\r\nc:\r\n")];
    (prop::collection::vec(chunk, 0..6), trailers).prop_map(|(chunks, trailers)| {
        let (mut wire, mut content) = (Vec::new(), Vec::new());
        for (bytes, extension, upper) in chunks {
            let size = bytes.len();
            let size = if upper {
                format!("{size:X}")
            } else {
                format!("{size:04x}")
            };
            wire.extend_from_slice(format!("{size}{extension}\r\n").as_bytes());
            wire.extend_from_slice(&bytes);
            wire.extend_from_slice(b"\r\n");
            content.extend_from_slice(&bytes);
        }
        wire.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
        (wire, content)
    })
}

proptest! {
    #[test]
    fn a_chunked_body_ends_where_it_ends((wire, _) in chunked_body(), size in 1usize..50, next in any::<Vec<u8>>()) {
        let mut bytes = wire.clone();
        bytes.extend_from_slice(&next);
        let (taken, body) = follow(Framing::Chunked, &bytes, size).unwrap();
        prop_assert_eq!(taken, wire.len());
        prop_assert!(body.ended());
    }

    #[test]
    fn pieces_say_what_the_whole_says(
        (wire, _) in chunked_body(),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        size in 1usize..9,
    ) {
        let mut bytes = wire;
        let place = place.index(bytes.len());
        bytes[place] = byte;
        let whole = follow(Framing::Chunked, &bytes, usize::MAX);
        let parts = follow(Framing::Chunked, &bytes, size);
        prop_assert_eq!(whole, parts);
    }
}
