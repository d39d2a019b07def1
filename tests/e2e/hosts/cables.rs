//! Cables that are cut between hosts, at one end, at both, or in one direction only: the call goes on over other cables.

use crate::call::{Call, Passage};
use crate::network::{Family, Network, possible};
use crate::overlay::Overlay;

const STRAIGHT: [&str; 2] = ["r1", "r3"];
const AROUND: [&str; 3] = ["r1", "r2", "r3"];

/// A way to cut a cable that media crosses from the first host to the second, and to mend it.
struct Cut {
    what: &'static str,
    /// The cable to cut when the call goes around; on the straight way there is but one.
    around: (&'static str, &'static str),
    /// Longest silence: a link is suspect after 100 ms without a word. That the other end hears nothing shows a little
    /// later, by what its heartbeats do not say.
    gap_ms_max: u128,
    /// Most packets lost, of 250 a second. What a silent link has not acknowledged goes again the other way.
    lost_max: usize,
    cut: fn(&Network, &str, &str),
    mend: fn(&Network, &str, &str),
}

const CUTS: [Cut; 5] = [
    Cut {
        what: "unplugged at the sending end",
        around: ("r1", "r2"),
        gap_ms_max: 150,
        lost_max: 0,
        cut: |network, from, to| network.unplug(from, to),
        mend: |network, from, to| network.plug(from, to),
    },
    Cut {
        what: "unplugged at the receiving end",
        around: ("r2", "r3"),
        gap_ms_max: 150,
        lost_max: 0,
        cut: |network, from, to| network.unplug(to, from),
        mend: |network, from, to| network.plug(to, from),
    },
    Cut {
        what: "unplugged at both ends",
        around: ("r2", "r3"),
        gap_ms_max: 150,
        lost_max: 0,
        cut: |network, from, to| {
            network.unplug(from, to);
            network.unplug(to, from);
        },
        mend: |network, from, to| {
            network.plug(from, to);
            network.plug(to, from);
        },
    },
    Cut {
        what: "deaf for media",
        around: ("r1", "r2"),
        gap_ms_max: 400,
        // What waited for longer than its budget of 200 ms is late, and not sent again.
        lost_max: 25,
        cut: |network, from, to| network.deafen(to, from),
        mend: |network, _, to| network.hear(to),
    },
    Cut {
        what: "deaf for feedback",
        around: ("r1", "r2"),
        gap_ms_max: 300,
        lost_max: 0,
        cut: |network, from, to| network.deafen(from, to),
        mend: |network, from, _| network.hear(from),
    },
];

/// Each cut drives the call from the one path to the other; by then the cable that was cut before is whole again.
#[test]
fn a_call_survives_every_way_to_cut_a_cable() {
    if !possible() {
        return;
    }
    let mut overlay = Overlay::start(Family::V4);
    let call = Call::begin(&mut overlay);
    overlay.until("every route has an alternative", Overlay::is_protected);
    let begin = call.now();
    call.more(250);
    let undisturbed = call.since(begin);
    assert_eq!((undisturbed.lost, undisturbed.repeated, undisturbed.damaged), (0, 0, 0), "{undisturbed:?}");

    let passages = CUTS.map(|cut| {
        let (path, passage) = cut.under(&overlay, &call);
        eprintln!("{path}, {}: {passage:?}", cut.what);
        (cut, passage)
    });
    for (Cut { what, gap_ms_max, lost_max, .. }, passage) in passages {
        assert!(passage.gap_ms <= gap_ms_max, "{what}: {passage:?}");
        assert!(passage.lost <= lost_max, "{what}: {passage:?}");
        assert_eq!((passage.repeated, passage.damaged), (0, 0), "{what}: {passage:?}");
    }
    drop(call);
    overlay.stop();
}

impl Cut {
    /// Cuts the cable under the call, waits until it takes the other path, and mends it. The call may stay there.
    fn under(&self, overlay: &Overlay, call: &Call) -> (String, Passage) {
        let path = overlay.path_between("r1", "r3");
        let straight = path == STRAIGHT;
        let (from, to) = if straight { ("r1", "r3") } else { self.around };
        let before = call.now();
        (self.cut)(&overlay.network, from, to);
        let other: &[&str] = if straight { &AROUND } else { &STRAIGHT };
        overlay.until("the route avoids the cut", |overlay| overlay.path_between("r1", "r3") == other);
        call.settle();
        let forwarded = forwarded_by_r2(overlay);
        call.more(100);
        assert_eq!(forwarded_by_r2(overlay) > forwarded, straight, "r2 carries the call or does not");
        let passage = call.since(before);
        (self.mend)(&overlay.network, from, to);
        overlay.until("every route has an alternative", Overlay::is_protected);
        (path.join(" > "), passage)
    }
}

fn forwarded_by_r2(overlay: &Overlay) -> u64 {
    overlay.metric("r2", "cascade_relay_core_total{event=\"media_forwarded\"}")
}
