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
}

impl Setting {
    /// Declares a setting.
    pub const fn new(key: &'static str, help: &'static str) -> Self {
        Self { key, help }
    }

    /// Reads it where it is given.
    pub fn optional<T>(&self, source: &dyn Source) -> Result<Option<T>, SettingError>
    where
        T: FromStr,
        T::Err: Display,
    {
        let Some(value) = source.get(self.key).filter(|value| !value.is_empty()) else {
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

    /// Reads it, or takes the default.
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

impl Env {
    /// The environment of this process.
    pub fn process() -> Self {
        Self(())
    }
}

impl Source for Env {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the environment"
    )]
    fn get(&self, key: &str) -> Option<String> {
        std::env::var(key).ok()
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
}
