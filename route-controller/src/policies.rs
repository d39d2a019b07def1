//! Policies as operators write them: a file in TOML, or JSON with the same keys in a request. Both become
//! [`route_core::Policies`], or say which key is wrong.

use crate::rows::whole;
use anyhow::Context as _;
use control_proto::cli::nearest;
use route_core::{DryRunView, Pin, Place, Policies, Policy, Weights};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::Path;
use std::time::Duration;

/// Largest document read.
pub(crate) const DOCUMENT_BYTES_MAX: usize = 1024 * 1024;

const PLACES: &str = "write region:NAME, isp:NAME, node:NAME or tag:NAME";

/// All policies, as they are written and kept.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
pub struct PolicyDocument {
    /// The policies; `default` need not be among them.
    pub policies: Vec<PolicyRow>,
}

/// One policy, as it is written.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct PolicyRow {
    /// Its name.
    pub name: String,
    /// Namespaces whose streams travel by it; `*` matches any run of characters.
    #[serde(default)]
    pub namespaces: Vec<String>,
    /// What the terms of a link's cost are worth, percent.
    #[serde(default)]
    pub weights: WeightsRow,
    /// Price of a hop, microseconds; that of all policies where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hop_us: Option<u64>,
    /// Relays that are passed gladly: `region:NAME`, `isp:NAME`, `node:NAME` or `tag:NAME`.
    #[serde(default)]
    pub prefer: Vec<String>,
    /// What a link from or to such a relay costs, percent.
    #[serde(default = "prefer_pct")]
    pub prefer_pct: u32,
    /// Relays that are never passed, likewise.
    #[serde(default)]
    pub forbid: Vec<String>,
    /// Relays that are passed where nothing else leads on, likewise.
    #[serde(default)]
    pub emergency: Vec<String>,
    /// Paths that are to be taken: `FROM > VIA > TO`.
    #[serde(default)]
    pub pins: Vec<String>,
    /// Audio goes two disjoint ways at once.
    #[serde(default)]
    pub protect_audio: bool,
    /// The policy by which streams travel that a loaded link has no room for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relief: Option<String>,
}

/// What the terms of a link's cost are worth, percent; what is absent is as in the default policy.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WeightsRow {
    /// One-way delay (default: 100).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_pct: Option<u32>,
    /// Expected wait for repairs (default: 100).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repair_pct: Option<u32>,
    /// Wait in queues (default: 100).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queueing_pct: Option<u32>,
    /// Interarrival jitter (default: 0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter_pct: Option<u32>,
    /// The step for a link that carries nearly all it can (default: 100, or 0 where `relief` is given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_pct: Option<u32>,
    /// The price of traffic between regions (default: 100).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub money_pct: Option<u32>,
}

fn prefer_pct() -> u32 {
    Policy::PREFER_PCT
}

const KEYS: [&str; 11] = [
    "name",
    "namespaces",
    "weights",
    "hop_us",
    "prefer",
    "prefer_pct",
    "forbid",
    "emergency",
    "pins",
    "protect_audio",
    "relief",
];
const WEIGHTS: [&str; 6] = ["delay_pct", "repair_pct", "queueing_pct", "jitter_pct", "load_pct", "money_pct"];

impl PolicyDocument {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read or understood.
    pub fn read(file: &Path) -> anyhow::Result<PolicyDocument> {
        let text =
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        PolicyDocument::from_toml(&text).with_context(|| file.display().to_string())
    }

    /// Reads TOML.
    ///
    /// # Errors
    /// What is wrong and what to do.
    pub fn from_toml(text: &str) -> anyhow::Result<PolicyDocument> {
        anyhow::ensure!(
            text.len() <= DOCUMENT_BYTES_MAX,
            "policies of more than 1 MiB: use regions, tags or patterns"
        );
        let table: toml::Table =
            toml::from_str(text).map_err(|error| anyhow::anyhow!(error.to_string().trim_end().to_owned()))?;
        PolicyDocument::from_json(serde_json::to_value(table).context("this is no table of policies")?)
    }

    /// Reads JSON.
    ///
    /// # Errors
    /// What is wrong and what to do.
    pub fn from_json(value: Value) -> anyhow::Result<PolicyDocument> {
        let Value::Object(top) = &value else {
            anyhow::bail!("policies are written as {{\"policies\":[...]}}")
        };
        known(top, "", &["policies"])?;
        for (place, policy) in top.get("policies").and_then(Value::as_array).into_iter().flatten().enumerate()
        {
            let Value::Object(policy) = policy else { anyhow::bail!("policy {} is no table", place + 1) };
            let name = policy.get("name").and_then(Value::as_str).unwrap_or("?");
            let whose = format!("policy `{name}`: ");
            known(policy, &whose, &KEYS)?;
            // Of a list the numbers would be taken in their order.
            if let Some(weights) = policy.get("weights") {
                let Value::Object(weights) = weights else { anyhow::bail!("{whose}`weights` is no table") };
                known(weights, &format!("{whose}weights: "), &WEIGHTS)?;
            }
        }
        serde_json::from_value(with_whole_numbers(value)).context("policies are not written like this")
    }

    /// What it means.
    ///
    /// # Errors
    /// What is wrong and what to do.
    pub fn policies(&self) -> anyhow::Result<Policies> {
        let policies = self.policies.iter().map(PolicyRow::policy).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Policies::new(policies)?)
    }
}

impl PolicyRow {
    fn policy(&self) -> anyhow::Result<Policy> {
        let places = |key: &str, places: &[String]| {
            let place = |text: &String| {
                place(text).with_context(|| format!("policy `{}`: `{key}` has {text:?}: {PLACES}", self.name))
            };
            places.iter().map(place).collect::<anyhow::Result<Vec<_>>>()
        };
        let pin = |text: &String| {
            Pin::new(text.split('>').map(|name| name.trim().to_owned()).collect())
                .with_context(|| format!("policy `{}`", self.name))
        };
        let base = Weights { load_pct: if self.relief.is_some() { 0 } else { 100 }, ..Weights::default() };
        let WeightsRow { delay_pct, repair_pct, queueing_pct, jitter_pct, load_pct, money_pct } =
            self.weights;
        Ok(Policy {
            name: self.name.clone(),
            weights: Weights {
                delay_pct: delay_pct.unwrap_or(base.delay_pct),
                repair_pct: repair_pct.unwrap_or(base.repair_pct),
                queueing_pct: queueing_pct.unwrap_or(base.queueing_pct),
                jitter_pct: jitter_pct.unwrap_or(base.jitter_pct),
                load_pct: load_pct.unwrap_or(base.load_pct),
                money_pct: money_pct.unwrap_or(base.money_pct),
            },
            hop: self.hop_us.map(Duration::from_micros),
            prefer: places("prefer", &self.prefer)?,
            prefer_pct: self.prefer_pct,
            forbid: places("forbid", &self.forbid)?,
            emergency: places("emergency", &self.emergency)?,
            pins: self.pins.iter().map(pin).collect::<anyhow::Result<_>>()?,
            protect_audio: self.protect_audio,
            relief: self.relief.clone(),
            namespaces: self.namespaces.clone(),
        })
    }
}

impl From<&Policy> for PolicyRow {
    fn from(policy: &Policy) -> PolicyRow {
        let places = |places: &[Place]| {
            let text = |place: &Place| match place {
                Place::Region(name) => format!("region:{name}"),
                Place::Isp(name) => format!("isp:{name}"),
                Place::Node(name) => format!("node:{name}"),
                Place::Tag(name) => format!("tag:{name}"),
            };
            places.iter().map(text).collect()
        };
        let Weights { delay_pct, repair_pct, queueing_pct, jitter_pct, load_pct, money_pct } = policy.weights;
        PolicyRow {
            name: policy.name.clone(),
            namespaces: policy.namespaces.clone(),
            weights: WeightsRow {
                delay_pct: Some(delay_pct),
                repair_pct: Some(repair_pct),
                queueing_pct: Some(queueing_pct),
                jitter_pct: Some(jitter_pct),
                load_pct: Some(load_pct),
                money_pct: Some(money_pct),
            },
            hop_us: policy.hop.map(|hop| u64::try_from(hop.as_micros()).unwrap_or(u64::MAX)),
            prefer: places(&policy.prefer),
            prefer_pct: policy.prefer_pct,
            forbid: places(&policy.forbid),
            emergency: places(&policy.emergency),
            pins: policy.pins.iter().map(Pin::text).collect(),
            protect_audio: policy.protect_audio,
            relief: policy.relief.clone(),
        }
    }
}

impl From<&Policies> for PolicyDocument {
    fn from(policies: &Policies) -> PolicyDocument {
        PolicyDocument { policies: policies.iter().map(|(_, policy)| PolicyRow::from(policy)).collect() }
    }
}

/// JSON has one kind of numbers, and some programs write 100 as 100.0.
fn with_whole_numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => Value::Number(whole(&number).map_or(number, Into::into)),
        Value::Array(items) => items.into_iter().map(with_whole_numbers).collect(),
        Value::Object(table) => {
            Value::Object(table.into_iter().map(|(key, value)| (key, with_whole_numbers(value))).collect())
        }
        Value::Null | Value::Bool(_) | Value::String(_) => value,
    }
}

fn place(text: &str) -> Option<Place> {
    let (kind, name) = text.split_once(':')?;
    let name = name.to_owned();
    match kind {
        "region" => Some(Place::Region(name)),
        "isp" => Some(Place::Isp(name)),
        "node" => Some(Place::Node(name)),
        "tag" => Some(Place::Tag(name)),
        _ => None,
    }
}

fn known(table: &Map<String, Value>, whose: &str, keys: &[&str]) -> anyhow::Result<()> {
    let Some(key) = table.keys().find(|key| !keys.contains(&key.as_str())) else { return Ok(()) };
    match nearest(key, keys.iter().copied()) {
        Some(nearest) => anyhow::bail!("{whose}unknown key `{key}`; did you mean `{nearest}`?"),
        None => anyhow::bail!("{whose}unknown key `{key}`; the known keys are {}", keys.join(", ")),
    }
}

/// `GET /v1/policies`
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct PoliciesAnswer {
    /// What can be changed and put back.
    pub policies: Vec<PolicyRow>,
    /// What comes of it, in the same order.
    pub status: Vec<PolicyStatus>,
    /// Whether every relay knows policies; while one does not, all routes are those of `default`.
    pub understood: bool,
}

/// What comes of a policy.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct PolicyStatus {
    /// The policy.
    pub name: String,
    /// The number that its frames carry.
    pub index: u8,
    /// It has routes of its own: namespaces are mapped to it, or it relieves one that has such.
    pub in_use: bool,
    /// Streams that travel by it.
    pub streams: usize,
    /// Those among them that came because a link was loaded.
    pub relieved: usize,
}

/// `POST /v1/policies/dry-run`
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct DryRunAnswer {
    /// Whether every relay knows policies; while one does not, all routes are those of `default`.
    pub understood: bool,
    /// Routes that would be others.
    pub routes_changed: usize,
    /// The first ten thousand of them.
    pub routes: Vec<PolicyRouteRow>,
    /// Streams that would travel by another policy.
    pub streams_changed: usize,
    /// The first ten thousand of them.
    pub streams: Vec<PolicyChangeRow>,
}

/// A route that would be another.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct PolicyRouteRow {
    /// By which policy.
    pub policy: String,
    /// Where from.
    pub from: String,
    /// Where to.
    pub to: String,
    /// The path so far; null if there is none.
    pub before: Option<Vec<String>>,
    /// The path then.
    pub after: Option<Vec<String>>,
    /// What the former cost when its routes were computed.
    pub before_us: Option<u64>,
    /// What the later one costs.
    pub after_us: Option<u64>,
}

/// A stream that would travel by another policy.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct PolicyChangeRow {
    /// Tenant.
    pub namespace: String,
    /// Call.
    pub room: String,
    /// Participant.
    pub user: String,
    /// The participant's stream.
    pub stream: String,
    /// By which policy so far.
    pub before: String,
    /// By which one then.
    pub after: String,
}

impl From<DryRunView> for DryRunAnswer {
    fn from(view: DryRunView) -> DryRunAnswer {
        let DryRunView { understood, routes_changed, routes, streams_changed, streams } = view;
        let route = |route: route_core::PolicyRouteView| PolicyRouteRow {
            policy: route.policy,
            from: route.from,
            to: route.to,
            before: route.before,
            after: route.after,
            before_us: route.before_us,
            after_us: route.after_us,
        };
        let stream = |stream: route_core::PolicyChangeView| PolicyChangeRow {
            namespace: stream.name.namespace,
            room: stream.name.room,
            user: stream.name.user,
            stream: stream.name.stream,
            before: stream.before,
            after: stream.after,
        };
        DryRunAnswer {
            understood,
            routes_changed,
            routes: routes.into_iter().map(route).collect(),
            streams_changed,
            streams: streams.into_iter().map(stream).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        let parsed = PolicyDocument::from_toml(text).and_then(|document| document.policies());
        format!("{:#}", parsed.expect_err("wrong"))
    }

    #[test]
    fn what_is_wrong_is_named() {
        let one = |line: &str| refusal(&format!("[[policies]]\nname = \"cheap\"\n{line}\n"));
        for (line, words) in [
            ("forbit = []", "policy `cheap`: unknown key `forbit`; did you mean `forbid`?"),
            (
                "weights = { mony_pct = 3 }",
                "policy `cheap`: weights: unknown key `mony_pct`; did you mean `money_pct`?",
            ),
            ("forbid = [\"eu\"]", "`forbid` has \"eu\": write region:NAME"),
            ("prefer = [\"city:rome\"]", "region:NAME, isp:NAME"),
            ("pins = [\"a\"]", "pin `a`: a path has two ends"),
            ("pins = [\"a > b > a\"]", "passes a relay twice"),
            ("prefer_pct = 0", "`prefer_pct` is 0: 1 to 100"),
            ("weights = { delay_pct = 10001 }", "`weights.delay_pct` is 10001: 0 to 10000"),
            ("hop_us = 0", "`hop_us` is 0: 1 to 1000000"),
            ("relief = \"dear\"", "`relief` is `dear`: no policy has this name"),
            (
                "forbid = [\"node:b\"]\npins = [\"a > b > c\"]",
                "pin `a > b > c` passes `b`, which `forbid` names",
            ),
            ("protect_audio = 3", "policies are not written like this"),
        ] {
            let refusal = one(line);
            assert!(refusal.contains(words), "{line}: {refusal}");
        }
        assert!(
            refusal("[[policy]]\nname = \"a\"").contains("unknown key `policy`; did you mean `policies`?")
        );
        let nine: String = (0..8).map(|number| format!("[[policies]]\nname = \"p{number}\"\n")).collect();
        assert!(refusal(&nine).contains("9 policies: at most 8"));
    }

    #[test]
    fn what_is_shown_can_be_put_back() -> anyhow::Result<()> {
        let text = include_str!("../../deploy/policies.toml");
        let policies = PolicyDocument::from_toml(text)?.policies()?;
        let shown = PolicyDocument::from(&policies);
        let again = PolicyDocument::from_json(serde_json::to_value(&shown)?)?;
        assert_eq!(again.policies()?, policies);
        Ok(())
    }

    #[test]
    fn load_does_not_turn_routes_that_relief_empties() -> anyhow::Result<()> {
        let text = "[[policies]]\nname = \"default\"\nrelief = \"other\"\n[[policies]]\nname = \"other\"\n";
        let policies = PolicyDocument::from_toml(text)?.policies()?;
        let weights: Vec<_> = policies.iter().map(|(_, policy)| policy.weights.load_pct).collect();
        assert_eq!(weights, [0, 100]);
        Ok(())
    }
}
