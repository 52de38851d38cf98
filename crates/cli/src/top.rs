// SPDX-License-Identifier: Apache-2.0
//! `maille top`: paths as they are asked for, the busiest first, of what a tap shows. Must keep a bounded number of them. Read `tap.rs` next.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::args::Output;
use crate::args::ask::Top;
use crate::reach::Reach;
use crate::screen::{Screen, print, print_json, table};
use crate::state::Base;
use crate::stream::Lines;
use crate::tap::{Line, query};
use crate::text::clean_to;

/// Rows that are kept; what comes above is counted as one.
const ROWS: usize = 10_000;
/// Characters of a path that are shown.
const PATH: usize = 60;

/// What is counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key {
    source: String,
    destination: String,
    method: String,
    path: String,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Sum {
    count: u64,
    failed: u64,
    best: u64,
    worst: u64,
    last: u64,
}

/// Paths that were asked for.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "TopPaths")]
pub(crate) struct Paths {
    /// The busiest first.
    rows: Vec<Path>,
    /// Requests of rows that are not shown, and such that were not told.
    not_shown: u64,
}

/// One path.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "TopPath")]
struct Path {
    /// Who asks: `deploy/web`, or an address; empty with --hide-sources.
    source: String,
    /// Who is asked.
    destination: String,
    /// Of the request.
    method: String,
    /// Of the request, without its query.
    path: String,
    /// Requests.
    count: u64,
    /// The shortest time to the first byte of an answer, in microseconds.
    best_us: u64,
    /// The longest.
    worst_us: u64,
    /// That of the last one.
    last_us: u64,
    /// 0 to 1.
    success_rate: f64,
}

#[derive(Debug, Default)]
struct Board {
    rows: HashMap<Key, Sum>,
    /// Requests of rows without room, and such that were not told.
    other: u64,
}

pub(crate) async fn run(args: &Top, base: &Base, screen: Screen) -> anyhow::Result<ExitCode> {
    let reach = Reach::find(&args.which, base).await?;
    let query = query(&args.what, &args.matching)
        .with("max_rps", args.max_rps)
        .with("ends", true);
    let mut lines = Lines::open(&reach, query.path()).await?;
    let mut board = Board::default();
    let mut tick = interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = args
        .seconds
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let live = end.is_none() && args.output == Output::Table;
    loop {
        let left = async {
            match end {
                Some(end) => tokio::time::sleep_until(end).await,
                None => std::future::pending().await,
            }
        };
        let ended = tokio::select! {
            ended = lines.next() => ended?,
            () = left => None,
            _ = tick.tick(), if live => {
                screen.wipe();
                if !print(&board.show(args))? {
                    return Ok(ExitCode::SUCCESS);
                }
                continue;
            }
        };
        match ended {
            Some(text) => board.take(&serde_json::from_str(&text)?, args.hide_sources),
            None => break,
        }
    }
    match args.output {
        Output::Json => print_json(&board.json(args))?,
        Output::Table => print(&board.show(args))?,
    };
    Ok(ExitCode::SUCCESS)
}

// === impl Board ===

impl Board {
    fn take(&mut self, line: &Line, hide_sources: bool) {
        self.other += line.over_rate + line.no_room;
        if line.what != "end" {
            return;
        }
        let name = |end: &Option<crate::tap::End>| {
            let end = end.clone().unwrap_or_default();
            match (end.owner.as_str(), end.pod) {
                ("", None) => end.address,
                ("", Some(pod)) => pod.name,
                (owner, _) => owner.to_owned(),
            }
        };
        let path = line.path.split('?').next().unwrap_or_default();
        let key = Key {
            source: if hide_sources {
                String::new()
            } else {
                name(&line.src)
            },
            destination: name(&line.dst),
            method: line.method.clone(),
            path: path.to_owned(),
        };
        if self.rows.len() >= ROWS && !self.rows.contains_key(&key) {
            self.other += 1;
            return;
        }
        let sum = self.rows.entry(key).or_default();
        let micros = line.latency_us.unwrap_or_default();
        sum.best = if sum.count == 0 {
            micros
        } else {
            sum.best.min(micros)
        };
        sum.worst = sum.worst.max(micros);
        sum.last = micros;
        sum.count += 1;
        let bad_call = line.grpc_status.is_some_and(|code| code != 0);
        let bad = line.status.is_none_or(|status| status >= 500) || bad_call;
        sum.failed += u64::from(bad || !line.failure.is_empty());
    }

    /// The busiest first; those of one count by name, so that the picture stands still.
    fn sorted(&self, most: usize) -> Vec<(&Key, &Sum)> {
        let mut rows: Vec<_> = self.rows.iter().collect();
        rows.sort_by(|(a, left), (b, right)| right.count.cmp(&left.count).then(a.cmp(b)));
        rows.truncate(most);
        rows
    }

    fn show(&self, args: &Top) -> String {
        let row = |(key, sum): (&Key, &Sum)| {
            let mut row = vec![
                clean_to(&key.source, PATH),
                clean_to(&key.destination, PATH),
                clean_to(&key.method, 12),
                clean_to(&key.path, PATH),
                sum.count.to_string(),
                micros(sum.best),
                micros(sum.worst),
                micros(sum.last),
                format!("{:.2}%", sum.success() * 100.0),
            ];
            if args.hide_sources {
                row.remove(0);
            }
            row
        };
        let rows: Vec<_> = self.sorted(args.rows).into_iter().map(row).collect();
        let mut head = vec![
            "SOURCE",
            "DESTINATION",
            "METHOD",
            "PATH",
            "COUNT",
            "BEST",
            "WORST",
            "LAST",
            "SUCCESS",
        ];
        if args.hide_sources {
            head.remove(0);
        }
        let first = head.len() - 5;
        let right: Vec<usize> = (first..head.len()).collect();
        let mut text = table(&head, &rows, &right);
        if self.other > 0 {
            text.push_str(&format!("and {} requests that are not shown\n", self.other));
        }
        text
    }

    fn json(&self, args: &Top) -> Paths {
        let rows = self.sorted(args.rows).into_iter().map(|(key, sum)| Path {
            source: key.source.clone(),
            destination: key.destination.clone(),
            method: key.method.clone(),
            path: key.path.clone(),
            count: sum.count,
            best_us: sum.best,
            worst_us: sum.worst,
            last_us: sum.last,
            success_rate: sum.success(),
        });
        Paths {
            rows: rows.collect(),
            not_shown: self.other,
        }
    }
}

impl Sum {
    fn success(&self) -> f64 {
        (self.count - self.failed) as f64 / self.count.max(1) as f64
    }
}

fn micros(value: u64) -> String {
    match value {
        ..10_000 => format!("{value}µs"),
        10_000..10_000_000 => format!("{}ms", value / 1_000),
        _ => format!("{}s", value / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use serde_json::json;

    use super::*;
    use crate::args::{Cli, Verb};

    fn args(line: &str) -> Top {
        match Cli::try_parse_from(line.split(' ')).unwrap().verb {
            Verb::Top(args) => *args,
            other => panic!("{other:?}"),
        }
    }

    fn line(path: &str, status: u32, latency: u64) -> Line {
        let json = json!({"type": "end", "src": {"address": "1", "owner": "deploy/web"}, "dst": {"address": "2", "owner": "deploy/api"},
            "method": "GET", "path": path, "status": status, "latency_us": latency});
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn the_busiest_path_is_first() {
        let mut board = Board::default();
        for (path, status, latency) in [("/a", 200, 5), ("/b?x=1", 200, 7), ("/b?x=2", 503, 9)] {
            board.take(&line(path, status, latency), false);
        }
        let shown = board.show(&args("maille top deploy"));
        let lines: Vec<Vec<&str>> = shown
            .lines()
            .map(|l| l.split_whitespace().collect())
            .collect();
        assert_eq!(
            lines[1],
            [
                "deploy/web",
                "deploy/api",
                "GET",
                "/b",
                "2",
                "7µs",
                "9µs",
                "9µs",
                "50.00%"
            ]
        );
        assert_eq!(lines[2][3..5], ["/a", "1"]);
        let json = board.json(&args("maille top deploy --rows 1"));
        assert_eq!(json.rows.len(), 1);
    }

    #[test]
    fn endless_paths_take_bounded_room() {
        let mut board = Board::default();
        for n in 0..ROWS + 50 {
            board.take(&line(&format!("/{n}"), 200, 1), true);
        }
        assert_eq!((board.rows.len(), board.other), (ROWS, 50));
    }
}
