//! Settings of a server process: a TOML file, flags of the same names, and logging. Shared by `relay-node` and
//! `route-controller`, so that both refuse a wrong setting in the same words.
//!
//! A process declares its settings once, as a struct of `Option`s and `Vec`s that is both [`clap::Args`] and serde. The
//! field `api_listen` is then the key `api_listen` in the file and the flag `--api-listen`; a flag wins over the file.
//!
//! ```
//! # use control_proto::cli;
//! #[derive(clap::Args, serde::Serialize, serde::Deserialize, Default)]
//! #[serde(default)]
//! struct Settings {
//!     /// Unique name of this relay.
//!     #[arg(long)]
//!     name: Option<String>,
//! }
//! let flags = Settings { name: Some("fra-1".to_owned()) };
//! let settings = cli::merge(Some(("example.toml".as_ref(), "name = 'ber-1'")), &flags).unwrap();
//! assert_eq!(settings.name.as_deref(), Some("fra-1"));
//! ```

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// How log lines look on stderr.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why settings are refused. The text names the offending value and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}; check the path and that this user may read it")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no TOML, or a value has the wrong type.
    #[error("{path} is not understood:\n{detail}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, column, the line itself and what was expected.
        detail: String,
    },
    /// A key that does not exist.
    #[error("{path}: unknown key `{key}`{}", suggestion(.nearest.as_deref(), .known))]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The known key that looks most like it, if any does.
        nearest: Option<String>,
        /// All known keys.
        known: Vec<String>,
    },
    /// A required key is absent.
    #[error("`{key}` is not set; {advice}")]
    Missing {
        /// The key.
        key: &'static str,
        /// What to set.
        advice: String,
    },
    /// A value that cannot be used.
    #[error("{key} = {value:?}: {problem}")]
    Value {
        /// The key.
        key: &'static str,
        /// What was given; never a secret.
        value: String,
        /// What is wrong and what to do.
        problem: String,
    },
}

impl ConfigError {
    /// A required key is absent.
    pub fn missing(key: &'static str, advice: impl Into<String>) -> ConfigError {
        ConfigError::Missing { key, advice: advice.into() }
    }

    /// A value that cannot be used, what is wrong with it and what to do.
    pub fn value(key: &'static str, value: impl ToString, problem: impl Into<String>) -> ConfigError {
        ConfigError::Value { key, value: value.to_string(), problem: problem.into() }
    }
}

/// Reads the file, if one is named, and lays the flags over it.
///
/// # Errors
/// If the file cannot be read or says something that is not understood.
pub fn load<S>(file: Option<&Path>, flags: &S) -> Result<S, ConfigError>
where
    S: clap::Args + Serialize + DeserializeOwned,
{
    let Some(path) = file else { return merge(None, flags) };
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    merge(Some((path, &text)), flags)
}

/// Lays the flags over the text of a file; the path only appears in errors. An empty list in the flags means that the
/// flag was not given.
///
/// # Errors
/// If the text says something that is not understood.
pub fn merge<S>(file: Option<(&Path, &str)>, flags: &S) -> Result<S, ConfigError>
where
    S: clap::Args + Serialize + DeserializeOwned,
{
    let from_file = match file {
        Some((path, text)) => parse::<S>(path, text)?,
        None => toml::Table::new(),
    };
    let given = toml::Table::try_from(flags).expect("settings are plain values");
    let mut merged = from_file;
    for (key, value) in given.into_iter().filter(|(_, value)| is_given(value)) {
        merged.insert(key, value);
    }
    Ok(merged.try_into().expect("both halves were of this type"))
}

/// The known key that looks most like `key`, if any looks alike at all.
pub fn nearest<'a>(key: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let key = key.replace('-', "_").to_lowercase();
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&key, candidate), candidate))
        .min()
        .filter(|&(distance, candidate)| {
            distance <= candidate.len().max(key.len()) / 2
                || candidate.starts_with(&key)
                || key.starts_with(candidate)
        })
        .map(|(_, candidate)| candidate)
}

/// Sends log lines to stderr, those that `filter` lets through (`info`, `relay_node=debug,info` ...). Does nothing if the
/// process logs already.
///
/// # Errors
/// If the filter is not understood.
pub fn init_logging(format: LogFormat, filter: &str) -> Result<(), ConfigError> {
    let parsed = EnvFilter::try_new(filter).map_err(|error| {
        ConfigError::value(
            "log",
            filter,
            format!("{error}; use for instance `info` or `relay_node=debug,info`"),
        )
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(parsed).with_writer(std::io::stderr);
    // An error here means that a subscriber stands already: tests and `relayctl dev` have their own.
    let _already_logging = match format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    Ok(())
}

fn parse<S>(path: &Path, text: &str) -> Result<toml::Table, ConfigError>
where
    S: clap::Args + Serialize + DeserializeOwned,
{
    let syntax = |error: toml::de::Error| ConfigError::Syntax {
        path: path.to_owned(),
        detail: error.to_string().trim_end().to_owned(),
    };
    let table: toml::Table = toml::from_str(text).map_err(syntax)?;
    let known = keys::<S>();
    if let Some(key) = table.keys().find(|key| !known.contains(key)) {
        let nearest = nearest(key, known.iter().map(String::as_str)).map(str::to_owned);
        return Err(ConfigError::UnknownKey { path: path.to_owned(), key: key.clone(), nearest, known });
    }
    // Read from the text once more, not from the table: only the text knows the line of a wrong value.
    let settings: S = toml::from_str(text).map_err(syntax)?;
    Ok(toml::Table::try_from(&settings).expect("settings are plain values"))
}

fn keys<S: clap::Args>() -> Vec<String> {
    let command = S::augment_args(clap::Command::new("keys"));
    let mut keys: Vec<String> = command.get_arguments().map(|arg| arg.get_id().to_string()).collect();
    keys.sort_unstable();
    keys
}

fn is_given(value: &toml::Value) -> bool {
    match value {
        toml::Value::Array(items) => !items.is_empty(),
        toml::Value::Table(items) => !items.is_empty(),
        toml::Value::String(_)
        | toml::Value::Integer(_)
        | toml::Value::Float(_)
        | toml::Value::Boolean(_)
        | toml::Value::Datetime(_) => true,
    }
}

fn suggestion(nearest: Option<&str>, known: &[String]) -> String {
    match nearest {
        Some(nearest) => format!("; did you mean `{nearest}`?"),
        None => format!("; the known keys are {}", known.join(", ")),
    }
}

/// Reads a duration: a whole number and `s`, `m`, `h` or `d`.
///
/// # Errors
/// What is wrong and what to write.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let advice = || format!("{text:?} is no duration: write for instance 90s, 15m, 1h or 30d");
    let (number, seconds) = match text.char_indices().next_back().ok_or_else(advice)? {
        (unit, 's') => (&text[..unit], 1),
        (unit, 'm') => (&text[..unit], 60),
        (unit, 'h') => (&text[..unit], 3600),
        (unit, 'd') => (&text[..unit], 24 * 3600),
        _ => return Err(advice()),
    };
    let number: u64 = number.parse().map_err(|_| advice())?;
    number.checked_mul(seconds).filter(|total| *total > 0).map(Duration::from_secs).ok_or_else(advice)
}

/// Reads a number of bytes: a whole number with KiB, MiB or GiB behind it.
///
/// # Errors
/// What to write.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let advice = || "write for instance 512MiB or 2GiB".to_owned();
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
    let unit = units.into_iter().find_map(|(unit, bits)| Some((text.strip_suffix(unit)?, bits)));
    let (number, bits) = unit.ok_or_else(advice)?;
    let number: u64 = number.trim_end().parse().map_err(|_| advice())?;
    number.checked_mul(1 << bits).ok_or_else(advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Args, Serialize, Deserialize, Default, Debug, PartialEq)]
    #[serde(default)]
    struct Settings {
        #[arg(long)]
        api_listen: Option<std::net::SocketAddr>,
        #[arg(long = "controller")]
        controllers: Vec<String>,
        #[arg(long)]
        log_format: Option<LogFormat>,
    }

    fn from_text(text: &str) -> Result<Settings, ConfigError> {
        merge(Some((Path::new("x.toml"), text)), &Settings::default())
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        for (key, nearest) in
            [("api_listne", "api_listen"), ("api-listen", "api_listen"), ("controller", "controllers")]
        {
            let error = from_text(&format!("{key} = 1")).expect_err("unknown").to_string();
            assert_eq!(error, format!("x.toml: unknown key `{key}`; did you mean `{nearest}`?"));
        }
        let error = from_text("zzz = 1").expect_err("unknown").to_string();
        assert_eq!(
            error,
            "x.toml: unknown key `zzz`; the known keys are api_listen, controllers, log_format"
        );
    }

    #[test]
    fn a_wrong_value_is_shown_with_its_line() {
        let error = from_text("controllers = []\napi_listen = '127.0.0.1'").expect_err("no port").to_string();
        assert!(error.contains("x.toml is not understood") && error.contains("line 2"), "{error}");
        assert!(error.contains("api_listen = '127.0.0.1'"), "{error}");
    }

    #[test]
    fn flags_win_over_the_file() {
        let file = "controllers = ['a', 'b']\nlog_format = 'json'";
        let flags = Settings { controllers: vec!["c".to_owned()], ..Settings::default() };
        let settings = merge(Some((Path::new("x.toml"), file)), &flags).expect("legal");
        let expected = Settings {
            api_listen: None,
            controllers: vec!["c".to_owned()],
            log_format: Some(LogFormat::Json),
        };
        assert_eq!(settings, expected);
    }

    #[test]
    fn a_file_that_is_absent_is_named() {
        let error = load(Some(Path::new("/nonexistent/x.toml")), &Settings::default()).expect_err("absent");
        assert!(error.to_string().starts_with("cannot read /nonexistent/x.toml: "), "{error}");
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("2d"), Ok(Duration::from_secs(172_800)));
        for bad in ["", "1", "h", "-1h", "1.5h", "0s", "99999999999999999999d", "1é"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
