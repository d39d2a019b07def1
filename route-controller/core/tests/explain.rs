//! Why routes are what they are, what they were, and how a relay is emptied.

mod lab;

use lab::{Lab, ms};
use route_core::{Avoidance, Input, RouteFilter, Verdict};
use std::collections::BTreeMap;
use wire_format::{Epoch, NodeIndex, Plane, PolicyIndex};

/// r1 reaches r4 by r2 (42 ms) or by r3 (62 ms); r5 hangs on r4.
fn diamond() -> Lab {
    let mut lab = Lab::relays(5);
    lab.chain(&[("r1", "r2", 40), ("r2", "r4", 40), ("r1", "r3", 60), ("r3", "r4", 60), ("r4", "r5", 10)]);
    lab.run(ms(5_000));
    lab
}

fn index(lab: &Lab, name: &str) -> NodeIndex {
    lab.controller.node_index(name).expect("it joined")
}

fn epoch(lab: &Lab) -> Epoch {
    lab.controller.status().epoch.expect("stamped")
}

/// By relay, plane and destination: next hop, path, cost.
type Dump = BTreeMap<(String, u8, String), (String, Vec<String>, u64)>;

fn dump(lab: &Lab, epoch: Epoch) -> Dump {
    let rows = lab.controller.routes(lab.now, RouteFilter { epoch: Some(epoch), ..RouteFilter::default() });
    rows.into_iter()
        .map(|row| ((row.node, row.plane.0, row.destination), (row.next_hop, row.path, row.cost_us)))
        .collect()
}

#[test]
fn the_runner_up_is_named_with_every_term_and_wins_exactly_where_it_is_said_to() {
    let mut lab = diamond();
    let (r1, r4) = (index(&lab, "r1"), index(&lab, "r4"));
    let explained = lab.controller.explain(lab.now, PolicyIndex::DEFAULT, r1, r4);
    let (chosen, other) = (explained.chosen.expect("a way"), explained.runner_up.expect("another"));
    assert_eq!((chosen.path, chosen.cost_us), (vec!["r1".into(), "r2".into(), "r4".into()], 42_000));
    assert_eq!((other.path, other.cost_us), (vec!["r1".into(), "r3".into(), "r4".into()], 62_000));
    assert_eq!(explained.margin_us, Some(20_000));
    for hop in chosen.hops.iter().chain(&other.hops) {
        assert_eq!(hop.terms.map(|terms| terms.total_us()), hop.cost_us);
        assert_eq!((hop.measured_by.as_ref(), hop.samples), (Some(&hop.from), Some(100)));
        assert!(hop.age.is_some_and(|age| age <= ms(1_100)) && hop.doubt.is_none() && hop.avoided.is_none());
    }
    let turns = |turns: &[route_core::TurnView]| {
        turns.iter().map(|turn| (turn.from.clone(), turn.cost_us, turn.turns_at_us)).collect::<Vec<_>>()
    };
    assert_eq!(turns(&explained.rises), [("r1".into(), 21_000, 41_000), ("r2".into(), 21_000, 41_000)]);
    assert_eq!(turns(&explained.falls), [("r1".into(), 31_000, 11_000), ("r3".into(), 31_000, 11_000)]);
    // What it says is so: at 41 ms nothing happens (the lower index wins a tie), beyond it the route turns.
    lab.link("r1", "r2", 80);
    lab.run(ms(20_000));
    assert_eq!(lab.path("r1", "r4").expect("a way")[1], "r2");
    lab.link("r1", "r2", 92);
    lab.run(ms(20_000));
    assert_eq!(lab.path("r1", "r4").expect("a way")[1], "r3");
    // Over the only link there is no other way.
    let (r4, r5) = (index(&lab, "r4"), index(&lab, "r5"));
    let lonely = lab.controller.explain(lab.now, PolicyIndex::DEFAULT, r4, r5);
    assert!(lonely.chosen.is_some() && lonely.runner_up.is_none() && lonely.rises.is_empty());
}

#[test]
fn why_a_way_does_not_pass_a_relay() {
    let mut lab = diamond();
    let why_not = |lab: &Lab, from: &str, to: &str, via: &str| {
        let [from, to, via] = [from, to, via].map(|name| index(lab, name));
        lab.controller.why_not(lab.now, PolicyIndex::DEFAULT, (from, to), via)
    };
    let dearer = why_not(&lab, "r1", "r4", "r3");
    assert_eq!((dearer.verdict, dearer.margin_us), (Verdict::Dearer, Some(20_000)));
    assert_eq!(why_not(&lab, "r1", "r4", "r2").verdict, Verdict::Taken);
    assert_eq!(why_not(&lab, "r1", "r4", "r4").verdict, Verdict::End);
    let back = why_not(&lab, "r1", "r4", "r5");
    assert_eq!((back.verdict, back.margin_us), (Verdict::TurnsBack, Some(12_000)));
    lab.input(Input::Cordon { name: "r3".into(), cordoned: true });
    lab.run(ms(3_000));
    assert_eq!(why_not(&lab, "r1", "r4", "r3").verdict, Verdict::Avoided(Avoidance::Cordoned));
    lab.crash("r3", true);
    lab.run(ms(20_000));
    assert_eq!(why_not(&lab, "r1", "r4", "r3").verdict, Verdict::Offline);
}

#[test]
fn epochs_of_the_past_are_as_they_were_and_their_differences_lead_from_one_to_the_other() {
    let mut lab = diamond();
    let mut seen = BTreeMap::from([(epoch(&lab), dump(&lab, epoch(&lab)))]);
    let turn = |lab: &mut Lab, seen: &mut BTreeMap<Epoch, Dump>| {
        lab.run(ms(15_000));
        seen.insert(epoch(lab), dump(lab, epoch(lab)));
    };
    lab.link("r1", "r2", 200);
    turn(&mut lab, &mut seen);
    lab.cut("r3", "r4");
    turn(&mut lab, &mut seen);
    lab.connect("r6");
    lab.link("r6", "r1", 10);
    turn(&mut lab, &mut seen);
    lab.crash("r5", true);
    turn(&mut lab, &mut seen);
    lab.link("r6", "r4", 10);
    turn(&mut lab, &mut seen);
    assert!(seen.len() >= 6, "{:?}", seen.keys());
    let known: Vec<Epoch> = lab.controller.epochs(lab.now).iter().map(|view| view.epoch).collect();
    for (epoch, rows) in &seen {
        assert!(known.contains(epoch));
        let then = dump(&lab, *epoch);
        let hops = |rows: &Dump| {
            rows.iter()
                .map(|(key, (next, path, _))| (key.clone(), (next.clone(), path.clone())))
                .collect::<Vec<_>>()
        };
        assert_eq!(hops(&then), hops(rows), "{epoch}");
    }
    for (before, rows) in &seen {
        for (after, wanted) in &seen {
            let diff =
                lab.controller.routes_diff(PolicyIndex::DEFAULT, *before, *after).expect("both are known");
            let mut next: BTreeMap<_, _> =
                rows.iter().map(|(key, (next, ..))| (key.clone(), next.clone())).collect();
            for row in diff.routes {
                let key = (row.node, row.plane.0, row.destination);
                let was = match row.after {
                    Some(after) => next.insert(key, after),
                    None => next.remove(&key),
                };
                assert_eq!(was, row.before);
            }
            let wanted: BTreeMap<_, _> =
                wanted.iter().map(|(key, (next, ..))| (key.clone(), next.clone())).collect();
            assert_eq!(next, wanted, "{before} to {after}");
        }
    }
    // Prices, too: the first change was one link's, in both directions. The epoch comes as soon as the way around by r3 and r4,
    // which costs 83 ms, is cheaper; the price rises to 101 ms later, and changes no route any more.
    let mut epochs = seen.keys();
    let (first, second) = (*epochs.next().expect("six"), *epochs.next().expect("six"));
    let priced =
        lab.controller.routes_diff(PolicyIndex::DEFAULT, first, second).expect("both are known").prices;
    let ends: Vec<(&str, &str)> = priced.iter().map(|price| (&*price.from, &*price.to)).collect();
    assert_eq!(ends, [("r1", "r2"), ("r2", "r1")]);
    assert!(
        priced.iter().all(|price| price.before_us == Some(21_000) && price.after_us > Some(83_000)),
        "{priced:?}"
    );
    assert_eq!(lab.controller.routes_diff(PolicyIndex::DEFAULT, first, Epoch(9_999_999)), None);
}

#[test]
fn a_hundred_epochs_are_kept() {
    let mut lab = diamond();
    for turn in 0..230 {
        if turn % 2 == 0 {
            lab.cut("r4", "r5");
        } else {
            lab.link("r4", "r5", 10);
        }
        lab.run(ms(2_500));
    }
    let epochs = lab.controller.epochs(lab.now);
    assert_eq!(epochs.len(), 100);
    assert_eq!(epochs.last().map(|view| view.epoch), Some(epoch(&lab)));
    let oldest = epochs[0].epoch;
    assert!(!dump(&lab, oldest).is_empty());
    assert!(dump(&lab, Epoch(oldest.0 - 1)).is_empty());
}

#[test]
fn a_cordoned_relay_carries_nothing_for_others_and_stays_so_over_restarts() {
    let mut lab = diamond();
    assert!(
        lab.controller.drain(lab.now, "r2").is_some_and(|drain| !drain.cordoned && drain.transit_pairs > 0)
    );
    let before = epoch(&lab);
    lab.input(Input::Cordon { name: "r2".into(), cordoned: true });
    let drain = lab.controller.drain(lab.now, "r2").expect("known");
    assert!(drain.cordoned && drain.transit_pairs > 0, "relays still hold tables that pass it");
    lab.run(ms(10_000));
    assert_eq!(lab.path("r1", "r4").expect("a way")[1], "r3");
    assert_eq!(lab.path("r1", "r2").expect("a way"), ["r1", "r2"], "it is a destination as before");
    assert!(epoch(&lab) > before);
    assert_eq!(lab.controller.drain(lab.now, "r2").map(|drain| drain.transit_pairs), Some(0));
    let cordoned = |lab: &Lab| {
        let nodes = lab.controller.nodes(lab.now).into_iter();
        nodes.filter(|node| node.cordoned).map(|node| node.name).collect::<Vec<_>>()
    };
    assert_eq!(cordoned(&lab), ["r2"]);
    lab.restart_controller(2);
    for relay in ["r1", "r2", "r3", "r4", "r5"] {
        lab.connect(relay);
    }
    lab.run(ms(10_000));
    assert_eq!(cordoned(&lab), ["r2"]);
    let primary = RouteFilter { plane: Some(Plane::PRIMARY), ..RouteFilter::default() };
    let rows = lab.controller.routes(lab.now, primary);
    assert!(
        !rows.is_empty() && rows.iter().all(|row| !row.path[1..row.path.len() - 1].contains(&"r2".into()))
    );
    // Where nothing else leads on it serves.
    lab.cut("r1", "r3");
    lab.run(ms(5_000));
    assert_eq!(lab.path("r1", "r4").expect("a way")[1], "r2");
    lab.link("r1", "r3", 60);
    lab.input(Input::Cordon { name: "r2".into(), cordoned: false });
    lab.input(Input::Cordon { name: "nobody".into(), cordoned: true });
    lab.run(ms(60_000));
    assert_eq!(lab.path("r1", "r4").expect("a way")[1], "r2");
    assert_eq!(cordoned(&lab), [""; 0]);
}
