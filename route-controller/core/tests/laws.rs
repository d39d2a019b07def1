//! Random lives of an overlay. The lab asserts the contract at each step; here it is run twice, and in the end, when
//! everything has healed, everyone must have what they asked for.

mod lab;

use lab::{Lab, ms, stream};
use proptest::prelude::*;
use route_core::{Input, SessionId};
use wire_format::control::{LinkState, ToController};
use wire_format::{Epoch, NodeIndex, PublicationId, StreamId, StreamKey, SubscriptionId, UserId};

const RELAYS: usize = 5;

#[derive(Clone, Debug)]
enum Act {
    Link(usize, usize, u64),
    Cut(usize, usize),
    HalfCut(usize, usize),
    Disconnect(usize),
    Connect(usize),
    Crash(usize, bool),
    Mute(usize, bool),
    Publish(usize, u32),
    Unpublish(usize, u32),
    Subscribe(usize, u32, Option<u32>),
    Unsubscribe(usize, u32),
    Goodbye(usize),
    RestartController,
    Nonsense(usize, u32),
}

fn acts() -> impl Strategy<Value = Vec<(u64, Act)>> {
    let relay = 0..RELAYS;
    let act = prop_oneof![
        4 => (relay.clone(), relay.clone(), 1..100_u64).prop_map(|(a, b, rtt)| Act::Link(a, b, rtt)),
        2 => (relay.clone(), relay.clone()).prop_map(|(a, b)| Act::Cut(a, b)),
        1 => (relay.clone(), relay.clone()).prop_map(|(a, b)| Act::HalfCut(a, b)),
        2 => relay.clone().prop_map(Act::Disconnect),
        3 => relay.clone().prop_map(Act::Connect),
        1 => (relay.clone(), any::<bool>()).prop_map(|(a, seen)| Act::Crash(a, seen)),
        1 => (relay.clone(), any::<bool>()).prop_map(|(a, on)| Act::Mute(a, on)),
        4 => (relay.clone(), 0..6_u32).prop_map(|(a, n)| Act::Publish(a, n)),
        2 => (relay.clone(), 0..6_u32).prop_map(|(a, n)| Act::Unpublish(a, n)),
        4 => (relay.clone(), 0..3_u32, proptest::option::of(0..6_u32)).prop_map(|(a, n, u)| Act::Subscribe(a, n, u)),
        2 => (relay.clone(), 0..3_u32).prop_map(|(a, n)| Act::Unsubscribe(a, n)),
        1 => relay.clone().prop_map(Act::Goodbye),
        1 => Just(Act::RestartController),
        2 => (relay, 0..8_u32).prop_map(|(a, n)| Act::Nonsense(a, n)),
    ];
    let pause = prop_oneof![Just(0), 1..20_u64, 20..2_000_u64, 2_000..20_000_u64];
    proptest::collection::vec((pause, act), 1..60)
}

fn name(relay: usize) -> String {
    format!("r{}", relay + 1)
}

fn user(number: u32) -> String {
    format!("user{number}")
}

fn play(lab: &mut Lab, act: &Act, term: &mut u64) {
    match act {
        Act::Link(a, b, rtt_ms) if a != b => lab.link(&name(*a), &name(*b), *rtt_ms),
        Act::Cut(a, b) if a != b => lab.cut(&name(*a), &name(*b)),
        Act::HalfCut(a, b) if a != b => lab.set_link_end(&name(*a), &name(*b), LinkState::Down),
        Act::Link(..) | Act::Cut(..) | Act::HalfCut(..) => {}
        Act::Disconnect(a) => lab.disconnect(&name(*a)),
        Act::Connect(a) => lab.connect(&name(*a)),
        Act::Crash(a, seen) => lab.crash(&name(*a), *seen),
        Act::Mute(a, on) => lab.station(&name(*a)).mute = *on,
        Act::Publish(a, n) => lab.publish(&name(*a), *n, &stream(&user(*n), "camera")),
        Act::Unpublish(a, n) => lab.unpublish(&name(*a), *n),
        Act::Subscribe(a, n, wanted) => {
            lab.subscribe(&name(*a), *n, "demo", "call", wanted.map(user).as_deref());
        }
        Act::Unsubscribe(a, n) => lab.unsubscribe(&name(*a), *n),
        Act::Goodbye(a) => lab.say(&name(*a), ToController::Goodbye),
        Act::RestartController => {
            *term += 1;
            lab.restart_controller(*term);
        }
        Act::Nonsense(a, n) => nonsense(lab, &name(*a), *n),
    }
}

fn nonsense(lab: &mut Lab, relay: &str, kind: u32) {
    let key = StreamKey { room: wire_format::RoomId(kind), user: UserId(1), stream: StreamId(1) };
    let message = match kind {
        0 => ToController::ReportsComplete,
        1 => ToController::TableAck { epoch: Epoch(u32::MAX) },
        2 => ToController::StampAck { epoch: Epoch(0) },
        3 => ToController::StreamAck { key, revision: u64::MAX },
        4 => ToController::Unpublished { publication: PublicationId(u32::MAX) },
        5 => ToController::Unsubscribed { subscription: SubscriptionId(u32::MAX) },
        6 => {
            return lab
                .input(Input::FromRelay { session: SessionId(u64::MAX), message: ToController::Goodbye });
        }
        _ => return lab.input(Input::RelayDown { session: SessionId(u64::MAX) }),
    };
    lab.say(relay, message);
}

fn life(acts: &[(u64, Act)]) -> Lab {
    let mut lab = Lab::relays(RELAYS);
    let mut term = 1;
    for (pause_ms, act) in acts {
        play(&mut lab, act, &mut term);
        lab.run(ms(*pause_ms));
    }
    // Everything heals.
    for relay in 0..RELAYS {
        lab.station(&name(relay)).mute = false;
        for other in (0..RELAYS).filter(|other| *other != relay) {
            let rtt_ms = 10 + (relay * other) as u64;
            lab.station(&name(relay)).links.insert(name(other), (LinkState::Up, ms(rtt_ms), 0));
        }
    }
    for relay in 0..RELAYS {
        lab.disconnect(&name(relay));
        lab.run(ms(10));
        lab.connect(&name(relay));
        lab.run(ms(10));
    }
    lab.run(ms(10_000));
    lab.report_every = ms(10_000);
    lab.run(ms(170_000));
    lab
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_overlay_becomes_whole(acts in acts()) {
        let lab = life(&acts);
        // Everyone holds and stamps the same epoch, and every relay reaches every other.
        let epoch = lab.epoch();
        prop_assert!(epoch.is_some());
        prop_assert!(!lab.controller.status().recovering);
        for from in (0..RELAYS).map(name) {
            prop_assert_eq!(lab.stations[&from].stamp, epoch);
            for to in (0..RELAYS).map(name).filter(|to| *to != from) {
                let way = lab.way(&from, &to);
                prop_assert_eq!(way.last(), Some(&to));
            }
        }
        // Every publication is stamped for exactly those relays that have subscriptions to it; rows exist nowhere else.
        let mut published = std::collections::BTreeSet::new();
        for (relay, station) in &lab.stations {
            for publication in station.publications.values() {
                prop_assert!(publication.granted.is_some(), "{} at {}", publication.name.user, relay);
                prop_assert!(published.insert(publication.name.clone()), "published twice");
                let wanted: Vec<NodeIndex> = lab
                    .stations
                    .iter()
                    .filter(|(other, station)| {
                        *other != relay
                            && station.subscriptions.values().any(|subscription| {
                                subscription.user.as_ref().is_none_or(|user| *user == publication.name.user)
                            })
                    })
                    .map(|(other, _)| lab.node(other))
                    .collect::<std::collections::BTreeSet<_>>()
                    .into_iter()
                    .collect();
                let row = lab.row(relay, &publication.name);
                prop_assert_eq!(&row.map_or(Vec::new(), |row| row.destinations.clone()), &wanted);
                for egress in wanted {
                    let row = lab.row(lab.name_of(egress), &publication.name).expect("an egress has a row");
                    prop_assert_eq!(Some((row.key, row.incarnation)), publication.granted);
                    prop_assert_eq!(row.ingress, lab.node(relay));
                    prop_assert!(!row.subscriptions.is_empty());
                }
            }
        }
        for (relay, station) in &lab.stations {
            for row in station.rows.values() {
                prop_assert!(published.contains(&row.name), "{} keeps a row of {}", relay, row.name.user);
                prop_assert!(!row.subscriptions.is_empty() || !row.destinations.is_empty(), "{} keeps an idle row", relay);
            }
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn the_same_inputs_give_the_same_outputs(acts in acts()) {
        let (one, other) = (life(&acts), life(&acts));
        prop_assert_eq!(one.outputs, other.outputs);
    }
}
