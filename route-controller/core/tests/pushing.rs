//! What relays are told when routes change: what is new, and no more often than they can use it.

mod lab;

use lab::{Lab, ms};
use proptest::prelude::*;
use std::time::Duration;
use wire_format::control::{LinkState, ToRelay};

/// Relays in a ring with some links across.
fn ring(count: u64, old: bool) -> Lab {
    let mut lab = Lab::new();
    for i in 1..=count {
        let name = format!("r{i}");
        lab.stations.entry(name.clone()).or_default().whole_tables = old;
        lab.connect(&name);
    }
    lab.run(ms(100));
    for i in 1..=count {
        for (step, rtt_ms) in [(1, 20), (5, 45)] {
            lab.link(&format!("r{i}"), &format!("r{}", (i - 1 + step) % count + 1), rtt_ms + i % 7);
        }
    }
    lab.run(ms(4_000));
    lab
}

fn deltas(lab: &Lab) -> usize {
    lab.stations.values().map(|station| station.deltas).sum()
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Cut(u64, u64),
    Mend(u64, u64, u64),
    Come(u64),
    Wait(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let relay = || 1..=12_u64;
    let event = prop_oneof![
        3 => (relay(), prop_oneof![Just(1_u64), Just(5)]).prop_map(|(a, step)| Event::Cut(a, step)),
        3 => (relay(), prop_oneof![Just(1_u64), Just(5), Just(3)], 5..200_u64)
            .prop_map(|(a, step, rtt)| Event::Mend(a, step, rtt)),
        1 => (13..15_u64).prop_map(Event::Come),
        3 => (1..4_000_u64).prop_map(Event::Wait),
    ];
    proptest::collection::vec(event, 1..20)
}

fn live(events: &[Event], old: bool) -> Lab {
    let mut lab = ring(12, old);
    let other = |a: u64, step: u64| format!("r{}", (a - 1 + step) % 12 + 1);
    for event in events {
        match *event {
            Event::Cut(a, step) => lab.cut(&format!("r{a}"), &other(a, step)),
            Event::Mend(a, step, rtt_ms) => lab.link(&format!("r{a}"), &other(a, step), rtt_ms),
            Event::Come(a) => {
                let name = format!("r{a}");
                if !lab.stations.contains_key(&name) {
                    lab.stations.entry(name.clone()).or_default().whole_tables = old;
                    lab.connect(&name);
                    lab.run(ms(50));
                    lab.link(&name, "r1", 30);
                    lab.link(&name, "r2", 30);
                }
            }
            Event::Wait(wait_ms) => lab.run(ms(wait_ms)),
        }
    }
    lab.run(ms(10_000));
    lab
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// What relays make of changes is what those are told that understand whole tables only, message by message.
    #[test]
    fn changes_make_the_tables_that_others_are_told(events in events()) {
        let (new, old) = (live(&events, false), live(&events, true));
        prop_assert_eq!(deltas(&old), 0);
        for (name, station) in &new.stations {
            prop_assert_eq!(&station.heard, &old.stations[name].heard);
        }
    }
}

#[test]
fn those_who_understand_get_what_is_new_and_others_all() {
    let mut lab = ring(12, false);
    lab.station("r3").whole_tables = true;
    lab.disconnect("r3");
    lab.connect("r3");
    lab.run(ms(3_000));
    let before = deltas(&lab);
    lab.cut("r5", "r6");
    lab.run(ms(3_000));
    assert!(deltas(&lab) >= before + 11, "all but one");
    assert_eq!(lab.stations["r3"].deltas, 0);
    let counters = lab.controller.status().counters;
    assert!(counters.tables_changed >= 11 && counters.tables_wanted == 0, "{counters:?}");
    let epochs: Vec<_> = lab.stations.values().map(|station| station.stamp).collect();
    assert!(epochs.iter().all(|stamp| *stamp == epochs[0]), "{epochs:?}");
}

#[test]
fn who_has_lost_what_changes_are_of_asks_for_all_and_gets_it_once() {
    let mut lab = ring(12, false);
    lab.station("r4").tables.clear();
    lab.cut("r5", "r6");
    lab.run(ms(3_000));
    assert_eq!(lab.controller.status().counters.tables_wanted, 1);
    let newest = |name: &str| lab.stations[name].tables.last().map(|table| table.epoch);
    assert!(newest("r4").is_some() && newest("r4") == newest("r5"));
    assert_eq!(lab.controller.status().counters.acks_missed, 0, "it was given the time");
    // Whoever asks again and again for the same gets it once; what is not held any more not at all.
    let epoch = newest("r4").expect("tables");
    let told = |lab: &Lab| lab.stations["r4"].heard.len();
    let before = told(&lab);
    for epoch in [epoch, epoch, wire_format::Epoch(epoch.0 + 7), wire_format::Epoch(0)] {
        lab.say("r4", wire_format::control::ToController::TableWanted { epoch });
    }
    lab.run(ms(1_000));
    assert_eq!(told(&lab), before);
    assert_eq!(lab.controller.status().counters.reports_refused, 4);
}

/// A link comes and goes for ten minutes, faster than anyone can follow. What a relay is told in that time: messages with
/// tables, and bytes of everything.
fn flapping(lab: &mut Lab, a: &str, b: &str, every: Duration) -> (usize, usize) {
    let tables = |lab: &Lab| {
        let is_table = |message: &ToRelay| matches!(message, ToRelay::Table(_) | ToRelay::TableDelta(_));
        let of = |station: &lab::Station| station.heard.iter().filter(|(_, said)| is_table(said)).count();
        lab.stations.values().map(of).max().expect("relays")
    };
    let bytes = |lab: &Lab| lab.stations.values().map(|station| station.bytes).max().expect("relays");
    let before = (tables(lab), bytes(lab));
    let until = lab.now + ms(600_000);
    let mut up = false;
    while lab.now < until {
        for (from, to) in [(a, b), (b, a)] {
            lab.set_link_end(from, to, if up { LinkState::Up } else { LinkState::Down });
        }
        up = !up;
        lab.run(every);
    }
    (tables(lab) - before.0, bytes(lab) - before.1)
}

#[test]
fn a_link_that_flaps_floods_nobody() {
    for every in [ms(300), ms(1_100), ms(2_900)] {
        let mut lab = ring(40, false);
        let whole = {
            let station = &lab.stations["r1"];
            let table = ToRelay::Table(station.tables.last().expect("tables").clone());
            prost::Message::encoded_len(&control_proto::proto::ToRelay::from(table))
        };
        let (tables, bytes) = flapping(&mut lab, "r1", "r2", every);
        let counters = lab.controller.status().counters;
        let told = format!(
            "every {every:?}: {tables} tables, {bytes} bytes a relay; {} epochs, {} of them urgent, {} merged; a table has {whole} bytes",
            counters.epochs, counters.epochs_urgent, counters.epochs_merged
        );
        let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{told}\n").as_bytes());
        // Twenty at once, and then one every 3 s.
        assert!(tables <= 220 && bytes <= 220 * whole / 2, "{told}");
        assert!(counters.epochs_urgent <= 132, "{told}");
    }
}
