//! What this process knows of the overlay, as the controller told it, beside what the core keeps: who the neighbours are
//! by name, and which keys sign client tokens. With it every dialler at the relay port is judged.

use crate::client_token::TokenVerifier;
use crate::limits::MemoryWatch;
use control_proto::CERTIFICATE_BACKDATING;
use link_io::{Admission, DialInfo, Refusal};
use relay_core::Peer;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;
use tracing::{Span, info};
use wire_format::NodeIndex;
use wire_format::control::{Neighbour, TokenKey};
use wire_format::session::{RefusalCode, Role};

/// Neighbours by index; `None` until the controller told.
pub(crate) type Neighbours = Option<Arc<BTreeMap<NodeIndex, Neighbour>>>;

/// Shared by the session, the diallers, the relay port and the local API.
#[derive(Debug)]
pub(crate) struct Overlay {
    node: NodeIndex,
    /// Names this relay in the log: several may live in one process.
    span: Span,
    neighbours: watch::Sender<Neighbours>,
    tokens: watch::Sender<Arc<TokenVerifier>>,
    controller: watch::Sender<ControllerContact>,
    stopping: watch::Receiver<bool>,
    /// This relay is to be empty.
    draining: AtomicBool,
    memory: MemoryWatch,
}

/// Whether there is a controller.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct ControllerContact {
    /// A session stands now.
    pub(crate) connected: bool,
    /// A session stood at some time since the start.
    pub(crate) seen: bool,
    /// The controller's last word is that this relay's certificate is void.
    pub(crate) void: bool,
    /// Sessions so far.
    pub(crate) sessions: u64,
    /// Times that the controller would not have this relay: its name is in use, or its certificate void.
    pub(crate) refusals: u64,
    /// When this relay's certificate ends, seconds since 1970.
    pub(crate) certificate_expires_unix_s: u64,
    /// Certificates that were renewed.
    pub(crate) renewals: u64,
    /// Attempts to do so that failed.
    pub(crate) renewals_failed: u64,
}

impl Overlay {
    /// `memory_bytes_max`: where to stop taking in SFUs and registrations.
    pub(crate) fn new(
        node: NodeIndex,
        span: Span,
        stopping: watch::Receiver<bool>,
        memory_bytes_max: Option<u64>,
    ) -> Overlay {
        Overlay {
            node,
            span,
            neighbours: watch::Sender::new(None),
            tokens: watch::Sender::new(Arc::default()),
            controller: watch::Sender::new(ControllerContact::default()),
            stopping,
            draining: AtomicBool::new(false),
            memory: MemoryWatch::new(memory_bytes_max),
        }
    }

    pub(crate) fn memory(&self) -> &MemoryWatch {
        &self.memory
    }

    /// SFUs are taken in, or not any longer.
    pub(crate) fn drain(&self, draining: bool) {
        self.draining.store(draining, Ordering::Relaxed);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub(crate) fn replace_neighbours(&self, neighbours: Vec<Neighbour>) {
        let by_node = neighbours.into_iter().map(|neighbour| (neighbour.node, neighbour)).collect();
        self.neighbours.send_replace(Some(Arc::new(by_node)));
    }

    pub(crate) fn replace_token_keys(&self, keys: Vec<TokenKey>) {
        self.tokens.send_replace(Arc::new(TokenVerifier::new(keys)));
    }

    pub(crate) fn controller_connected(&self, connected: bool) {
        self.controller.send_modify(|contact| {
            contact.sessions += u64::from(connected);
            contact.seen |= connected;
            contact.connected = connected;
            contact.void &= !connected;
        });
    }

    /// This relay belongs to the overlay no longer, as far as the controller is heard: its certificate is void.
    pub(crate) fn leave(&self) {
        self.controller.send_modify(|contact| contact.void = true);
        self.replace_token_keys(Vec::new());
    }

    pub(crate) fn controller_refused(&self) {
        self.controller.send_modify(|contact| contact.refusals += 1);
    }

    pub(crate) fn certificate_expires(&self, unix_s: u64) {
        self.controller.send_modify(|contact| contact.certificate_expires_unix_s = unix_s);
    }

    pub(crate) fn renewed(&self, expires_unix_s: u64) {
        self.controller.send_modify(|contact| {
            contact.renewals += 1;
            contact.certificate_expires_unix_s = expires_unix_s;
        });
    }

    pub(crate) fn renewal_failed(&self) {
        self.controller.send_modify(|contact| contact.renewals_failed += 1);
    }

    pub(crate) fn contact(&self) -> ControllerContact {
        *self.controller.borrow()
    }

    pub(crate) fn has_token_keys(&self) -> bool {
        self.tokens.borrow().has_keys()
    }

    pub(crate) fn neighbours(&self) -> watch::Receiver<Neighbours> {
        self.neighbours.subscribe()
    }

    /// Name of a neighbour, for people.
    pub(crate) fn name_of(&self, node: NodeIndex) -> Option<String> {
        let neighbours = self.neighbours.borrow();
        Some(neighbours.as_ref()?.get(&node)?.name.clone())
    }

    /// Judges diallers by what is known when they come.
    pub(crate) fn admission(self: &Arc<Overlay>) -> Admission {
        let overlay = Arc::clone(self);
        Arc::new(move |dialler| {
            let _in_span = overlay.span.enter();
            let verdict = overlay.admit(dialler);
            // The port logs refusals, and links that end.
            match &verdict {
                Ok(Peer::Relay { node }) => {
                    let neighbour = overlay.name_of(*node);
                    info!(neighbour, node = node.0, address = %dialler.address, "neighbour linked");
                }
                Ok(Peer::Client(rights)) => info!(
                    subject = rights.subject,
                    namespace = rights.namespace,
                    room = rights.room_pattern,
                    publish = rights.publish,
                    subscribe = rights.subscribe,
                    address = %dialler.address,
                    "client linked"
                ),
                Ok(Peer::Upstream) | Err(_) => {}
            }
            verdict
        })
    }

    fn admit(&self, dialler: &DialInfo) -> Result<Peer, Refusal> {
        if *self.stopping.borrow() {
            return Err(Refusal::new(RefusalCode::Unavailable, "this relay is stopping: use another"));
        }
        match &dialler.role {
            Role::Relay { node } => self.admit_relay(*node, dialler),
            Role::Client { token: _ } if self.controller.borrow().void => {
                let reason = "this relay belongs to its overlay no longer: use another";
                Err(Refusal::new(RefusalCode::Unavailable, reason))
            }
            Role::Client { token: _ } if self.is_draining() => {
                let reason = "this relay is being drained: use another";
                Err(Refusal::new(RefusalCode::Unavailable, reason))
            }
            Role::Client { token } => {
                let verifier = Arc::clone(&self.tokens.borrow());
                let rights = verifier.verify(token)?;
                self.memory.check().map_err(|reason| Refusal::new(RefusalCode::Limit, reason))?;
                Ok(Peer::Client(rights))
            }
        }
    }

    fn admit_relay(&self, node: NodeIndex, dialler: &DialInfo) -> Result<Peer, Refusal> {
        let certificate_names = &dialler.certificate_names;
        let refused = |reason: String| Err(Refusal::new(RefusalCode::NotANeighbour, reason));
        let neighbours = self.neighbours.borrow().clone();
        let Some(neighbours) = neighbours else {
            let reason =
                "this relay has not heard from its controller yet and knows no neighbours; try again soon";
            return Err(Refusal::new(RefusalCode::Unavailable, reason));
        };
        if certificate_names.is_empty() {
            return refused("a relay must present its certificate".to_owned());
        }
        let Some(neighbour) = neighbours.get(&node) else {
            return refused(format!("node {node} is not a neighbour of this relay"));
        };
        if !certificate_names.contains(&neighbour.name) {
            return refused(format!(
                "node {node} is relay {:?}, the certificate is for {certificate_names:?}",
                neighbour.name
            ));
        }
        if dialler.certificate_begins_unix_s < certificates_begin_unix_s(neighbour) {
            return refused(format!(
                "the certificate is void: relay {:?} joined anew since it was issued",
                neighbour.name
            ));
        }
        if node >= self.node {
            return refused(format!(
                "of two relays the one with the lower node index dials: node {} will dial node {node}",
                self.node
            ));
        }
        Ok(Peer::Relay { node })
    }
}

/// Certificates of that neighbour that begin earlier are void.
pub(crate) fn certificates_begin_unix_s(neighbour: &Neighbour) -> u64 {
    neighbour.certificates_from_unix_s.saturating_sub(CERTIFICATE_BACKDATING.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlay() -> (Arc<Overlay>, watch::Sender<bool>) {
        let (stop, stopping) = watch::channel(false);
        (Arc::new(Overlay::new(NodeIndex(5), Span::none(), stopping, None)), stop)
    }

    fn neighbour(node: u16, name: &str) -> Neighbour {
        Neighbour {
            node: NodeIndex(node),
            name: name.to_owned(),
            addresses: Vec::new(),
            certificates_from_unix_s: 0,
        }
    }

    fn judge(overlay: &Arc<Overlay>, role: Role, names: &[&str]) -> Result<Peer, Refusal> {
        let address = "192.0.2.1:4700".parse().expect("an address");
        let certificate_names = names.iter().map(|&name| name.to_owned()).collect();
        let certificate_begins_unix_s = 1_000_000;
        (overlay.admission())(&DialInfo { address, role, certificate_names, certificate_begins_unix_s })
    }

    fn relay(node: u16) -> Role {
        Role::Relay { node: NodeIndex(node) }
    }

    #[test]
    fn nobody_is_judged_before_the_controller_spoke() {
        let (overlay, _stop) = overlay();
        let refusal = judge(&overlay, relay(3), &["r3"]).expect_err("no list yet");
        assert_eq!(refusal.code, RefusalCode::Unavailable);
        let client = Role::Client { token: "t".to_owned() };
        assert_eq!(judge(&overlay, client, &[]).expect_err("no keys yet").code, RefusalCode::Unavailable);
    }

    #[test]
    fn a_relay_must_be_the_neighbour_that_its_certificate_names() {
        let (overlay, _stop) = overlay();
        overlay.replace_neighbours(vec![neighbour(3, "r3"), neighbour(4, "r4"), neighbour(7, "r7")]);
        assert_eq!(judge(&overlay, relay(3), &["r3"]), Ok(Peer::Relay { node: NodeIndex(3) }));
        let refused = |node: u16, names: &[&str], what: &str| {
            let refusal = judge(&overlay, relay(node), names).expect_err(what);
            assert_eq!(refusal.code, RefusalCode::NotANeighbour);
            assert!(refusal.reason.contains(what), "{}", refusal.reason);
        };
        refused(9, &["r9"], "node 9 is not a neighbour");
        refused(3, &["r4"], "node 3 is relay \"r3\", the certificate is for [\"r4\"]");
        refused(3, &[], "must present its certificate");
        refused(7, &["r7"], "lower node index dials");
        overlay.replace_neighbours(vec![neighbour(4, "r4")]);
        refused(3, &["r3"], "node 3 is not a neighbour");
    }

    #[test]
    fn a_certificate_from_before_a_neighbour_joined_anew_is_void() {
        let (overlay, _stop) = overlay();
        let joined_at = |begins_unix_s: u64| Neighbour {
            certificates_from_unix_s: begins_unix_s + CERTIFICATE_BACKDATING.as_secs(),
            ..neighbour(3, "r3")
        };
        overlay.replace_neighbours(vec![joined_at(1_000_000)]);
        assert_eq!(judge(&overlay, relay(3), &["r3"]), Ok(Peer::Relay { node: NodeIndex(3) }));
        overlay.replace_neighbours(vec![joined_at(1_000_001)]);
        let refusal = judge(&overlay, relay(3), &["r3"]).expect_err("a second too old");
        assert!(refusal.reason.contains("joined anew"), "{}", refusal.reason);
    }

    #[test]
    fn a_relay_that_stops_lets_nobody_in() {
        let (overlay, stop) = overlay();
        overlay.replace_neighbours(vec![neighbour(3, "r3")]);
        stop.send_replace(true);
        assert_eq!(judge(&overlay, relay(3), &["r3"]).expect_err("stopping").code, RefusalCode::Unavailable);
    }

    #[test]
    fn a_relay_that_is_drained_takes_in_neighbours_alone() {
        let (overlay, _stop) = overlay();
        overlay.replace_neighbours(vec![neighbour(3, "r3")]);
        overlay.drain(true);
        let client = || Role::Client { token: "t".to_owned() };
        let refusal = judge(&overlay, client(), &[]).expect_err("drained");
        assert_eq!((refusal.code, refusal.reason.contains("drained")), (RefusalCode::Unavailable, true));
        assert_eq!(judge(&overlay, relay(3), &["r3"]), Ok(Peer::Relay { node: NodeIndex(3) }));
        overlay.drain(false);
        assert!(!judge(&overlay, client(), &[]).expect_err("no keys yet").reason.contains("drained"));
    }

    #[test]
    fn contact_remembers() {
        let (overlay, _stop) = overlay();
        assert_eq!(overlay.contact(), ControllerContact::default());
        overlay.controller_connected(true);
        overlay.controller_connected(false);
        assert_eq!(
            overlay.contact(),
            ControllerContact { seen: true, sessions: 1, ..ControllerContact::default() }
        );
    }
}
