// SPDX-License-Identifier: Apache-2.0
//! What differs between manifests and what runs, as kubectl says it: `deployment.apps/web configured`, and as a diff in YAML.
//!
//! Must never change anything: `reload.rs` does, with the same words. Read `node.rs` for who answers.

use std::process::ExitCode;

use http::Method;
use maille_manifest::Object;
use maille_manifest::changes::ObjectKey;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::args::Manifests;
use crate::args::orders::Diff;
use crate::failure::{Expected, Undone};
use crate::manifests;
use crate::names::Kind;
use crate::node;
use crate::screen::{Screen, print};
use crate::state::{Base, State};
use crate::text::clean;

/// One difference, as the runner tells it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Change {
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    before: Option<Value>,
    after: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Changes {
    changes: Vec<Change>,
}

/// What to ask the runner for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// That it be so.
    Apply,
    /// What would differ.
    Diff,
}

/// `maille diff`: 1 where something differs, as kubectl.
pub(crate) async fn run(args: &Diff, base: &Base, screen: Screen) -> anyhow::Result<ExitCode> {
    let state = base.state(&args.which.name)?;
    let objects = manifests::read(&args.manifests, Undone::Compared, screen)?;
    let changes = ask(&state, Ask::Diff, &objects).await?;
    let mut text = String::new();
    for change in &changes {
        text.push_str(&change.diff(screen)?);
    }
    if !text.is_empty() {
        print(&text)?;
    }
    Ok(ExitCode::from(u8::from(!changes.is_empty())))
}

/// `maille up --dry-run`: what would be done, one line an object.
pub(crate) async fn dry_run(
    manifests: &Manifests,
    state: &State,
    screen: Screen,
) -> anyhow::Result<ExitCode> {
    let objects = manifests::read(manifests, Undone::Compared, screen)?;
    let changes = match ask(state, Ask::Diff, &objects).await {
        Ok(changes) => Some(changes),
        // Nothing runs: everything would be new.
        Err(Expected::NotRunning { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let mut lines: Vec<String> = objects
        .iter()
        .map(|object| would(object, changes.as_deref()))
        .collect();
    let gone = |change: &&Change| change.after.is_none();
    lines.extend(
        changes
            .iter()
            .flatten()
            .filter(gone)
            .map(|change| change.line()),
    );
    lines
        .iter_mut()
        .for_each(|line| line.push_str(" (dry run)\n"));
    print(&lines.concat())?;
    Ok(ExitCode::SUCCESS)
}

/// What would become of `object`; without changes there is nothing yet.
fn would(object: &Object, changes: Option<&[Change]>) -> String {
    let key = ObjectKey::of(object);
    let Some(changes) = changes else {
        return format!("{} created", report(key.kind, &key.name));
    };
    let same = |change: &&Change| {
        (change.kind.as_str(), &change.namespace, &change.name)
            == (key.kind, &key.namespace, &key.name)
    };
    match changes.iter().find(same) {
        Some(change) => change.line(),
        None => format!("{} unchanged", report(key.kind, &key.name)),
    }
}

/// Gives the runner `objects` as everything that there is to be.
pub(crate) async fn ask(
    state: &State,
    what: Ask,
    objects: &[Object],
) -> Result<Vec<Change>, Expected> {
    let files: Vec<(String, String)> = objects
        .iter()
        .map(|object| {
            let text = maille_manifest::object_json(object);
            (
                ObjectKey::of(object).file(),
                String::from_utf8_lossy(&text).into_owned(),
            )
        })
        .collect();
    let path = match what {
        Ask::Apply => "/v1/apply",
        Ask::Diff => "/v1/diff",
    };
    let body = json!({ "files": files });
    let answer = node::order(state, Method::POST, path, Some(&body)).await?;
    let changes: Changes =
        serde_json::from_value(answer).map_err(|error| node::silent(state, error.into()))?;
    Ok(changes.changes)
}

fn report(kind: &str, name: &str) -> String {
    match Kind::parse(kind) {
        Ok(kind) => kind.report(name),
        Err(_) => format!("{}/{name}", kind.to_lowercase()),
    }
}

// === impl Change ===

impl Change {
    /// `deployment.apps/web configured`
    pub(crate) fn line(&self) -> String {
        let what = match (&self.before, &self.after) {
            (None, _) => "created",
            (Some(_), Some(_)) => "configured",
            (Some(_), None) => "deleted",
        };
        format!("{} {what}", report(&self.kind, &self.name))
    }

    /// Whether it is an object that pods read only when they start.
    pub(crate) fn is_read_at_start(&self) -> bool {
        matches!(self.kind.as_str(), "ConfigMap" | "Secret")
            && self.before.is_some()
            && self.after.is_some()
    }

    /// In the form of `diff -u`, as YAML.
    fn diff(&self, screen: Screen) -> anyhow::Result<String> {
        let yaml = |object: &Option<Value>| match object {
            Some(object) => serde_saphyr::to_string(object),
            None => Ok(String::new()),
        };
        let (before, after) = (yaml(&self.before)?, yaml(&self.after)?);
        let name = format!(
            "{}.{}.{}",
            self.kind.to_lowercase(),
            self.namespace,
            self.name
        );
        let diff = similar::TextDiff::from_lines(&before, &after);
        let text = diff
            .unified_diff()
            .context_radius(3)
            .header(&format!("running/{name}"), &format!("manifests/{name}"))
            .to_string();
        let painted = text
            .lines()
            .map(clean)
            .map(|line| match line.as_bytes().first() {
                Some(b'+') => screen.green(&line),
                Some(b'-') => screen.red(&line),
                _ => line,
            });
        let mut text = painted.collect::<Vec<_>>().join("\n");
        text.push('\n');
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Global;

    fn change(before: Option<Value>, after: Option<Value>) -> Change {
        Change {
            kind: "Deployment".to_owned(),
            namespace: "shop".to_owned(),
            name: "web".to_owned(),
            before,
            after,
        }
    }

    #[test]
    fn changes_are_told_as_kubectl_tells_them() {
        let some = || Some(json!({"spec": {"replicas": 1}}));
        for (before, after, line) in [
            (None, some(), "deployment.apps/web created"),
            (some(), some(), "deployment.apps/web configured"),
            (some(), None, "deployment.apps/web deleted"),
        ] {
            assert_eq!(change(before, after).line(), line);
        }
    }

    #[test]
    fn a_diff_is_in_yaml() {
        let screen = Screen::new(&Global {
            runtime_dir: None,
            xdg_runtime_dir: None,
            no_color: Some("1".to_owned()),
        });
        let of =
            |replicas: u32| Some(json!({"kind": "Deployment", "spec": {"replicas": replicas}}));
        let text = change(of(1), of(2)).diff(screen).unwrap();
        let expected = "--- running/deployment.shop.web\n+++ manifests/deployment.shop.web\n@@ -1,3 +1,3 @@\n \
                        kind: Deployment\n spec:\n-  replicas: 1\n+  replicas: 2\n";
        assert_eq!(text, expected);
    }
}
