//! Cables that carry less than 1,500 bytes: RTP packets as large as ffmpeg makes them cross, cut in two where they must be.

use crate::call::Call;
use crate::network::{Family, possible};
use crate::overlay::{Overlay, network};

/// What ffmpeg hands to UDP unless told otherwise. With headers it fills 1,500 bytes.
const FFMPEG_BYTES: usize = 1_472;

#[test]
fn full_size_packets_cross_hops_of_1400_and_of_1280() {
    if !possible() {
        return;
    }
    let network = network(Family::V4);
    network.narrow("r1", "r2", 1_400);
    network.narrow("r1", "r3", 1_280);
    let mut overlay = Overlay::start_on(network, Family::V4);
    // Full ones, and small ones that could fill up what is left of a datagram.
    let length = |number: u32| if number.is_multiple_of(3) { 120 } else { FFMPEG_BYTES };
    let call = Call::of_size(&mut overlay, length);
    // Each of the two ways out of the first relay, one after the other.
    for _ in 0..2 {
        overlay.until("every route has an alternative", Overlay::is_protected);
        let next_hop = overlay.path_between("r1", "r3")[1].clone();
        let begin = call.now();
        call.more(300);
        let passage = call.since(begin);
        eprintln!("over {next_hop}: {passage:?}");
        assert_eq!((passage.lost, passage.repeated, passage.damaged), (0, 0, 0), "{next_hop}: {passage:?}");
        overlay.network.unplug("r1", &next_hop);
        overlay.until("the call takes the other way", |overlay| {
            overlay.path_between("r1", "r3").get(1).is_some_and(|other| *other != next_hop)
        });
        call.settle();
        overlay.network.plug("r1", &next_hop);
    }
    drop(call);
    overlay.stop();
}
