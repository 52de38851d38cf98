// SPDX-License-Identifier: Apache-2.0
//! Metrics: how they are declared, written as Prometheus text, and listed in the reference.
//!
//! A metric is declared once, as a constant; whoever counts writes its samples through [`Text`], which knows nothing that was
//! not declared. Must never hold a value itself: counting is the business of those who own the data.

use std::fmt::{self, Display, Write as _};

/// What every process says about itself.
pub mod process;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises, until the process ends.
    Counter,
    /// Is what it is now.
    Gauge,
    /// Counts by size, with a sum.
    Histogram,
}

/// One metric, declared once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// As it is asked for. What is not one of the field's common names begins with `maille_`.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Labels that its samples may carry.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

/// Prometheus text (version 0.0.4), one family after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text(String);

/// Labels of one sample, escaped as they are added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(String);

/// `Content-Type` of [`Text`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

impl Metric {
    /// Declares a counter.
    pub const fn counter(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self {
            name,
            kind: Kind::Counter,
            labels,
            help,
        }
    }

    /// Declares a gauge.
    pub const fn gauge(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self {
            kind: Kind::Gauge,
            ..Self::counter(name, labels, help)
        }
    }

    /// Declares a histogram.
    pub const fn histogram(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self {
            kind: Kind::Histogram,
            ..Self::counter(name, labels, help)
        }
    }
}

impl Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        })
    }
}

// === impl Labels ===

impl Labels {
    /// None yet.
    pub const fn new() -> Self {
        Self(String::new())
    }

    /// These and one more.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Display) -> Self {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        self.0.push_str(name);
        self.0.push_str("=\"");
        // Writing to a String cannot fail.
        let _ = write!(Escaped(&mut self.0), "{value}");
        self.0.push('"');
        self
    }
}

/// Writes a label's value: quotes, backslashes and line feeds would end it.
struct Escaped<'a>(&'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            match character {
                '\\' => self.0.push_str("\\\\"),
                '"' => self.0.push_str("\\\""),
                '\n' => self.0.push_str("\\n"),
                other => self.0.push(other),
            }
        }
        Ok(())
    }
}

// === impl Text ===

impl Text {
    /// Begins a family. Its samples follow before the next one.
    pub fn family(&mut self, metric: &Metric) {
        let Metric {
            name, kind, help, ..
        } = metric;
        let help = help.replace('\\', "\\\\");
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(self.0, "# HELP {name} {help}.\n# TYPE {name} {kind}");
    }

    /// One sample of the family.
    pub fn sample(&mut self, metric: &Metric, labels: &Labels, value: impl Display) {
        self.line(metric.name, "", &labels.0, value);
    }

    /// A family that has one sample without labels.
    pub fn single(&mut self, metric: &Metric, value: impl Display) {
        self.family(metric);
        self.sample(metric, &Labels::new(), value);
    }

    /// The samples of a histogram: `counts` has a place for each bound, and one for what is above them all.
    pub fn histogram(
        &mut self,
        metric: &Metric,
        labels: &Labels,
        (bounds, counts): (&[u64], &[u64]),
        sum: f64,
    ) {
        let mut all = 0;
        let bounds = bounds.iter().map(u64::to_string);
        for (bound, count) in bounds.chain(["+Inf".to_owned()]).zip(counts) {
            all += count;
            let labels = labels.clone().with("le", bound);
            self.line(metric.name, "_bucket", &labels.0, all);
        }
        self.line(metric.name, "_sum", &labels.0, sum);
        self.line(metric.name, "_count", &labels.0, all);
    }

    fn line(&mut self, name: &str, suffix: &str, labels: &str, value: impl Display) {
        let _ = if labels.is_empty() {
            writeln!(self.0, "{name}{suffix} {value}")
        } else {
            writeln!(self.0, "{name}{suffix}{{{labels}}} {value}")
        };
    }

    /// Bytes written so far.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was written.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text.
    pub fn into_string(self) -> String {
        self.0
    }
}

/// The reference of `metrics`: a Markdown table, one row each.
pub fn reference<'a>(metrics: impl IntoIterator<Item = &'a Metric>) -> String {
    let mut table = String::from("| metric | kind | labels | what |\n|---|---|---|---|\n");
    for Metric {
        name,
        kind,
        labels,
        help,
    } in metrics
    {
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = if labels.is_empty() {
            "-".to_owned()
        } else {
            labels.join(", ")
        };
        let _ = writeln!(table, "| `{name}` | {kind} | {labels} | {help} |");
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    const THINGS: Metric = Metric::counter("things_total", &["of"], "Things");
    const SIZE: Metric = Metric::histogram("size_ms", &[], "How large");

    #[test]
    fn text_as_prometheus_reads_it() {
        let mut text = Text::default();
        text.family(&THINGS);
        text.sample(&THINGS, &Labels::new().with("of", "a\"b\\c\nd"), 1);
        text.family(&SIZE);
        text.histogram(&SIZE, &Labels::new(), (&[1, 10], &[2, 0, 1]), 31.5);
        let expected = "# HELP things_total Things.\n# TYPE things_total counter\n\
                        things_total{of=\"a\\\"b\\\\c\\nd\"} 1\n\
                        # HELP size_ms How large.\n# TYPE size_ms histogram\n\
                        size_ms_bucket{le=\"1\"} 2\nsize_ms_bucket{le=\"10\"} 2\nsize_ms_bucket{le=\"+Inf\"} 3\n\
                        size_ms_sum 31.5\nsize_ms_count 3\n";
        assert_eq!(text.into_string(), expected);
    }

    #[test]
    fn a_row_each() {
        let table = reference([&THINGS, &SIZE]);
        let rows = "| `things_total` | counter | `of` | Things |\n| `size_ms` | histogram | - | How large |\n";
        assert!(table.ends_with(rows), "{table}");
    }
}
