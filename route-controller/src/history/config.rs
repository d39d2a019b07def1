//! Settings of the history.

use control_proto::cli::{ConfigError, parse_bytes, parse_duration};
use std::path::{Path, PathBuf};
use std::time::Duration;

const FOLDER: &str = "history";
const BYTES_DEFAULT: u64 = 512 << 20;
const BYTES_MIN: u64 = 16 << 20;
const KEEP_DEFAULT: Duration = Duration::from_secs(24 * 3600);
const KEEP_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// What the history may take, and for how long it is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct HistoryConfig {
    /// A folder of its own; `None`: nothing is kept.
    pub(crate) folder: Option<PathBuf>,
    pub(crate) bytes_max: u64,
    pub(crate) keep: Duration,
}

impl HistoryConfig {
    /// As it is where nothing is set.
    pub(crate) fn within(state_dir: &Path) -> HistoryConfig {
        HistoryConfig { folder: Some(state_dir.join(FOLDER)), bytes_max: BYTES_DEFAULT, keep: KEEP_DEFAULT }
    }

    /// What the settings mean.
    ///
    /// # Errors
    /// If one of them cannot be used.
    pub(crate) fn from_settings(
        state_dir: &Path,
        folder: Option<PathBuf>,
        bytes: Option<&str>,
        keep: Option<&str>,
    ) -> Result<HistoryConfig, ConfigError> {
        let default = HistoryConfig::within(state_dir);
        let wrong = |text, problem: String| ConfigError::value("history_bytes", text, problem);
        let bytes_max = match bytes {
            None => default.bytes_max,
            Some("0") => return Ok(HistoryConfig { folder: None, ..default }),
            Some(text) => parse_bytes(text).map_err(|problem| wrong(text, problem))?,
        };
        if bytes_max < BYTES_MIN {
            let problem = "the least is 16MiB; 0 keeps nothing".to_owned();
            return Err(wrong(bytes.unwrap_or_default(), problem));
        }
        let keep = match keep {
            None => default.keep,
            Some(text) => parse_duration(text)
                .and_then(|keep| if keep <= KEEP_MAX { Ok(keep) } else { Err("366d is the most".to_owned()) })
                .map_err(|problem| ConfigError::value("history_keep", text, problem))?,
        };
        Ok(HistoryConfig { folder: folder.or(default.folder), bytes_max, keep })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_checked() {
        let parse = |bytes, keep| HistoryConfig::from_settings(Path::new("/state"), None, bytes, keep);
        assert_eq!(parse(None, None).expect("legal"), HistoryConfig::within(Path::new("/state")));
        let hours = parse(Some("32MiB"), Some("6h")).expect("legal");
        assert_eq!((hours.bytes_max, hours.keep), (32 << 20, Duration::from_secs(6 * 3600)));
        assert_eq!(parse(Some("0"), None).expect("legal").folder, None);
        for (bytes, keep, key) in [
            (Some("1MiB"), None, "16MiB"),
            (Some("much"), None, "512MiB"),
            (None, Some("2000d"), "366d"),
            (None, Some("day"), "no duration"),
        ] {
            let error = parse(bytes, keep).expect_err("refused").to_string();
            assert!(error.contains(key), "{error}");
        }
    }
}
