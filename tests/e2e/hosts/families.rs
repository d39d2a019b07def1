//! Address families: hosts that have nothing but IPv6.

use crate::call::Call;
use crate::network::{Family, possible};
use crate::overlay::{Overlay, network};

#[test]
fn an_overlay_without_ipv4_carries_everything() {
    if !possible() {
        return;
    }
    let network = network(Family::V6);
    for host in network.hosts() {
        // Not even for a host to speak to itself.
        network.ip(host, "-4 address flush dev lo");
    }
    let mut overlay = Overlay::start_on(network, Family::V6);
    let call = Call::begin(&mut overlay);
    let begin = call.now();
    call.more(250);
    let passage = call.since(begin);
    assert_eq!((passage.lost, passage.repeated, passage.damaged, passage.late), (0, 0, 0, 0), "{passage:?}");
    drop(call);
    overlay.stop();
}
