// SPDX-License-Identifier: Apache-2.0
//! `maille get -w`: what there is, then every object again that changes, as kubectl does; one that goes is shown a last time as it was.
//!
//! Must never show an object again that is as it was shown. Next: [`super`].

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval};

use super::{Absent, Groups, cells, groups, head, read, yaml};
use crate::args::orders::{Form, Get};
use crate::mesh::StopSignals;
use crate::names::{Kind, name, namespace};
use crate::screen::{column_widths, line, print, print_json};
use crate::state::State;

/// How often the mesh is asked.
const PERIOD: Duration = Duration::from_millis(500);

/// What an object is known by.
type Key = (&'static str, String, String);

/// What was shown.
#[derive(Default)]
struct Seen {
    objects: HashMap<Key, (Kind, Value)>,
}

pub(super) async fn run(
    args: &Get,
    state: &State,
    first: &Groups<'_>,
    selector: Option<&[(String, String)]>,
) -> anyhow::Result<ExitCode> {
    let mut stop = StopSignals::watch()?;
    let mut tick = interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = Seen::default();
    let mut page = Page::new(args, first);
    let mut going = page.show(&seen.changed(first))?;
    while going {
        tokio::select! {
            _ = tick.tick() => {}
            () = stop.next() => break,
        }
        let objects = read(state).await?;
        let now = groups(args, &objects, selector, Absent::Gone)?;
        going = page.show(&seen.changed(&now))?;
    }
    Ok(ExitCode::SUCCESS)
}

// === impl Seen ===

impl Seen {
    /// What is new, or not as it was; then what is gone.
    fn changed(&mut self, now: &Groups<'_>) -> Vec<(Kind, Value)> {
        let mut changed = Vec::new();
        let mut gone = std::mem::take(&mut self.objects);
        for (kind, found) in now {
            for object in found {
                let key = (
                    kind.name,
                    namespace(object).to_owned(),
                    name(object).to_owned(),
                );
                let known = gone.remove(&key);
                let object = (*object).clone();
                if known.is_none_or(|(_, before)| before != object) {
                    changed.push((*kind, object.clone()));
                }
                self.objects.insert(key, (*kind, object));
            }
        }
        changed.extend(gone.into_values());
        changed
    }
}

/// Where it is shown, with columns that stay.
struct Page<'a> {
    args: &'a Get,
    several: bool,
    places: bool,
    widths: Vec<usize>,
    head: Option<Vec<&'static str>>,
}

// === impl Page ===

impl<'a> Page<'a> {
    fn new(args: &'a Get, first: &Groups<'_>) -> Self {
        let mut objects = first.iter().flat_map(|(_, found)| found);
        let whole = first.iter().any(|(_, found)| !found.is_empty())
            && objects.all(|object| namespace(object).is_empty());
        Self {
            args,
            several: first.len() > 1,
            places: args.namespace.is_none() && !whole,
            widths: Vec::new(),
            head: None,
        }
    }

    /// Whether somebody still reads.
    fn show(&mut self, changed: &[(Kind, Value)]) -> anyhow::Result<bool> {
        let mut text = String::new();
        for (kind, object) in changed {
            match self.args.output {
                Form::Json => {
                    if !print_json(object)? {
                        return Ok(false);
                    }
                }
                Form::Yaml => text.push_str(&format!("---\n{}", yaml(object)?)),
                Form::Name => text.push_str(&format!("{}\n", kind.report(name(object)))),
                Form::Table | Form::Wide => text.push_str(&self.row(*kind, object)),
            }
        }
        if text.is_empty() {
            Ok(true)
        } else {
            print(&text)
        }
    }

    /// The row of one object, below the head of its kind where that is another one than before.
    fn row(&mut self, kind: Kind, object: &Value) -> String {
        let head = head(self.args, kind, self.places);
        let rows = cells(self.args, kind, &[object], (self.several, self.places));
        let mut text = String::new();
        if self.head.as_ref() != Some(&head) {
            let gap = if self.head.is_some() { "\n" } else { "" };
            self.widths = column_widths(&head, &rows);
            text.push_str(gap);
            text.push_str(&line(&head, &self.widths));
            self.head = Some(head);
        }
        for row in &rows {
            let cells: Vec<&str> = row.iter().map(String::as_str).collect();
            text.push_str(&line(&cells, &self.widths));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_changes_is_shown_again() {
        let kind = Kind::parse("pods").unwrap();
        let pod = |name: &str, ready: bool| json!({"metadata": {"namespace": "a", "name": name}, "ready": ready});
        let mut seen = Seen::default();
        let mut names = |pods: &[Value]| -> Vec<String> {
            let now = vec![(kind, pods.iter().collect())];
            let changed = seen.changed(&now);
            changed
                .iter()
                .map(|(_, object)| name(object).to_owned())
                .collect()
        };
        assert_eq!(
            names(&[pod("one", false), pod("two", true)]),
            ["one", "two"]
        );
        assert_eq!(
            names(&[pod("one", false), pod("two", true)]),
            Vec::<String>::new()
        );
        assert_eq!(names(&[pod("one", true), pod("two", true)]), ["one"]);
        assert_eq!(
            names(&[pod("two", true), pod("three", true)]),
            ["three", "one"]
        );
    }
}
