//! Relays that are to be empty, or are about to stop.

use crate::LinkId;
use crate::notice::Notice;
use crate::relay::{Relay, RelayLink, Side};
use wire_format::Timestamp;
use wire_format::control::ToController;
use wire_format::session::Message;

impl Relay {
    /// Links of SFUs, those without publications and subscriptions included.
    pub fn clients(&self) -> usize {
        self.links.iter().flatten().filter(|entry| matches!(entry.side, Side::Client(_))).count()
    }

    /// The other end is about to stop. The controller is to route around it at once; until it has, destinations beyond it
    /// move to their backups, and those that have none keep the old way until the link closes.
    pub(crate) fn peer_leaves(&mut self, now: Timestamp, link: LinkId) {
        let Some(entry) = self.link_mut(link) else { return };
        entry.leaving = true;
        if let Some(report) = entry.report() {
            self.report(ToController::Links(vec![report]));
            self.reroute(now);
        }
    }

    /// This relay is to be empty, or not any longer: SFUs are sent to other relays, and are served until they have gone.
    pub(crate) fn drain(&mut self, draining: bool) {
        if std::mem::replace(&mut self.draining, draining) || !draining {
            return;
        }
        self.notice(Notice::Draining);
        let of_client = |entry: &&RelayLink| matches!(entry.side, Side::Client(_));
        let links: Vec<_> =
            self.links.iter().flatten().filter(of_client).map(|entry| entry.link.id).collect();
        for link in links {
            self.say(link, Message::Goodbye);
        }
    }

    /// Says goodbye to everyone.
    pub(crate) fn shut_down(&mut self) {
        self.report(ToController::Goodbye);
        if !std::mem::replace(&mut self.draining, true) {
            self.notice(Notice::Draining);
        }
        let links: Vec<_> = self.links.iter().flatten().map(|entry| entry.link.id).collect();
        for link in links {
            self.say(link, Message::Goodbye);
        }
    }
}
