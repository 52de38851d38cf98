// SPDX-License-Identifier: Apache-2.0
//! Settings: where they come from and how they are read.
//!
//! [`Env`] is the only place that reads the environment. A setting that is there but wrong is an error that names the
//! setting, the value and the fix; it is never replaced by a default.

use std::collections::HashMap;
use std::fmt::Display;
use std::str::FromStr;

/// Where raw settings come from: the environment, or a map in tests.
pub trait Source {
    /// The text of a setting as the user gave it; `None` where it is not given. An empty text counts as not given.
    fn get(&self, key: &str) -> Option<String>;
}

/// The process's environment.
#[derive(Clone, Copy, Debug)]
pub struct Env(());

/// Why a setting cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// It must be given.
    #[error("{key} is not set: {help}")]
    Missing {
        /// The setting.
        key: &'static str,
        /// What belongs there.
        help: &'static str,
    },
    /// It was given and cannot be read.
    #[error("{key}={value:?} cannot be used ({reason}): {help}")]
    Unusable {
        /// The setting.
        key: &'static str,
        /// What was given.
        value: String,
        /// What the parser said.
        reason: String,
        /// What belongs there.
        help: &'static str,
    },
}

/// One setting, declared once: its name and what belongs there.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The variable.
    pub key: &'static str,
    /// What belongs there, with an example; shown in errors and in the reference.
    pub help: &'static str,
    /// What counts where it is not given, as a user would write it; `None` where nothing does.
    pub default: Option<&'static str>,
}

impl Setting {
    /// Declares a setting.
    pub const fn new(key: &'static str, help: &'static str) -> Self {
        Self {
            key,
            help,
            default: None,
        }
    }

    /// Declares a setting that has a default, read by [`Setting::required`] like anything that a user gives.
    pub const fn with_default(
        key: &'static str,
        help: &'static str,
        default: &'static str,
    ) -> Self {
        Self {
            key,
            help,
            default: Some(default),
        }
    }

    /// Reads it where it is given or has a default.
    pub fn optional<T>(&self, source: &dyn Source) -> Result<Option<T>, SettingError>
    where
        T: FromStr,
        T::Err: Display,
    {
        let given = source.get(self.key).filter(|value| !value.is_empty());
        let Some(value) = given.or_else(|| self.default.map(str::to_owned)) else {
            return Ok(None);
        };
        match value.parse() {
            Ok(parsed) => Ok(Some(parsed)),
            Err(error) => Err(SettingError::Unusable {
                key: self.key,
                reason: error.to_string(),
                value,
                help: self.help,
            }),
        }
    }

    /// Reads it, or takes a default that only the program knows.
    pub fn or<T>(&self, source: &dyn Source, default: T) -> Result<T, SettingError>
    where
        T: FromStr,
        T::Err: Display,
    {
        Ok(self.optional(source)?.unwrap_or(default))
    }

    /// Reads it; an error where it is not given.
    pub fn required<T>(&self, source: &dyn Source) -> Result<T, SettingError>
    where
        T: FromStr,
        T::Err: Display,
    {
        self.optional(source)?.ok_or(SettingError::Missing {
            key: self.key,
            help: self.help,
        })
    }
}

/// The reference of `settings`: a Markdown table, one row each.
pub fn reference(settings: &[Setting]) -> String {
    let mut table = String::from("| setting | default | what |\n|---|---|---|\n");
    for Setting { key, help, default } in settings {
        let default = default.map_or_else(|| "-".to_owned(), |default| format!("`{default}`"));
        table.push_str(&format!("| `{key}` | {default} | {help} |\n"));
    }
    table
}

impl Env {
    /// The environment of this process.
    pub fn process() -> Self {
        Self(())
    }
}

impl Source for Env {
    fn get(&self, key: &str) -> Option<String> {
        // Bytes that are not text are given, and wrong; they are not "not given".
        std::env::var_os(key).map(|value| value.to_string_lossy().into_owned())
    }
}

impl Source for HashMap<&str, &str> {
    fn get(&self, key: &str) -> Option<String> {
        HashMap::get(self, key).map(|value| (*value).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: Setting = Setting::new("PORT", "a port, such as 80");

    #[test]
    fn a_setting_is_missing_wrong_or_right() {
        let none: HashMap<&str, &str> = HashMap::new();
        assert_eq!(PORT.optional::<u16>(&none), Ok(None));
        assert_eq!(PORT.or::<u16>(&none, 7), Ok(7));
        assert!(matches!(
            PORT.required::<u16>(&none),
            Err(SettingError::Missing { key: "PORT", .. })
        ));
        let wrong = HashMap::from([("PORT", "eighty")]);
        let text = PORT.or::<u16>(&wrong, 7).unwrap_err().to_string();
        assert!(
            text.contains("PORT=\"eighty\"") && text.contains("such as 80"),
            "{text}"
        );
        assert_eq!(
            PORT.required::<u16>(&HashMap::from([("PORT", "80")])),
            Ok(80)
        );
        assert_eq!(
            PORT.optional::<u16>(&HashMap::from([("PORT", "")])),
            Ok(None)
        );
    }

    #[test]
    fn a_default_is_read_and_told() {
        const SECONDS: Setting = Setting::with_default("SECONDS", "how long", "10");
        let none: HashMap<&str, &str> = HashMap::new();
        assert_eq!(SECONDS.required::<u8>(&none), Ok(10));
        assert_eq!(
            SECONDS.required::<u8>(&HashMap::from([("SECONDS", "3")])),
            Ok(3)
        );
        assert_eq!(
            reference(&[PORT, SECONDS]),
            "| setting | default | what |\n|---|---|---|\n\
             | `PORT` | - | a port, such as 80 |\n| `SECONDS` | `10` | how long |\n"
        );
    }
}
