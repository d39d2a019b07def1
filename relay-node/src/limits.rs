//! How much a relay takes on: links, streams, memory. What goes over is refused with the name of the limit, and counted.
//!
//! Links and streams are counted where they begin, in the relay port and in the core. Memory is what the system says that
//! this process has: while that is too much, no SFU is let in and nothing more is registered. What is there goes on, and
//! everything that grows with it has a bound of its own.

use control_proto::cli::{ConfigError, parse_bytes};
use relay_core::Relay;
use serde::{Deserialize, Serialize};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

/// The table `[limits]` of the configuration file; as a flag, `links=1000,streams=5000,memory=512MiB`.
#[derive(Serialize, Deserialize, Default, Clone, PartialEq, Eq, Debug)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// Links at once, to neighbours and SFUs together, for each worker: a neighbour has a lane in every one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub links: Option<u32>,
    /// Streams that enter or are wanted here at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub streams: Option<u32>,
    /// Memory of the process from which on nothing more is taken in, for instance `512MiB`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
}

/// Limits that were checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Links at once, of each worker.
    pub links: usize,
    /// Streams at once.
    pub streams: usize,
    /// Bytes of memory; `None` is no limit.
    pub memory_bytes: Option<u64>,
}

impl Default for Limits {
    fn default() -> Limits {
        let links = link_io::Limits::default().links;
        Limits { links, streams: Relay::STREAMS_MAX, memory_bytes: None }
    }
}

/// Less does not hold an idle relay.
const MEMORY_BYTES_MIN: u64 = 32 << 20;

impl FromStr for LimitSettings {
    type Err = String;

    fn from_str(text: &str) -> Result<LimitSettings, String> {
        let mut settings = LimitSettings::default();
        for limit in text.split(',').filter(|part| !part.is_empty()) {
            let (key, value) = limit.split_once('=').ok_or_else(|| format!("{limit:?} is not key=value"))?;
            let number = || value.parse::<u32>().map(Some).map_err(|_| format!("{limit:?}: no whole number"));
            match key {
                "links" => settings.links = number()?,
                "streams" => settings.streams = number()?,
                "memory" => settings.memory = Some(value.to_owned()),
                _ => return Err(format!("unknown limit {key:?}; there are links, streams and memory")),
            }
        }
        Ok(settings)
    }
}

impl LimitSettings {
    /// What they mean; what is absent is as in [`Limits::default`].
    pub(crate) fn check(&self) -> Result<Limits, ConfigError> {
        let default = Limits::default();
        let count = |key: &'static str, value: Option<u32>, default: usize, most: usize| match value {
            None => Ok(default),
            Some(value) if (1..=most).contains(&(value as usize)) => Ok(value as usize),
            Some(value) => Err(ConfigError::value(key, value, format!("1 to {most} are possible"))),
        };
        let memory_bytes = self.memory.as_deref().map(|text| {
            let bytes =
                parse_bytes(text).map_err(|problem| ConfigError::value("limits.memory", text, problem))?;
            if bytes < MEMORY_BYTES_MIN {
                let problem = "a relay that holds nothing needs 32MiB";
                return Err(ConfigError::value("limits.memory", text, problem));
            }
            Ok(bytes)
        });
        Ok(Limits {
            links: count("limits.links", self.links, default.links, link_io::Limits::LINKS_MAX)?,
            streams: count("limits.streams", self.streams, default.streams, Relay::STREAMS_MAX)?,
            memory_bytes: memory_bytes.transpose()?,
        })
    }
}

/// Watches the memory of this process.
#[derive(Debug)]
pub(crate) struct MemoryWatch {
    most_bytes: Option<u64>,
    refused: AtomicU64,
}

impl MemoryWatch {
    pub(crate) fn new(most_bytes: Option<u64>) -> MemoryWatch {
        MemoryWatch { most_bytes, refused: AtomicU64::new(0) }
    }

    /// Whether something more may be taken in.
    ///
    /// # Errors
    /// Why not, for people. It is counted.
    pub(crate) fn check(&self) -> Result<(), String> {
        let Some(most) = self.most_bytes else { return Ok(()) };
        // Where the system does not tell, nobody is refused.
        let Some(used) = resident_bytes().filter(|used| *used >= most) else { return Ok(()) };
        self.refused.fetch_add(1, Ordering::Relaxed);
        Err(format!(
            "this relay uses {} MiB of memory, and {} MiB are its limit (`memory` in [limits] of its configuration): use \
             another",
            used >> 20,
            most >> 20
        ))
    }

    /// How often something was refused.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

/// Memory of this process that is in use, where the system tells.
pub(crate) fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_as_the_default() {
        let limits = "streams=5000".parse::<LimitSettings>().expect("legal").check().expect("possible");
        assert_eq!(limits, Limits { streams: 5000, ..Limits::default() });
        let limits =
            "links=10,memory=1 GiB".parse::<LimitSettings>().expect("legal").check().expect("possible");
        assert_eq!((limits.links, limits.memory_bytes), (10, Some(1 << 30)));
    }

    #[test]
    fn wrong_limits_are_refused_in_words() {
        for (text, told) in
            [("links", "key=value"), ("links=many", "no whole number"), ("link=1", "unknown limit \"link\"")]
        {
            let error = text.parse::<LimitSettings>().expect_err(text);
            assert!(error.contains(told), "{error}");
        }
        for (text, told) in [
            ("links=0", "1 to 4096"),
            ("links=4097", "1 to 4096"),
            ("streams=65537", "1 to 65536"),
            ("memory=512", "512MiB"),
            ("memory=MiB", "512MiB"),
            ("memory=99999999999999GiB", "512MiB"),
            ("memory=1MiB", "needs 32MiB"),
        ] {
            let error = text.parse::<LimitSettings>().expect("legal").check().expect_err(text).to_string();
            assert!(error.contains(told) && error.contains("limits."), "{error}");
        }
    }

    #[test]
    fn too_much_memory_is_refused_and_counted() {
        let used = resident_bytes().expect("Linux tells");
        assert!(used > 1 << 20, "{used}");
        let (enough, little) = (MemoryWatch::new(Some(u64::MAX)), MemoryWatch::new(Some(1 << 20)));
        assert_eq!((MemoryWatch::new(None).check(), enough.check()), (Ok(()), Ok(())));
        let reason = little.check().expect_err("this test alone is larger");
        assert!(reason.contains("1 MiB are its limit") && reason.contains("[limits]"), "{reason}");
        assert_eq!((enough.refused(), little.refused()), (0, 1));
    }
}
