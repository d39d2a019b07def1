//! A relay with many links that all lose: what it keeps to repair them is bounded, in all and for each link, and counted
//! where it is not kept.

mod lab;

use lab::{Lab, entry};
use std::time::Duration;
use wire_format::control::ToRelay;

const PACKET: [u8; 1200] = [0x80; 1200];
const LINKS: usize = 150;
/// What a relay's links may take for repair, each and in all (ARCHITECTURE.md).
const LINK_BYTES_MAX: usize = 6 << 20;
const ALL_BYTES_MAX: usize = 96 << 20;

#[test]
fn a_relay_whose_links_all_lose_keeps_what_it_may_and_no_more() {
    let mut lab = Lab::new(1);
    let publisher = lab.publisher(0);
    let (subscribers, subscriptions): (Vec<_>, Vec<_>) = (0..LINKS).map(|_| lab.subscriber(0)).unzip();
    lab.push(0, ToRelay::Stream(entry(0, subscriptions, &[])));
    lab.run(Duration::from_secs(1));
    lab.delivered.clear();
    let (mut most, mut sent) = (0, 0);
    for ms in 0..400 {
        // Each link loses a quarter of the time, all of them at the same.
        match ms % 20 {
            0 => lab.cut.extend(subscribers.iter().map(|subscriber| (0, *subscriber))),
            5 => lab.cut.clear(),
            _ => {}
        }
        lab.send(publisher, 1, &[&PACKET, &PACKET]);
        lab.run(Duration::from_millis(1));
        lab.crossings.clear();
        sent += 2 * LINKS;
        let views = lab.relay_mut(0).1.link_views();
        let each = views.iter().map(|view| view.stats.history_bytes);
        assert!(each.clone().all(|bytes| bytes <= LINK_BYTES_MAX));
        most = most.max(each.sum());
    }
    assert!(most <= ALL_BYTES_MAX, "{most} bytes");
    assert!(most > ALL_BYTES_MAX / 2, "{most} bytes: the bound was never near");
    let views = lab.relay_mut(0).1.link_views();
    let again: u64 = views.iter().map(|view| view.stats.repair.retransmitted).sum();
    let late: u64 = views.iter().map(|view| view.stats.repair.repairs_dropped).sum();
    assert!(again > 0 && late < sent as u64, "{again} sent again, {late} given up");
    // Nobody is left out: a link that could keep less still gets its media.
    lab.delivered.clear();
    lab.send(publisher, 1, &[&PACKET]);
    assert_eq!(lab.delivered.iter().filter(|(_, _, packet)| *packet == PACKET).count(), LINKS);
}
