//! An SFU that sends faster than its link may: it is cut down to that, and nobody else notices.

mod lab;

use lab::{Lab, entry, table};
use relay_core::{PeerView, RateLimit};
use std::time::Duration;
use wire_format::Epoch;
use wire_format::control::ToRelay;

const PACKET: [u8; 1000] = [0x80; 1000];

/// Two relays, 0 and 1, a publisher at 0 that may send a thousand packets a second, a subscriber at each.
fn bounded() -> (Lab, usize, [usize; 2]) {
    let mut lab = Lab::new(2);
    lab.link(0, 1);
    for node in 0..2 {
        lab.change(node, |relay, _| relay.limit_clients(RateLimit::new(Some(1_000), None)));
        lab.push(node, table(1, &[(1 - node, 1 - node)]));
        lab.push(node, ToRelay::Stamp { epoch: Epoch(1) });
    }
    let publisher = lab.publisher(0);
    let (near, at_ingress) = lab.subscriber(0);
    let (far, at_egress) = lab.subscriber(1);
    lab.push(1, ToRelay::Stream(entry(0, vec![at_egress], &[])));
    lab.push(0, ToRelay::Stream(entry(0, vec![at_ingress], &[1])));
    (lab, publisher, [near, far])
}

/// Sends `each` packets every millisecond, for so long, and counts what a subscriber got.
fn send(lab: &mut Lab, publisher: usize, subscriber: usize, each: usize, ms: usize) -> usize {
    lab.delivered.clear();
    for _ in 0..ms {
        lab.send(publisher, 1, &vec![&PACKET[..]; each]);
        lab.run(Duration::from_millis(1));
    }
    lab.delivered.iter().filter(|(client, _, _)| *client == subscriber).count()
}

/// What each client link of a relay has lost to its bound, the first one first.
fn over_rate(lab: &mut Lab, node: u16) -> Vec<u64> {
    let views = lab.relay_mut(node).1.link_views();
    let clients = views.iter().filter_map(|view| match &view.peer {
        PeerView::Client { over_rate, .. } => Some(*over_rate),
        PeerView::Relay { node: _ } => None,
    });
    clients.collect()
}

#[test]
fn within_its_rate_everything_passes() {
    let (mut lab, publisher, [near, far]) = bounded();
    assert_eq!(send(&mut lab, publisher, near, 1, 900), 900);
    assert_eq!(lab.delivered.iter().filter(|(client, _, _)| *client == far).count(), 900);
    assert_eq!(lab.relay_mut(0).1.counters().drop_link_rate, 0);
}

#[test]
fn ten_times_its_rate_is_cut_down_to_it_and_forgiven_when_it_ends() {
    let (mut lab, publisher, [_, far]) = bounded();
    let sent = 10 * 2_000;
    let got = send(&mut lab, publisher, far, 10, 2_000);
    // Two seconds' worth and a burst, less the heartbeats among them.
    assert!((2_000..=2_260).contains(&got), "{got} of {sent}");
    let dropped = lab.relay_mut(0).1.counters().drop_link_rate;
    assert!(dropped as usize >= sent - got, "{dropped} dropped, {got} of {sent} arrived");
    // Only the one that sends too much pays: neither the subscriber beside it nor the link between the relays, which
    // carries more than an SFU may.
    let near_link_rate = over_rate(&mut lab, 0);
    assert_eq!(near_link_rate.iter().filter(|dropped| **dropped > 0).count(), 1, "{near_link_rate:?}");
    assert_eq!(near_link_rate.iter().sum::<u64>(), dropped);
    assert_eq!(lab.relay_mut(1).1.counters().drop_link_rate, 0);

    lab.run(Duration::from_millis(300));
    assert_eq!(send(&mut lab, publisher, far, 1, 500), 500, "what it may, it still may");
}

#[test]
fn a_relay_may_bring_what_all_its_sfus_may() {
    let (mut lab, publisher, [_, far]) = bounded();
    lab.change(0, |relay, _| relay.limit_clients(RateLimit::NONE));
    // The publisher's link stands under its old bound; a new one has none.
    let free = lab.publisher(0);
    assert_eq!(send(&mut lab, free, far, 10, 1_000), 10_000);
    assert!(send(&mut lab, publisher, far, 10, 1_000) < 2_000);
    assert_eq!(lab.relay_mut(1).1.counters().drop_link_rate, 0);
}
