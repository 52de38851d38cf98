// SPDX-License-Identifier: Apache-2.0
//! `docs/tutorial.md` is followed: each command is typed as it is printed, and says what is printed, but for numbers and names that are drawn.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::process::Command;
use std::time::Duration;

use maille_testkit::{Programs, until_async};
use tempfile::TempDir;

const TUTORIAL: &str = include_str!("../../../docs/tutorial.md");

/// How long an answer may take to become what is printed: traffic has to flow first.
const SETTLED: Duration = Duration::from_secs(60);

/// One command and what it says.
#[derive(Debug)]
struct Step {
    command: String,
    says: Vec<String>,
}

/// The commands of every `console` block; what follows `<<'END'` up to `END` is a part of its command.
fn steps() -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut lines = TUTORIAL.lines();
    while let Some(line) = lines.next() {
        if line != "```console" {
            continue;
        }
        while let Some(line) = lines.next().filter(|line| *line != "```") {
            if let Some(command) = line.strip_prefix("$ ") {
                let mut command = command.to_owned();
                if command.ends_with("<<'END'") {
                    for more in lines.by_ref() {
                        command.push('\n');
                        command.push_str(more);
                        if more == "END" {
                            break;
                        }
                    }
                }
                let says = Vec::new();
                steps.push(Step { command, says });
            } else if let Some(step) = steps.last_mut() {
                step.says.push(line.to_owned());
            }
        }
    }
    steps
}

/// Numbers, the drawn parts of names, and how far columns are apart do not matter.
fn masked(line: &str) -> String {
    let words = line.split_whitespace().map(|word| {
        if is_exact(word) {
            return word.to_owned();
        }
        if word.starts_with("id=") {
            return "id=X".to_owned();
        }
        let parts = word.split_inclusive(|c: char| !c.is_ascii_alphanumeric());
        let parts = parts.map(|part| {
            let bare = part.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            let drawn = (bare.len() == 5 || bare.len() >= 8)
                && bare
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
                && (bare.len() != 5 || !WORDS.contains(&bare))
                && !bare.chars().any(|c| "aeiou".contains(c));
            let text = if drawn {
                part.replace(bare, "X")
            } else {
                part.to_owned()
            };
            let mut out = String::new();
            for c in text.chars() {
                match c {
                    '0'..='9' if out.ends_with('N') => {}
                    '0'..='9' => out.push('N'),
                    c => out.push(c),
                }
            }
            out
        });
        let text = parts.collect::<String>();
        // Two digits or three, with a fraction or without, in micro- or milliseconds: it is a time all the same.
        text.replace("N.N", "N").replace("Nµs", "Nms")
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Numbers that are what the tutorial is about: all or nothing, how many of how many, statuses.
fn is_exact(word: &str) -> bool {
    let count = word.len() <= 3 && word.chars().all(|c| c.is_ascii_digit() || c == '/');
    count || word.starts_with(":status=") || ["100.00%", "0.00%", "100%", "0%"].contains(&word)
}

/// Words that look as if they were drawn.
const WORDS: [&str; 1] = ["https"];

struct Reader {
    dir: TempDir,
    programs: Programs,
}

impl Reader {
    fn types(&self, command: &str) -> Vec<String> {
        let demo = self.programs.path("maille-demo");
        let path = format!(
            "{}:{}",
            demo.parent().unwrap().display(),
            std::env::var_os("PATH").unwrap().to_string_lossy()
        );
        let output = Command::new("bash")
            .args(["-c", &format!("exec 2>&1\n{command}")])
            .current_dir(self.dir.path())
            .env("PATH", path)
            // A reader's home without a cluster, whatever the machine's own says.
            .env("HOME", self.dir.path())
            .env_remove("KUBECONFIG")
            .env("MAILLE_RUNTIME_DIR", self.dir.path().join("s"))
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.types("maille down");
    }
}

#[tokio::test]
async fn the_tutorial_is_true() {
    let steps = steps();
    assert!(steps.len() >= 12, "{steps:?}");
    let reader = Reader {
        dir: tempfile::Builder::new()
            .prefix("m")
            .tempdir_in("/tmp")
            .unwrap(),
        programs: Programs::find().unwrap(),
    };
    for step in steps {
        let wanted: Vec<String> = step.says.iter().map(|line| masked(line)).collect();
        let mut said = Vec::new();
        // What only looks may be asked again until traffic has flowed; what changes something is typed once.
        let looks = [
            "stat", "edges", "tap", "explain", "identity", "check", "top",
        ]
        .iter()
        .any(|verb| step.command.starts_with(&format!("maille {verb}")));
        let ask = async || {
            said = reader.types(&step.command);
            let now: Vec<String> = said.iter().map(|line| masked(line)).collect();
            (now == wanted || !looks).then_some(now == wanted)
        };
        let same = until_async("what is printed", SETTLED, ask).await;
        assert!(
            same.unwrap_or(false),
            "$ {}\nsaid:\n{}\nprinted:\n{}",
            step.command,
            said.join("\n"),
            step.says.join("\n")
        );
    }
}

#[test]
fn masks_hide_what_changes_and_nothing_else() {
    assert_eq!(
        masked("web-7d4b9f6cd-x2x4k   1/1   99.50%  1.3ms 100.00%"),
        "web-X-X 1/1 N% Nms 100.00%"
    );
    assert_eq!(masked("refused    [no-endpoint]"), "refused [no-endpoint]");
}
