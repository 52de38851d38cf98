// SPDX-License-Identifier: Apache-2.0
//! Flow control: nobody sends more than was allowed, everybody who waited is woken, nothing leaks.

use super::*;

const SMALL: Settings = Settings {
    dialect: Dialect::Mesh,
    header_table: 4096,
    max_frame: 16_384,
    max_streams: 100,
    stream_window: 1000,
    connection_window: 65_535,
    list: crate::hpack::Limits {
        size: 10_000,
        fields: 100,
    },
};

/// Takes what `from` wrote for one stream: how many bytes of `body` came, which must be the next ones.
fn take_data(from: &mut Side, to: &mut Side, body: &[u8]) -> usize {
    let mut wire = from.written();
    let (mut at, mut got) = (0, 0);
    loop {
        let rest = &mut wire[at..];
        let received = to.link.receive(0, rest, &mut to.list, &mut to.out).unwrap();
        at += received.taken;
        match received.event {
            Some(Event::Data { bytes, .. }) => {
                assert!(body[got..].starts_with(bytes));
                got += bytes.len();
            }
            Some(_) => {}
            None => return got,
        }
    }
}

/// Sends `total` bytes of `stream` from one side to the other, whose socket takes them `slice` at a time.
fn pump(from: &mut Side, to: &mut Side, stream: u32, total: usize, slice: usize) {
    let body: Vec<u8> = (0..total).map(|n| (n % 251).to_le_bytes()[0]).collect();
    let (mut sent, mut got, mut consumed, mut rounds) = (0, 0, 0, 0);
    while consumed < total {
        rounds += 1;
        assert!(rounds < total, "stuck at {consumed} of {total}");
        if sent < total {
            sent += from.send(stream, &body[sent..], false);
        }
        got += take_data(from, to, &body[got..]);
        assert!(got - consumed <= 262_144, "more than a window is held");
        let now = slice.min(got - consumed);
        consumed += now;
        to.link.consumed(stream, now, &mut to.out);
        let wire = to.written();
        from.take(&wire).unwrap();
    }
}

#[test]
fn several_windows_both_ways() {
    let (mut client, mut server) = pair();
    let stream = client.open(0, &GET, false);
    exchange(&mut client, &mut server);
    server.answer(stream, &OK, false);
    exchange(&mut client, &mut server);
    // More than twice the connection's window, in slices that do not divide anything.
    pump(&mut client, &mut server, stream, 40_000_000, 100_003);
    pump(&mut server, &mut client, stream, 40_000_000, 99_991);
}

#[test]
fn a_stream_that_is_granted_little_has_little_on_its_way() {
    let (mut client, mut server) = pair();
    let stream = client.open(0, &GET, false);
    exchange(&mut client, &mut server);
    let body = vec![b'x'; 1 << 20];
    server.link.grant(8_000);
    // What was promised stands.
    let mut sent = client.send(stream, &body, false);
    assert_eq!(sent, 262_144);
    let mut most = 0;
    while sent < body.len() {
        let got = take_data(&mut client, &mut server, &body);
        server.link.consumed(stream, got, &mut server.out);
        let wire = server.written();
        client.take(&wire).unwrap();
        let more = client.send(stream, &body[sent..], false);
        assert!(more > 0, "stuck at {sent}");
        most = most.max(more);
        sent += more;
    }
    assert_eq!(most, 8_000);
    // More at once again, and never more than the settings say.
    server.link.grant(usize::MAX);
    let got = take_data(&mut client, &mut server, &body);
    server.link.consumed(stream, got, &mut server.out);
    let wire = server.written();
    client.take(&wire).unwrap();
    assert_eq!(client.send(stream, &body, false), 262_144);
}

proptest::proptest! {
    /// Whatever is granted when, a sender is never left without a window when everything was consumed.
    #[test]
    fn grants_that_change_lose_nothing(
        steps in proptest::collection::vec((0..300_000_usize, 0..65_536_usize, 0..65_536_usize), 1..200),
    ) {
        let (mut client, mut server) = pair();
        let stream = client.open(0, &GET, false);
        exchange(&mut client, &mut server);
        let body = vec![b'x'; 1 << 16];
        let mut left = 0;
        let last = (8_000, 0, usize::MAX);
        for (grant, send, consume) in steps.into_iter().chain([last]) {
            server.link.grant(grant);
            client.send(stream, &body[..send], false);
            left += take_data(&mut client, &mut server, &body);
            let now = consume.min(left);
            left -= now;
            server.link.consumed(stream, now, &mut server.out);
            let wire = server.written();
            client.take(&wire).unwrap();
        }
        assert!(client.link.send_window(stream) > 0);
    }
}

#[test]
fn a_slow_reader_stops_the_sender() {
    let (mut client, mut server) = pair_with(SMALL);
    let stream = client.open(4, &GET, false);
    assert_eq!(client.link.send_window(stream), 1000);
    assert_eq!(client.send(stream, &[0; 1500], true), 1000);
    assert_eq!(client.link.send_window(stream), 0);
    assert_eq!(client.send(stream, &[0; 500], true), 0);
    exchange(&mut client, &mut server);
    assert_eq!(client.told(), Vec::<String>::new());
    // Less than half: nothing is said.
    server.link.consumed(stream, 499, &mut server.out);
    assert!(server.out.is_empty());
    server.link.consumed(stream, 1, &mut server.out);
    exchange(&mut client, &mut server);
    assert_eq!(client.told(), ["1 (4): writable"]);
    assert_eq!(client.send(stream, &[0; 500], true), 500);
    exchange(&mut client, &mut server);
    assert_eq!(client.told(), Vec::<String>::new());
    // The stream has ended: only the connection is told of the rest.
    server.link.consumed(stream, 5000, &mut server.out);
    assert!(server.out.is_empty());
    assert_eq!(server.link.returned, 1500);
}

#[test]
fn an_initial_window_that_changes_wakes_and_stops() {
    let (mut client, mut server) = pair_with(SMALL);
    let streams = [0, 1, 2].map(|token| client.open(token, &GET, false));
    for &stream in &streams {
        assert_eq!(client.send(stream, &[0; 1001], false), 1000);
    }
    exchange(&mut client, &mut server);
    // Lower: windows below zero.
    frame::settings(&mut server.out, &[(frame::INITIAL_WINDOW_SIZE, 100)]);
    exchange(&mut client, &mut server);
    assert_eq!(client.told(), ["settings"]);
    assert_eq!(client.link.streams.get(1).unwrap().send, -900);
    assert_eq!(client.send(streams[0], b"x", false), 0);
    server.link.consumed(streams[1], 500, &mut server.out);
    exchange(&mut client, &mut server);
    assert_eq!(client.told(), Vec::<String>::new(), "-400 is no room");
    // Higher again: all are woken, without any WINDOW_UPDATE.
    frame::settings(&mut server.out, &[(frame::INITIAL_WINDOW_SIZE, 1001)]);
    exchange(&mut client, &mut server);
    let told = client.told();
    assert_eq!(
        told,
        [
            "settings",
            "1 (0): writable",
            "3 (1): writable",
            "5 (2): writable"
        ]
    );
    assert_eq!(client.send(streams[0], b"xy", false), 1);
    // Too high for a window that was enlarged before.
    frame::window_update(&mut server.out, streams[2], 2000);
    frame::settings(
        &mut server.out,
        &[(frame::INITIAL_WINDOW_SIZE, 0x7fff_ffff)],
    );
    let wire = server.written();
    let error = client.take(&wire).unwrap_err();
    assert_eq!(error.code, Code::FLOW_CONTROL_ERROR);
}

#[test]
fn streams_that_wait_for_the_connection_take_turns() {
    let settings = Settings {
        stream_window: 40_000,
        ..SMALL
    };
    let (mut client, mut server) = pair_with(settings);
    let streams = [0, 1, 2, 3].map(|token| client.open(token, &GET, false));
    let taken = streams.map(|stream| client.send(stream, &[0; 40_000], false));
    assert_eq!(taken, [40_000, 25_535, 0, 0]);
    exchange(&mut client, &mut server);
    server.link.reset(streams[2], Code::CANCEL, &mut server.out);
    server.link.consumed(streams[0], 32_767, &mut server.out);
    let to_client = server.written();
    client.take(&to_client).unwrap();
    let told = client.told();
    assert_eq!(
        told,
        ["5 (2): CANCEL", "3 (1): writable", "7 (3): writable"]
    );
    assert_eq!(client.send(streams[1], &[0; 14_465], false), 14_465);
    assert_eq!(
        client.send(streams[3], &[0; 40_000], false),
        32_767 - 14_465
    );
    // The one that could not be served stands in line again.
    assert_eq!(client.link.blocked, [streams[3]]);
}

#[test]
fn every_byte_is_given_back_whatever_becomes_of_its_stream() {
    let (mut client, mut server) = pair_with(SMALL);
    for round in 0..500 {
        let stream = client.open(0, &GET, false);
        let sent = client.send(stream, &[0; 700], round % 3 == 0);
        assert_eq!(sent, 700, "round {round}");
        exchange(&mut client, &mut server);
        match round % 5 {
            0 => server.link.reset(stream, Code::CANCEL, &mut server.out),
            1 => client.link.reset(stream, Code::CANCEL, &mut client.out),
            2 => server.link.release(stream, &mut server.out),
            3 => {
                // Crosses the reset on its way.
                server.link.reset(stream, Code::CANCEL, &mut server.out);
                client.send(stream, &[0; 300], false);
            }
            _ => server.link.consumed(stream, 700, &mut server.out),
        }
        exchange(&mut client, &mut server);
        server.link.reset(stream, Code::NO_ERROR, &mut server.out);
        client.link.reset(stream, Code::CANCEL, &mut client.out);
        exchange(&mut client, &mut server);
        let allowed = server.link.recv_window + i64::from(server.link.returned);
        assert_eq!(allowed, 65_535, "round {round}");
        assert_eq!(client.link.send_window, server.link.recv_window);
        // Ten seconds a round: this is about windows.
        client.now += 10_000;
        server.now += 10_000;
    }
    assert_eq!(client.link.streams_open() + server.link.streams_open(), 0);
}

#[test]
fn more_than_a_window_ends_the_connection() {
    for stream_window in [1000, 200_000] {
        let settings = Settings {
            stream_window,
            ..SMALL
        };
        let (mut client, mut server) = pair_with(settings);
        let stream = client.open(0, &GET, false);
        // A client that does not count.
        client.link.send_window = 1 << 30;
        client.link.streams.get_mut(stream).unwrap().send = 1 << 30;
        client.send(stream, &[0; 100_000], false);
        let wire = client.written();
        let error = server.take(&wire).unwrap_err();
        assert_eq!(error.code, Code::FLOW_CONTROL_ERROR);
    }
}

#[test]
fn small_pieces_share_a_frame_until_something_else_is_said_or_sent() {
    let (mut client, mut server) = pair();
    let (one, two) = (client.open(1, &GET, false), client.open(2, &GET, false));
    client.written();
    for _ in 0..100 {
        assert_eq!(client.send(one, b"x", false), 1);
    }
    assert_eq!(client.written().len(), 9 + 100);
    // What was taken away is not lengthened, nor what another stream or frame stands behind.
    client.send(one, b"abc", false);
    client.send(two, b"d", false);
    client.send(one, b"e", false);
    client.link.ping([0; 8], &mut client.out);
    client.send(one, b"f", false);
    client.send(one, b"g", true);
    let wire = client.written();
    assert_eq!(wire.len(), (9 + 3) + (9 + 1) + (9 + 1) + (9 + 8) + (9 + 2));
    assert_eq!(
        wire[wire.len() - 11..][..5],
        [0, 0, 2, 0, frame::END_STREAM]
    );
    // No frame becomes larger than any peer takes.
    client.send(two, &[b'y'; 16_000], false);
    assert_eq!(client.send(two, &[b'z'; 1_000], true), 1_000);
    let more = client.written();
    assert_eq!(more.len(), 9 + 16_384 + 9 + 616);
    let (mut client, mut got) = (pair().0, Vec::new());
    client.open(1, &GET, false);
    client.open(2, &GET, false);
    got.extend(client.written());
    got.extend(wire);
    got.extend(more);
    server.take(&got).unwrap();
    let told = server.told();
    let of = |stream: &str| -> String {
        let data = told.iter().filter(|line| line.starts_with(stream));
        data.filter_map(|line| line.split('"').nth(1)).collect()
    };
    assert_eq!(of("1 (0)"), "abcefg");
    assert_eq!(of("3 (0)").len(), 1 + 17_000);
    assert_eq!(told.iter().filter(|line| line.ends_with(" end")).count(), 2);
}
