//! Epochs reach all relays in two phases; neither the silent nor the urgent break that.

mod lab;

use lab::{Lab, ms};
use std::time::Duration;
use wire_format::control::{LinkState, ToController, ToRelay};
use wire_format::{Epoch, NodeIndex, Timestamp};

/// A square: r1-r2-r4 is short, r1-r3-r4 a little longer, r1-r4 directly far.
fn square() -> Lab {
    let mut lab = Lab::relays(4);
    lab.chain(&[("r1", "r2", 20), ("r2", "r4", 20), ("r1", "r3", 30), ("r3", "r4", 30), ("r1", "r4", 200)]);
    lab.run(ms(4_000));
    assert_eq!(lab.way("r1", "r4"), ["r1", "r2", "r4"]);
    lab
}

/// When the relay was told to stamp each epoch.
fn stamps(lab: &Lab, relay: &str) -> Vec<(Timestamp, Epoch)> {
    let heard = lab.stations[relay].heard.iter();
    heard
        .filter_map(
            |(at, message)| if let ToRelay::Stamp { epoch } = message { Some((*at, *epoch)) } else { None },
        )
        .collect()
}

#[test]
fn nothing_is_stamped_before_all_have_acknowledged() {
    let mut lab = square();
    let before = lab.epoch();
    lab.station("r3").mute = true;
    let cut_at = lab.now;
    lab.cut("r1", "r2");
    // Detected by both ends here; the silent relay is waited for, 500 ms and no longer.
    lab.run(ms(500));
    assert_eq!(lab.epoch(), before);
    lab.run(ms(30));
    assert!(lab.epoch() > before);
    assert_eq!(stamps(&lab, "r1").last().map(|(at, _)| *at > cut_at + ms(500)), Some(true));
    // It is avoided then, for it may not know the tables that others use: its successor is the far link.
    lab.run(ms(2_000));
    assert_eq!(lab.path("r1", "r4").expect("a way"), ["r1", "r4"]);
    assert_eq!(lab.controller.status().counters.acks_missed, 1);
    // Having acknowledged again, it is used again after a while.
    lab.station("r3").mute = false;
    let epoch = lab.stations["r3"].tables.last().expect("tables").epoch;
    lab.say("r3", ToController::TableAck { epoch });
    lab.run(ms(12_000));
    assert_eq!(lab.way("r1", "r4"), ["r1", "r3", "r4"]);
}

#[test]
fn a_silent_relay_that_nothing_goes_around_is_still_passed() {
    let mut lab = Lab::relays(3);
    lab.chain(&[("r1", "r2", 20), ("r2", "r3", 20)]);
    lab.station("r2").mute = true;
    lab.run(ms(5_000));
    assert_eq!(lab.path("r1", "r3").expect("a way"), ["r1", "r2", "r3"]);
}

#[test]
fn who_joins_while_another_is_given_up_on_has_all_the_time_to_acknowledge() {
    // Nothing goes around the silent r2, so the tables that pass it are stamped after all.
    let mut lab = Lab::relays(4);
    lab.chain(&[("r1", "r2", 20), ("r2", "r3", 20)]);
    lab.run(ms(4_000));
    let before = lab.epoch();
    lab.station("r2").mute = true;
    lab.link("r1", "r4", 20);
    lab.run(ms(400));
    lab.connect("r5");
    lab.station("r5").mute = true;
    let joined_at = lab.now;
    lab.run(ms(450));
    assert_eq!(lab.epoch(), before, "r5 has not acknowledged what it was sent");
    lab.run(ms(200));
    let stamped = stamps(&lab, "r1").last().copied().expect("stamps");
    assert!(Some(stamped.1) > before && stamped.0 > joined_at + ms(500), "{stamped:?}");
}

#[test]
fn epochs_are_a_second_apart_unless_they_are_urgent() {
    let mut lab = square();
    lab.run(ms(5_000));
    let before = stamps(&lab, "r1").len();
    // Cheaper alternatives are not urgent: two in a row are a second apart.
    lab.link("r1", "r4", 20);
    lab.run(ms(200));
    lab.link("r2", "r3", 1);
    lab.run(ms(20_000));
    let times: Vec<Timestamp> = stamps(&lab, "r1").into_iter().skip(before).map(|(at, _)| at).collect();
    assert!(times.len() >= 2, "{times:?}");
    assert!(times.windows(2).all(|pair| pair[1].since(pair[0]) >= Duration::from_secs(1)), "{times:?}");
    // A failure right after an epoch is not made to wait.
    lab.link("r2", "r4", 4);
    lab.run(ms(1_000));
    let cut_at = lab.now;
    lab.cut("r1", "r4");
    lab.run(ms(1_000));
    let last = *stamps(&lab, "r1").last().expect("stamps");
    assert!(last.0 > cut_at && last.0.since(cut_at) < ms(100), "{} after {cut_at}", last.0);
}

#[test]
fn a_dead_relay_is_gone_around_within_the_coalescing_time_and_two_round_trips() {
    for seen in [true, false] {
        let mut lab = square();
        lab.run(ms(5_000));
        lab.crash("r2", seen);
        // The crash took a second to be detected by links, by one after the other; the session broke at once if it was
        // seen to.
        lab.run(ms(150));
        assert_eq!(lab.way("r1", "r4"), ["r1", "r3", "r4"], "session seen to break: {seen}");
        assert_eq!(lab.way("r4", "r1"), ["r4", "r3", "r1"], "session seen to break: {seen}");
    }
    // With the session the detection is not even needed.
    let mut lab = square();
    lab.run(ms(5_000));
    lab.disconnect("r2");
    lab.run(ms(5 + 5 * 2));
    assert_eq!(lab.way("r1", "r4"), ["r1", "r3", "r4"]);
}

#[test]
fn a_relay_without_session_stays_a_destination_and_is_no_transit() {
    let mut lab = square();
    lab.disconnect("r2");
    lab.run(ms(20_000));
    assert_eq!(lab.path("r1", "r2").expect("a way"), ["r1", "r2"]);
    assert_eq!(lab.path("r1", "r4").expect("a way"), ["r1", "r3", "r4"]);
    lab.connect("r2");
    lab.run(ms(3_000));
    assert_eq!(lab.way("r1", "r4"), ["r1", "r2", "r4"]);
}

#[test]
fn one_end_that_says_down_is_enough() {
    let mut lab = square();
    lab.set_link_end("r2", "r1", LinkState::Down);
    lab.run(ms(200));
    assert_eq!(lab.way("r1", "r4"), ["r1", "r3", "r4"]);
    assert_eq!(lab.way("r4", "r1"), ["r4", "r3", "r1"]);
}

#[test]
fn a_goodbye_is_gone_around_before_the_relay_is_gone() {
    let mut lab = square();
    lab.run(ms(2_000));
    lab.say("r2", ToController::Goodbye);
    lab.run(ms(15));
    assert_eq!(lab.way("r1", "r4"), ["r1", "r3", "r4"]);
    assert_eq!(lab.way("r1", "r2"), ["r1", "r2"]);
}

#[test]
fn nothing_new_pushes_nothing() {
    let mut lab = square();
    lab.run(ms(5_000));
    let (epoch, outputs) = (lab.epoch(), lab.outputs.len());
    for round in 0..60 {
        // Measurements tremble, and a link that no path uses dies.
        lab.link("r1", "r2", 20 + round % 2);
        lab.run(ms(1_000));
    }
    lab.cut("r1", "r4");
    lab.run(ms(3_000));
    assert_eq!(lab.epoch(), epoch);
    assert_eq!(lab.outputs.len(), outputs, "{:?}", &lab.outputs[outputs..]);
}

#[test]
fn a_newcomer_gets_the_tables_of_today_at_once() {
    let mut lab = square();
    lab.run(ms(3_000));
    let epoch = lab.epoch().expect("an epoch");
    lab.connect("r5");
    lab.run(ms(10));
    assert_eq!(lab.stations["r5"].stamp, Some(epoch));
    assert_eq!(lab.stations["r5"].neighbours.as_ref().map(Vec::len), Some(4));
    assert!(lab.stations["r1"].neighbours.as_ref().is_some_and(|list| list.iter().any(|n| n.name == "r5")));
    assert_eq!(lab.node("r5"), NodeIndex(4));
    lab.link("r5", "r2", 10);
    lab.run(ms(300));
    assert_eq!(lab.way("r5", "r4"), ["r5", "r2", "r4"]);
}

#[test]
fn the_controllers_own_trouble_changes_no_route() {
    let mut lab = square();
    lab.run(ms(3_000));
    let epoch = lab.epoch();
    for relay in ["r1", "r2", "r3", "r4"] {
        lab.disconnect(relay);
    }
    lab.run(ms(30_000));
    for (relay, wait) in [("r3", 4_000), ("r1", 300), ("r2", 2_000), ("r4", 5_000)] {
        lab.connect(relay);
        lab.run(ms(wait));
    }
    assert_eq!(lab.epoch(), epoch);
    assert_eq!(lab.way("r1", "r4"), ["r1", "r2", "r4"]);
}

#[test]
fn a_restarted_controller_waits_for_relays_that_live_and_never_uses_an_epoch_twice() {
    let mut lab = Lab::relays(3);
    lab.chain(&[("r1", "r2", 20), ("r2", "r3", 20)]);
    lab.connect("r9");
    lab.run(ms(4_000));
    let epoch = lab.epoch();
    // r9 never comes back; r2 and r3 do so later than it would take to give up on r9.
    lab.disconnect("r9");
    lab.restart_controller(2);
    lab.connect("r1");
    lab.run(ms(4_000));
    assert_eq!(lab.controller.status().epoch, None);
    assert!(lab.controller.status().recovering);
    lab.connect("r2");
    lab.run(ms(4_000));
    assert_eq!(lab.way("r1", "r3"), ["r1", "r2", "r3"]);
    lab.connect("r3");
    lab.run(ms(1_000));
    assert!(!lab.controller.status().recovering);
    assert!(lab.epoch() > epoch);
    assert_eq!(lab.way("r1", "r3"), ["r1", "r2", "r3"]);
}
