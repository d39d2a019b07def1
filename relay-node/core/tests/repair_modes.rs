//! Links that repair, that do not, and that send as much parity as they are told.

mod lab;

use lab::Lab;
use relay_core::{LinkStats, Parity, RepairMode, RepairStats};
use std::time::Duration;
use wire_format::PacketNumber;

const PACKETS: usize = 1000;
const PACKET: [u8; 1000] = [0x80; 1000];

/// Sends a packet each millisecond from a publisher at relay 0 to a subscriber at relay 1; if `lossy`, the link between
/// them loses what leaves in one millisecond of fifty. How many arrive, and what each relay
/// says of the link when it is over.
fn call(mode: RepairMode, lossy: bool) -> (usize, [LinkStats; 2]) {
    call_from(PacketNumber(0), mode, lossy)
}

/// The same over links that count from there.
fn call_from(first: PacketNumber, mode: RepairMode, lossy: bool) -> (usize, [LinkStats; 2]) {
    let mut lab = Lab::new(2);
    for node in 0..2 {
        lab.change(node, |relay, _| {
            relay.repair_as(mode);
            relay.count_from(first);
        });
    }
    let (publisher, subscriber) = lab.one_hop();
    // What the link is like is known before anything counts.
    lab.run(Duration::from_secs(3));
    for packet in 0..PACKETS {
        let lost = lossy && packet % 50 == 49;
        if lost {
            lab.cut.insert((0, 1));
        }
        lab.send(publisher, 1, &[&PACKET]);
        lab.run(Duration::from_millis(1));
        if lost {
            lab.cut.remove(&(0, 1));
        }
    }
    // What is lost for good is judged when nothing can repair it any more.
    lab.run(Duration::from_secs(5));
    let arrived = lab.delivered.iter().filter(|(client, _, _)| *client == subscriber).count();
    let stats = [0, 1].map(|node| {
        let views = lab.relay_mut(node).1.link_views();
        let between = views.iter().find(|view| matches!(view.peer, relay_core::PeerView::Relay { node: _ }));
        between.expect("the link between the relays").stats.clone()
    });
    (arrived, stats)
}

#[test]
fn what_is_lost_arrives_where_links_repair_and_is_lost_where_they_do_not() {
    let (arrived, [sender, receiver]) = call(RepairMode::Adaptive, true);
    assert_eq!(arrived, PACKETS);
    assert_eq!((sender.quality.residual_in_ppm, receiver.quality.residual_in_ppm), (0, 0));
    // Each burst is the packet of a millisecond, and what else the links happened to say in it.
    let bursts = receiver.quality.bursts_in;
    assert_eq!((bursts.iter().sum::<u64>(), bursts[2..].iter().sum::<u64>()), (20, 0), "{bursts:?}");
    assert_eq!(sender.quality.bursts_in.iter().sum::<u64>(), 0, "nothing is lost on the way back");
    for stats in [&sender, &receiver] {
        assert_eq!(stats.quality.rtt_smoothed.is_some(), stats.quality.rtt_variation.is_some());
        assert!(stats.quality.rtt_smoothed >= stats.rtt_min && stats.rtt_min.is_some());
    }
    let (sender, receiver) = (sender.repair, receiver.repair);
    assert!(sender.retransmitted >= 20 && receiver.recovered_again >= 20 && receiver.requests > 0);
    let (arrived, [sender, receiver]) = call(RepairMode::Off, true);
    assert_eq!(arrived, PACKETS - PACKETS / 50);
    assert_eq!((sender.quality.residual_in_ppm, receiver.quality.residual_in_ppm), (0, 20_000));
    let did = |stats: &RepairStats| stats.retransmitted + stats.parity + stats.requests;
    assert_eq!((did(&sender.repair), did(&receiver.repair)), (0, 0));
}

#[test]
fn what_is_lost_where_numbers_wrap_arrives_as_well() {
    for wrap in [1_u64 << 32, 1 << 31, 1 << 16, 7 << 32] {
        // Half of the packets leave before, half behind.
        let first = PacketNumber(wrap - PACKETS as u64 / 2);
        for mode in [RepairMode::Adaptive, RepairMode::Parity(Parity { k: 10, m: 2, depth: 1 })] {
            let (arrived, [sender, receiver]) = call_from(first, mode, true);
            assert_eq!(arrived, PACKETS, "{wrap:#x}, {mode:?}");
            assert!(
                receiver.repair.recovered_again >= 20 || sender.repair.parity > 100,
                "{wrap:#x}, {mode:?}"
            );
            assert_eq!((sender.quality.residual_in_ppm, receiver.quality.residual_in_ppm), (0, 0));
            // A fiftieth of a second's packets, of ten seconds with heartbeats.
            assert!(receiver.loss_in_ppm < 60_000, "{} at {wrap:#x}", receiver.loss_in_ppm);
            assert!(receiver.repair.requests < 100, "{} requests", receiver.repair.requests);
        }
    }
}

#[test]
fn parity_is_as_much_as_was_asked_for_with_and_without_loss() {
    let block = RepairMode::Parity(Parity { k: 10, m: 2, depth: 1 });
    for lossy in [false, true] {
        let (arrived, [sender, receiver]) = call(block, lossy);
        assert_eq!(arrived, PACKETS);
        assert!((180..=220).contains(&sender.repair.parity), "{} rows", sender.repair.parity);
        assert_eq!(receiver.repair.parity, 0, "nothing to cover");
        assert_eq!(receiver.quality.residual_in_ppm, 0);
    }
    let (_, [sender, _]) = call(RepairMode::Adaptive, false);
    assert_eq!((sender.repair.parity, sender.repair.retransmitted), (0, 0));
}
