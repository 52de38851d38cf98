// SPDX-License-Identifier: Apache-2.0
//! The plugin chained behind a network's configuration. Pure: text in, text out.
//!
//! Everything that was there is there as it was, the network's name above all: by it addresses are kept account of.

use std::path::Path;

use maille_cni::call::VERSIONS;
use maille_cni::protocol::ANNOTATIONS;
use serde_json::{Map, Value, json};

/// The plugin's name.
const PLUGIN: &str = "maille-cni";

/// Why nothing can be chained behind it.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChainError {
    #[error("it is not JSON")]
    Json(#[from] serde_json::Error),
    #[error("it has no plugin")]
    Empty,
    #[error("it is of CNI {0:?}, and the plugin speaks 0.3.1, 0.4.0, 1.0.0 and 1.1.0")]
    Version(String),
}

/// The configuration `text`, a list or a single plugin's, with our plugin behind the others.
pub(super) fn chained(text: &str, state: &Path) -> Result<String, ChainError> {
    let mut list = list(serde_json::from_str(text)?)?;
    let version = list["cniVersion"].as_str().unwrap_or_default();
    if !VERSIONS.contains(&version) {
        return Err(ChainError::Version(version.to_owned()));
    }
    let plugins = list["plugins"].as_array_mut().ok_or(ChainError::Empty)?;
    plugins.retain(|plugin| plugin["type"] != PLUGIN);
    let main = plugins.first().ok_or(ChainError::Empty)?;
    // It looks for its interface in the pod, and finds ours.
    let is_blind = main["type"] == "bridge";
    plugins.push(json!({
        "type": PLUGIN,
        "capabilities": {ANNOTATIONS: true},
        "state": state,
    }));
    if is_blind {
        list["disableCheck"] = json!(true);
    }
    Ok(format!("{list:#}\n"))
}

/// The plugins of a configuration, in the order in which the runtime calls them. Nothing where it is no configuration.
pub(super) fn plugins(text: &str) -> Vec<String> {
    let list = serde_json::from_str(text).map(list);
    let Ok(Ok(list)) = list else {
        return Vec::new();
    };
    let all = list["plugins"].as_array().into_iter().flatten();
    let name = |plugin: &Value| plugin["type"].as_str().unwrap_or_default().to_owned();
    all.map(name).collect()
}

/// Those that are called after ours.
pub(super) fn behind(text: &str) -> Vec<String> {
    let all = plugins(text).into_iter();
    all.skip_while(|name| name != PLUGIN).skip(1).collect()
}

/// A single plugin's configuration as a list of one.
fn list(found: Value) -> Result<Value, ChainError> {
    let Value::Object(mut found) = found else {
        return Err(ChainError::Empty);
    };
    if found.contains_key("plugins") {
        return Ok(Value::Object(found));
    }
    let mut list = Map::new();
    for key in ["cniVersion", "name"] {
        list.extend(found.remove(key).map(|value| (key.to_owned(), value)));
    }
    list.insert("plugins".to_owned(), json!([found]));
    Ok(Value::Object(list))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Value, String> {
        let chained = chained(text, Path::new("/s")).map_err(|error| error.to_string())?;
        Ok(serde_json::from_str(&chained).unwrap())
    }

    #[test]
    fn it_is_last_and_once_and_the_rest_is_as_it_was() {
        let text = r#"{"cniVersion":"1.0.0","name":"net","more":1,"plugins":[{"type":"ptp","ipam":{"x":[2]}},{"type":"portmap"}]}"#;
        let list = of(text).unwrap();
        assert_eq!((&list["name"], &list["more"]), (&json!("net"), &json!(1)));
        assert_eq!(list["plugins"][0]["ipam"], json!({"x": [2]}));
        assert_eq!(list["plugins"][2]["type"], PLUGIN);
        assert_eq!(list["plugins"][2]["state"], "/s");
        assert!(list.get("disableCheck").is_none());
        assert_eq!(of(&list.to_string()).unwrap(), list, "once");
    }

    #[test]
    fn who_is_called_in_which_order() {
        let text = r#"{"plugins":[{"type":"ptp"},{"type":"maille-cni"},{"type":"other-cni"},{}]}"#;
        assert_eq!(plugins(text), ["ptp", "maille-cni", "other-cni", ""]);
        assert_eq!(behind(text), ["other-cni", ""]);
        assert_eq!(plugins(r#"{"type":"bridge","bridge":"b"}"#), ["bridge"]);
        assert!(behind(r#"{"plugins":[{"type":"ptp"}]}"#).is_empty());
        assert!(plugins("{").is_empty() && plugins("[]").is_empty());
        let chained = chained(text, Path::new("/s"));
        assert!(chained.is_err(), "it has no version");
    }

    #[test]
    fn a_single_plugin_becomes_a_list() {
        let list =
            of(r#"{"cniVersion":"0.4.0","name":"net","type":"bridge","bridge":"b"}"#).unwrap();
        assert_eq!(
            (&list["cniVersion"], &list["name"]),
            (&json!("0.4.0"), &json!("net"))
        );
        assert_eq!(list["plugins"][0], json!({"type": "bridge", "bridge": "b"}));
        assert_eq!(
            list["disableCheck"], true,
            "the bridge looks for what it made"
        );
    }

    #[test]
    fn what_cannot_be_chained_behind_is_named() {
        assert!(of("{").unwrap_err().contains("JSON"));
        assert!(of("[]").unwrap_err().contains("no plugin"));
        assert!(
            of(r#"{"cniVersion":"1.0.0","plugins":[]}"#)
                .unwrap_err()
                .contains("no plugin")
        );
        assert!(
            of(r#"{"cniVersion":"0.2.0","type":"x"}"#)
                .unwrap_err()
                .contains("0.2.0")
        );
    }
}
