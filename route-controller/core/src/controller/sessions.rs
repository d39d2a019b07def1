//! Sessions that begin, and those that end because a certificate is worth nothing any more.

use super::{Cause, Controller};
use crate::api::{CertificateRule, KickCause, SessionId, StoreUpdate};
use crate::effect::Effect;
use crate::relays::{Opened, Opening};
use wire_format::Timestamp;
use wire_format::control::{NamespaceRates, RelayHello, ToRelay, Welcome};

/// What a relay is told whose certificate was good when its session began.
const CERTIFICATE_VOID: &str =
    "the certificate of this session is void: the relay was revoked, or joined anew elsewhere";

impl Controller {
    /// A relay opened a session: it is told who it is, and what goes for everyone.
    pub(super) fn relay_up(&mut self, now: Timestamp, session: SessionId, name: &str, mut hello: RelayHello) {
        let held = std::mem::take(&mut hello.streams);
        let epoch = hello.epoch;
        let position = hello.position;
        let Opened { node, replaced, record } = match self.relays.open(now, session, name, hello) {
            Opening::Opened(opened) => opened,
            Opening::Waits => return,
            Opening::Refused(cause, reason) => return self.kick(session, cause, reason),
        };
        self.counters.sessions += 1;
        if let Some(replaced) = replaced {
            self.rollout.leave(node);
            self.kick(replaced, KickCause::Replaced, "silent, and the relay opened another session");
        }
        if let Some(relay) = self.relays.relay_mut(node) {
            relay.epoch = epoch;
        }
        if let Some(record) = record {
            self.effects.push(Effect::Persist(StoreUpdate::Node(record)));
        }
        self.links.set_position(node, position);
        self.links.session_opened(node);
        self.directory.session_opened(now, node, name, held);
        self.tell(node, ToRelay::Welcome(Welcome { node, term: self.term }));
        if let Some(keys) = self.token_keys.clone() {
            self.tell(node, ToRelay::TokenKeys(keys));
        }
        self.tell_draining(node);
        let rates = self.directory.rates();
        if rates != NamespaceRates::default() {
            self.tell(node, ToRelay::Namespaces(rates));
        }
        self.changed(now, Cause::Topology);
    }

    /// The worth of a relay's certificates changed.
    pub(super) fn certificates(&mut self, now: Timestamp, name: &str, rule: CertificateRule) {
        self.relays.set_rule(name, rule);
        let Some(node) = self.relays.of_name(name) else { return };
        let Some(relay) = self.relays.relay_mut(node) else { return };
        if relay.certificates == rule {
            return;
        }
        relay.certificates = rule;
        let (session, rival) = (relay.session.map(|session| session.id), relay.rival.take());
        if rule.revoked {
            // Cut off at once, like one that said goodbye.
            relay.leaving = true;
            relay.named = false;
            relay.changed_at = now;
            // It cannot come back to its index any more; the quarantine begins anew.
            relay.quarantined_until = None;
        }
        if let Some(session) = session {
            self.session_over(now, session);
            self.kick(session, KickCause::Void, CERTIFICATE_VOID);
        }
        if let Some(rival) = rival {
            self.kick(rival.id, KickCause::Void, CERTIFICATE_VOID);
        }
        // Whatever else may have to wait, a controller that still collects reports for instance: this does not.
        self.push_neighbours(now);
        self.changed(now, Cause::Topology);
    }
}
