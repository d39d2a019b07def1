//! When not to decide: while the controller knows less than its relays do.
//!
//! After a start, or when sessions of half the relays break together (more likely the controller's own network than
//! theirs), routes computed from what is known would leave out relays that work. Relays keep forwarding on the tables
//! they have, so nothing is pushed until the relays are back: those that the store names have three seconds from the
//! first report on, those that a relay in session reports a working link to have fifteen.

use crate::links::Links;
use crate::relays::Relays;
use std::time::Duration;
use wire_format::Timestamp;

/// For relays of which nothing but their names is known.
const WAIT_KNOWN: Duration = Duration::from_secs(3);
/// For relays that are alive.
const WAIT_ALIVE: Duration = Duration::from_secs(15);

/// A wait for relays to report.
#[derive(Clone, Debug)]
pub(crate) struct Recovery {
    /// When the first relay had reported everything.
    heard_at: Option<Timestamp>,
    /// The first wait has passed.
    known_waited: bool,
}

impl Recovery {
    /// Nobody has reported yet.
    pub(crate) fn after_start() -> Recovery {
        Recovery { heard_at: None, known_waited: false }
    }

    /// Sessions broke.
    pub(crate) fn after_loss(now: Timestamp, relays: &Relays) -> Recovery {
        let some_left = relays.iter().any(|(_, relay)| relay.is_complete());
        Recovery { heard_at: some_left.then_some(now), known_waited: false }
    }

    /// Whether sessions of two relays or more, and of half of them, were lost of late without a goodbye.
    pub(crate) fn is_needed(now: Timestamp, relays: &Relays, links: &Links) -> bool {
        let missing = |node, relay: &crate::relays::Relay| {
            !relay.is_complete() && !relay.leaving && relay.is_in_grace(now) && links.is_reached(node)
        };
        let lost = relays.iter().filter(|(node, relay)| missing(*node, relay)).count();
        let left = relays.iter().filter(|(_, relay)| relay.is_complete()).count();
        lost >= 2 && lost >= left
    }

    /// A relay has reported everything.
    pub(crate) fn heard(&mut self, now: Timestamp) {
        self.heard_at.get_or_insert(now);
    }

    /// Notices that the first wait has passed, or that nobody is left whom anything was heard of: it begins anew.
    pub(crate) fn tick(&mut self, now: Timestamp, relays: &Relays) {
        if !relays.iter().any(|(_, relay)| relay.is_complete()) {
            *self = Recovery::after_start();
        }
        self.known_waited |= self.heard_at.is_some_and(|heard_at| now >= heard_at + WAIT_KNOWN);
    }

    /// Whether routes may be computed again.
    pub(crate) fn is_over(&self, now: Timestamp, relays: &Relays, links: &Links) -> bool {
        let Some(heard_at) = self.heard_at else {
            return false;
        };
        if now >= heard_at + WAIT_ALIVE {
            return true;
        }
        let alive = |node| {
            links
                .neighbours_usable(node)
                .any(|other| relays.relay(other).is_some_and(|relay| relay.is_complete()))
        };
        let awaited = relays.iter().any(|(node, relay)| {
            let known = !relay.heard && relay.named && now < heard_at + WAIT_KNOWN;
            !relay.is_complete() && !relay.leaving && (known || relay.session.is_some() || alive(node))
        });
        !awaited
    }

    /// When [`Recovery::is_over`] may change its answer without any input.
    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        let heard_at = self.heard_at?;
        Some(if self.known_waited { heard_at + WAIT_ALIVE } else { heard_at + WAIT_KNOWN })
    }
}
