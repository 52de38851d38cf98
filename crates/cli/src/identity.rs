// SPDX-License-Identifier: Apache-2.0
//! `maille identity`: the certificates with which pods prove themselves. Must never see a key; none leaves its proxy. Read `api.rs` next.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::Value;

use crate::args::ask::{Identity, IdentityOutput};
use crate::failure::Expected;
use crate::query::Query;
use crate::reach::Reach;
use crate::screen::{Screen, print, print_json, table};
use crate::state::Base;
use crate::text::{clean, clean_lines};

/// `/v1/identity`.
#[derive(Debug, Clone, Deserialize)]
struct Identities {
    pods: Vec<Row>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Row {
    namespace: String,
    name: String,
    meshed: bool,
    identity: String,
    not_before: i64,
    not_after: i64,
    renews_at: i64,
    generation: u64,
    chain: Vec<Certificate>,
    trust_anchors: Vec<Certificate>,
    error: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Certificate {
    subject: String,
    issuer: String,
    serial: String,
    not_before: i64,
    not_after: i64,
    sha256: String,
    pem: String,
}

pub(crate) async fn run(args: &Identity, base: &Base, screen: Screen) -> anyhow::Result<ExitCode> {
    let reach = Reach::find(&args.which, base).await?;
    let query = Query::of("/v1/identity")
        .with("resource", args.what.text())
        .maybe("namespace", args.what.namespace.as_deref());
    let json: Value = reach.get(query.path()).await?;
    let said: Identities = reach.read(&json)?;
    match args.output {
        IdentityOutput::Json => print_json(&json)?,
        IdentityOutput::Table => print(&short(&said.pods, now()))?,
        IdentityOutput::Wide => print(&long(&said.pods, now(), screen))?,
        IdentityOutput::Pem => {
            let all = said.pods.iter().flat_map(|pod| &pod.chain);
            let all: Vec<_> = all.map(|one| clean_lines(&one.pem)).collect();
            print(&all.join("\n"))?
        }
    };
    for pod in said.pods.iter().filter(|pod| pod.meshed && pod.is_bare()) {
        screen.say(&format!(
            "{} {}/{} showed no certificate: {}",
            screen.yellow("warning:"),
            clean(&pod.namespace),
            clean(&pod.name),
            clean(&pod.error)
        ));
    }
    match is_in_vain(&args.what.text(), &said.pods) {
        false => Ok(ExitCode::SUCCESS),
        true => Err(Expected::Found {
            what: format!("{} showed no certificate", args.what.text()),
        }
        .into()),
    }
}

/// Whether what was asked for by name has pods, and none of them showed a certificate. Of all pods some may have none: that is said.
fn is_in_vain(asked: &str, pods: &[Row]) -> bool {
    asked.contains('/') && !pods.is_empty() && pods.iter().all(Row::is_bare)
}

// === impl Row ===

impl Row {
    /// It has no certificate to show.
    const fn is_bare(&self) -> bool {
        !self.error.is_empty()
    }
}

fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn short(pods: &[Row], now: i64) -> String {
    let row = |pod: &Row| {
        let name = vec![clean(&pod.namespace), clean(&pod.name)];
        let rest = if pod.error.is_empty() {
            vec![
                clean(&pod.identity),
                span(pod.not_after - now),
                span(pod.renews_at - now),
                pod.generation.to_string(),
            ]
        } else {
            vec![format!("({})", clean(&pod.error))]
        };
        [name, rest].concat()
    };
    let rows: Vec<_> = pods.iter().map(row).collect();
    if rows.is_empty() {
        return "No pods found.\n".to_owned();
    }
    let head = [
        "NAMESPACE",
        "POD",
        "IDENTITY",
        "EXPIRES_IN",
        "RENEWS_IN",
        "ROTATIONS",
    ];
    table(&head, &rows, &[3, 4, 5])
}

fn long(pods: &[Row], now: i64, screen: Screen) -> String {
    let mut text = String::new();
    for pod in pods {
        let name = format!("{}/{}", clean(&pod.namespace), clean(&pod.name));
        text.push_str(&format!("{}\n", screen.bold(&name)));
        if !pod.error.is_empty() {
            text.push_str(&format!("  {}\n", clean(&pod.error)));
            continue;
        }
        text.push_str(&format!("  identity     {}\n", clean(&pod.identity)));
        let renewed = format!(
            "  renewed      in {}; certificate {} of this process\n",
            span(pod.renews_at - now),
            pod.generation
        );
        text.push_str(&renewed);
        for (word, certificates) in [
            ("certificate", &pod.chain),
            ("believes", &pod.trust_anchors),
        ] {
            for one in certificates {
                text.push_str(&format!("  {word:<12} {}\n", clean(&one.subject)));
                text.push_str(&format!("    issuer     {}\n", clean(&one.issuer)));
                text.push_str(&format!("    serial     {}\n", clean(&one.serial)));
                text.push_str(&format!(
                    "    ends       in {}\n",
                    span(one.not_after - now)
                ));
                text.push_str(&format!("    sha256     {}\n", clean(&one.sha256)));
            }
        }
    }
    text
}

/// A stretch of time in its largest unit, as kubectl writes ages.
fn span(seconds: i64) -> String {
    match seconds {
        ..0 => format!("-{}", span(seconds.saturating_neg())),
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_with_and_without_a_certificate() {
        let pods = [
            Row {
                namespace: "shop".into(),
                name: "web-1".into(),
                meshed: true,
                identity: "spiffe://cluster.local/ns/shop/sa/web".into(),
                not_after: 86_400,
                renews_at: 60_000,
                generation: 2,
                ..Row::default()
            },
            Row {
                namespace: "shop".into(),
                name: "old-1".into(),
                error: "it is not in the mesh".into(),
                ..Row::default()
            },
        ];
        assert_eq!(
            short(&pods, 0),
            "NAMESPACE   POD     IDENTITY                                EXPIRES_IN   RENEWS_IN   ROTATIONS\n\
             shop        web-1   spiffe://cluster.local/ns/shop/sa/web          24h         16h           2\n\
             shop        old-1   (it is not in the mesh)\n"
        );
        let one = |asked: &str, pods: &[Row]| is_in_vain(asked, pods);
        assert!(!one("pods", &pods) && !one("pods", &pods[1..]));
        assert!(!one("deploy/web", &pods) && !one("deploy/web", &[]));
        assert!(!one("po/web-1", &pods[..1]) && one("po/old-1", &pods[1..]));
        assert_eq!(span(-5), "-5s");
        assert_eq!(span(i64::MIN + 1), format!("-{}d", i64::MAX / 86_400));
    }
}
