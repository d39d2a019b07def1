//! What namespaces hold and use, and what they may.
//!
//! Streams, subscriptions and relays are counted here, at the moment of the grant, over the whole overlay. Bits per
//! second are counted where they enter: each relay holds a namespace to its rate on its own, and reports what passed.
//! What a relay held before this controller started is never refused: a limit that was lowered, or two controllers that
//! knew of different halves, must not end calls.

use std::collections::BTreeMap;
use wire_format::NodeIndex;
use wire_format::control::{NamespaceRates, NamespaceUsage, limits};

/// Namespaces with counts of refusals or use alone, and nothing held, that are remembered.
const IDLE_MAX: usize = limits::NAMESPACES;

/// What a namespace may hold and use. `None` for no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NamespaceLimits {
    /// Streams published at once.
    pub streams: Option<u64>,
    /// Subscriptions at once.
    pub subscriptions: Option<u64>,
    /// Relays at which it publishes or subscribes at once.
    pub relays: Option<u64>,
    /// Bits of RTP per second that it may publish at one relay.
    pub bit_rate: Option<u64>,
}

/// Limits of all namespaces.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LimitsConfig {
    /// Of those that are not named.
    pub default: NamespaceLimits,
    /// Of those that are.
    pub named: BTreeMap<String, NamespaceLimits>,
}

impl LimitsConfig {
    /// What a namespace may.
    pub(crate) fn of(&self, namespace: &str) -> NamespaceLimits {
        self.named.get(namespace).copied().unwrap_or(self.default)
    }

    /// What relays hold namespaces to.
    pub(crate) fn rates(&self) -> NamespaceRates {
        let named = self.named.iter().map(|(name, limits)| (name.clone(), limits.bit_rate));
        NamespaceRates { default: self.default.bit_rate, named: named.take(limits::NAMESPACES).collect() }
    }
}

/// What a relay wants to hold for a namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Holding {
    Stream,
    Subscription,
}

/// One namespace.
#[derive(Clone, Debug, Default)]
struct Tenant {
    streams: u64,
    subscriptions: u64,
    /// By relay: how much it holds there.
    relays: BTreeMap<NodeIndex, u64>,
    refused: u64,
    /// By relay: what it reported last, and what it had before it started anew.
    usage: BTreeMap<NodeIndex, (NamespaceUsage, NamespaceUsage)>,
}

/// A namespace as people see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamespaceView {
    /// Its name.
    pub name: String,
    /// Streams published.
    pub streams: u64,
    /// Subscriptions held.
    pub subscriptions: u64,
    /// Relays at which it publishes or subscribes.
    pub relays: u64,
    /// What it may.
    pub limits: NamespaceLimits,
    /// Publications and subscriptions refused because of these limits.
    pub refused: u64,
    /// What passed at all relays since this controller heard of them.
    pub usage: NamespaceUsage,
}

/// All namespaces.
#[derive(Clone, Debug, Default)]
pub(super) struct Tenants {
    limits: LimitsConfig,
    tenants: BTreeMap<String, Tenant>,
}

impl Tenants {
    pub(super) fn new(limits: LimitsConfig) -> Tenants {
        Tenants { limits, tenants: BTreeMap::new() }
    }

    /// Whether a namespace may hold one thing more at a relay.
    ///
    /// # Errors
    /// Why not, for people. It is counted.
    pub(super) fn check(&mut self, namespace: &str, node: NodeIndex, holding: Holding) -> Result<(), String> {
        let NamespaceLimits { streams, subscriptions, relays, bit_rate: _ } = self.limits.of(namespace);
        let tenant = self.tenants.get(namespace);
        let (what, used, limit) = match holding {
            Holding::Stream => ("streams", tenant.map_or(0, |tenant| tenant.streams), streams),
            Holding::Subscription => {
                ("subscriptions", tenant.map_or(0, |tenant| tenant.subscriptions), subscriptions)
            }
        };
        let here = tenant.is_some_and(|tenant| tenant.relays.contains_key(&node));
        let elsewhere = tenant.map_or(0, |tenant| tenant.relays.len() as u64);
        let (what, limit) = match (limit, relays) {
            (Some(limit), _) if used >= limit => (what, limit),
            (_, Some(limit)) if !here && elsewhere >= limit => ("relays", limit),
            (_, _) => return Ok(()),
        };
        self.make_room();
        self.tenants.entry(namespace.to_owned()).or_default().refused += 1;
        let section = if self.limits.named.contains_key(namespace) { namespace } else { "default" };
        let advice = match what {
            "relays" => "use one of those that it is at",
            _ => "end some",
        };
        Err(format!(
            "namespace {namespace} has {limit} {what}, which is its limit: {advice}, or have `{what}` raised in \
             [namespaces.{section}] of the controller's configuration"
        ))
    }

    /// A namespace holds one thing more.
    pub(super) fn add(&mut self, namespace: &str, node: NodeIndex, holding: Holding) {
        let tenant = self.tenants.entry(namespace.to_owned()).or_default();
        *tenant.count(holding) += 1;
        *tenant.relays.entry(node).or_default() += 1;
    }

    /// A namespace holds one thing less.
    pub(super) fn remove(&mut self, namespace: &str, node: NodeIndex, holding: Holding) {
        let Some(tenant) = self.tenants.get_mut(namespace) else { return };
        *tenant.count(holding) -= 1;
        if let Some(held) = tenant.relays.get_mut(&node) {
            *held -= 1;
            if *held == 0 {
                tenant.relays.remove(&node);
            }
        }
    }

    /// What relays hold namespaces to.
    pub(super) fn rates(&self) -> NamespaceRates {
        self.limits.rates()
    }

    /// A relay reports what passed since it started.
    pub(super) fn used(&mut self, node: NodeIndex, report: Vec<NamespaceUsage>) {
        for usage in report.into_iter().take(limits::NAMESPACES) {
            if !self.tenants.contains_key(&usage.namespace) {
                self.make_room();
            }
            let tenant = self.tenants.entry(usage.namespace.clone()).or_default();
            let (last, before) = tenant.usage.entry(node).or_default();
            if usage.packets_in < last.packets_in || usage.packets_out < last.packets_out {
                // It started anew, and counts from nothing.
                *before = sum(before, last);
            }
            *last = usage;
        }
    }

    /// The relay of this index is another from now on, which counts from nothing.
    pub(super) fn relay_gone(&mut self, node: NodeIndex) {
        for (last, before) in self.tenants.values_mut().filter_map(|tenant| tenant.usage.get_mut(&node)) {
            *before = sum(before, &std::mem::take(last));
        }
    }

    /// All namespaces that hold or used something, or are named in the configuration.
    pub(super) fn views(&self) -> Vec<NamespaceView> {
        let mut names: Vec<&String> = self.tenants.keys().chain(self.limits.named.keys()).collect();
        names.sort_unstable();
        names.dedup();
        let none = Tenant::default();
        let view = |name: &String| {
            let tenant = self.tenants.get(name).unwrap_or(&none);
            let usage = tenant
                .usage
                .values()
                .fold(NamespaceUsage::default(), |all, (last, before)| sum(&sum(&all, last), before));
            NamespaceView {
                name: name.clone(),
                streams: tenant.streams,
                subscriptions: tenant.subscriptions,
                relays: tenant.relays.len() as u64,
                limits: self.limits.of(name),
                refused: tenant.refused,
                usage: NamespaceUsage { namespace: name.clone(), ..usage },
            }
        };
        names.into_iter().map(view).collect()
    }

    /// Refused and over rate, of all namespaces.
    pub(super) fn refused(&self) -> u64 {
        self.tenants.values().map(|tenant| tenant.refused).sum()
    }

    /// Names cost whoever may sign tokens nothing: of those that hold nothing, only so many are remembered.
    fn make_room(&mut self) {
        let idle = |tenant: &Tenant| tenant.relays.is_empty();
        if self.tenants.values().filter(|tenant| idle(tenant)).count() >= IDLE_MAX {
            self.tenants.retain(|_, tenant| !idle(tenant));
        }
    }
}

impl Tenant {
    fn count(&mut self, holding: Holding) -> &mut u64 {
        match holding {
            Holding::Stream => &mut self.streams,
            Holding::Subscription => &mut self.subscriptions,
        }
    }
}

fn sum(one: &NamespaceUsage, other: &NamespaceUsage) -> NamespaceUsage {
    NamespaceUsage {
        namespace: String::new(),
        packets_in: one.packets_in.saturating_add(other.packets_in),
        bytes_in: one.bytes_in.saturating_add(other.bytes_in),
        packets_out: one.packets_out.saturating_add(other.packets_out),
        bytes_out: one.bytes_out.saturating_add(other.bytes_out),
        packets_over_rate: one.packets_over_rate.saturating_add(other.packets_over_rate),
    }
}
