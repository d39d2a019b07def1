//! Silence of a link: suspect, down, reported, given up; and what hearing again does.

mod lab;

use lab::{Lab, table};
use std::time::Duration;
use wire_format::NodeIndex;
use wire_format::control::{LinkState, ToController};

fn states(lab: &mut Lab, from: usize) -> Vec<LinkState> {
    let reports = std::mem::take(&mut lab.reports);
    reports
        .into_iter()
        .filter(|(at, _)| *at == from)
        .filter_map(|(_, report)| {
            let ToController::Links(links) = report else { return None };
            links.into_iter().find(|link| link.neighbour == NodeIndex(1))
        })
        .map(|link| link.state)
        .collect()
}

fn pair() -> Lab {
    let mut lab = Lab::new(2);
    lab.link(0, 1);
    lab.push(0, table(1, &[(1, 1)]));
    lab.run(Duration::from_secs(3));
    lab
}

#[test]
fn a_silent_link_that_routes_need_is_suspect_after_100_ms_and_down_after_1_s() {
    let mut lab = pair();
    assert_eq!(states(&mut lab, 0).last(), Some(&LinkState::Up));
    lab.cut.insert((1, 0));
    lab.run(Duration::from_millis(60));
    assert!(
        states(&mut lab, 0).iter().all(|state| *state == LinkState::Up),
        "heard at most 33 ms before the cut"
    );
    lab.run(Duration::from_millis(50));
    assert_eq!(states(&mut lab, 0).last(), Some(&LinkState::Suspect));
    lab.run(Duration::from_millis(800));
    states(&mut lab, 0);
    lab.run(Duration::from_millis(100));
    assert!(states(&mut lab, 0).contains(&LinkState::Down));
    lab.cut.clear();
    lab.run(Duration::from_millis(400));
    assert!(states(&mut lab, 0).iter().all(|state| *state == LinkState::Down), "the hold-down");
    lab.run(Duration::from_millis(300));
    assert_eq!(states(&mut lab, 0).last(), Some(&LinkState::Up));
}

#[test]
fn a_link_without_hope_is_closed() {
    let mut lab = pair();
    lab.cut.extend([(0, 1), (1, 0)]);
    lab.run(Duration::from_secs(5));
    let closed: Vec<_> = lab.closed.iter().map(|(at, _, reason)| (*at, *reason)).collect();
    assert!(
        closed.contains(&(0, "silent for too long")) && closed.contains(&(1, "silent for too long")),
        "{closed:?}"
    );
}

#[test]
fn heartbeats_are_rare_where_nothing_needs_the_link() {
    let mut lab = Lab::new(2);
    lab.link(0, 1);
    lab.run(Duration::from_secs(4));
    lab.crossings.clear();
    lab.run(Duration::from_secs(10));
    let sent = lab.crossings.iter().filter(|c| c.from == 0).count();
    assert!((9..=11).contains(&sent), "{sent}");
    lab.push(0, table(1, &[(1, 1)]));
    lab.crossings.clear();
    lab.run(Duration::from_secs(10));
    for from in [0, 1] {
        let sent = lab.crossings.iter().filter(|c| c.from == from).count();
        assert!((290..=305).contains(&sent), "{sent} from {from}: a route at 0 needs both to speak");
    }
}

#[test]
fn an_sfu_gives_up_a_relay_that_fell_silent_under_media_after_a_second() {
    let mut lab = Lab::new(1);
    lab.push(0, table(1, &[]));
    let publisher = lab.publisher(0);
    let subscriber = lab.subscriber(0).0;
    for _ in 0..50 {
        lab.send(publisher, 1, &[b"\x80media"]);
        lab.run(Duration::from_millis(20));
    }
    lab.cut.extend([(0, publisher), (0, subscriber)]);
    lab.run(Duration::from_millis(950));
    assert!(lab.closed.is_empty());
    lab.run(Duration::from_millis(100));
    let closed: Vec<_> = lab.closed.iter().map(|(at, _, reason)| (*at, *reason)).collect();
    assert!(closed.contains(&(publisher, "silent for too long")), "{closed:?}");
}
