//! Limits of namespaces in the configuration, and what people see of namespaces.

use crate::operations::Operations;
use crate::refusal::Refusal;
use route_core::{LimitsConfig, NamespaceLimits, NamespaceView};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::str::FromStr;

/// The name under which limits of all other namespaces stand.
const DEFAULT: &str = "default";
/// Most namespaces with limits of their own: relays are told all of them.
const NAMED_MAX: usize = wire_format::control::limits::NAMESPACES;

/// The tables `[namespaces.NAME]` of a configuration file; as a flag, `NAME:key=value,...;NAME:...`.
#[derive(Serialize, Deserialize, Default, Clone, PartialEq, Eq, Debug)]
#[serde(transparent)]
pub struct NamespaceSettings(BTreeMap<String, LimitSettings>);

/// Limits of one namespace. What is absent is as in `[namespaces.default]`, and no limit if it is absent there too.
#[derive(Serialize, Deserialize, Default, Clone, PartialEq, Eq, Debug)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// Streams published at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub streams: Option<u32>,
    /// Subscriptions at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscriptions: Option<u32>,
    /// Relays at which it publishes or subscribes at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relays: Option<u32>,
    /// RTP that it may publish at one relay, for instance `50Mbit/s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bit_rate: Option<BitRate>,
}

/// Bits per second.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(try_from = "String", into = "String")]
pub struct BitRate(pub u64);

impl FromStr for BitRate {
    type Err = String;

    fn from_str(text: &str) -> Result<BitRate, String> {
        let advice = || format!("{text:?} is no bit rate: write for instance 800kbit/s, 50Mbit/s or 1Gbit/s");
        let number = text.strip_suffix("bit/s").ok_or_else(advice)?.trim_end();
        let (number, factor) = match number.char_indices().next_back().ok_or_else(advice)? {
            (at, 'k') => (&number[..at], 1_000),
            (at, 'M') => (&number[..at], 1_000_000),
            (at, 'G') => (&number[..at], 1_000_000_000),
            (_, _) => (number, 1),
        };
        let number: u64 = number.trim_end().parse().map_err(|_| advice())?;
        number.checked_mul(factor).filter(|rate| *rate > 0).map(BitRate).ok_or_else(advice)
    }
}

impl TryFrom<String> for BitRate {
    type Error = String;

    fn try_from(text: String) -> Result<BitRate, String> {
        text.parse()
    }
}

impl From<BitRate> for String {
    fn from(rate: BitRate) -> String {
        format!("{}bit/s", rate.0)
    }
}

impl FromStr for NamespaceSettings {
    type Err = String;

    fn from_str(text: &str) -> Result<NamespaceSettings, String> {
        let mut all = BTreeMap::new();
        for part in text.split(';').filter(|part| !part.is_empty()) {
            let (name, limits) =
                part.split_once(':').ok_or_else(|| format!("{part:?} is not NAME:key=value,..."))?;
            let mut settings = LimitSettings::default();
            for limit in limits.split(',') {
                let (key, value) =
                    limit.split_once('=').ok_or_else(|| format!("{limit:?} is not key=value"))?;
                let number =
                    || value.parse::<u32>().map(Some).map_err(|_| format!("{limit:?}: no whole number"));
                match key {
                    "streams" => settings.streams = number()?,
                    "subscriptions" => settings.subscriptions = number()?,
                    "relays" => settings.relays = number()?,
                    "bit_rate" => settings.bit_rate = Some(value.parse()?),
                    _ => {
                        let known = "streams, subscriptions, relays and bit_rate";
                        return Err(format!("unknown limit {key:?}; there are {known}"));
                    }
                }
            }
            all.insert(name.to_owned(), settings);
        }
        Ok(NamespaceSettings(all))
    }
}

impl NamespaceSettings {
    /// What they mean.
    ///
    /// # Errors
    /// If there are too many.
    pub(crate) fn limits(&self) -> Result<LimitsConfig, String> {
        if self.0.len() > NAMED_MAX {
            return Err(format!("{} namespaces have limits of their own; {NAMED_MAX} may", self.0.len()));
        }
        let none = LimitSettings::default();
        let default = self.0.get(DEFAULT).unwrap_or(&none);
        let limits = |settings: &LimitSettings| NamespaceLimits {
            streams: settings.streams.or(default.streams).map(u64::from),
            subscriptions: settings.subscriptions.or(default.subscriptions).map(u64::from),
            relays: settings.relays.or(default.relays).map(u64::from),
            bit_rate: settings.bit_rate.or(default.bit_rate).map(|rate| rate.0),
        };
        let named = self.0.iter().filter(|(name, _)| *name != DEFAULT);
        Ok(LimitsConfig {
            default: limits(default),
            named: named.map(|(name, settings)| (name.clone(), limits(settings))).collect(),
        })
    }
}

/// A namespace, in `GET /v1/namespaces`. Limits are absent where there is none.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NamespaceRow {
    /// Its name; empty for what relays could not tell apart any more.
    pub namespace: String,
    /// Streams published now.
    pub streams: u64,
    /// How many it may.
    pub streams_max: Option<u64>,
    /// Subscriptions now.
    pub subscriptions: u64,
    /// How many it may.
    pub subscriptions_max: Option<u64>,
    /// Relays at which it publishes or subscribes now.
    pub relays: u64,
    /// At how many it may.
    pub relays_max: Option<u64>,
    /// Bits of RTP per second that it may publish at one relay.
    pub bit_rate_max: Option<u64>,
    /// Publications and subscriptions refused because of these limits.
    pub refused: u64,
    /// Packets from its publishers that somebody wanted.
    pub packets_in: u64,
    /// Bytes of RTP in them.
    pub bytes_in: u64,
    /// Packets handed to its subscribers, one for each.
    pub packets_out: u64,
    /// Bytes of RTP in them.
    pub bytes_out: u64,
    /// Packets dropped because it sent faster than it may.
    pub packets_over_rate: u64,
}

impl From<NamespaceView> for NamespaceRow {
    fn from(view: NamespaceView) -> NamespaceRow {
        NamespaceRow {
            namespace: view.name,
            streams: view.streams,
            streams_max: view.limits.streams,
            subscriptions: view.subscriptions,
            subscriptions_max: view.limits.subscriptions,
            relays: view.relays,
            relays_max: view.limits.relays,
            bit_rate_max: view.limits.bit_rate,
            refused: view.refused,
            packets_in: view.usage.packets_in,
            bytes_in: view.usage.bytes_in,
            packets_out: view.usage.packets_out,
            bytes_out: view.usage.bytes_out,
            packets_over_rate: view.usage.packets_over_rate,
        }
    }
}

impl Operations {
    /// Every namespace that holds or used something, or has limits of its own.
    ///
    /// # Errors
    /// If the controller stops.
    pub async fn namespaces(&self) -> Result<Vec<NamespaceRow>, Refusal> {
        let views = self.engine.ask(|core, _| core.namespaces()).await?;
        Ok(views.into_iter().map(NamespaceRow::from).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_namespace_does_not_say_is_as_the_default() {
        let text = "default:streams=100,bit_rate=50Mbit/s;demo:relays=3,streams=7";
        let limits = text.parse::<NamespaceSettings>().expect("legal").limits().expect("few");
        let default =
            NamespaceLimits { streams: Some(100), bit_rate: Some(50_000_000), ..NamespaceLimits::default() };
        assert_eq!(limits.default, default);
        assert_eq!(limits.named["demo"], NamespaceLimits { streams: Some(7), relays: Some(3), ..default });
        assert_eq!(limits.named.len(), 1);
    }

    #[test]
    fn bit_rates_have_a_unit() {
        for (text, rate) in [("800kbit/s", 800_000), ("50Mbit/s", 50_000_000), ("1 Gbit/s", 1_000_000_000)] {
            assert_eq!(text.parse(), Ok(BitRate(rate)));
        }
        for bad in
            ["", "50", "bit/s", "0Mbit/s", "-1kbit/s", "1.5Mbit/s", "99999999999999999999Gbit/s", "5MB/s"]
        {
            assert!(bad.parse::<BitRate>().is_err(), "{bad}");
        }
    }

    #[test]
    fn wrong_limits_are_refused_in_words() {
        for (text, told) in [
            ("demo", "NAME:key=value"),
            ("demo:streams", "key=value"),
            ("demo:streams=many", "no whole number"),
            ("demo:stream=1", "unknown limit \"stream\""),
            ("demo:bit_rate=5", "no bit rate"),
        ] {
            let error = text.parse::<NamespaceSettings>().expect_err(text);
            assert!(error.contains(told), "{error}");
        }
    }
}
