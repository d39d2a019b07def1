//! Policies and prices as scenarios write them.

use super::ScenarioError;
use super::keys;
use route_core::{EgressPrice, Pin, Place, Policies, Policy, Weights};

/// All policies, checked.
pub(super) fn policies(file: &keys::File) -> Result<Policies, ScenarioError> {
    let policies = file.policy.iter().flatten().map(policy).collect::<Result<Vec<_>, _>>()?;
    Ok(Policies::new(policies)?)
}

fn policy(written: &keys::Policy) -> Result<Policy, ScenarioError> {
    let places = |places: &Option<Vec<String>>| {
        let place = |text: &String| match text.strip_prefix("region:") {
            Some(region) => Place::Region(region.to_owned()),
            None => Place::Node(text.clone()),
        };
        places.iter().flatten().map(place).collect()
    };
    let pins = written.pins.iter().flatten().map(|pin| {
        let path = pin.split('>').map(|name| name.trim().to_owned());
        Ok(Pin::new(path.collect())?)
    });
    let weights = Weights {
        delay_pct: written.delay_pct.unwrap_or(100),
        load_pct: written.load_pct.unwrap_or(if written.relief.is_some() { 0 } else { 100 }),
        money_pct: written.money_pct.unwrap_or(100),
        ..Weights::default()
    };
    Ok(Policy {
        weights,
        namespaces: written.namespaces.clone().unwrap_or_default(),
        forbid: places(&written.forbid),
        emergency: places(&written.emergency),
        pins: pins.collect::<Result<_, ScenarioError>>()?,
        protect_audio: written.protect_audio.unwrap_or(false),
        relief: written.relief.clone(),
        ..Policy::new(&written.name)
    })
}

pub(super) fn price(price: &keys::Price) -> EgressPrice {
    EgressPrice {
        from: price.from.clone(),
        to: price.to.clone(),
        micro_dollars_per_gb: price.cents_per_gb.saturating_mul(10_000),
    }
}
