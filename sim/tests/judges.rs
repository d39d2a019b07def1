//! Each judge notices the bug it is there for: a trace that nobody objects to is changed as the bug would change it.

use sim::{Delivered, Event, Frame, PushedTable, RelayId, Row, Scenario, StreamNumber, Trace, judge};
use std::collections::BTreeSet;
use std::time::Duration;

fn scenario(name: &str) -> Scenario {
    let path = format!("{}/scenarios/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect("a scenario of the folder");
    Scenario::parse(&text, &mut |_| unreachable!("names no files")).expect("legal")
}

fn sound(name: &str) -> (Scenario, Trace) {
    let scenario = scenario(name);
    let trace = sim::run(&scenario, scenario.seed);
    assert_eq!(judge(&scenario, &trace), [], "nothing planted yet");
    (scenario, trace)
}

/// Changes events where `change` returns something, and tells which judges object then.
fn objectors(
    (scenario, trace): &(Scenario, Trace),
    mut change: impl FnMut(Duration, &Event) -> Option<Vec<Event>>,
) -> Vec<&'static str> {
    let mut changed = 0;
    let mutated = trace.mutated(|at, event| match change(at, event) {
        Some(instead) => {
            changed += 1;
            instead.into_iter().map(|event| (at, event)).collect()
        }
        None => vec![(at, event.clone())],
    });
    assert!(changed > 0, "the bug was planted");
    let mut judges: Vec<_> = judge(scenario, &mutated).into_iter().map(|objection| objection.judge).collect();
    judges.dedup();
    judges
}

/// Plants a bug at one event only: the first that `change` finds something for after two seconds.
fn objectors_once(
    sound: &(Scenario, Trace),
    mut change: impl FnMut(&Event) -> Option<Vec<Event>>,
) -> Vec<&'static str> {
    let mut done = false;
    objectors(sound, |at, event| {
        let instead = change(event).filter(|_| !done && at > Duration::from_secs(2));
        done |= instead.is_some();
        instead
    })
}

#[test]
fn laws() {
    let line = sound("line");
    let broken = |event: &Event| {
        let violation = Event::Violation { who: "r1".into(), what: "law 3".into() };
        Some(vec![event.clone(), violation])
    };
    assert_eq!(objectors_once(&line, broken), ["laws"]);
    let counted = objectors(&line, |_, event| {
        let Event::Counter { host, name: "media_published", value } = event else { return None };
        Some(vec![Event::Counter { host: *host, name: "drop_hop_limit", value: *value }])
    });
    assert_eq!(counted, ["laws"]);
}

#[test]
fn loops() {
    let line = sound("line");
    let back = objectors_once(&line, |event| {
        // The second relay sends the frame back to the first as well.
        let frame = event.frame().filter(|frame| frame.from == RelayId(1))?;
        Some(vec![event.clone(), Event::Frame(Frame { to: RelayId(0), ..frame.clone() })])
    });
    assert_eq!(back, ["loops"]);
    let used_up = objectors_once(&line, |event| {
        let frame = event.frame().filter(|frame| frame.from == RelayId(1))?;
        Some(vec![Event::Frame(Frame { hop_limit: 0, ..frame.clone() })])
    });
    assert_eq!(used_up, ["loops"]);
}

#[test]
fn copies() {
    let line = sound("line");
    let split = objectors_once(&line, |event| {
        // One copy for each of two destinations behind the same link.
        let frame = event.frame().filter(|frame| frame.from == RelayId(0) && frame.destinations.len() > 1)?;
        let copy =
            |destination: &RelayId| Event::Frame(Frame { destinations: vec![*destination], ..frame.clone() });
        Some(frame.destinations.iter().map(copy).collect())
    });
    assert_eq!(split, ["copies"]);
}

#[test]
fn twice() {
    let line = sound("line");
    let again = objectors_once(&line, |event| event.delivered().map(|_| vec![event.clone(), event.clone()]));
    assert_eq!(again, ["twice"]);
}

#[test]
fn entitled() {
    let line = sound("line");
    for name in ["stranger", "sfu-c"] {
        let client = line.0.client_ids().find(|client| line.0.client(*client).name == name).expect("in it");
        let leak = objectors_once(&line, |event| {
            // Video goes to one of another tenant, and to one who asked for audio alone.
            let is_video = |delivered: &&Delivered| delivered.announced == Some(StreamNumber(1));
            let delivered = event.delivered().filter(is_video)?;
            Some(vec![event.clone(), Event::Delivered(Delivered { client, ..delivered.clone() })])
        });
        assert_eq!(leak, ["entitled"], "{name}");
    }
}

#[test]
fn intact() {
    let line = sound("line");
    let changes: [fn(&mut Delivered); 4] = [
        |delivered| delivered.digest ^= 1,
        |delivered| delivered.rtcp = !delivered.rtcp,
        |delivered| delivered.sequence += 1,
        |delivered| delivered.announced = None,
    ];
    for change in changes {
        let damaged = objectors_once(&line, |event| {
            let mut damaged = event.delivered()?.clone();
            change(&mut damaged);
            Some(vec![Event::Delivered(damaged)])
        });
        assert_eq!(damaged, ["intact"]);
    }
}

#[test]
fn complete() {
    let ring = sound("ring-cut");
    let lost = |event: &Event| event.delivered().map(|_| Vec::new());
    let in_the_calm = objectors(&ring, |at, event| {
        // A single packet, long after the network has healed.
        let delivered = event.delivered().filter(|_| at > Duration::from_secs(20))?;
        delivered.packet.is_some_and(|packet| packet.number == 1_050).then(Vec::new)
    });
    assert_eq!(in_the_calm, ["complete"]);
    let too_late = objectors(&ring, |at, event| {
        // Media finds the other way later than promised.
        lost(event).filter(|_| (4_000..5_800).contains(&at.as_millis()))
    });
    assert_eq!(too_late, ["complete", "reroute"]);
    let joined_late = objectors(&ring, |at, event| lost(event).filter(|_| at < Duration::from_millis(1_700)));
    assert_eq!(joined_late, ["complete"]);
    let never_sent = objectors(&ring, |at, event| {
        let is_media = matches!(event, Event::Sent { .. } | Event::Delivered(_));
        (is_media && at > Duration::from_secs(10)).then(Vec::new)
    });
    assert_eq!(never_sent, ["complete"]);
    let before_it_is_due =
        objectors(&ring, |at, event| lost(event).filter(|_| at < Duration::from_millis(1_000)));
    assert_eq!(before_it_is_due, [] as [&str; 0], "the beginning takes its time");
}

#[test]
fn complete_where_links_lose_packets() {
    let text = include_str!("../scenarios/line.toml").replace("jitter=2ms", "jitter=2ms,loss=2%");
    let mut scenario = Scenario::parse(&text, &mut |_| unreachable!("names no files")).expect("legal");
    scenario.expect.gap_max = None;
    let trace = sim::run(&scenario, 1);
    assert_eq!(judge(&scenario, &trace), [], "losses alone are nobody's fault");
    let silent = objectors(&(scenario, trace), |at, event| {
        event.delivered().filter(|_| at > Duration::from_secs(5)).map(|_| Vec::new())
    });
    assert_eq!(silent, ["complete"]);
}

#[test]
fn routes() {
    let ring = sound("ring-cut");
    let detour = objectors(&ring, |at, event| {
        // Long after all is well, the long side of the ring is still taken.
        let frame = event.frame().filter(|_| at > Duration::from_secs(22))?;
        let hop = |from, to| {
            let (from, to) = (RelayId(from), RelayId(to));
            Event::Frame(Frame { from, to, destinations: vec![RelayId(2)], ..frame.clone() })
        };
        match (frame.from, frame.to) {
            (RelayId(0), RelayId(1)) => Some(vec![hop(0, 4), hop(4, 3), hop(3, 2)]),
            (RelayId(1), RelayId(2)) => Some(Vec::new()),
            (_, _) => None,
        }
    });
    assert!(detour.contains(&"routes"), "{detour:?}");
}

#[test]
fn settled() {
    let hosts = sound("busy-hosts");
    let detour = objectors_once(&hosts, |event| {
        // One packet takes the second best way.
        let frame = event.frame().filter(|frame| frame.from == RelayId(0) && frame.to == RelayId(1))?;
        let by = |from, to| Event::Frame(Frame { from: RelayId(from), to: RelayId(to), ..frame.clone() });
        Some(vec![by(0, 2), by(2, 3)])
    });
    assert!(!detour.contains(&"settled"), "before the time is over: {detour:?}");
    let mut moved = None;
    let detour = objectors(&hosts, |at, event| {
        let frame = event.frame().filter(|_| at > Duration::from_secs(10))?;
        if moved.is_none() && frame.from == RelayId(0) {
            moved = Some(frame.packet);
        }
        let by = |from, to| Event::Frame(Frame { from: RelayId(from), to: RelayId(to), ..frame.clone() });
        match (moved == Some(frame.packet), frame.from) {
            (true, RelayId(0)) => Some(vec![by(0, 2), by(2, 3)]),
            (true, _) => Some(Vec::new()),
            (false, _) => None,
        }
    });
    assert!(detour.contains(&"settled"), "{detour:?}");
}

/// Frames that a relay on the way around the cut forwards: r2 lost r3 and sends by r1, r5 and r4.
fn on_the_way_around(event: &Event) -> Option<&Frame> {
    event.frame().filter(|frame| frame.plane != 0 && frame.from == RelayId(4))
}

#[test]
fn planes() {
    let reroute = sound("fast-reroute-link");
    let changes: [fn(&mut Frame); 3] =
        [|frame| frame.plane = 3 - frame.plane, |frame| frame.plane = 0, |frame| frame.marked = false];
    for change in changes {
        let changed = objectors_once(&reroute, |event| {
            let mut frame = on_the_way_around(event)?.clone();
            change(&mut frame);
            Some(vec![Event::Frame(frame)])
        });
        assert!(changed.contains(&"planes"), "{changed:?}");
    }
}

#[test]
fn loops_and_copies_on_the_redundant_planes() {
    let reroute = sound("fast-reroute-link");
    let back = objectors_once(&reroute, |event| {
        let frame = on_the_way_around(event)?;
        Some(vec![Event::Frame(Frame { to: RelayId(0), ..frame.clone() })])
    });
    assert!(back.contains(&"loops"), "{back:?}");
    let twice = objectors_once(&reroute, |event| {
        let frame = on_the_way_around(event)?;
        Some(vec![event.clone(), Event::Frame(frame.clone())])
    });
    assert_eq!(twice, ["loops"], "two failures: whose copy it is, counts");
    let relay = sound("fast-reroute-relay");
    let twice = objectors_once(&relay, |event| {
        let frame = event.frame().filter(|frame| frame.plane != 0)?;
        Some(vec![event.clone(), Event::Frame(frame.clone())])
    });
    assert!(twice.contains(&"copies"), "{twice:?}");
}

#[test]
fn tables() {
    let ring = sound("ring-cut");
    let changes: [fn(&mut PushedTable); 8] = [
        // Back to where it comes from.
        |table| {
            let rows = table.rows.iter_mut();
            let own = rows.filter(|row| (row.plane, row.destination) == (0, RelayId(2)));
            own.filter(|_| table.relay == RelayId(1)).for_each(|row| row.next_hop = RelayId(0));
        },
        // Nowhere.
        |table| table.rows.retain(|row| table.relay != RelayId(1) || row.destination != RelayId(2)),
        // Over a link that is not there.
        |table| {
            let rows = table.rows.iter_mut().filter(|row| row.destination == RelayId(3));
            rows.filter(|_| table.relay == RelayId(0)).for_each(|row| row.next_hop = RelayId(3));
        },
        // Red and blue are one.
        |table| {
            table.rows.retain(|row| row.plane != 2);
            let red: Vec<Row> = table.rows.iter().filter(|row| row.plane == 1).copied().collect();
            table.rows.extend(red.into_iter().map(|row| Row { plane: 2, ..row }));
        },
        |table| table.pairs.clear(),
        |table| table.pairs.iter_mut().for_each(|(_, pair)| *pair = [1, 1]),
        |table| table.backups.clear(),
        |table| table.backups.iter_mut().for_each(|(_, plane)| *plane = 3 - *plane),
    ];
    for (place, change) in changes.into_iter().enumerate() {
        let changed = objectors(&ring, |_, event| {
            let Event::Pushed(table) = event else { return None };
            let mut table = table.clone();
            change(&mut table);
            Some(vec![Event::Pushed(table)])
        });
        assert!(changed.contains(&"tables"), "change {place}: {changed:?}");
    }
}

#[test]
fn epochs() {
    let ring = sound("ring-cut");
    let unacknowledged =
        objectors_once(&ring, |event| matches!(event, Event::TableAcked { .. }).then(Vec::new));
    assert_eq!(unacknowledged, ["epochs"]);
    let newest =
        ring.1.events().iter().filter_map(|(_, event)| {
            if let Event::Ordered { epoch, .. } = event { Some(*epoch) } else { None }
        });
    let newest = newest.max().expect("epochs pass");
    let never_ordered = objectors(&ring, |_, event| {
        matches!(event, Event::Ordered { epoch, .. } if *epoch == newest).then(Vec::new)
    });
    assert!(never_ordered.contains(&"epochs"), "{never_ordered:?}");
    let late = ring.1.mutated(|at, event| {
        let late = matches!(event, Event::Ordered { epoch, .. } if *epoch == newest);
        vec![(if late { at + Duration::from_millis(700) } else { at }, event.clone())]
    });
    let late: Vec<_> = judge(&ring.0, &late).into_iter().map(|objection| objection.judge).collect();
    assert!(late.contains(&"epochs"), "held up for longer than anybody is waited for: {late:?}");
    let unmarked = objectors_once(&ring, |event| {
        let frame = event.frame().filter(|frame| frame.from == RelayId(1))?;
        Some(vec![Event::Frame(Frame { epoch: frame.epoch + 1_000, ..frame.clone() })])
    });
    assert!(unmarked.contains(&"epochs"), "a stranger is forwarded without a mark: {unmarked:?}");
    let three = objectors(&ring, |at, event| {
        let frame = event.frame().filter(|frame| frame.from == RelayId(1) && at > Duration::from_secs(22))?;
        let epoch = frame.epoch - (frame.packet.number % 3) as u16;
        Some(vec![Event::Frame(Frame { epoch, ..frame.clone() })])
    });
    assert!(three.contains(&"epochs"), "a relay forgets: {three:?}");
}

#[test]
fn reroute() {
    let link = sound("fast-reroute-link");
    let lost = |event: &Event| event.delivered().map(|_| Vec::new());
    let slow = objectors(&link, |at, event| lost(event).filter(|_| (7_000..7_400).contains(&at.as_millis())));
    assert!(slow.contains(&"reroute"), "{slow:?}");
    // A packet that was on the cable and should have been sent again.
    let on_the_cable = |frame: &&Frame| frame.fate.is_err() && frame.to == RelayId(2);
    let packet = link.1.events().iter().filter_map(|(_, event)| event.frame()).find(on_the_cable);
    let packet = packet.expect("something was on it").packet;
    let once = objectors(&link, |_, event| {
        event.delivered().filter(|delivered| delivered.packet == Some(packet)).map(|_| Vec::new())
    });
    assert_eq!(once, ["reroute"]);
}

#[test]
fn protected() {
    let relay = sound("protect-relay");
    // One packet sent just before the crash, and on its way by both.
    let sent = |event: &Event| if let Event::Sent { packet, .. } = event { Some(*packet) } else { None };
    let late = |(at, event): &(Duration, Event)| sent(event).filter(|_| *at > Duration::from_millis(6_900));
    let packet = relay.1.events().iter().find_map(late).expect("media flows");
    let once = objectors(&relay, |_, event| {
        event.delivered().filter(|delivered| delivered.packet == Some(packet)).map(|_| Vec::new())
    });
    assert_eq!(once, ["protected"]);
    let meets = objectors(&relay, |_, event| {
        let Event::Pushed(table) = event else { return None };
        let mut table = table.clone();
        table.pairs.iter_mut().for_each(|(_, pair)| *pair = [pair[0], pair[0]]);
        Some(vec![Event::Pushed(table)])
    });
    assert!(meets.contains(&"protected"), "{meets:?}");
    let moved = objectors_once(&relay, |event| {
        let frame = event.frame().filter(|frame| frame.from != RelayId(0) && frame.plane == 0)?;
        Some(vec![Event::Frame(Frame { plane: 1, marked: true, ..frame.clone() })])
    });
    assert!(moved.contains(&"planes"), "{moved:?}");
    // The same networks and failures without protection: it shows, and somebody misses something.
    for name in ["protect-relay", "protect-cut"] {
        let asked = scenario(name);
        let mut without = asked.clone();
        without.streams.iter_mut().for_each(|stream| stream.protect = false);
        let trace = sim::run(&without, asked.seed);
        let judges: BTreeSet<_> = judge(&asked, &trace).iter().map(|objection| objection.judge).collect();
        assert!(judges.is_superset(&BTreeSet::from(["complete", "protected"])), "{name}: {judges:?}");
    }
}

#[test]
fn protection_that_nobody_asked_for() {
    let relay = sound("fast-reroute-relay");
    let unasked = objectors_once(&relay, |event| {
        Some(vec![Event::Frame(Frame { protected: true, ..event.frame()?.clone() })])
    });
    assert!(unasked.contains(&"planes"), "{unasked:?}");
}
