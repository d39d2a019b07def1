//! What this process knows of the overlay, as the controller told it, beside what the core keeps: who the neighbours are
//! by name, and which keys sign client tokens. With it every dialler at the relay port is judged.

use crate::client_token::TokenVerifier;
use link_io::{Admission, DialInfo, Refusal};
use relay_core::Peer;
use std::collections::BTreeMap;
use std::sync::Arc;
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
}

/// Whether there is a controller.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct ControllerContact {
    /// A session stands now.
    pub(crate) connected: bool,
    /// A session stood at some time since the start.
    pub(crate) seen: bool,
    /// Sessions so far.
    pub(crate) sessions: u64,
}

impl Overlay {
    pub(crate) fn new(node: NodeIndex, span: Span, stopping: watch::Receiver<bool>) -> Overlay {
        Overlay {
            node,
            span,
            neighbours: watch::Sender::new(None),
            tokens: watch::Sender::new(Arc::default()),
            controller: watch::Sender::new(ControllerContact::default()),
            stopping,
        }
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
        });
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
            Role::Relay { node } => self.admit_relay(*node, &dialler.certificate_names),
            Role::Client { token } => {
                let verifier = Arc::clone(&self.tokens.borrow());
                verifier.verify(token).map(Peer::Client)
            }
        }
    }

    fn admit_relay(&self, node: NodeIndex, certificate_names: &[String]) -> Result<Peer, Refusal> {
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
        if node >= self.node {
            return refused(format!(
                "of two relays the one with the lower node index dials: node {} will dial node {node}",
                self.node
            ));
        }
        Ok(Peer::Relay { node })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlay() -> (Arc<Overlay>, watch::Sender<bool>) {
        let (stop, stopping) = watch::channel(false);
        (Arc::new(Overlay::new(NodeIndex(5), Span::none(), stopping)), stop)
    }

    fn neighbour(node: u16, name: &str) -> Neighbour {
        Neighbour { node: NodeIndex(node), name: name.to_owned(), addresses: Vec::new() }
    }

    fn judge(overlay: &Arc<Overlay>, role: Role, names: &[&str]) -> Result<Peer, Refusal> {
        let address = "192.0.2.1:4700".parse().expect("an address");
        let certificate_names = names.iter().map(|&name| name.to_owned()).collect();
        (overlay.admission())(&DialInfo { address, role, certificate_names })
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
    fn a_relay_that_stops_lets_nobody_in() {
        let (overlay, stop) = overlay();
        overlay.replace_neighbours(vec![neighbour(3, "r3")]);
        stop.send_replace(true);
        assert_eq!(judge(&overlay, relay(3), &["r3"]).expect_err("stopping").code, RefusalCode::Unavailable);
    }

    #[test]
    fn contact_remembers() {
        let (overlay, _stop) = overlay();
        assert_eq!(overlay.contact(), ControllerContact::default());
        overlay.controller_connected(true);
        overlay.controller_connected(false);
        assert_eq!(overlay.contact(), ControllerContact { connected: false, seen: true, sessions: 1 });
    }
}
