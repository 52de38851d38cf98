// SPDX-License-Identifier: Apache-2.0
//! Command lines of the questions: `tap`, `top`, `edges`, `identity`, `explain`. Must never act. Read `../args.rs` next.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use super::kubernetes::Where;
use super::{Output, duration};

/// How a list is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum List {
    /// For people.
    #[default]
    Table,
    /// For people with room.
    Wide,
    /// For programs.
    Json,
}

/// Which way, seen from the pod whose proxy tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// What others send it.
    In,
    /// What it sends.
    Out,
}

/// What is shown of headers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum HeaderView {
    /// Nothing.
    None,
    /// Names, and the values that are known to hold no secret.
    #[default]
    Redacted,
    /// Everything: also tokens and cookies. Think of who reads the terminal.
    All,
}

/// Which resource, in kubectl's manner.
#[derive(Debug, Clone, clap::Args)]
pub struct Resources {
    /// deploy/web, `pods`, `sts db`, `svc/api`, `ns/shop` or `all`.
    #[arg(required = true, num_args = 1..=2, value_name = "KIND[/NAME]")]
    pub resource: Vec<String>,
    /// Only in this namespace; in any unless told.
    #[arg(short = 'n', long, conflicts_with = "all_namespaces")]
    pub namespace: Option<String>,
    /// In every namespace, which is the default.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
}

/// Which exchanges.
#[derive(Debug, Clone, clap::Args)]
pub struct Matching {
    /// Only what goes to this resource or address.
    #[arg(long, value_name = "KIND[/NAME]|IP")]
    pub to: Option<String>,
    /// The namespace of that resource.
    #[arg(long, requires = "to", value_name = "NAME")]
    pub to_namespace: Option<String>,
    /// Only this method.
    #[arg(long, value_name = "METHOD")]
    pub method: Option<String>,
    /// Only paths that begin so.
    #[arg(long, value_name = "PREFIX")]
    pub path: Option<String>,
    /// Only this authority (host), with or without its port.
    #[arg(long, value_name = "HOST")]
    pub authority: Option<String>,
}

const TAP: &str = "\
Examples:
  maille tap deploy/web                        what web sends and gets
  maille tap deploy/web --to svc/api           what web sends to the service api
  maille tap ns/shop --status 5xx              what fails in the namespace shop
  maille tap pods --method POST --path /cart   by what is asked
  maille tap svc/api --min-latency 100ms       what is slow, whoever asks
  maille tap deploy/web -o json | jq .path     for programs: one object a line

Each line of one request has the same id. Requests that began before the tap are not shown. What could not be
shown, and why, is told. Ctrl-C ends it.";

/// `maille tap`.
#[derive(Debug, clap::Args)]
#[command(after_help = TAP)]
pub struct Tap {
    #[command(flatten)]
    pub what: Resources,
    #[command(flatten)]
    pub matching: Matching,
    /// Only this status: a number, a class or a range (503, 5xx, 500-599).
    #[arg(long, value_name = "STATUS")]
    pub status: Option<String>,
    /// Only this gRPC status, by number.
    #[arg(long, value_name = "N")]
    pub grpc_status: Option<u8>,
    /// Only where the first byte of the answer took so long.
    #[arg(long, value_parser = latency, value_name = "TIME")]
    pub min_latency: Option<Duration>,
    /// Only this way, seen from the pod whose proxy tells.
    #[arg(long, value_enum)]
    pub direction: Option<Way>,
    /// Requests a second that are shown, at most.
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_rps: u32,
    /// What is shown of headers, with -o wide or json.
    #[arg(long, value_enum, default_value_t)]
    pub headers: HeaderView,
    /// How to write it.
    #[arg(short = 'o', long, value_enum, default_value_t)]
    pub output: List,
    #[command(flatten)]
    pub which: Where,
}

const TOP: &str = "\
Examples:
  maille top deploy/web                    what web is asked and asks, the busiest path first
  maille top deploy/web --to svc/api       only what it asks the service api
  maille top ns/shop --hide-sources        whoever asks
  maille top deploy --seconds 10 -o json   for programs: ten seconds, then one object";

/// `maille top`.
#[derive(Debug, clap::Args)]
#[command(after_help = TOP)]
pub struct Top {
    #[command(flatten)]
    pub what: Resources,
    #[command(flatten)]
    pub matching: Matching,
    /// Count whoever asks together.
    #[arg(long)]
    pub hide_sources: bool,
    /// Rows that are shown.
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub rows: usize,
    /// Requests a second that are counted, at most.
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_rps: u32,
    /// Count for so long and show the result once, in place of a picture that changes.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: Option<u64>,
    /// How to write it.
    #[arg(
        short = 'o',
        long,
        value_enum,
        default_value_t,
        requires_if("json", "seconds")
    )]
    pub output: Output,
    #[command(flatten)]
    pub which: Where,
}

const EDGES: &str = "\
Examples:
  maille edges                   every pair that talks
  maille edges deploy/web        those of web
  maille edges -n shop -o wide   with the identities of both sides";

/// `maille edges`.
#[derive(Debug, clap::Args)]
#[command(after_help = EDGES)]
pub struct Edges {
    /// Only edges from or to this: `deploy/web`, `svc/api`; all unless told.
    #[arg(num_args = 0..=2, value_name = "KIND[/NAME]")]
    pub resource: Vec<String>,
    /// Only edges from or to this namespace.
    #[arg(short = 'n', long, conflicts_with = "all_namespaces")]
    pub namespace: Option<String>,
    /// Those of the cluster itself, too.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// The time that counts cover; at most 10m are kept.
    #[arg(short = 't', long, default_value = "1m", value_parser = duration, value_name = "TIME")]
    pub time_window: Duration,
    /// How to write it.
    #[arg(short = 'o', long, value_enum, default_value_t)]
    pub output: List,
    #[command(flatten)]
    pub which: Where,
}

/// How certificates are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum IdentityOutput {
    /// One line a pod.
    #[default]
    Table,
    /// The whole chain, for people.
    Wide,
    /// For programs.
    Json,
    /// The chain as text (RFC 7468), for tools that read certificates.
    Pem,
}

const IDENTITY: &str = "\
Examples:
  maille identity pods                                  who proves to be whom, and for how long
  maille identity pod/web-1 -o wide                     its chain, and whom it believes
  maille identity deploy/web -o pem | openssl x509 -noout -text

Standard error says which meshed pods showed no certificate. Exit code 1: none of those that were named did.";

/// `maille identity`.
#[derive(Debug, clap::Args)]
#[command(after_help = IDENTITY)]
pub struct Identity {
    #[command(flatten)]
    pub what: Resources,
    /// How to write it.
    #[arg(short = 'o', long, value_enum, default_value_t)]
    pub output: IdentityOutput,
    #[command(flatten)]
    pub which: Where,
}

const EXPLAIN: &str = "\
Examples:
  maille explain deploy/web svc/api                      what becomes of a connection
  maille explain web http://api.shop:8080 --method POST  names as the pod itself would use them
  maille explain pod/web-1 10.96.0.10 --port 53          an address
  maille explain web api -o json                         for programs
  maille explain --capture web-1                         how a pod is captured, who chose that, and what a new one would be

The proxies of both sides answer, by what is in force in them; with --capture it is what admission wrote on the pod. Exit code 1: it would not get through.";

/// `maille explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXPLAIN)]
pub struct Explain {
    /// Who asks: `deploy/web`, `pod/web-1`, or a name.
    #[arg(value_name = "SRC", required_unless_present = "capture")]
    pub src: Option<String>,
    /// Who is asked: a resource, a host name as pods know it, an address, a URL.
    #[arg(value_name = "DST", required_unless_present = "capture")]
    pub dst: Option<String>,
    /// How this pod of a cluster is captured, who chose that, and what a new pod in its place would be.
    #[arg(long, value_name = "POD", conflicts_with_all = ["src", "dst", "port", "method", "path", "header"])]
    pub capture: Option<String>,
    /// Where the mesh's own objects are, with --capture.
    #[arg(
        long,
        default_value = "maille-system",
        value_name = "NAME",
        requires = "capture"
    )]
    pub mesh_namespace: maille_model::Name,
    /// The port that is dialled; needed unless there is only one.
    #[arg(short = 'p', long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Of the request.
    #[arg(long, value_name = "METHOD")]
    pub method: Option<String>,
    /// Of the request.
    #[arg(long, value_name = "PATH")]
    pub path: Option<String>,
    /// Of the request, as `name: value`; may be repeated.
    #[arg(long, value_name = "HEADER")]
    pub header: Vec<String>,
    /// Where both are looked for.
    #[arg(short = 'n', long)]
    pub namespace: Option<String>,
    /// How to write it.
    #[arg(short = 'o', long, value_enum, default_value_t)]
    pub output: Output,
    #[command(flatten)]
    pub which: Where,
}

const CAPTURE: &str = "\
Examples:
  maille capture web-1 -w web.pcapng                    both sides of its proxy, until Ctrl-C
  maille capture deploy/web --filter 'tcp port 8080' | tshark -r - -Y http
  maille capture web-1 --seconds 10 -w web.pcapng       ten seconds
  maille capture web-1 --plain -w web.pcapng            with what goes through its mesh connections
  maille capture web-1 --state                          sockets, rules, neighbours, routes of both sides

Interfaces in the file: up0 is the wire, between the pod's proxy and everybody else; dn0 is the pod, between its
application and its proxy, where everything is as the application says it. A pod outside the mesh has eth0 only.
Nothing is needed in the pod. With -w FILE the state of both sides is written to FILE.txt.

Of a cluster those pods are shown that their nodes capture, whatever they run in, with one interface more: the wire at its
node's end. It takes the right to create pods/exec in the mesh's namespace.

With --plain there is also in0: what the proxy's mesh connections carry, before it is encrypted and after it was decrypted,
as TCP segments with HTTP/2 at port 15009 (tshark -d tcp.port==15009,http2). Nothing is left out of it. It takes two to
agree: who asks, with the flag, and the pod's owner, with the annotation maille.io/capture-inside: allowed; without it
the proxy refuses. Of connections that were open before, readers may not understand all heads (HPACK).

Filters: tcp, udp, icmp, arp, ip, ip6, host ADDRESS, net CIDR, port N, portrange N-M; src and dst before them;
and, or, not, parentheses.";

/// `maille capture`.
#[derive(Debug, clap::Args)]
#[command(after_help = CAPTURE)]
pub struct Capture {
    /// A pod, or what made it: `web-1`, `deploy/web`.
    #[arg(value_name = "POD")]
    pub pod: String,
    /// Only these frames, in tcpdump's words.
    #[arg(long, value_name = "FILTER")]
    pub filter: Option<String>,
    /// Write to this file, and the state of both sides beside it; to standard output unless told.
    #[arg(short = 'w', long, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// End after so long.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: Option<u64>,
    /// Bytes of each frame that are kept; all unless told.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(64..=262_144))]
    pub snaplen: Option<u32>,
    /// Also what the proxy's mesh connections carry, in plain text and whole (tokens, cookies, bodies). The pod must allow it.
    #[arg(long, conflicts_with = "state")]
    pub plain: bool,
    /// Record nothing: show what both sides' kernels hold.
    #[arg(long, conflicts_with_all = ["filter", "write", "seconds", "snaplen"])]
    pub state: bool,
    /// Also what the pod's own kernel holds, by an ephemeral container, of which the pod keeps a record. In a cluster.
    #[arg(long)]
    pub guest: bool,
    /// Only in this namespace.
    #[arg(short = 'n', long)]
    pub namespace: Option<String>,
    #[command(flatten)]
    pub which: Where,
}

/// Reads `100ms`, `1.5s` or a number of milliseconds.
fn latency(text: &str) -> Result<Duration, String> {
    let end = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let scale = match unit {
        "" | "ms" => 0.001,
        "us" => 0.000_001,
        "s" => 1.0,
        _ => return Err("use a number with us, ms or s".to_owned()),
    };
    let number: f64 = digits
        .parse()
        .map_err(|_| "use a number with us, ms or s".to_owned())?;
    let time = Duration::try_from_secs_f64(number * scale)
        .map_err(|_| "must not be negative, or for ever".to_owned())?;
    if time > Duration::from_secs(3_600) {
        return Err("nothing takes longer than an hour here".to_owned());
    }
    Ok(time)
}

// === impl Resources ===

impl Resources {
    /// `KIND/NAME`, however it was typed.
    pub fn text(&self) -> String {
        self.resource.join("/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies() {
        assert_eq!(latency("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(latency("250"), Ok(Duration::from_millis(250)));
        assert_eq!(latency("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(latency("20us"), Ok(Duration::from_micros(20)));
        for bad in ["", "ms", "-1ms", "2h", "1e300s", "NaN", "inf"] {
            assert!(latency(bad).is_err(), "{bad:?}");
        }
    }
}
