//! What a controller's core is made from and told, from protobuf. A file may say anything: what makes no sense is an error.

use control_proto::proto;
use control_proto::proto::recorded_controller_input::Kind;
use control_proto::proto::recorded_place;
use prost::Message as _;
use route_core::{
    CertificateRule, ControllerConfig, CostConfig, EgressPrice, Executor, FeedingConfig, Input, LimitsConfig,
    NamespaceLimits, NeighbourConfig, NodeRecord, Pin, Place, Policies, Policy, SessionId, Weights,
};
use std::collections::BTreeSet;
use std::time::Duration;
use wire_format::control::limits::NAME_BYTES;
use wire_format::{Epoch, NodeIndex, RoomId};

/// Longest duration that is believed: far longer than any setting, and far from where sums overflow.
const DURATION_MAX: Duration = Duration::from_secs(100 * 366 * 24 * 3600);
/// Holders in a row, and moves a minute: more than anybody sets.
const COUNT_MAX: u64 = 1 << 16;

/// What a core is made from, and when its clock showed zero, milliseconds since 1970.
pub(super) fn controller(bytes: &[u8]) -> Result<(ControllerConfig, u64), String> {
    let start = proto::RecordedController::decode(bytes).map_err(|error| error.to_string())?;
    let nodes = start.nodes.into_iter().map(record).collect::<Result<Vec<_>, _>>()?;
    let indices: BTreeSet<NodeIndex> = nodes.iter().map(|record| record.node).collect();
    let names: BTreeSet<&str> = nodes.iter().map(|record| record.name.as_str()).collect();
    if indices.len() < nodes.len() || names.len() < nodes.len() {
        return Err("a relay is there twice".to_owned());
    }
    let quarantined = start.quarantined.iter();
    let quarantined = quarantined.map(|one| Ok((node(one.node)?, duration(one.lasted_us)?)));
    let rules = start.certificates.into_iter().map(|one| Ok((name(one.name.clone())?, rule(&one))));
    let named = start.limits_named.into_iter().map(|one| Ok((name(one.namespace.clone())?, limits(&one))));
    let default = start.limits_default.as_ref().map(limits).unwrap_or_default();
    let config = ControllerConfig {
        term: start.term,
        quarantined: quarantined.collect::<Result<_, String>>()?,
        index_quarantine: duration(start.index_quarantine_us)?,
        return_within: duration(start.return_within_us)?,
        epoch_floor: Epoch(start.epoch_floor),
        room_floor: RoomId(start.room_floor),
        certificates: rules.collect::<Result<_, String>>()?,
        limits: LimitsConfig { default, named: named.collect::<Result<_, String>>()? },
        cost: cost(start.cost.ok_or("no prices")?)?,
        executor: Executor::INLINE,
        neighbours: NeighbourConfig::new(start.mesh_max as usize, start.links_max as usize)
            .map_err(|error| error.to_string())?,
        feeding: feeding(start.feeding.ok_or("no feeding")?)?,
        policies: policies(start.policies.ok_or("no policies")?)?,
        seed: start.seed,
        nodes,
    };
    Ok((config, start.began_unix_ms))
}

/// What a core is told.
pub(super) fn input(bytes: &[u8]) -> Result<Input, String> {
    let input = proto::RecordedControllerInput::decode(bytes).map_err(|error| error.to_string())?;
    Ok(match input.kind.ok_or("an input of a kind that is not known")? {
        Kind::Timeout(proto::RecordedTimeout {}) => Input::Timeout,
        Kind::FromRelay(said) => {
            let message = said.message.ok_or("a relay said nothing")?;
            let message = message.try_into().map_err(|error| format!("what a relay said: {error}"))?;
            Input::FromRelay { session: SessionId(said.session), message }
        }
        Kind::RelayUp(up) => {
            let hello = up.hello.ok_or("no hello")?;
            let hello = hello.try_into().map_err(|error| format!("a hello: {error}"))?;
            Input::RelayUp { session: SessionId(up.session), name: name(up.name)?, hello }
        }
        Kind::RelayDown(down) => Input::RelayDown { session: SessionId(down.session) },
        Kind::Join(join) => Input::Join { name: name(join.name)?, region: name(join.region)? },
        Kind::Certificates(one) => Input::Certificates { rule: rule(&one), name: name(one.name)? },
        Kind::Cordon(one) => Input::Cordon { name: name(one.name)?, cordoned: one.cordoned },
        Kind::Drain(one) => Input::Drain { name: name(one.name)? },
        Kind::Policies(all) => Input::Policies(policies(all)?),
        Kind::TokenKeys(keys) => {
            let keys = keys.keys.into_iter().map(TryInto::try_into).collect::<Result<_, _>>();
            Input::TokenKeys(keys.map_err(|error: control_proto::ConvertError| error.to_string())?)
        }
    })
}

fn node(index: u32) -> Result<NodeIndex, String> {
    u16::try_from(index).map(NodeIndex).map_err(|_| format!("node index {index}"))
}

fn name(text: String) -> Result<String, String> {
    if text.len() <= NAME_BYTES { Ok(text) } else { Err(format!("a name of {} bytes", text.len())) }
}

fn duration(us: u64) -> Result<Duration, String> {
    let duration = Duration::from_micros(us);
    if duration <= DURATION_MAX { Ok(duration) } else { Err(format!("a duration of {us} us")) }
}

/// One that must not be nothing.
fn some_time(us: u64) -> Result<Duration, String> {
    if us == 0 { Err("a duration of nothing".to_owned()) } else { duration(us) }
}

fn count(number: u64) -> Result<usize, String> {
    if number <= COUNT_MAX { Ok(number as usize) } else { Err(format!("a limit of {number}")) }
}

fn record(recorded: proto::RecordedNode) -> Result<NodeRecord, String> {
    let addresses = recorded.addresses.iter().map(|text| text.parse());
    Ok(NodeRecord {
        node: node(recorded.node)?,
        name: name(recorded.name)?,
        region: name(recorded.region)?,
        addresses: addresses.collect::<Result<_, _>>().map_err(|_| "an address that is none")?,
        cordoned: recorded.cordoned,
        draining: recorded.draining,
    })
}

fn rule(recorded: &proto::RecordedCertificates) -> CertificateRule {
    CertificateRule { from_unix_s: recorded.from_unix_s, revoked: recorded.revoked }
}

fn limits(recorded: &proto::RecordedLimits) -> NamespaceLimits {
    let proto::RecordedLimits { namespace: _, streams, subscriptions, relays, bit_rate } = *recorded;
    NamespaceLimits { streams, subscriptions, relays, bit_rate }
}

fn cost(recorded: proto::RecordedCost) -> Result<CostConfig, String> {
    let price = |price: proto::RecordedEgress| {
        let micro_dollars_per_gb = price.micro_dollars_per_gb;
        Ok(EgressPrice { from: name(price.from)?, to: name(price.to)?, micro_dollars_per_gb })
    };
    Ok(CostConfig {
        hop: some_time(recorded.hop_us)?,
        repair_reaction: duration(recorded.repair_reaction_us)?,
        rtt_unmeasured: duration(recorded.rtt_unmeasured_us)?,
        smoothing_rise: some_time(recorded.smoothing_rise_us)?,
        smoothing_fall: some_time(recorded.smoothing_fall_us)?,
        hysteresis_pct: recorded.hysteresis_pct,
        hysteresis_min: duration(recorded.hysteresis_min_us)?,
        dwell: duration(recorded.dwell_us)?,
        dwell_doubled: duration(recorded.dwell_doubled_us)?,
        dwell_swinging: duration(recorded.dwell_swinging_us)?,
        load_step: duration(recorded.load_step_us)?,
        samples_min: recorded.samples_min,
        egress: recorded.egress.into_iter().map(price).collect::<Result<_, String>>()?,
        dollar_per_gb: duration(recorded.dollar_per_gb_us)?,
    })
}

fn feeding(recorded: proto::RecordedFeeding) -> Result<FeedingConfig, String> {
    Ok(FeedingConfig {
        gain: recorded.gain_us.map(duration).transpose()?,
        detour_pct: recorded.detour_pct,
        detour_max: duration(recorded.detour_max_us)?,
        depth: count(recorded.depth)?,
        moves_per_minute: count(recorded.moves_per_minute)?,
    })
}

fn policies(recorded: proto::RecordedPolicies) -> Result<Policies, String> {
    let policies = recorded.policies.into_iter().map(policy).collect::<Result<Vec<_>, _>>()?;
    Policies::new(policies).map_err(|error| error.to_string())
}

fn policy(recorded: proto::RecordedPolicy) -> Result<Policy, String> {
    let places = |places: Vec<proto::RecordedPlace>| {
        places.into_iter().map(place).collect::<Option<Vec<_>>>().ok_or("a place that is none")
    };
    let pins = recorded.pins.into_iter().map(|pin| Pin::new(pin.path));
    Ok(Policy {
        name: recorded.name,
        weights: Weights {
            delay_pct: recorded.delay_pct,
            repair_pct: recorded.repair_pct,
            queueing_pct: recorded.queueing_pct,
            jitter_pct: recorded.jitter_pct,
            load_pct: recorded.load_pct,
            money_pct: recorded.money_pct,
        },
        hop: recorded.hop_us.map(duration).transpose()?,
        prefer: places(recorded.prefer)?,
        prefer_pct: recorded.prefer_pct,
        forbid: places(recorded.forbid)?,
        emergency: places(recorded.emergency)?,
        pins: pins.collect::<Result<_, _>>().map_err(|error| error.to_string())?,
        protect_audio: recorded.protect_audio,
        relief: recorded.relief,
        namespaces: recorded.namespaces,
    })
}

fn place(recorded: proto::RecordedPlace) -> Option<Place> {
    Some(match recorded.kind? {
        recorded_place::Kind::Region(name) => Place::Region(name),
        recorded_place::Kind::Isp(name) => Place::Isp(name),
        recorded_place::Kind::Node(name) => Place::Node(name),
        recorded_place::Kind::Tag(name) => Place::Tag(name),
    })
}
