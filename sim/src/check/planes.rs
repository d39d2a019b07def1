//! A frame on the red or blue plane stays there, one on the primary may move once, and who moved is marked for good. On all
//! of them it stays with the policy that its ingress stamped, which is that of its namespace, or the one that relieves it.
//!
//! Judged where frames leave a relay: what leaves for a destination on a plane came for that destination on the same
//! plane, or on the primary, and then bears the mark; what bears no mark came without one. A frame that leaves a
//! relay by whose own stamp it may be need not have come from anywhere. One of two copies of a protected packet begins on any plane and stays on it,
//! marked only where a relay lacks the tables of its stamp; and who did not ask for two copies has none.

use super::stamps::Stamps;
use super::{Verdict, frames};
use crate::scenario::{RelayId, Scenario, StreamNumber};
use crate::trace::{Frame, Packet, Trace};
use std::collections::BTreeMap;
use std::time::Duration;
use wire_format::{MediaKind, PolicyIndex};

/// The plane of the shortest paths.
const PRIMARY: u8 = 0;
/// Primary, red, blue.
const PLANES: u8 = 3;

/// From a change of policies to the last frame that was stamped before it.
const TOLD_WITHIN: Duration = Duration::from_secs(2);

/// What came to a relay for a destination, protected or not: plane, mark and when.
type Arrivals = BTreeMap<(Packet, u8, bool, u8, RelayId, RelayId), Vec<(u8, bool, Duration)>>;

pub(super) fn check(scenario: &Scenario, trace: &Trace, verdict: &mut Verdict) {
    let mut arrivals: Arrivals = BTreeMap::new();
    let stamps = Stamps::new(scenario, trace);
    for (at, frame) in frames(trace) {
        if frame.plane >= PLANES {
            verdict.object(at, format!("{:?} leaves {} on plane {}", frame.packet, frame.from, frame.plane));
        }
        if frame.protected && !asks_for_two(scenario, frame.packet.stream) {
            verdict.object(at, format!("{:?} leaves {} protected, unasked", frame.packet, frame.from));
        }
        if !may_travel(scenario, at, frame) {
            let (packet, from, policy) = (frame.packet, frame.from, frame.policy);
            verdict.object(at, format!("{packet:?} leaves {from} by policy {policy}, which is not its own"));
        }
        for destination in &frame.destinations {
            let key =
                (frame.packet, frame.incarnation, frame.protected, frame.policy, frame.from, *destination);
            let came = arrivals.get(&key).into_iter().flatten().filter(|(_, _, came_at)| *came_at <= at);
            let mut came: Vec<_> = came.map(|(plane, marked, _)| (*plane, *marked)).collect();
            if stamps.stamps(frame.packet.stream, frame.from, *destination, at) {
                came.push((if frame.protected { frame.plane } else { PRIMARY }, false));
            }
            let follows = |(plane, marked): &(u8, bool)| {
                let stays = *plane == frame.plane && (frame.marked || !marked);
                stays || (*plane == PRIMARY && frame.marked && !frame.protected)
            };
            if !came.iter().any(follows) {
                let mark = if frame.marked { "marked" } else { "unmarked" };
                verdict.object(
                    at,
                    format!(
                        "{:?} for {destination} leaves {} on plane {} {mark}; there it came (plane, mark) as {came:?}",
                        frame.packet, frame.from, frame.plane
                    ),
                );
            }
            let key =
                (frame.packet, frame.incarnation, frame.protected, frame.policy, frame.to, *destination);
            // What is lost or late may be restored at any time, by repairs and parity that the trace does not show.
            arrivals.entry(key).or_default().push((frame.plane, frame.marked, at));
        }
    }
}

/// Two ways at once: its publisher asks for it, or the policy of its namespace.
pub(super) fn asks_for_two(scenario: &Scenario, stream: StreamNumber) -> bool {
    let spec = scenario.stream(stream);
    let audio =
        spec.kind == MediaKind::Audio && scenario.policies.policy(scenario.policy(stream)).protect_audio;
    spec.protect || audio
}

/// A frame bears the policy of its namespace, from a while after the controller was told on; before, that or none. Where
/// policies are relieved it may bear the one that relieves it.
fn may_travel(scenario: &Scenario, at: Duration, frame: &Frame) -> bool {
    let own = scenario.policy(frame.packet.stream);
    let relief = scenario.policies.relief_of(own).map(PolicyIndex::bits);
    let told = at >= scenario.policies_from + TOLD_WITHIN || scenario.policies_from == Duration::ZERO;
    let early = !told && frame.policy == PolicyIndex::DEFAULT.bits();
    early || frame.policy == own.bits() || Some(frame.policy) == relief
}
