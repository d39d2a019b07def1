//! What repair costs a relay where nothing is lost, and what parity of 10+2 on both of its links costs: the same trains
//! through two relays in a row, of which the second counts, so that the parity that comes to it is a relay's as well.

use crate::Limits;
use crate::cascade::Overlay;
use crate::trains::Trains;
use relay_core::{Parity, RepairMode};
use std::time::Duration;

/// What a packet may cost with repair, in what it costs without; and with parity on both links.
const ON_LIMIT: f64 = 1.15;
const PARITY_LIMIT: f64 = 1.6;
const BLOCK: RepairMode = RepairMode::Parity(Parity { k: 10, m: 2, depth: 1 });

/// Measures, prints and judges everything.
pub fn report(inputs: &[(&str, &Trains)], time: Duration, limits: &mut Limits) {
    for (input, trains) in inputs {
        for (mode, name, limit) in [
            (RepairMode::Adaptive, "no repair; repair, nothing lost", ON_LIMIT),
            (BLOCK, "no repair; parity of 10+2 on both links", PARITY_LIMIT),
        ] {
            let mut off = Overlay::start_repairing(trains, RepairMode::Off);
            let mut on = Overlay::start_repairing(trains, mode);
            limits.compare(&format!("{name}: {input}"), (&mut off, &mut on), time, limit);
        }
    }
}
