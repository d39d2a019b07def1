//! What a new epoch changed, and what both ways cost when the epoch before was stamped and cost now.

use route_core::{Controller, CostTerms, LinkFact, RouteChangeView, RouteFilter};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use wire_format::{Epoch, NodeIndex, Plane, PolicyIndex, Timestamp};

/// Sender and receiver.
pub(super) type Ends = (NodeIndex, NodeIndex);
/// What links cost, as far as is known.
pub(super) type Prices = BTreeMap<Ends, LinkFact>;

/// Routes of an epoch that are told one by one; the others are counted.
const ROUTES_TOLD_MAX: usize = 50;

/// What is told of a new epoch, for people and for programs.
pub(super) struct Told {
    pub(super) text: String,
    pub(super) routes: Vec<Value>,
    pub(super) routes_changed: usize,
    pub(super) prices: Vec<Value>,
}

/// Prices before and now.
#[derive(Clone, Copy)]
pub(super) struct Moments<'a> {
    pub(super) then: &'a Prices,
    pub(super) now: &'a Prices,
}

/// What became another from one epoch to the next.
pub(super) fn changes(
    core: &Controller,
    now: Timestamp,
    (before, after): (Epoch, Epoch),
    moments: Moments<'_>,
) -> Told {
    let mut told = Told { text: String::new(), routes: Vec::new(), routes_changed: 0, prices: Vec::new() };
    for number in 0..PolicyIndex::COUNT {
        let Some(policy) = PolicyIndex::new(number as u8) else { continue };
        let Some(diff) = core.routes_diff(policy, before, after) else { continue };
        let primary: Vec<_> = diff.routes.iter().filter(|row| row.plane == Plane::PRIMARY).collect();
        told.routes_changed += primary.len();
        for row in primary {
            if told.routes.len() < ROUTES_TOLD_MAX {
                tell_route(core, now, (policy, before, after), row, moments, &mut told);
            }
        }
        if policy == PolicyIndex::DEFAULT {
            let prices = diff.prices.iter().map(|price| {
                json!({ "from": price.from, "to": price.to, "before_us": price.before_us, "after_us": price.after_us })
            });
            told.prices.extend(prices);
        }
    }
    if told.routes_changed > told.routes.len() {
        let more = told.routes_changed - told.routes.len();
        let _ = write!(told.text, "\n  and {more} routes more");
    }
    told
}

fn tell_route(
    core: &Controller,
    now: Timestamp,
    (policy, before, after): (PolicyIndex, Epoch, Epoch),
    row: &RouteChangeView,
    moments: Moments<'_>,
    told: &mut Told,
) {
    let path = |epoch: Epoch| -> Vec<String> {
        let filter = RouteFilter {
            node: core.node_index(&row.node),
            destination: core.node_index(&row.destination),
            plane: Some(Plane::PRIMARY),
            epoch: Some(epoch),
            policy,
        };
        core.routes(now, filter).into_iter().next().map(|route| route.path).unwrap_or_default()
    };
    let (was, is) = (path(before), path(after));
    let words = |path: &[String]| if path.is_empty() { "nowhere".to_owned() } else { path.join(" > ") };
    let _ = write!(told.text, "\n  {} to {}: {}, was {}", row.node, row.destination, words(&is), words(&was));
    let mut ways = Vec::new();
    for way in [&was, &is] {
        ways.push(way_of(core, way, moments, &mut told.text));
    }
    told.routes.push(json!({
        "policy": policy.bits(),
        "node": row.node,
        "destination": row.destination,
        "before": ways[0],
        "after": ways[1],
    }));
}

/// What a way cost and costs, by the default policy's prices.
fn way_of(core: &Controller, path: &[String], moments: Moments<'_>, text: &mut String) -> Value {
    if path.len() < 2 {
        return Value::Null;
    }
    let mut hops = Vec::new();
    let (mut then_us, mut now_us) = (Some(0), Some(0));
    let mut moved = String::new();
    for hop in path.windows(2) {
        let ends = core.node_index(&hop[0]).zip(core.node_index(&hop[1]));
        let fact = |prices: &Prices| ends.and_then(|ends| prices.get(&ends)).copied().unwrap_or_default();
        let (then, now) = (fact(moments.then), fact(moments.now));
        let add = |sum: Option<u64>, fact: &LinkFact| Some(sum? + fact.cost_us?);
        (then_us, now_us) = (add(then_us, &then), add(now_us, &now));
        if then.cost_us != now.cost_us {
            let _ = write!(moved, "\n      {}>{}: {}", hop[0], hop[1], change(&then, &now));
        }
        hops.push(json!({ "from": hop[0], "to": hop[1], "then": price(&then), "now": price(&now) }));
    }
    let us = |us: Option<u64>| us.map_or("closed".to_owned(), |us| format!("{us} us"));
    let _ = write!(text, "\n    {}: {} then, {} now{moved}", path.join(" > "), us(then_us), us(now_us));
    json!({ "path": path, "then_us": then_us, "now_us": now_us, "hops": hops })
}

/// How a price changed, with the terms that did.
pub(super) fn change(then: &LinkFact, now: &LinkFact) -> String {
    match (then.cost_us, now.cost_us) {
        (None, Some(us)) => format!("open, {us} us{}", terms_changed(then, now)),
        (Some(us), None) => format!("closed, was {us} us"),
        (None, None) => "closed".to_owned(),
        (Some(before), Some(after)) => format!("{before} us -> {after} us{}", terms_changed(then, now)),
    }
}

fn terms_changed(then: &LinkFact, now: &LinkFact) -> String {
    let then = terms(&then.terms.unwrap_or_default());
    let now = terms(&now.terms.unwrap_or_default());
    let moved = then.into_iter().zip(now).filter(|(before, after)| before.1 != after.1);
    let moved: Vec<_> =
        moved.map(|(before, after)| format!("{} {} -> {}", before.0, before.1, after.1)).collect();
    if moved.is_empty() { String::new() } else { format!(" ({})", moved.join(", ")) }
}

/// The terms of a cost by their names.
fn terms(terms: &CostTerms) -> [(&'static str, i64); 10] {
    let signed = |us: u64| i64::try_from(us).unwrap_or(i64::MAX);
    [
        ("one way", signed(terms.one_way_us)),
        ("queueing", signed(terms.queueing_us)),
        ("repair", signed(terms.repair_us)),
        ("hop", signed(terms.hop_us)),
        ("load", signed(terms.load_us)),
        ("money", signed(terms.money_us)),
        ("jitter", signed(terms.jitter_us)),
        ("distrust", signed(terms.distrust_us)),
        ("rounding", terms.rounding_us),
        ("preference", terms.preference_us),
    ]
}

/// A price with its terms, for programs; null while the link is closed.
pub(super) fn price(fact: &LinkFact) -> Value {
    let Some(cost_us) = fact.cost_us else { return Value::Null };
    let named = terms(&fact.terms.unwrap_or_default());
    let named = named.into_iter().map(|(name, us)| (format!("{}_us", name.replace(' ', "_")), us.into()));
    json!({ "cost_us": cost_us, "raw_us": fact.raw_us, "terms": Value::Object(named.collect()) })
}
