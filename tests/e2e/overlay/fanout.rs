//! One publisher, fifty subscribers: every subscriber has every packet, and no link carries any of them twice.

use relay_core::Counters;
use relayctl::dev::{Options, Overlay, Topology};
use route_controller::RoutesQuery;
use sfu_link::{Config, Fingerprint, MediaKind, PublishOptions, SfuLink, SubscribeOptions, Subscription};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const RELAYS: usize = 5;
const SUBSCRIBERS: usize = 50;
/// Packets that are counted.
const PACKETS: u32 = 400;
/// Times that they are counted, at most, while routes do not rest.
const ROUNDS: u32 = 8;
/// Between two packets: 250 a second.
const PACE: Duration = Duration::from_millis(4);
/// For anything that takes a moment; everything is on loopback, in real time.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn fifty_subscribers_along_a_line_cost_one_copy_a_link() {
    fan_out(Topology::Line).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_subscribers_in_a_mesh_cost_one_copy_a_link() {
    fan_out(Topology::Mesh).await;
}

/// The publisher is at the first relay, every relay has as many subscribers.
async fn fan_out(topology: Topology) {
    let options = Options { relays: RELAYS, topology, ..Options::default() };
    let overlay = Overlay::start(&options).await.expect("it starts");
    let publisher = sfu(&overlay, 0).await;
    let options = PublishOptions::new("stadium", "band", "main", MediaKind::Video);
    let publication = publisher.publish(options).await.expect("granted");
    let mut subscribers = Vec::new();
    for number in 0..SUBSCRIBERS {
        let link = sfu(&overlay, number % RELAYS).await;
        let subscription = link.subscribe(SubscribeOptions::room("stadium")).await.expect("granted");
        subscribers.push((link, subscription));
    }

    // Nobody says when the last of them is served: each gets probes until it has the newest.
    let mut sent = 0;
    for (_, subscription) in &mut subscribers {
        soon(async {
            let mut pace = tokio::time::interval(PACE);
            loop {
                tokio::select! {
                    _ = pace.tick() => {
                        publication.send(&packet(sent)).expect("the link stands");
                        sent += 1;
                    }
                    seen = subscription.recv() => {
                        assert!(seen.is_some());
                        break;
                    }
                }
            }
        })
        .await;
    }
    for (_, subscription) in &mut subscribers {
        through(subscription, sent - 1).await;
    }

    // On a busy machine measurements may move a route under the packets that are counted: those say nothing then.
    let mut moved = 0;
    let (tree, first, (before, carried_before), (after, carried_after)) = loop {
        let (epoch, tree) = self::tree(&overlay).await;
        let (before, carried_before) = (counters(&overlay).await, overlay.carried());
        let first = sent;
        sent += PACKETS;
        let mut receiving = tokio::task::JoinSet::new();
        for (link, mut subscription) in subscribers {
            receiving.spawn(async move {
                let seen = through(&mut subscription, first + PACKETS - 1).await;
                (link, subscription, seen)
            });
        }
        let mut pace = tokio::time::interval(PACE);
        for number in first..sent {
            pace.tick().await;
            publication.send(&packet(number)).expect("the link stands");
        }
        let received = receiving.join_all().await;
        let (after, carried_after) = (counters(&overlay).await, overlay.carried());
        let moves = |all: &[Counters]| -> Vec<u64> {
            all.iter().map(|counters| counters.destinations_moved + counters.destinations_returned).collect()
        };
        let rested = self::tree(&overlay).await.0 == epoch && moves(&before) == moves(&after);
        let expected: Vec<_> = (first..sent).map(packet).collect();
        subscribers = Vec::new();
        for (link, subscription, seen) in received {
            assert!(!rested || seen == expected, "lost, repeated, damaged or out of order");
            subscribers.push((link, subscription));
        }
        if rested {
            break (tree, first, (before, carried_before), (after, carried_after));
        }
        moved += 1;
        assert!(moved < ROUNDS, "routes never rest");
    };

    let copies = |count: fn(&Counters) -> u64| -> Vec<u64> {
        let each = before.iter().zip(&after);
        each.map(|(before, after)| (count(after) - count(before)) / u64::from(PACKETS)).collect()
    };
    let links_from = |relay: usize| tree.iter().filter(|(from, _)| *from == relay).count() as u64;
    eprintln!("{topology:?}: links {tree:?}, copies sent {:?}", copies(|counters| counters.media_forwarded));
    assert_eq!(tree.len(), RELAYS - 1, "each relay is reached by one link: {tree:?}");
    assert_eq!(copies(|counters| counters.media_forwarded), (0..RELAYS).map(links_from).collect::<Vec<_>>());
    assert_eq!(copies(|counters| counters.media_received), [0, 1, 1, 1, 1]);
    assert_eq!(copies(|counters| counters.media_delivered), [(SUBSCRIBERS / RELAYS) as u64; RELAYS]);
    for (before, after) in before.iter().zip(&after) {
        let exact = |count: fn(&Counters) -> u64| (count(after) - count(before)) % u64::from(PACKETS);
        assert_eq!(exact(|counters| counters.media_forwarded), 0);
        assert_eq!(exact(|counters| counters.media_received), 0);
        assert_eq!(after.drop_duplicate, before.drop_duplicate);
    }
    // What lay on the cables agrees: the stream once on each link of the tree, besides headers and heartbeats, and nothing
    // on others.
    let stream: u64 = (first..first + PACKETS).map(|number| packet(number).len() as u64).sum();
    for (link, carried) in carried_after {
        let bytes = carried.bytes - carried_before.get(&link).map_or(0, |before| before.bytes);
        let fits = if tree.contains(&link) { stream..stream * 3 / 2 } else { 0..stream / 3 };
        assert!(fits.contains(&bytes), "{link:?} carried {bytes} bytes of a stream of {stream}");
    }
    for (link, _) in subscribers {
        link.close().await;
    }
    publisher.close().await;
    overlay.stop().await;
}

async fn sfu(overlay: &Overlay, relay: usize) -> SfuLink {
    let address = overlay.port_address(relay).to_string();
    let token = overlay.token("test").expect("a token");
    let config = Config::new([address], token, Fingerprint(overlay.ca_sha256()));
    soon(SfuLink::connect(config)).await.expect("let in")
}

/// Reads on until this packet: what came, it included.
async fn through(subscription: &mut Subscription, number: u32) -> Vec<Vec<u8>> {
    let (mut seen, last) = (Vec::new(), packet(number));
    soon(async {
        while seen.last() != Some(&last) {
            seen.push(subscription.recv().await.expect("it stands").bytes.to_vec());
        }
    })
    .await;
    seen
}

/// The epoch of routes, and links between relays, counted from 0, on the ways from the first to all others.
async fn tree(overlay: &Overlay) -> (u32, BTreeSet<(usize, usize)>) {
    let query = RoutesQuery { node: Some("r1".to_owned()), plane: Some(0), ..RoutesQuery::default() };
    let routes = overlay.controller().operations().routes(query).await.expect("it runs");
    let number = |name: &str| name[1..].parse::<usize>().expect("r and a number") - 1;
    let newest: BTreeMap<_, _> = routes.iter().map(|row| (&row.destination, row)).collect();
    assert_eq!(newest.len(), RELAYS - 1);
    let links = newest.values().flat_map(|row| row.path.windows(2));
    let links = links.map(|pair| (number(&pair[0]), number(&pair[1]))).collect();
    (newest.values().map(|row| row.epoch).max().unwrap_or_default(), links)
}

async fn counters(overlay: &Overlay) -> Vec<Counters> {
    let mut all = Vec::new();
    for relay in 0..RELAYS {
        let port = overlay.relay(relay).expect("it runs").port();
        all.push(port.inspect(|core, _| *core.counters()).await.expect("it runs"));
    }
    all
}

/// RTP with its number inside, of a length that varies with it.
fn packet(number: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 96];
    packet.extend_from_slice(&(number as u16).to_be_bytes());
    packet.extend_from_slice(&(number * 360).to_be_bytes());
    packet.extend_from_slice(&0x0CA5_CADE_u32.to_be_bytes());
    packet.extend_from_slice(&number.to_be_bytes());
    packet.resize(100 + (number as usize * 37) % 1_000, number as u8);
    packet
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}
