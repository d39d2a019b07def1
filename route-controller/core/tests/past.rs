//! What is kept of the present answers for it later as the present did; and whom to ask how a stream fares.

mod lab;

use lab::{Lab, ms, stream};
use route_core::{Avoidance, Input, Moment, RouteFilter, TableFacts};
use wire_format::{Epoch, Plane, PolicyIndex};

fn diamond() -> Lab {
    let mut lab = Lab::relays(5);
    lab.chain(&[("r1", "r2", 40), ("r2", "r4", 40), ("r1", "r3", 60), ("r3", "r4", 60), ("r4", "r5", 10)]);
    lab.run(ms(5_000));
    lab
}

/// Goes on with what became of the present.
fn keep(lab: &Lab, moment: &mut Moment) {
    moment.nodes = lab.controller.node_facts(lab.now);
    match lab.controller.table_facts(lab.now, moment.epoch).expect("an epoch is stamped") {
        TableFacts::Whole(step) => {
            moment.next.clear();
            moment.step(&step);
        }
        TableFacts::Steps(steps) => steps.iter().for_each(|step| moment.step(step)),
    }
    // By pages, as a patient asker would.
    let (mut behind, mut links) = (None, Vec::new());
    loop {
        let some = lab.controller.link_facts(lab.now, behind, 3);
        behind = some.last().map(|(ends, _)| *ends);
        if some.is_empty() {
            break;
        }
        links.extend(some);
    }
    moment.links = links.into_iter().collect();
}

/// Asked of the moment, it says what the controller says of the present.
fn agrees(lab: &Lab, moment: &Moment) {
    let names: Vec<_> = moment.nodes.keys().copied().collect();
    for (from, to) in names.iter().flat_map(|from| names.iter().map(move |to| (*from, *to))) {
        let (present, past) =
            (lab.controller.explain(lab.now, PolicyIndex::DEFAULT, from, to), moment.explain(from, to));
        assert_eq!((&present.from, &present.to, present.epoch), (&past.from, &past.to, past.epoch));
        assert_eq!(present.chosen, past.chosen);
        assert_eq!(present.runner_up, past.runner_up);
        assert_eq!(
            (present.margin_us, &present.rises, &present.falls),
            (past.margin_us, &past.rises, &past.falls)
        );
    }
    let present = lab.controller.routes(lab.now, RouteFilter::default());
    let past = moment.routes(RouteFilter::default());
    assert_eq!(present.len(), past.len());
    for (present, past) in present.iter().zip(&past) {
        let row = |row: &route_core::RouteView| {
            (
                row.node.clone(),
                row.plane,
                row.destination.clone(),
                row.next_hop.clone(),
                row.path.clone(),
                row.cost_us,
            )
        };
        assert_eq!(row(present), row(past));
    }
    let cost = |link: &route_core::LinkView| {
        (link.from.clone(), link.to.clone(), link.usable, link.cost_us, link.rtt)
    };
    let present: Vec<_> = lab.controller.links(lab.now).iter().map(cost).collect();
    assert_eq!(present, moment.links().iter().map(cost).collect::<Vec<_>>());
}

#[test]
fn a_moment_answers_as_the_controller_did() {
    let mut lab = diamond();
    let mut moment = Moment::default();
    keep(&lab, &mut moment);
    agrees(&lab, &moment);
    let before = moment.clone();
    lab.link("r1", "r2", 200);
    lab.run(ms(15_000));
    lab.input(Input::Cordon { name: "r3".into(), cordoned: true });
    lab.cut("r4", "r5");
    lab.run(ms(15_000));
    lab.connect("r6");
    lab.link("r6", "r1", 10);
    lab.link("r6", "r4", 10);
    lab.run(ms(15_000));
    keep(&lab, &mut moment);
    agrees(&lab, &moment);
    let r3 = moment.node_index("r3").expect("there");
    assert_eq!(moment.nodes[&r3].avoided, Some(Avoidance::Cordoned));
    assert_eq!(moment.node_index("r9"), None);

    // What lies between the two is what the controller says does.
    let diff = before.diff(&moment);
    let known =
        lab.controller.routes_diff(PolicyIndex::DEFAULT, diff.before, diff.after).expect("both are known");
    assert!(!known.routes.is_empty() && !known.prices.is_empty());
    assert_eq!(diff.routes, known.routes);
    // Prices go on moving after an epoch is computed; those that it was computed with are among them.
    for price in &known.prices {
        assert!(
            diff.prices.iter().any(|other| (&other.from, &other.to) == (&price.from, &price.to)),
            "{price:?}"
        );
    }
    agrees_with_the_past(&before);
}

fn agrees_with_the_past(before: &Moment) {
    let (r1, r4) = (before.node_index("r1").expect("there"), before.node_index("r4").expect("there"));
    let explained = before.explain(r1, r4);
    let path = |way: Option<route_core::WayView>| way.map(|way| way.path.join(" "));
    assert_eq!(path(explained.chosen), Some("r1 r2 r4".to_owned()));
    assert_eq!(path(explained.runner_up), Some("r1 r3 r4".to_owned()));
    assert_eq!(explained.margin_us, Some(20_000));
}

#[test]
fn tables_are_told_whole_where_the_epoch_is_not_known() {
    let lab = diamond();
    let epoch = lab.epoch().expect("stamped");
    assert_eq!(lab.controller.newest_epoch(), Some(epoch));
    assert_eq!(lab.controller.table_facts(lab.now, Some(epoch)), Some(TableFacts::Steps(Vec::new())));
    for unknown in [None, Some(Epoch(epoch.0 + 1_000))] {
        let told = lab.controller.table_facts(lab.now, unknown).expect("an epoch");
        let TableFacts::Whole(step) = told else { panic!("{unknown:?}") };
        assert_eq!((step.epoch, step.rows.is_empty()), (epoch, false));
    }
}

#[test]
fn whoever_may_see_a_stream_is_named_to_be_asked() {
    let mut lab = diamond();
    let name = stream("alice", "video");
    assert_eq!(lab.controller.trace(&name), None, "nobody publishes it");
    lab.publish("r1", 1, &name);
    lab.subscribe("r4", 1, "demo", "call", Some("alice"));
    lab.subscribe("r5", 2, "demo", "call", Some("alice"));
    lab.run(ms(2_000));
    let view = lab.controller.trace(&name).expect("published");
    assert_eq!((view.ingress.as_str(), &view.egresses), ("r1", &vec!["r4".to_owned(), "r5".to_owned()]));
    let legs: Vec<_> = view.legs.iter().map(|leg| (leg.plane, leg.path.join(" "))).collect();
    let primary = |path: &str| (Plane::PRIMARY, path.to_owned());
    assert_eq!(legs, [primary("r1 r2 r4"), primary("r1 r2 r4 r5")]);
    let relays: Vec<_> =
        view.relays.iter().map(|relay| (relay.name.as_str(), relay.expected, relay.traces)).collect();
    // r3 stands by: the stream goes there when r2 fails.
    let expected = [("r1", true), ("r2", true), ("r4", true), ("r5", true), ("r3", false)];
    assert_eq!(relays, expected.map(|(relay, expected)| (relay, expected, true)));
    assert!(view.relays.iter().all(|relay| relay.session.is_some()));
    lab.disconnect("r2");
    lab.run(ms(100));
    let view = lab.controller.trace(&name).expect("published");
    assert!(view.relays.iter().any(|relay| relay.name == "r2" && relay.session.is_none()));
}
