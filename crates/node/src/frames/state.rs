// SPDX-License-Identifier: Apache-2.0
//! What the kernels of both sides hold, as text for people: addresses, routes, neighbours, sockets, rules, and counts of what went wrong.
//!
//! Reads only, and blocks. What cannot be read is said in its place. Next: [`super`].

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use maille_sys::link::{self, Scope};
use maille_sys::nft;

use super::Side;

/// Lines of one part.
const LINES: usize = 2_000;

/// TCP's states by number (`tcp_states.h`).
const STATES: [&str; 13] = [
    "?",
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "NEW_SYN_RECV",
];

pub(crate) fn read(sides: &[Side]) -> String {
    let mut text = String::new();
    for side in sides {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(text, "# {}", side.what);
        links(&mut text, side);
        files(&mut text, side);
        part(&mut text, "rules (nft list ruleset)", || {
            nft::list(&side.namespace).map_err(|error| error.to_string())
        });
    }
    text
}

fn part(text: &mut String, name: &str, read: impl FnOnce() -> Result<String, String>) {
    let _ = writeln!(text, "## {name}");
    match read() {
        Ok(said) => {
            for line in said.lines().take(LINES) {
                let _ = writeln!(text, "{line}");
            }
            if said.lines().count() > LINES {
                let _ = writeln!(text, "... and {} lines more", said.lines().count() - LINES);
            }
        }
        Err(why) => {
            let _ = writeln!(text, "cannot be read: {why}");
        }
    }
}

fn links(text: &mut String, side: &Side) {
    part(text, "interfaces, addresses, routes, neighbours", || {
        let said = link::inside(&side.namespace, async |net| {
            let mut said = String::new();
            for link in net.links().await? {
                let up = if link.up { "up" } else { "down" };
                let _ = writeln!(said, "{}: {} {up} mtu {}", link.index, link.name, link.mtu);
                for scope in [Scope::Global, Scope::LinkLocal] {
                    for address in net.addresses(&link.name, scope).await? {
                        let _ = writeln!(said, "    address {address}");
                    }
                }
                // What is of no kind that can be said is not worth losing the rest for.
                for route in net.routes(&link.name).await.unwrap_or_default() {
                    let via = route.gateway.map(|to| format!(" via {to}"));
                    let (via, table) = (via.unwrap_or_default(), route.table);
                    let _ = writeln!(said, "    route {}{via} table {table}", route.destination);
                }
                for (address, mac) in net.neighbours(&link.name).await.unwrap_or_default() {
                    let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
                    let _ = writeln!(said, "    neighbour {address} {mac}");
                }
            }
            Ok(said)
        });
        said.map_err(|error| error.to_string())
    });
}

fn files(text: &mut String, side: &Side) {
    let file = |name: &str| {
        let path = format!("/proc/thread-self/net/{name}");
        let read = side.namespace.run(|| std::fs::read_to_string(path));
        read.and_then(|read| read)
            .map_err(|error| error.to_string())
    };
    for name in ["tcp", "tcp6", "udp", "udp6"] {
        part(text, &format!("sockets: {name}"), || {
            file(name).map(|said| sockets(&said))
        });
    }
    for name in ["arp", "sockstat", "snmp"] {
        part(text, name, || file(name));
    }
}

/// `/proc/net/tcp` and its like (`proc_net_tcp.txt`), with addresses as people write them.
fn sockets(said: &str) -> String {
    let mut text = String::new();
    for line in said.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, local, remote, state, queues, ..] = fields[..] else {
            continue;
        };
        let state = usize::from_str_radix(state, 16).ok();
        let state = state.and_then(|state| STATES.get(state)).unwrap_or(&"?");
        let shown = |text: &str| address(text).map_or_else(|| text.to_owned(), |to| to.to_string());
        let _ = writeln!(
            text,
            "{state:<12} {} -> {} queued {queues}",
            shown(local),
            shown(remote)
        );
    }
    text
}

/// Words of the machine's order in hexadecimal, and a port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(ip.get(at..at + 8)?, 16).ok();
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?.to_ne_bytes())),
        32 => {
            let mut bytes = [0; 16];
            for place in 0..4 {
                bytes[4 * place..4 * place + 4].copy_from_slice(&word(8 * place)?.to_ne_bytes());
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_as_people_read_them() {
        let said = "  sl  local_address rem_address   st tx_queue rx_queue\n\
             0: 0100007F:1F90 00000000:0000 0A 00000000:00000005 00:00000000\n\
             1: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 01 00000000:00000000 0\n\
             junk\n";
        assert_eq!(
            sockets(said),
            "LISTEN       127.0.0.1:8080 -> 0.0.0.0:0 queued 00000000:00000005\n\
             ESTABLISHED  [::1]:80 -> [::]:0 queued 00000000:00000000\n"
        );
    }
}
