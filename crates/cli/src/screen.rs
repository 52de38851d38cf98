// SPDX-License-Identifier: Apache-2.0
//! What people see: colour only on a terminal and never with NO_COLOR, progress to standard error, tables.
//!
//! Must never write progress to standard output, which belongs to the result. Read `stat.rs` for a user.

use std::io::{IsTerminal as _, Write as _};

use crate::args::Global;
use crate::text::{guard, guard_json};

/// Where output goes, and whether it may be coloured.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    colour: bool,
    /// Standard error is a terminal: a progress line may be rewritten.
    live: bool,
}

impl Screen {
    /// Looks at the terminals and at NO_COLOR.
    pub fn new(global: &Global) -> Self {
        let forbidden = global
            .no_color
            .as_ref()
            .is_some_and(|text| !text.is_empty());
        let live = std::io::stderr().is_terminal();
        Self {
            colour: live && std::io::stdout().is_terminal() && !forbidden,
            live,
        }
    }

    /// Without colour, for tests.
    #[cfg(test)]
    pub(crate) const fn plain() -> Self {
        Self {
            colour: false,
            live: false,
        }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    /// For what is wrong.
    pub fn red(self, text: &str) -> String {
        self.paint("31", text)
    }

    /// For what is right.
    pub fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// For what deserves a look.
    pub fn yellow(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// For headings.
    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// A remark on a result, where nobody has a screen at hand.
    pub(crate) fn remark(text: &str) {
        // Nobody reads it when standard error is gone.
        let _ = writeln!(std::io::stderr().lock(), "warning: {}", guard(text));
    }

    /// One line of progress that stays.
    pub fn say(self, text: &str) {
        let mut err = std::io::stderr().lock();
        let clear = if self.live { "\r\u{1b}[2K" } else { "" };
        // Nobody reads progress when standard error is gone.
        let _ = writeln!(err, "{clear}{}", guard(text));
    }

    /// One line of progress that the next one replaces. Says nothing where there is no terminal.
    pub fn progress(self, text: &str) {
        if self.live {
            let mut err = std::io::stderr().lock();
            let _ = write!(err, "\r\u{1b}[2K{}", guard(text));
            let _ = err.flush();
        }
    }

    /// Clears the terminal for the next picture of a live table.
    pub fn wipe(self) {
        if self.live {
            let _ = std::io::stderr().lock().write_all(b"\x1b[H\x1b[2J");
        }
    }
}

/// Writes to standard output. A closed pipe (`| head`) is the reader's wish and no failure: whether somebody still reads.
pub(crate) fn print(text: &str) -> anyhow::Result<bool> {
    let end = if text.ends_with('\n') { "" } else { "\n" };
    write(&format!("{}{end}", guard(text)))
}

/// A document that somebody else will read: every byte of it, and not one more. Only a terminal is guarded from what strangers wrote into it.
pub(crate) fn print_exactly(text: &str) -> anyhow::Result<bool> {
    if std::io::stdout().is_terminal() {
        return write(&guard(text));
    }
    write(text)
}

fn write(text: &str) -> anyhow::Result<bool> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        other => Ok(other.map(|()| true)?),
    }
}

/// Writes one value as indented JSON.
pub(crate) fn print_json(value: &impl serde::Serialize) -> anyhow::Result<bool> {
    print(&guard_json(&serde_json::to_string_pretty(value)?))
}

/// A table in kubectl's manner: no lines, columns three blanks apart, the `right` ones aligned to the right.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>], right: &[usize]) -> String {
    let widths = column_widths(head, rows);
    let mut text = aligned(head, &widths, right);
    for row in rows {
        let cells: Vec<&str> = row.iter().map(String::as_str).collect();
        text.push_str(&aligned(&cells, &widths, right));
    }
    text
}

/// How wide each column of a table is.
pub(crate) fn column_widths(head: &[&str], rows: &[Vec<String>]) -> Vec<usize> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let widths = cells.map(|text| visible(&cell(text)));
        widths.chain([visible(head[column])]).max().unwrap_or(0)
    };
    (0..head.len()).map(width).collect()
}

/// One line of a table whose columns are as wide as that, or wider where a cell is.
pub(crate) fn line(cells: &[&str], widths: &[usize]) -> String {
    aligned(cells, widths, &[])
}

fn aligned(cells: &[&str], widths: &[usize], right: &[usize]) -> String {
    let cells = cells.iter().zip(widths).enumerate();
    let cells = cells.map(|(column, (text, width))| {
        let cell = cell(text);
        let blanks = " ".repeat(width.saturating_sub(visible(&cell)));
        if right.contains(&column) {
            format!("{blanks}{cell}")
        } else {
            format!("{cell}{blanks}")
        }
    });
    let cells: Vec<_> = cells.collect();
    format!("{}\n", cells.join("   ").trim_end())
}

/// A cell is never more than that.
fn cell(text: &str) -> String {
    guard(text).replace('\n', "\\u{a}").replace('\t', " ")
}

/// Characters that a terminal shows: all but those of colour.
fn visible(cell: &str) -> usize {
    let mut parts = cell.split('\u{1b}');
    let first = parts.next().map_or(0, |part| part.chars().count());
    let coloured = parts.map(|part| {
        part.split_once('m')
            .map_or(0, |(_, rest)| rest.chars().count())
    });
    first + coloured.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_look_like_kubectl() {
        let rows = [
            vec!["front".to_owned(), "99.5%".to_owned()],
            vec!["\u{1b}[32ma\u{1b}[0m".to_owned(), "-".to_owned()],
        ];
        assert_eq!(
            table(&["NAME", "SUCCESS"], &rows, &[1]),
            "NAME    SUCCESS\nfront     99.5%\n\u{1b}[32ma\u{1b}[0m             -\n"
        );
        let hostile = [vec!["a\nb".to_owned(), "\u{1b}[2J\t".to_owned()]];
        assert_eq!(
            table(&["A", "B"], &hostile, &[]),
            "A         B\na\\u{a}b   \\u{1b}[2J\n"
        );
    }
}
