//! Cables that become too thin for what they carry: the call goes around them.

use crate::call::Call;
use crate::network::{Family, possible};
use crate::overlay::Overlay;

/// The call's packets are 648 bytes on average and 250 a second: 1.3 Mbit/s and headers.
const WIDE: &str = "4mbit";
const THIN: &str = "800kbit";

#[test]
fn a_call_leaves_a_cable_that_has_become_too_thin() {
    if !possible() {
        return;
    }
    let mut overlay = Overlay::start(Family::V4);
    let call = Call::begin(&mut overlay);
    // Wide enough: nothing is lost.
    let limit = |towards: &str, rate: &str| {
        let line = format!("qdisc replace dev {towards} root tbf rate {rate} burst 8kb latency 30ms");
        let mut tc = overlay.network.command("r1", "tc".as_ref());
        assert!(tc.args(line.split(' ')).status().expect("tc runs").success());
    };
    limit("r2", WIDE);
    limit("r3", WIDE);
    let before = call.now();
    call.more(250);
    let wide = call.since(before);
    assert_eq!((wide.lost, wide.repeated, wide.damaged), (0, 0, 0), "{wide:?}");

    let next_hop = |overlay: &Overlay| overlay.path_between("r1", "r3")[1].clone();
    let before = call.now();
    let thinned = next_hop(&overlay);
    limit(&thinned, THIN);
    overlay.until("the route avoids the thin cable", |overlay| {
        next_hop(overlay) != thinned && overlay.route_is_used("r1", "r3")
    });
    let thin = call.since(before);
    eprintln!("until the call goes around: {thin:?}");
    assert!(thin.lost > 0, "{thin:?}");
    assert_eq!((thin.repeated, thin.damaged), (0, 0), "{thin:?}");
    let before = call.now();
    call.more(250);
    let around = call.since(before);
    assert_eq!((around.lost, around.repeated, around.damaged), (0, 0, 0), "{around:?}");
    drop(call);
    overlay.stop();
}
