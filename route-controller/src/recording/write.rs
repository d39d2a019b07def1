//! What the core is made from and told, as protobuf. The simulator reads it.

use control_proto::proto;
use control_proto::proto::recorded_controller_input::Kind;
use control_proto::proto::recorded_place;
use control_proto::recorder::Recorder;
use route_core::{
    CertificateRule, ControllerConfig, CostConfig, EgressPrice, FeedingConfig, Input, NamespaceLimits,
    NodeRecord, Place, Policies, Policy, Weights,
};
use std::time::Duration;

/// The configuration.
pub(super) fn controller(began_unix_ms: u64, config: &ControllerConfig) -> proto::RecordedController {
    let ControllerConfig {
        term,
        nodes,
        quarantined,
        index_quarantine,
        return_within,
        epoch_floor,
        room_floor,
        certificates: rules,
        limits: namespaces,
        cost: prices,
        // Whoever computes, the outputs are the same.
        executor: _,
        neighbours,
        feeding: feeds,
        policies: all,
        seed,
    } = config;
    let lasted = quarantined.iter();
    let lasted = lasted
        .map(|(node, lasted)| proto::RecordedQuarantine { node: node.0.into(), lasted_us: micros(*lasted) });
    proto::RecordedController {
        term: *term,
        seed: *seed,
        nodes: nodes.iter().map(node).collect(),
        quarantined: lasted.collect(),
        index_quarantine_us: micros(*index_quarantine),
        return_within_us: micros(*return_within),
        epoch_floor: epoch_floor.0,
        room_floor: room_floor.0,
        certificates: rules.iter().map(|(name, rule)| certificates(name, *rule)).collect(),
        limits_default: Some(limits("", namespaces.default)),
        limits_named: namespaces.named.iter().map(|(name, one)| limits(name, *one)).collect(),
        cost: Some(cost(prices)),
        mesh_max: neighbours.mesh_max() as u32,
        links_max: neighbours.links_max() as u32,
        feeding: Some(feeding(feeds)),
        policies: Some(policies(all)),
        began_unix_ms,
    }
}

/// An input. Keys are written as pseudonyms.
pub(super) fn input(input: &Input, recorder: &Recorder) -> proto::RecordedControllerInput {
    let kind = match input {
        Input::Join { name, region } => {
            Kind::Join(proto::RecordedJoin { name: name.clone(), region: region.clone() })
        }
        Input::Certificates { name, rule } => Kind::Certificates(certificates(name, *rule)),
        Input::Cordon { name, cordoned } => {
            Kind::Cordon(proto::RecordedCordon { name: name.clone(), cordoned: *cordoned })
        }
        Input::Drain { name } => Kind::Drain(proto::RecordedDrain { name: name.clone() }),
        Input::Policies(all) => Kind::Policies(policies(all)),
        Input::RelayUp { session, name, hello } => Kind::RelayUp(proto::RecordedRelayUp {
            session: session.0,
            name: name.clone(),
            hello: Some(hello.clone().into()),
        }),
        Input::FromRelay { session, message } => {
            let mut message = message.clone();
            recorder.hide_keys(&mut message);
            Kind::FromRelay(proto::RecordedFromRelay { session: session.0, message: Some(message.into()) })
        }
        Input::RelayDown { session } => Kind::RelayDown(proto::RecordedRelayDown { session: session.0 }),
        Input::TokenKeys(keys) => {
            let mut keys = keys.clone();
            recorder.hide_token_keys(&mut keys);
            Kind::TokenKeys(proto::TokenKeys { keys: keys.into_iter().map(Into::into).collect() })
        }
        Input::Timeout => Kind::Timeout(proto::RecordedTimeout {}),
    };
    proto::RecordedControllerInput { kind: Some(kind) }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn node(record: &NodeRecord) -> proto::RecordedNode {
    let NodeRecord { node, name, region, addresses, cordoned, draining } = record;
    proto::RecordedNode {
        node: node.0.into(),
        name: name.clone(),
        region: region.clone(),
        addresses: addresses.iter().map(ToString::to_string).collect(),
        cordoned: *cordoned,
        draining: *draining,
    }
}

fn certificates(name: &str, rule: CertificateRule) -> proto::RecordedCertificates {
    let CertificateRule { from_unix_s, revoked } = rule;
    proto::RecordedCertificates { name: name.to_owned(), from_unix_s, revoked }
}

fn limits(namespace: &str, limits: NamespaceLimits) -> proto::RecordedLimits {
    let NamespaceLimits { streams, subscriptions, relays, bit_rate } = limits;
    proto::RecordedLimits { namespace: namespace.to_owned(), streams, subscriptions, relays, bit_rate }
}

fn cost(config: &CostConfig) -> proto::RecordedCost {
    let CostConfig {
        hop,
        repair_reaction,
        rtt_unmeasured,
        smoothing_rise,
        smoothing_fall,
        hysteresis_pct,
        hysteresis_min,
        dwell,
        dwell_doubled,
        dwell_swinging,
        load_step,
        samples_min,
        egress,
        dollar_per_gb,
    } = config;
    let price = |price: &EgressPrice| proto::RecordedEgress {
        from: price.from.clone(),
        to: price.to.clone(),
        micro_dollars_per_gb: price.micro_dollars_per_gb,
    };
    proto::RecordedCost {
        hop_us: micros(*hop),
        repair_reaction_us: micros(*repair_reaction),
        rtt_unmeasured_us: micros(*rtt_unmeasured),
        smoothing_rise_us: micros(*smoothing_rise),
        smoothing_fall_us: micros(*smoothing_fall),
        hysteresis_pct: *hysteresis_pct,
        hysteresis_min_us: micros(*hysteresis_min),
        dwell_us: micros(*dwell),
        dwell_doubled_us: micros(*dwell_doubled),
        dwell_swinging_us: micros(*dwell_swinging),
        load_step_us: micros(*load_step),
        samples_min: *samples_min,
        egress: egress.iter().map(price).collect(),
        dollar_per_gb_us: micros(*dollar_per_gb),
    }
}

fn feeding(config: &FeedingConfig) -> proto::RecordedFeeding {
    let FeedingConfig { gain, detour_pct, detour_max, depth, moves_per_minute } = config;
    proto::RecordedFeeding {
        gain_us: gain.map(micros),
        detour_pct: *detour_pct,
        detour_max_us: micros(*detour_max),
        depth: *depth as u64,
        moves_per_minute: *moves_per_minute as u64,
    }
}

fn policies(policies: &Policies) -> proto::RecordedPolicies {
    proto::RecordedPolicies { policies: policies.iter().map(|(_, one)| policy(one)).collect() }
}

fn policy(policy: &Policy) -> proto::RecordedPolicy {
    let Policy {
        name,
        weights,
        hop,
        prefer,
        prefer_pct,
        forbid,
        emergency,
        pins,
        protect_audio,
        relief,
        namespaces,
    } = policy;
    let Weights { delay_pct, repair_pct, queueing_pct, jitter_pct, load_pct, money_pct } = *weights;
    proto::RecordedPolicy {
        name: name.clone(),
        delay_pct,
        repair_pct,
        queueing_pct,
        jitter_pct,
        load_pct,
        money_pct,
        hop_us: hop.map(micros),
        prefer: prefer.iter().map(place).collect(),
        prefer_pct: *prefer_pct,
        forbid: forbid.iter().map(place).collect(),
        emergency: emergency.iter().map(place).collect(),
        pins: pins.iter().map(|pin| proto::RecordedPin { path: pin.path().to_vec() }).collect(),
        protect_audio: *protect_audio,
        relief: relief.clone(),
        namespaces: namespaces.clone(),
    }
}

fn place(place: &Place) -> proto::RecordedPlace {
    let kind = match place {
        Place::Region(name) => recorded_place::Kind::Region(name.clone()),
        Place::Isp(name) => recorded_place::Kind::Isp(name.clone()),
        Place::Node(name) => recorded_place::Kind::Node(name.clone()),
        Place::Tag(name) => recorded_place::Kind::Tag(name.clone()),
    };
    proto::RecordedPlace { kind: Some(kind) }
}
