//! Each drawing of an example. With `CASCADE_PICTURES=FOLDER` they are written there, for people to look at.

use super::*;
use route_controller::{CameRow, LeftRow, SpreadRow, TraceHopRow, TraceRelayRow};
use wire_format::MediaKind;

fn node(name: &str, region: &str, latitude: f64, longitude: f64) -> NodeRow {
    NodeRow {
        name: name.into(),
        node: 0,
        state: "connected".into(),
        state_age_s: 10.0,
        region: region.into(),
        isp: String::new(),
        tags: Vec::new(),
        addresses: Vec::new(),
        version: String::new(),
        epoch: Some(17),
        cut_vertex: false,
        cordoned: false,
        draining: false,
        hub_quarantined: false,
        links_usable: 3,
        publications: 0,
        subscriptions: 0,
        certificate_expires_unix_s: None,
        index_free_in_s: None,
        latitude: Some(latitude),
        longitude: Some(longitude),
    }
}

fn world() -> Vec<NodeRow> {
    let mut nodes = vec![
        node("fra-1", "eu-central", 50.11, 8.68),
        node("fra-2", "eu-central", 50.12, 8.69),
        node("lhr-1", "eu-west", 51.5, -0.12),
        node("iad-1", "us-east", 38.9, -77.4),
        node("sfo-1", "us-west", 37.6, -122.4),
        node("gru-1", "sa-east", -23.4, -46.5),
        node("sin-1", "ap-southeast", 1.35, 103.99),
        node("nrt-1", "ap-northeast", 35.8, 140.4),
        node("syd-1", "ap-sydney", -33.9, 151.2),
    ];
    nodes[3].cut_vertex = true;
    nodes[6].cordoned = true;
    nodes[8].state = "offline".into();
    nodes
}

fn mesh(nodes: &[NodeRow]) -> Vec<LinkRow> {
    let mut rows = Vec::new();
    for (i, from) in nodes.iter().enumerate() {
        for (j, to) in nodes.iter().enumerate() {
            if i == j || (i + j) % 3 == 0 {
                continue;
            }
            let usable = from.state == "connected" && to.state == "connected";
            rows.push(LinkRow {
                from: from.name.clone(),
                to: to.name.clone(),
                state: Some("up".into()),
                usable,
                bridge: (i.min(j), i.max(j)) == (3, 5),
                cost_us: usable.then_some(50_000),
                rtt_us: Some(9_000 + 17_000 * (i as u64 + j as u64)),
                loss: Some(if (i + j) == 11 { 0.021 } else { 0.0 }),
                rate_bytes_per_s: Some(if i < 3 && j < 4 { 300_000 } else { 50 }),
                ..LinkRow::default()
            });
        }
    }
    rows
}

fn route(plane: u8, path: &[&str]) -> RouteRow {
    RouteRow {
        node: path[0].into(),
        destination: path[path.len() - 1].into(),
        plane,
        next_hop: path[1].into(),
        path: path.iter().map(|&name| name.to_owned()).collect(),
        cost_us: 90_000,
        backup_plane: None,
        epoch: 17,
        age_s: 60.0,
    }
}

fn way(names: &[&str], one_way_us: u64) -> WayRow {
    let hop = |pair: &[&str]| HopRow {
        from: pair[0].into(),
        to: pair[1].into(),
        cost_us: Some(one_way_us + 12_000),
        terms: Some(TermsRow { one_way_us, repair_us: 11_000, hop_us: 1_000, ..TermsRow::default() }),
        ..HopRow::default()
    };
    let hops: Vec<HopRow> = names.windows(2).map(hop).collect();
    let path = names.iter().map(|&name| name.to_owned()).collect();
    WayRow { path, cost_us: hops.iter().filter_map(|hop| hop.cost_us).sum(), hops }
}

fn hop(from: &str, to: &str, planes: &[u8], missing: u64) -> TraceHopRow {
    let kind = |name: &str| if name.starts_with("sfu") { EndKind::Sfu } else { EndKind::Relay };
    let spread = SpreadRow { count: 10, mean_us: 300, p50_us: 45_000, p99_us: 48_000, max_us: 51_000 };
    let relay = kind(to) == EndKind::Relay;
    TraceHopRow {
        from: from.into(),
        from_kind: kind(from),
        to: to.into(),
        to_kind: kind(to),
        left: Some(LeftRow {
            packets: 412,
            bytes: 1,
            again: 0,
            residence: spread,
            planes: planes.to_vec(),
            marked: 0,
        }),
        came: relay.then(|| CameRow {
            packets: 412,
            again: 3,
            parity: 1,
            missing,
            one_way_us: Some(41_300),
            wait: spread,
            planes: planes.to_vec(),
            ..CameRow::default()
        }),
    }
}

fn stream() -> TraceRow {
    let relay = |name: &str, answer: &str| TraceRelayRow {
        name: name.into(),
        answer: answer.into(),
        watched_s: 2.0,
        left_out: 0,
    };
    TraceRow {
        namespace: "demo".into(),
        room: "standup".into(),
        user: "ana".into(),
        stream: "camera".into(),
        kind: MediaKind::Video,
        protect: true,
        ingress: "fra-1".into(),
        egresses: vec!["gru-1".into(), "sin-1".into()],
        epoch: Some(17),
        relays: vec![relay("fra-1", "traced"), relay("sin-1", "does_not_trace")],
        hops: vec![
            hop("sfu-ana", "fra-1", &[], 0),
            hop("fra-1", "iad-1", &[0], 0),
            hop("iad-1", "gru-1", &[0], 2),
            hop("gru-1", "sfu-bob", &[], 0),
            hop("fra-1", "lhr-1", &[1], 0),
            hop("lhr-1", "gru-1", &[1], 0),
            hop("fra-1", "sin-1", &[0], 0),
            hop("sin-1", "sfu-wei", &[], 0),
        ],
        ways: Vec::new(),
    }
}

fn look_at(name: &str, svg: &str) {
    if let Ok(folder) = std::env::var("CASCADE_PICTURES") {
        std::fs::write(std::path::Path::new(&folder).join(format!("{name}.svg")), svg).expect("written");
    }
}

#[test]
fn an_overlay_is_drawn_with_every_relay_and_link() {
    let nodes = world();
    let rows = mesh(&nodes);
    let picture = links(&nodes, &rows);
    assert_eq!(picture.spots.len(), nodes.len());
    let pairs: BTreeSet<(&str, &str)> =
        rows.iter().map(|row| (row.from.as_str().min(&row.to), row.from.as_str().max(&row.to))).collect();
    assert_eq!(picture.lines.len(), pairs.len(), "one line for both directions");
    let svg = picture.svg();
    look_at("links", &svg);
    assert!(svg.contains(">fra-1</text>") && svg.contains("2.1 % lost") && svg.contains("cordoned"), "{svg}");
    let nowhere: Vec<NodeRow> =
        nodes.into_iter().map(|node| NodeRow { latitude: None, longitude: None, ..node }).collect();
    look_at("links-circle", &links(&nowhere, &rows).svg());
}

#[test]
fn many_relays_are_drawn_without_numbers() {
    let nodes: Vec<NodeRow> = (0..40)
        .map(|i| {
            node(&format!("relay-{i}"), "", f64::from(i * 37 % 100) - 40.0, f64::from(i * 71 % 340) - 170.0)
        })
        .collect();
    let picture = links(&nodes, &mesh(&nodes));
    assert!(picture.lines.iter().all(|line| line.label.is_empty()));
    look_at("links-40", &picture.svg());
}

#[test]
fn planes_are_told_apart() {
    let rows = [
        route(0, &["fra-1", "iad-1", "gru-1"]),
        route(0, &["fra-1", "iad-1"]),
        route(1, &["fra-1", "lhr-1", "gru-1"]),
        route(2, &["fra-1", "iad-1", "gru-1"]),
        route(0, &["gru-1", "iad-1", "fra-1"]),
    ];
    let picture = routes(&world(), &rows);
    assert_eq!(picture.spots.len(), 4, "who has no part in it is left out");
    assert_eq!(picture.lines.len(), 8);
    look_at("routes", &picture.svg());
}

#[test]
fn two_ways_are_beside_each_other() {
    let (taken, mut other) =
        (way(&["fra-1", "iad-1", "gru-1"], 46_000), way(&["fra-1", "lhr-1", "gru-1"], 58_000));
    other.hops[0].avoided = Some("no_session".into());
    let picture =
        ways("fra-1 to gru-1".into(), "16 ms apart".into(), Some(&taken), Some(&other), "the runner-up");
    let svg = picture.svg();
    look_at("explain", &svg);
    assert!(svg.contains("way 46.0 + repair 11.0") && svg.contains("no session"), "{svg}");
    let direct = way(&["fra-1", "gru-1"], 108_000);
    let picture = ways("fra-1 to gru-1".into(), String::new(), Some(&taken), Some(&direct), "the runner-up");
    look_at("explain-direct", &picture.svg());
}

#[test]
fn a_trace_is_drawn_from_the_publisher_on() {
    let picture = traced(&stream());
    assert_eq!((picture.spots.len(), picture.lines.len()), (8, 8));
    look_at("trace", &picture.svg());
    let two = stacked(&[picture.clone(), picture]);
    look_at("trace-two", &two);
    assert_eq!(two.matches("<svg ").count(), 3);
}
