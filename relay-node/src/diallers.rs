//! Keeps the links up that this relay dials: those to neighbours with a higher node index. The others dial us.

use crate::backoff::Backoff;
use crate::overlay::{Neighbours, Overlay, certificates_begin_unix_s};
use crate::recording::RecordedRelay;
use crate::silence::SilentLinks;
use link_io::{Expect, Link, LinkError, Port};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{Instrument as _, debug, info, warn};
use wire_format::NodeIndex;
use wire_format::control::Neighbour;
use wire_format::session::Role;

/// Pauses between attempts. Short: a neighbour that comes back carries media again.
const FLOOR: Duration = Duration::from_millis(50);
const CAP: Duration = Duration::from_millis(500);
/// For an answer to most attempts.
const SHORT_PATIENCE: Duration = Duration::from_secs(2);

/// What every dialler needs.
pub(crate) struct Diallers {
    pub(crate) port: Port<RecordedRelay>,
    pub(crate) overlay: Arc<Overlay>,
    /// This relay.
    pub(crate) node: NodeIndex,
    /// Where to reach neighbours that are not to be reached where they say.
    pub(crate) overrides: BTreeMap<String, SocketAddr>,
    pub(crate) silent: watch::Receiver<SilentLinks>,
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
                    let keep = async move {
                        shared.keep_linked(node, list).await;
                        node
                    };
                    tasks.spawn(keep.in_current_span());
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

    /// Dials, waits until the link is lost or silent, dials again, until the neighbour is one no longer.
    async fn keep_linked(&self, node: NodeIndex, mut list: watch::Receiver<Neighbours>) {
        let mut attempts = Attempts::new(Backoff::new(FLOOR, CAP, self.seed ^ u64::from(node.0)));
        let mut held = Held { link: None, silent: self.silent.clone() };
        while let Some(neighbour) = current(&list, node) {
            held.until_needed(&neighbour).await;
            tokio::select! {
                dialled = self.attempt(&neighbour, &mut attempts) => {
                    // A link that is still held is silent; the core replaces it by the new one.
                    if let Some(link) = dialled {
                        held.link = Some(link);
                    }
                }
                () = held.changed() => {}
                () = gone(&mut list, &neighbour) => {}
            }
        }
    }

    /// One attempt, after the pause that is due.
    async fn attempt(&self, neighbour: &Neighbour, attempts: &mut Attempts) -> Option<Link> {
        attempts.backoff.pause().await;
        let (name, node) = (&neighbour.name, neighbour.node);
        let address = attempts.next(&self.addresses(neighbour))?;
        let begins_unix_s = certificates_begin_unix_s(neighbour);
        let expect = Expect::Relay { name: name.clone(), node, begins_unix_s };
        let dial = self.port.dial(address, expect, Role::Relay { node: self.node });
        let outcome = match attempts.patience() {
            None => dial.await,
            Some(patience) => {
                let outcome = tokio::time::timeout(patience, dial).await;
                outcome.unwrap_or(Err(LinkError::Timeout(address)))
            }
        };
        match outcome {
            Ok(link) => {
                attempts.succeeded();
                info!(neighbour = name, node = node.0, %address, link = link.id().0, "neighbour linked");
                Some(link)
            }
            Err(error) => {
                let reason = error.to_string();
                if attempts.is_news(&reason) {
                    info!(neighbour = name, node = node.0, reason, "cannot link to neighbour yet");
                } else {
                    debug!(neighbour = name, node = node.0, reason, "cannot link to neighbour");
                }
                None
            }
        }
    }

    fn addresses(&self, neighbour: &Neighbour) -> Vec<SocketAddr> {
        match self.overrides.get(&neighbour.name) {
            Some(address) => vec![*address],
            None => neighbour.addresses.clone(),
        }
    }
}

/// The link to a neighbour, as long as there is one.
struct Held {
    link: Option<Link>,
    silent: watch::Receiver<SilentLinks>,
}

impl Held {
    /// Resolves at once if there is no link, else when it is gone or silent.
    async fn until_needed(&mut self, neighbour: &Neighbour) {
        let Some(link) = &mut self.link else { return };
        let id = link.id();
        tokio::select! {
            reason = link.down() => {
                warn!(neighbour = neighbour.name, node = neighbour.node.0, link = id.0, %reason, "neighbour lost");
                self.link = None;
            }
            () = becomes(&mut self.silent, |silent| silent.contains_key(&id)) => {}
        }
    }

    /// Resolves when a link that is held although silent is heard again, or gone.
    async fn changed(&mut self) {
        let Some(link) = &mut self.link else { return std::future::pending().await };
        let id = link.id();
        tokio::select! {
            _ = link.down() => self.link = None,
            () = becomes(&mut self.silent, |silent| !silent.contains_key(&id)) => {}
        }
    }
}

/// What is remembered between attempts.
struct Attempts {
    backoff: Backoff,
    made: usize,
    /// The failure that was logged last: a neighbour that is away is worth one line, not two a second.
    logged: String,
}

impl Attempts {
    fn new(backoff: Backoff) -> Attempts {
        Attempts { backoff, made: 0, logged: String::new() }
    }

    /// The next address; all are tried in turn.
    fn next(&mut self, addresses: &[SocketAddr]) -> Option<SocketAddr> {
        let address = addresses.get(self.made % addresses.len().max(1)).copied();
        self.made += 1;
        address
    }

    /// How long to wait for an answer; `None` for as long as the port does. A handshake's packets are repeated ever more
    /// rarely, so a neighbour that comes back meanwhile is sooner found by a new attempt; but one very far away
    /// sometimes needs the long way.
    fn patience(&self) -> Option<Duration> {
        (!self.made.is_multiple_of(4)).then_some(SHORT_PATIENCE)
    }

    fn succeeded(&mut self) {
        self.backoff.reset();
        self.logged.clear();
        // The address that worked is the first to try again.
        self.made -= 1;
    }

    fn is_news(&mut self, reason: &str) -> bool {
        let is_news = self.logged != reason;
        if is_news {
            reason.clone_into(&mut self.logged);
        }
        is_news
    }
}

fn current(list: &watch::Receiver<Neighbours>, node: NodeIndex) -> Option<Neighbour> {
    list.borrow().as_ref()?.get(&node).cloned()
}

/// Resolves when the neighbour is one no longer, or is to be reached elsewhere.
async fn gone(list: &mut watch::Receiver<Neighbours>, neighbour: &Neighbour) {
    let listed =
        |list: &Neighbours| list.as_ref().and_then(|list| list.get(&neighbour.node)) == Some(neighbour);
    becomes(list, |list| !listed(list)).await;
}

async fn becomes<T>(watched: &mut watch::Receiver<T>, wanted: impl FnMut(&T) -> bool) {
    if watched.wait_for(wanted).await.is_err() {
        // Nobody changes it any more: the relay is stopping, and with it the caller.
        std::future::pending::<()>().await;
    }
}
