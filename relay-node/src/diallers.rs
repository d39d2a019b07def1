//! Keeps the links up that this relay dials: those to neighbours with a higher node index. The others dial us.

use crate::backoff::Backoff;
use crate::overlay::{Neighbours, Overlay};
use link_io::{Expect, Port};
use relay_core::Relay;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{debug, info, warn};
use wire_format::NodeIndex;
use wire_format::control::Neighbour;
use wire_format::session::Role;

/// Pauses between attempts. Short: a neighbour that comes back carries media again.
const FLOOR: Duration = Duration::from_millis(50);
const CAP: Duration = Duration::from_millis(500);

/// What every dialler needs.
pub(crate) struct Diallers {
    pub(crate) port: Port<Relay>,
    pub(crate) overlay: Arc<Overlay>,
    /// This relay.
    pub(crate) node: NodeIndex,
    /// Where to reach neighbours that are not to be reached where they say.
    pub(crate) overrides: BTreeMap<String, SocketAddr>,
    pub(crate) seed: u64,
}

impl Diallers {
    /// One task for each neighbour to dial, as the controller's list goes. Runs until dropped.
    pub(crate) async fn run(self) {
        let mut list = self.overlay.neighbours();
        let shared = Arc::new(self);
        let mut tasks = JoinSet::new();
        let mut dialled = BTreeSet::new();
        loop {
            let neighbours = list.borrow_and_update().clone();
            for node in shared.to_dial(&neighbours) {
                if dialled.insert(node) {
                    let (shared, list) = (Arc::clone(&shared), list.clone());
                    tasks.spawn(async move {
                        shared.keep_linked(node, list).await;
                        node
                    });
                }
            }
            tokio::select! {
                changed = list.changed() => if changed.is_err() { return },
                Some(Ok(node)) = tasks.join_next() => {
                    dialled.remove(&node);
                }
            }
        }
    }

    fn to_dial(&self, neighbours: &Neighbours) -> Vec<NodeIndex> {
        neighbours.iter().flat_map(|list| list.keys().copied()).filter(|node| *node > self.node).collect()
    }

    /// Dials, waits until the link is lost, dials again, until the neighbour is one no longer.
    async fn keep_linked(&self, node: NodeIndex, mut list: watch::Receiver<Neighbours>) {
        let mut backoff = Backoff::new(FLOOR, CAP, self.seed ^ u64::from(node.0));
        let mut tried = 0;
        let mut logged = String::new();
        loop {
            let Some(neighbour) = current(&list, node) else { return };
            tokio::select! {
                () = backoff.pause() => {}
                () = gone(&mut list, &neighbour) => continue,
            }
            let addresses = self.addresses(&neighbour);
            if addresses.is_empty() {
                debug!(neighbour = neighbour.name, "the neighbour has no address");
                continue;
            }
            let address = addresses[tried % addresses.len()];
            tried += 1;
            let expect = Expect::Relay { name: neighbour.name.clone(), node };
            let dialled = self.port.dial(address, expect, Role::Relay { node: self.node });
            let mut link = tokio::select! {
                outcome = dialled => match outcome {
                    Ok(link) => link,
                    Err(error) => {
                        let reason = error.to_string();
                        if reason == logged {
                            debug!(neighbour = neighbour.name, reason, "cannot link to neighbour");
                        } else {
                            info!(neighbour = neighbour.name, node = node.0, reason, "cannot link to neighbour yet");
                            logged = reason;
                        }
                        continue;
                    }
                },
                () = gone(&mut list, &neighbour) => continue,
            };
            backoff.reset();
            logged.clear();
            tried -= 1; // The address that worked is the first to try again.
            info!(neighbour = neighbour.name, node = node.0, %address, "neighbour linked");
            let reason = link.down().await;
            warn!(neighbour = neighbour.name, node = node.0, %address, %reason, "neighbour lost");
        }
    }

    fn addresses(&self, neighbour: &Neighbour) -> Vec<SocketAddr> {
        match self.overrides.get(&neighbour.name) {
            Some(address) => vec![*address],
            None => neighbour.addresses.clone(),
        }
    }
}

fn current(list: &watch::Receiver<Neighbours>, node: NodeIndex) -> Option<Neighbour> {
    list.borrow().as_ref()?.get(&node).cloned()
}

/// Resolves when the neighbour is one no longer, or is to be reached elsewhere.
async fn gone(list: &mut watch::Receiver<Neighbours>, neighbour: &Neighbour) {
    let changed = list.wait_for(|list| {
        list.as_ref().and_then(|list| list.get(&neighbour.node)).is_none_or(|now| now != neighbour)
    });
    if changed.await.is_err() {
        // Nobody changes the list any more: the relay is stopping, and with it the caller.
        std::future::pending::<()>().await;
    }
}
