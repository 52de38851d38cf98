// SPDX-License-Identifier: Apache-2.0
//! `maille edges`: who talks to whom, as whom, and what is protected. Must never compute what control did not say. Read `stat.rs` next.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::args::ask::{Edges, List};
use crate::query::Query;
use crate::reach::Reach;
use crate::screen::{Screen, print, print_json, table};
use crate::state::Base;
use crate::text::clean;

pub(crate) async fn run(args: &Edges, base: &Base, screen: Screen) -> anyhow::Result<ExitCode> {
    let reach = Reach::find(&args.which, base).await?;
    let query = Query::of("/v1/edges")
        .with("window", args.time_window.as_secs().min(600))
        .maybe(
            "resource",
            (!args.resource.is_empty()).then(|| args.resource.join("/")),
        )
        .maybe("namespace", args.namespace.as_deref());
    let mut said: Value = reach.get(query.path()).await?;
    if args.namespace.is_none()
        && !args.all_namespaces
        && let Some(edges) = said["edges"].as_array_mut()
    {
        edges.retain(|edge| {
            let system = |end: &Value| end["namespace"] == "kube-system";
            !system(&edge["from"]) && !system(&edge["to"])
        });
    }
    match args.output {
        List::Json => print_json(&said)?,
        List::Table => print(&show(&said, false, screen))?,
        List::Wide => print(&show(&said, true, screen))?,
    };
    Ok(ExitCode::SUCCESS)
}

fn show(said: &Value, wide: bool, screen: Screen) -> String {
    let none = json!([]);
    let edges = said["edges"].as_array().or(none.as_array());
    let text = |value: &Value| clean(value.as_str().unwrap_or_default());
    let end = |edge: &Value, end: &str| match &edge[end] {
        Value::Null => ("-".to_owned(), "(outside)".to_owned()),
        end => (text(&end["namespace"]), text(&end["name"])),
    };
    let row = |edge: &Value| {
        let (src_ns, src) = end(edge, "from");
        let (dst_ns, dst) = end(edge, "to");
        let protected = edge["protection"] == "mtls";
        let mut row = vec![src, dst, src_ns, dst_ns, edge["port"].to_string()];
        if wide {
            row.push(text(&edge["client_id"]));
            row.push(text(&edge["server_id"]));
        }
        row.push(if protected {
            screen.green("√")
        } else {
            format!("{} {}", screen.yellow("×"), text(&edge["reason"]))
        });
        row
    };
    let rows: Vec<_> = edges.into_iter().flatten().map(row).collect();
    if rows.is_empty() {
        return "No edges found.\n".to_owned();
    }
    let head: &[&str] = if wide {
        &[
            "SRC",
            "DST",
            "SRC_NS",
            "DST_NS",
            "PORT",
            "CLIENT_ID",
            "SERVER_ID",
            "SECURED",
        ]
    } else {
        &["SRC", "DST", "SRC_NS", "DST_NS", "PORT", "SECURED"]
    };
    table(head, &rows, &[4])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protected_and_not() {
        let said = json!({"edges": [
            {"from": {"namespace": "shop", "name": "web"}, "to": {"namespace": "shop", "name": "api"}, "port": 80,
             "protection": "mtls", "client_id": "spiffe://x/a", "server_id": "spiffe://x/b", "reason": ""},
            {"from": {"namespace": "shop", "name": "web"}, "to": null, "port": 443, "protection": "plain",
             "reason": "the server is no \u{1b}[1mworkload"},
        ]});
        assert_eq!(
            show(&said, false, Screen::plain()),
            "SRC   DST         SRC_NS   DST_NS   PORT   SECURED\n\
             web   api         shop     shop       80   √\n\
             web   (outside)   shop     -         443   × the server is no \\u{1b}[1mworkload\n"
        );
        let wide = show(&said, true, Screen::plain());
        assert!(wide.contains("spiffe://x/a   spiffe://x/b   √"), "{wide}");
        assert_eq!(
            show(&json!({}), false, Screen::plain()),
            "No edges found.\n"
        );
    }
}
