// SPDX-License-Identifier: Apache-2.0
//! RFC 7541's examples, round trips with every table size, bombs, and bytes that mean nothing.

use proptest::prelude::*;

use super::*;

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<(String, String)>, DecodeError> {
    let mut list = List::default();
    assert_eq!(decoder.decode(block, &mut list)?, Outcome::Complete);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(list
        .iter()
        .map(|(name, value)| (text(name), text(value)))
        .collect())
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn check(table: usize, blocks: &[(&str, &[(&str, &str)])]) {
    let mut decoder = Decoder::new(4096, Limits::default());
    // The examples assume that the size was agreed before.
    if table < 4096 {
        let mut size = Vec::new();
        integer::encode(&mut size, 0x20, 5, table);
        assert_eq!(decode(&mut decoder, &size), Ok(Vec::new()));
    }
    for (block, fields) in blocks {
        let found = decode(&mut decoder, &hex(block)).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(&found, fields);
    }
}

#[test]
fn literals_of_the_rfc() {
    // C.2.1 to C.2.4.
    check(
        4096,
        &[(
            "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
            &[("custom-key", "custom-header")],
        )],
    );
    check(
        4096,
        &[(
            "040c 2f73 616d 706c 652f 7061 7468",
            &[(":path", "/sample/path")],
        )],
    );
    check(
        4096,
        &[(
            "1008 7061 7373 776f 7264 0673 6563 7265 74",
            &[("password", "secret")],
        )],
    );
    check(4096, &[("82", &[(":method", "GET")])]);
}

const REQUESTS: [&[(&str, &str)]; 3] = [
    &[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "www.example.com"),
    ],
    &[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "www.example.com"),
        ("cache-control", "no-cache"),
    ],
    &[
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ],
];

#[test]
fn requests_of_the_rfc() {
    // C.3 and C.4.
    check(
        4096,
        &[
            (
                "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
                REQUESTS[0],
            ),
            ("8286 84be 5808 6e6f 2d63 6163 6865", REQUESTS[1]),
            (
                "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
                REQUESTS[2],
            ),
        ],
    );
    check(
        4096,
        &[
            ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", REQUESTS[0]),
            ("8286 84be 5886 a8eb 1064 9cbf", REQUESTS[1]),
            (
                "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
                REQUESTS[2],
            ),
        ],
    );
}

#[test]
fn responses_of_the_rfc() {
    // C.5 and C.6: a table of 256 bytes evicts.
    let first: &[(&str, &str)] = &[
        (":status", "302"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ("location", "https://www.example.com"),
    ];
    let second: &[(&str, &str)] = &[(":status", "307"), first[1], first[2], first[3]];
    let third: &[(&str, &str)] = &[
        (":status", "200"),
        first[1],
        ("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
        first[3],
        ("content-encoding", "gzip"),
        (
            "set-cookie",
            "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
        ),
    ];
    check(
        256,
        &[
            (
                "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
                first,
            ),
            ("4803 3330 37c1 c0bf", second),
            (
                "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
                third,
            ),
        ],
    );
    check(
        256,
        &[
            (
                "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
                first,
            ),
            ("4883 640e ffc1 c0bf", second),
            (
                "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
                third,
            ),
        ],
    );
}

type Plain = (Vec<u8>, Vec<u8>);

fn encode(encoder: &mut Encoder, fields: &[Plain]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        encoder.encode(name, value, &mut block);
    }
    block
}

fn plain(fields: &[(&str, &str)]) -> Vec<Plain> {
    fields
        .iter()
        .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
        .collect()
}

#[test]
fn repeated_heads_cost_a_byte_a_field() {
    let fields = plain(&[
        (":method", "GET"),
        (":path", "/api/v1/things?id=1"),
        (":authority", "10.1.2.3:8080"),
        (":m-dst", "10.96.0.7:80"),
        ("Host", "things.example.svc.cluster.local"),
        ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64)"),
        ("Accept", "*/*"),
        ("Accept-Encoding", "gzip, br"),
        ("Connection", "keep-alive"),
        ("Content-Type", "application/json"),
    ]);
    let mut encoder = Encoder::new(16 * 1024);
    let mut decoder = Decoder::new(16 * 1024, Limits::default());
    let mut list = List::default();
    for round in 0..1000 {
        let mut fields = fields.clone();
        fields.push((
            b"X-Request-Id".to_vec(),
            format!("{round:032}").into_bytes(),
        ));
        let block = encode(&mut encoder, &fields);
        if round == 0 {
            let size = [0x20 | 0x1f, 0xe1, 0x7f];
            assert_eq!(decoder.decode(&size, &mut list), Ok(Outcome::Complete));
        }
        assert_eq!(decoder.decode(&block, &mut list), Ok(Outcome::Complete));
        assert_eq!(list.len(), 11);
        if round > 1 {
            // The id: an index of its name, its length, itself. It pushes nothing out.
            assert_eq!(block.len(), 10 + 2 + 1 + 32, "round {round}");
        }
    }
}

#[test]
fn secrets_never_enter_a_table() {
    let mut encoder = Encoder::new(4096);
    for name in [
        "Authorization",
        "authorization",
        "cookie",
        "Set-Cookie",
        "PROXY-AUTHORIZATION",
    ] {
        let fields = plain(&[(name, "secret")]);
        let blocks: Vec<_> = (0..4).map(|_| encode(&mut encoder, &fields)).collect();
        for block in &blocks {
            assert_eq!(block[0] & 0xf0, 0x10, "{name}");
            assert_eq!(block, &blocks[0]);
        }
    }
}

#[test]
fn a_smaller_table_is_announced_and_used() {
    let mut encoder = Encoder::new(4096);
    let mut decoder = Decoder::new(16 * 1024, Limits::default());
    let fields = plain(&[
        ("a-name", "a value"),
        ("b-name", "b value"),
        ("c-name", "c value"),
    ]);
    let send = |encoder: &mut Encoder, decoder: &mut Decoder| {
        let block = encode(encoder, &fields);
        assert_eq!(decode(decoder, &block).unwrap().len(), 3);
        block
    };
    send(&mut encoder, &mut decoder);
    assert_eq!(send(&mut encoder, &mut decoder).len(), 3);
    // Down and up again: the lowest is announced, then the last.
    encoder.set_table(0);
    encoder.set_table(16 * 1024);
    let block = send(&mut encoder, &mut decoder);
    assert_eq!(block[..4], [0x20, 0x3f, 0xe1, 0x7f]);
    assert_eq!(send(&mut encoder, &mut decoder).len(), 3);
    // Room for one entry of 45 bytes; above a quarter of the table, none enters.
    encoder.set_table(50);
    send(&mut encoder, &mut decoder);
    encoder.set_table(4096);
    send(&mut encoder, &mut decoder);
    assert_eq!(send(&mut encoder, &mut decoder).len(), 3);
    // A block that was not sent.
    encode(&mut encoder, &plain(&[("lost", "lost")]));
    encoder.forget();
    send(&mut encoder, &mut decoder);
    assert_eq!(send(&mut encoder, &mut decoder).len(), 3);
}

#[test]
fn wrong_blocks() {
    use DecodeError::*;
    for (block, why) in [
        (&b"\x80"[..], Index),
        (b"\xbe", Index),
        (b"\xff\x80\x01", Index),
        (b"\x7f\x00\x01a", Index),
        (b"\xff", Cut),
        (b"\xff\xff\xff\xff\xff\xff\x01", Cut),
        (b"\x40\x05abc", Cut),
        (b"\x40\x01a", Cut),
        (b"\x40", Cut),
        (b"\x00\x7f\xff\xff\xff\xff\x7f", Cut),
        (b"\x82\x20", TableSize),
        (b"\x3f\xe2\x7f", TableSize),
        (b"\x00\x81\x00\x00", Huffman),
        (b"\x00\x84\xff\xff\xff\xff\x00", Huffman),
    ] {
        let mut decoder = Decoder::new(16 * 1024, Limits::default());
        assert_eq!(decode(&mut decoder, block), Err(why), "{block:?}");
    }
}

#[test]
fn a_bomb_is_read_and_not_kept() {
    let mut decoder = Decoder::new(16 * 1024, Limits::default());
    let mut list = List::default();
    // One entry of 4,000 bytes, named 100,000 times.
    let mut bomb = vec![0x40, 1, b'a'];
    integer::encode(&mut bomb, 0, 7, 4000);
    bomb.resize(bomb.len() + 4000, b'v');
    bomb.resize(bomb.len() + 100_000, 0xbe);
    assert_eq!(decoder.decode(&bomb, &mut list), Ok(Outcome::TooLarge));
    assert!(list.len() <= 25);
    // The tables are still alike: the entry can be used.
    assert_eq!(
        decoder.decode(&[0xbe, 0x82], &mut list),
        Ok(Outcome::Complete)
    );
    assert_eq!(list.len(), 2);

    let limits = Limits {
        size: 1 << 20,
        fields: 10,
    };
    let mut decoder = Decoder::new(4096, limits);
    assert_eq!(
        decoder.decode(&[0x82; 10], &mut list),
        Ok(Outcome::Complete)
    );
    assert_eq!(
        decoder.decode(&[0x82; 11], &mut list),
        Ok(Outcome::TooLarge)
    );
    assert_eq!(list.len(), 10);
}

fn field() -> impl Strategy<Value = Plain> {
    let known = prop::sample::select(vec![
        (":method", "GET"),
        (":method", "PUT"),
        (":path", "/"),
        (":status", "204"),
        ("Host", "a"),
        ("host", "a"),
        ("accept-encoding", "gzip, deflate"),
        ("cookie", "c"),
        ("x", ""),
    ]);
    let known =
        known.prop_map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
    let few = ("[a-c]{1,2}", "[a-c]{0,3}")
        .prop_map(|(name, value)| (name.into_bytes(), value.into_bytes()));
    let any = (
        prop::collection::vec(any::<u8>(), 1..20),
        prop::collection::vec(any::<u8>(), 0..200),
    );
    prop_oneof![3 => known, 3 => few, 1 => any]
}

proptest! {
    /// Whatever is encoded is decoded, through changes of the table and blocks that were not sent.
    #[test]
    fn what_is_encoded_is_decoded(
        blocks in prop::collection::vec((prop::collection::vec(field(), 0..20), 0usize..12), 1..20),
    ) {
        let mut encoder = Encoder::new(INITIAL_TABLE);
        let mut decoder = Decoder::new(16 * 1024, Limits::default());
        let mut list = List::default();
        for (fields, action) in blocks {
            match action {
                0 => encoder.set_table(16 * 1024),
                1 => encoder.set_table(0),
                2 => encoder.set_table(200),
                3 => encoder.set_table(1000),
                4 => {
                    encode(&mut encoder, &fields);
                    encoder.forget();
                }
                _ => {}
            }
            let block = encode(&mut encoder, &fields);
            prop_assert_eq!(decoder.decode(&block, &mut list), Ok(Outcome::Complete));
            let found: Vec<Plain> = list.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
            prop_assert_eq!(found, fields);
        }
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..8)) {
        let mut decoder = Decoder::new(16 * 1024, Limits { size: 300, fields: 5 });
        let mut list = List::default();
        for block in blocks {
            if decoder.decode(&block, &mut list).is_err() {
                break;
            }
            prop_assert!(list.len() <= 5);
        }
    }
}
