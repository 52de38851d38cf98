// SPDX-License-Identifier: Apache-2.0
//! The host's CNI directories: the plugin, and a configuration that chains it behind what was there. What was there stays as it is,
//! so that leaving is removing two files.
//!
//! Each file is written beside its place and renamed, so that a runtime never sees half of one. Whoever removes or changes one finds it
//! again at the next look. Read `chain.rs` for what is written.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::chain::{self, ChainError};

/// The plugin's name, by which a configuration names it.
const PLUGIN: &str = "maille-cni";
/// The configuration's name: the runtime takes the first one of a directory.
const CONFIGURATION: &str = "00-maille.conflist";
/// The proxy's program, and where in the agent's directory it is kept.
const PROXY: &str = "maille-proxy";
const KEPT: &str = "bin";
/// More than any plugin has.
const MANY: usize = 10;

/// The host, as this process sees it.
#[derive(Clone, Debug)]
pub(super) struct Host {
    /// Where the runtime looks for plugins.
    pub(super) programs: PathBuf,
    /// Where it looks for configurations.
    pub(super) configurations: PathBuf,
    /// The plugin that came with this program.
    pub(super) plugin: PathBuf,
    /// The proxy that came with this program.
    pub(super) proxy: PathBuf,
    /// The agent's directory, as the plugin sees it.
    pub(super) state: PathBuf,
    /// Whether the configuration is written. Else the plugin is there for whoever names it, and the configurations are nobody's of ours.
    pub(super) chain: bool,
}

/// What a look at both files came to.
#[derive(Debug, Default)]
pub(super) struct Placed {
    /// What was written.
    pub(super) written: Vec<String>,
    /// The plugins that the runtime calls for a pod, in order.
    pub(super) plugins: Vec<String>,
    /// Those that somebody had put behind ours, and that are there no longer.
    pub(super) behind: Vec<String>,
    /// There is no configuration of ours.
    pub(super) alone: bool,
}

/// Why the plugin is not in place.
#[derive(Debug, thiserror::Error)]
pub(super) enum HostError {
    #[error("{path}")]
    Io {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("{0} has no configuration of a network yet, behind which the plugin could be chained")]
    NoNetwork(String),
    #[error(
        "{0} comes before {CONFIGURATION}: the runtime takes that, and no pod of the mesh would be captured; rename it"
    )]
    Before(String),
    #[error("{path} cannot be chained behind")]
    Chain {
        path: String,
        #[source]
        source: ChainError,
    },
    #[error(
        "{count} pods of this node are captured still, {some} among them: they would lose their network; restart them outside the mesh first"
    )]
    Captured { count: usize, some: String },
}

// === impl Host ===

impl Host {
    /// Where proxies are started from: a file of the host, which stays when the image that this program came in is gone.
    pub(super) fn kept(&self) -> PathBuf {
        self.state.join(KEPT).join(PROXY)
    }

    /// Puts this version's proxy there. Those that run keep the file that they were started from.
    pub(super) fn keep_proxy(&self) -> Result<(), HostError> {
        let kept = self.kept();
        let own = read(&self.proxy)?;
        if is(&kept, &own) {
            return Ok(());
        }
        let dir = kept.parent().unwrap_or(&self.state);
        fs::create_dir_all(dir).map_err(at(dir))?;
        write(&kept, &own, 0o755)
    }

    /// Puts what is not in its place there: the proxy, the plugin, and the configuration.
    pub(super) fn install(&self) -> Result<Placed, HostError> {
        let mut placed = Placed::default();
        if !self.kept().is_file() {
            self.keep_proxy()?;
            placed.written.push(self.kept().display().to_string());
        }
        let program = self.programs.join(PLUGIN);
        let own = read(&self.plugin)?;
        if !is(&program, &own) {
            write(&program, &own, 0o755)?;
            placed.written.push(program.display().to_string());
        }
        if !self.chain {
            remove(&self.configurations.join(CONFIGURATION))?;
            placed.alone = true;
            return Ok(placed);
        }
        let first = self.first()?;
        let text = fs::read_to_string(&first).map_err(at(&first))?;
        let chained = chain::chained(&text, &self.state).map_err(|source| HostError::Chain {
            path: first.display().to_string(),
            source,
        })?;
        placed.plugins = chain::plugins(&chained);
        let configuration = self.configurations.join(CONFIGURATION);
        let found = fs::read_to_string(&configuration).unwrap_or_default();
        if found != chained {
            placed.behind = chain::behind(&found);
            write(&configuration, chained.as_bytes(), 0o644)?;
            placed.written.push(configuration.display().to_string());
        }
        Ok(placed)
    }

    /// Removes both, once no pod is captured any more. The configuration goes first: without its plugin no pod would start.
    pub(super) fn leave(&self, sandboxes: &Path) -> Result<(), HostError> {
        let entries = fs::read_dir(sandboxes).into_iter().flatten().flatten();
        let left: Vec<_> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        if let Some(one) = left.first() {
            return Err(HostError::Captured {
                count: left.len(),
                some: one.clone(),
            });
        }
        for path in [
            self.configurations.join(CONFIGURATION),
            self.programs.join(PLUGIN),
        ] {
            remove(&path)?;
        }
        Ok(())
    }

    /// The configuration that the runtime would take without ours.
    fn first(&self) -> Result<PathBuf, HostError> {
        let dir = &self.configurations;
        let entries = fs::read_dir(dir).map_err(at(dir))?;
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name != CONFIGURATION && !name.starts_with('.'))
            .filter(|name| {
                [".conf", ".conflist", ".json"]
                    .iter()
                    .any(|end| name.ends_with(end))
            })
            .collect();
        names.sort();
        let first = names.into_iter().take(MANY).next();
        let first = first.ok_or_else(|| HostError::NoNetwork(dir.display().to_string()))?;
        if first.as_str() < CONFIGURATION {
            return Err(HostError::Before(first));
        }
        Ok(dir.join(first))
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> HostError {
    let path = path.display().to_string();
    move |source| HostError::Io {
        path: path.clone(),
        source,
    }
}

fn read(path: &Path) -> Result<Vec<u8>, HostError> {
    fs::read(path).map_err(at(path))
}

/// Removes a file, where it is.
fn remove(path: &Path) -> Result<(), HostError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path)(error)),
        _ => Ok(()),
    }
}

/// Whether a file is there as it should be.
fn is(path: &Path, bytes: &[u8]) -> bool {
    fs::read(path).is_ok_and(|found| found == bytes)
}

/// Puts a file in place, whole.
fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), HostError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.new"));
    let write = || {
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()?;
        drop(file);
        fs::rename(&new, path)
    };
    write().map_err(at(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: &str =
        r#"{"cniVersion":"1.1.0","name":"net","plugins":[{"type":"bridge"},{"type":"portmap"}]}"#;

    fn host(dir: &Path) -> Host {
        for name in ["bin", "conf", "sandboxes"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        for name in ["plugin", "proxy"] {
            fs::write(dir.join(name), "program").unwrap();
        }
        Host {
            programs: dir.join("bin"),
            configurations: dir.join("conf"),
            plugin: dir.join("plugin"),
            proxy: dir.join("proxy"),
            state: dir.join("state"),
            chain: true,
        }
    }

    #[test]
    fn proxies_are_started_from_a_file_that_stays() {
        let dir = tempfile::tempdir().unwrap();
        let host = host(dir.path());
        host.keep_proxy().unwrap();
        let old = File::open(host.kept()).unwrap();
        fs::write(&host.proxy, "another one").unwrap();
        host.keep_proxy().unwrap();
        // Whoever has the former one has it still.
        assert_eq!(io::read_to_string(old).unwrap(), "program");
        fs::remove_dir_all(host.state.join(KEPT)).unwrap();
        fs::write(dir.path().join("conf/10-net.conflist"), NETWORK).unwrap();
        host.install().unwrap();
        assert_eq!(fs::read_to_string(host.kept()).unwrap(), "another one");
        let mode = fs::metadata(host.kept()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
    }

    #[test]
    fn both_files_are_put_in_place_kept_there_and_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        let host = host(dir.path());
        assert!(matches!(host.install(), Err(HostError::NoNetwork(_))));
        let network = dir.path().join("conf/10-net.conflist");
        fs::write(&network, NETWORK).unwrap();
        let placed = host.install().unwrap();
        assert_eq!(placed.written.len(), 1, "the programs are there already");
        assert_eq!(placed.plugins, ["bridge", "portmap", PLUGIN]);
        let again = host.install().unwrap();
        assert!(again.written.is_empty() && again.behind.is_empty());
        let ours = dir.path().join("conf").join(CONFIGURATION);
        // Whoever changes, removes or empties one of them.
        fs::write(&ours, NETWORK).unwrap();
        fs::remove_file(dir.path().join("bin").join(PLUGIN)).unwrap();
        assert_eq!(host.install().unwrap().written.len(), 2);
        let mode = fs::metadata(dir.path().join("bin").join(PLUGIN)).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o755);
        // The network itself changes.
        fs::write(&network, NETWORK.replace("bridge", "ptp")).unwrap();
        assert_eq!(host.install().unwrap().written.len(), 1);
        let text = fs::read_to_string(&ours).unwrap();
        assert!(text.contains("ptp"));
        // Others chain themselves behind the first file that they find.
        let mut list: serde_json::Value = serde_json::from_str(&text).unwrap();
        let other = serde_json::json!({"type": "other-cni"});
        list["plugins"].as_array_mut().unwrap().push(other);
        fs::write(&ours, list.to_string()).unwrap();
        assert_eq!(host.install().unwrap().behind, ["other-cni"]);
        assert_eq!(fs::read_to_string(&ours).unwrap(), text);
        fs::create_dir(dir.path().join("sandboxes/c1")).unwrap();
        let error = host.leave(&dir.path().join("sandboxes")).unwrap_err();
        assert!(error.to_string().contains("c1"), "{error}");
        fs::remove_dir(dir.path().join("sandboxes/c1")).unwrap();
        host.leave(&dir.path().join("sandboxes")).unwrap();
        host.leave(&dir.path().join("sandboxes")).unwrap();
        let left: Vec<_> = fs::read_dir(dir.path().join("conf"))
            .unwrap()
            .flatten()
            .collect();
        assert_eq!(left.len(), 1, "{left:?}");
        assert!(fs::read_to_string(&network).unwrap().contains("ptp"));
    }

    #[test]
    fn one_that_the_runtime_would_take_before_ours_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let host = host(dir.path());
        fs::write(dir.path().join("conf/00-a.conf"), "{}").unwrap();
        assert!(matches!(host.install(), Err(HostError::Before(_))));
    }

    #[test]
    fn who_is_to_leave_configurations_alone_takes_away_his_own() {
        let dir = tempfile::tempdir().unwrap();
        let chains = host(dir.path());
        fs::write(dir.path().join("conf/10-net.conflist"), NETWORK).unwrap();
        chains.install().unwrap();
        let ours = dir.path().join("conf").join(CONFIGURATION);
        assert!(ours.exists());
        let alone = Host {
            chain: false,
            ..chains
        };
        for _ in 0..2 {
            let placed = alone.install().unwrap();
            assert!(placed.alone && placed.written.is_empty(), "{placed:?}");
            assert!(!ours.exists() && dir.path().join("bin").join(PLUGIN).exists());
        }
    }
}
