// SPDX-License-Identifier: Apache-2.0
//! The archive that `maille diagnose` writes. Whatever goes in goes through [`scrub`]: must never hold a key or a token, wherever
//! somebody wrote one.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde_json::Value;

/// Of one file in it: of what is longer the end is kept.
const LONGEST: usize = 4 << 20;
/// Of all of them.
const WHOLE: usize = 256 << 20;
/// What stands in a secret's place.
const LEFT_OUT: &str = "(left out)";

/// An archive that grows.
pub(super) struct Bundle {
    archive: tar::Builder<File>,
    time: u64,
    size: usize,
    /// What could not be had, and why.
    pub(super) failures: Vec<String>,
}

// === impl Bundle ===

impl Bundle {
    /// A new file that only its owner may read.
    pub(super) fn create(path: &Path, time: u64) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        Ok(Self {
            archive: tar::Builder::new(file),
            time,
            size: 0,
            failures: Vec::new(),
        })
    }

    /// Adds a text under this name.
    pub(super) fn text(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let text = scrub(&String::from_utf8_lossy(bytes));
        let cut = text.len().saturating_sub(LONGEST);
        let text = &text[text.ceil_char_boundary(cut)..];
        if self.size + text.len() > WHOLE {
            self.failures.push(format!("{name}: there is no room left"));
            return Ok(());
        }
        self.size += text.len();
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o600);
        header.set_mtime(self.time);
        header.set_size(text.len() as u64);
        self.archive.append_data(
            &mut header,
            format!("maille-diagnose/{name}"),
            text.as_bytes(),
        )
    }

    /// Adds a value, without what of it is somebody's secret.
    pub(super) fn json(&mut self, name: &str, mut value: Value) -> io::Result<()> {
        bare(&mut value);
        let text = serde_json::to_string_pretty(&value).map_err(io::Error::other)?;
        self.text(name, text.as_bytes())
    }

    /// What was asked for, or that it was not to be had.
    pub(super) fn put<E: std::error::Error>(
        &mut self,
        name: &str,
        asked: Result<Vec<u8>, E>,
    ) -> io::Result<()> {
        match asked {
            Ok(bytes) => self.text(name, &bytes),
            Err(error) => {
                let mut text = format!("{name}: {error}");
                let mut cause = error.source();
                while let Some(error) = cause {
                    text.push_str(&format!(": {error}"));
                    cause = error.source();
                }
                self.failures.push(text);
                Ok(())
            }
        }
    }

    /// The same for a value.
    pub(super) fn put_json<E: std::error::Error>(
        &mut self,
        name: &str,
        asked: Result<Value, E>,
    ) -> io::Result<()> {
        match asked {
            Ok(value) => self.json(name, value),
            Err(error) => self.put(name, Err(error)),
        }
    }

    /// Says what is missing, and closes it.
    pub(super) fn finish(mut self) -> io::Result<Vec<String>> {
        let failures = std::mem::take(&mut self.failures);
        let text = match &failures[..] {
            [] => "everything was to be had\n".to_owned(),
            some => some.iter().map(|one| format!("{one}\n")).collect(),
        };
        self.text("missing.txt", text.as_bytes())?;
        self.archive.into_inner()?.sync_all()?;
        Ok(failures)
    }
}

/// Takes out of an object what may be secret, and what nobody reads.
fn bare(value: &mut Value) {
    match value {
        Value::Array(items) => {
            items.retain(|item| item["kind"] != "Secret");
            items.iter_mut().for_each(bare);
        }
        Value::Object(map) => {
            if map.get("kind").is_some_and(|kind| kind == "Secret") {
                for key in ["data", "stringData"] {
                    map.remove(key);
                }
            }
            map.remove("managedFields");
            if let Some(Value::Object(annotations)) = map.get_mut("annotations") {
                annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
            }
            for (key, value) in map.iter_mut() {
                if let ("env", Value::Array(settings)) = (key.as_str(), &mut *value) {
                    settings.iter_mut().for_each(unset);
                }
                bare(value);
            }
        }
        _ => {}
    }
}

/// A setting of a container is its owner's, but for ours.
fn unset(setting: &mut Value) {
    let ours = setting["name"]
        .as_str()
        .is_some_and(|name| name.starts_with("MAILLE_"));
    if !ours && setting["value"].is_string() {
        setting["value"] = LEFT_OUT.into();
    }
}

/// `text` without private keys, bearers and tokens, in whatever they stand.
fn scrub(text: &str) -> String {
    let text = without_keys(text);
    let text = without_bearers(&text);
    without_tokens(&text)
}

/// PEM blocks of keys (RFC 7468), one that does not end among them. Line ends may be escaped, as in JSON.
fn without_keys(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("-----BEGIN ") {
        let (before, block) = rest.split_at(at);
        out.push_str(before);
        let label = block["-----BEGIN ".len()..].split("-----").next();
        let label = label.unwrap_or_default();
        if !label.contains("PRIVATE KEY") {
            out.push_str(&block[..1]);
            rest = &block[1..];
            continue;
        }
        out.push_str(LEFT_OUT);
        let end = format!("-----END {label}-----");
        rest = block.find(&end).map_or("", |at| &block[at + end.len()..]);
    }
    out + rest
}

/// What stands behind `Bearer`.
fn without_bearers(text: &str) -> String {
    const WORD: &str = "bearer ";
    let lower = text.to_ascii_lowercase();
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    while let Some(at) = lower[from..].find(WORD) {
        let begin = from + at + WORD.len();
        let after = &text[begin..];
        let token = after.find(|c: char| !is_of_token(c)).unwrap_or(after.len());
        out.push_str(&text[from..begin]);
        from = begin;
        if token >= 8 {
            out.push_str(LEFT_OUT);
            from += token;
        }
    }
    out + &text[from..]
}

/// JSON Web Tokens: three parts in base64url, of which the first begins as every JSON object does.
fn without_tokens(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("eyJ") {
        let (before, from) = rest.split_at(at);
        let end = from.find(|c: char| !is_of_token(c)).unwrap_or(from.len());
        out.push_str(before);
        if from[..end].matches('.').count() >= 2 {
            out.push_str(LEFT_OUT);
        } else {
            out.push_str(&from[..end]);
        }
        rest = &from[end..];
    }
    out + rest
}

fn is_of_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.~+/=".contains(c)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use serde_json::json;

    use super::*;

    const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlIn0.c2lnbmF0dXJl-_x";

    #[test]
    fn no_key_and_no_token_is_left_in_a_text() {
        let key = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIA\n-----END EC PRIVATE KEY-----";
        let certificate = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----";
        let text = format!(
            "a {key} b\n{certificate}\nauthorization: Bearer opaque-secret-1\ntoken={TOKEN}, \"{}\" end -----BEGIN PRIVATE KEY-----\nMIGH",
            key.replace('\n', "\\n")
        );
        let said = scrub(&text);
        for secret in [
            "MHcCAQEEIA",
            "opaque-secret-1",
            "c2lnbmF0dXJl",
            "eyJpc3",
            "MIGH",
        ] {
            assert!(!said.contains(secret), "{secret}: {said}");
        }
        assert!(said.contains(certificate) && said.contains("authorization: Bearer (left out)"));
        assert!(said.contains(", \"(left out)\" end"));
        for harmless in [
            "eyJust a word",
            "bearer of news",
            "",
            "Bearer ",
            "-----BEGIN ",
        ] {
            assert_eq!(scrub(harmless), harmless);
        }
    }

    #[test]
    fn objects_keep_what_is_theirs() {
        let mut list = json!({"items": [
            {"kind": "Secret", "data": {"a": "c2VjcmV0"}},
            {"kind": "Pod", "metadata": {"managedFields": [1], "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "x", "b": "y"}},
                "spec": {"containers": [{"env": [{"name": "PASSWORD", "value": "hunter2"}, {"name": "MAILLE_LOG", "value": "info"}]}]}},
        ]});
        bare(&mut list);
        let text = list.to_string();
        for gone in [
            "Secret",
            "c2VjcmV0",
            "hunter2",
            "managedFields",
            "last-applied",
        ] {
            assert!(!text.contains(gone), "{gone}: {text}");
        }
        assert!(text.contains(r#""value":"info""#) && text.contains(r#""b":"y""#));
    }

    #[test]
    fn it_is_an_archive_and_says_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bundle.tar");
        let mut bundle = Bundle::create(&path, 1_700_000_000).unwrap();
        assert!(Bundle::create(&path, 0).is_err(), "nothing is overwritten");
        let long = "x".repeat(LONGEST) + "the end";
        bundle.text("logs/a.log", long.as_bytes()).unwrap();
        let failed: Result<Vec<u8>, _> = Err(io::Error::other("no"));
        bundle.put("b.txt", failed).unwrap();
        assert_eq!(bundle.finish().unwrap(), ["b.txt: no"]);
        let mut archive = tar::Archive::new(File::open(&path).unwrap());
        let mut found = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            found.push((name, text));
        }
        assert_eq!(found[0].0, "maille-diagnose/logs/a.log");
        assert!(found[0].1.len() == LONGEST && found[0].1.ends_with("the end"));
        assert_eq!(found[1].1, "b.txt: no\n");
    }
}
