//! Watches for neighbours that have fallen silent, for the log and for the diallers: a neighbour that crashed and came
//! back does not know the old link any more, so whoever waited for that link to be heard again would wait in vain.

use crate::overlay::Overlay;
use crate::recording::RecordedRelay;
use link_io::Port;
use relay_core::LinkId;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};
use wire_format::NodeIndex;
use wire_format::control::LinkState;

/// Distance of looks into the core.
const EVERY: Duration = Duration::from_millis(250);

/// Links on which a neighbour has been silent for longer than its heartbeats allow.
pub(crate) type SilentLinks = Arc<BTreeMap<LinkId, NodeIndex>>;

/// Looks until the port is closed.
pub(crate) async fn watch_silence(
    port: Port<RecordedRelay>,
    overlay: Arc<Overlay>,
    silent: watch::Sender<SilentLinks>,
) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Ok(states) = port.inspect(|relay, _| relay.neighbour_states()).await else { return };
        let before = Arc::clone(&silent.borrow());
        let now: BTreeMap<_, _> = states
            .iter()
            .filter(|(_, _, state)| *state == LinkState::Down)
            .map(|(link, node, _)| (*link, *node))
            .collect();
        if now == *before {
            continue;
        }
        for (link, node) in now.iter().filter(|(link, _)| !before.contains_key(link)) {
            warn!(neighbour = overlay.name_of(*node), node = node.0, link = link.0, "neighbour silent");
        }
        let stands = |link| states.iter().any(|(id, _, _)| *id == link);
        for (link, node) in before.iter().filter(|(link, _)| !now.contains_key(link) && stands(**link)) {
            info!(neighbour = overlay.name_of(*node), node = node.0, link = link.0, "neighbour heard again");
        }
        silent.send_replace(Arc::new(now));
    }
}
