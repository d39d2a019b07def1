//! Moving from one link to the next without a gap: to another relay because this one leaves, or to the same one with
//! another token.
//!
//! **Make before break.** Everything is asked for on the new link while the old one carries media. A publication goes over
//! when it is granted there, which the controller does when the new relay has all that its packets need; it keeps its
//! sequence, and, if the relays know this client by its key, its ids and incarnation. Subscribed streams come by both
//! links for a while, and second copies are dropped. The old link is left [`LINGER`] after everything has gone over, so
//! that what is under way on it arrives.
//!
//! A link that does not get that far costs nothing: when the new one goes down first, the old one is as good as before.

use super::{Client, Timer};
use crate::link::Link;
use crate::{ClientEvent, LinkId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use wire_format::session::Message;
use wire_format::{StreamHandle, Timestamp};

/// What is under way on the old link when everything has gone over has so long to arrive.
const LINGER: Duration = Duration::from_secs(1);
/// A stream that brought nothing for so long is silent: nothing shows whether it comes by the new link, too.
const SILENCE: Duration = Duration::from_secs(1);
/// A stream that is announced on the new link and has not come by it after so long never will.
const COME_WAIT: Duration = Duration::from_secs(10);
/// Between two looks at whether everything has gone over.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A link, and what was agreed on it.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) link: Link,
    /// It has something to send.
    pub(crate) ready: bool,
    /// The relay said goodbye.
    pub(super) leaving: bool,
    /// Requests said on it that were not refused.
    pub(super) asked: BTreeSet<u32>,
    /// Handles of publications that were granted.
    pub(crate) granted: BTreeMap<u32, StreamHandle>,
    pub(super) subscribed: BTreeSet<u32>,
    /// Streams announced on it: the core's own handle, and whether a packet came.
    pub(super) announced: BTreeMap<StreamHandle, (StreamHandle, bool)>,
}

impl Attached {
    fn new(link: Link) -> Attached {
        Attached {
            link,
            ready: false,
            leaving: false,
            asked: BTreeSet::new(),
            granted: BTreeMap::new(),
            subscribed: BTreeSet::new(),
            announced: BTreeMap::new(),
        }
    }

    /// The publication of a handle.
    pub(super) fn publication(&self, handle: StreamHandle) -> Option<u32> {
        self.granted.iter().find(|(_, granted)| **granted == handle).map(|(request, _)| *request)
    }

    /// The link's handle for a stream.
    pub(super) fn handle_of(&self, own: StreamHandle) -> Option<StreamHandle> {
        self.announced.iter().find(|(_, (stream, _))| *stream == own).map(|(handle, _)| *handle)
    }

    /// Whether a packet of a stream came by it; `None` if it is not announced.
    fn brings(&self, own: StreamHandle) -> Option<bool> {
        self.announced.values().find(|(stream, _)| *stream == own).map(|(_, came)| *came)
    }
}

/// The present link, and the one before while it is not left yet.
#[derive(Debug, Default)]
pub(crate) struct Links {
    present: Option<Attached>,
    parting: Option<Parting>,
}

#[derive(Debug)]
struct Parting {
    attached: Attached,
    /// Since when there is a newer link.
    since: Timestamp,
    /// When it is left, once everything has gone over.
    left_at: Option<Timestamp>,
}

impl Links {
    pub(super) fn present(&self) -> Option<&Attached> {
        self.present.as_ref()
    }

    /// The present one first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Attached> {
        self.present.iter().chain(self.parting.iter().map(|parting| &parting.attached))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Attached> {
        self.present.iter_mut().chain(self.parting.iter_mut().map(|parting| &mut parting.attached))
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = LinkId> + use<> {
        let id = |attached: &Attached| attached.link.id;
        let parting = self.parting.as_ref().map(|parting| id(&parting.attached));
        self.present.as_ref().map(id).into_iter().chain(parting)
    }

    pub(super) fn get(&self, id: LinkId) -> Option<&Attached> {
        self.iter().find(|attached| attached.link.id == id)
    }

    pub(crate) fn get_mut(&mut self, id: LinkId) -> Option<&mut Attached> {
        self.iter_mut().find(|attached| attached.link.id == id)
    }

    pub(super) fn is_present(&self, id: LinkId) -> bool {
        self.present.as_ref().is_some_and(|attached| attached.link.id == id)
    }
}

impl Client {
    /// A new link stands. The one before becomes the old one.
    pub(super) fn link_up(&mut self, now: Timestamp, link: Link) {
        self.part(now, "replaced by a newer link");
        let id = link.id;
        if let Some(attached) = self.links.present.replace(Attached::new(link)) {
            self.links.parting = Some(Parting { attached, since: now, left_at: None });
            self.timers.set(Timer::Moving, now + LOOK_EVERY);
        }
        if let Some(key) = self.key {
            self.say(id, Message::Client { key });
        }
        self.ask_for_rest();
        self.tick(now, id);
    }

    /// A link is gone. If it is the newer of two, the other is the present one again.
    pub(super) fn link_down(&mut self, now: Timestamp, id: LinkId) {
        if self.links.is_present(id) {
            let back = self.links.parting.take().map(|parting| parting.attached);
            let gone = std::mem::replace(&mut self.links.present, back);
            gone.into_iter().for_each(|gone| self.forget(gone));
            self.timers.clear(Timer::Moving);
            self.ask_for_rest();
        } else if let Some(parting) = self.links.parting.take_if(|parting| parting.attached.link.id == id) {
            self.timers.clear(Timer::Moving);
            self.forget(parting.attached);
            self.ask_for_rest();
        }
        let _ = now;
    }

    /// Leaves the old link, if there is one.
    fn part(&mut self, now: Timestamp, reason: &'static str) {
        if let Some(id) = self.links.parting.as_ref().map(|parting| parting.attached.link.id) {
            self.link_down(now, id);
            self.close(id, reason);
        }
    }

    /// A link is gone, and with it what only it brought.
    fn forget(&mut self, mut gone: Attached) {
        let id = gone.link.id;
        gone.link.take_waiting().into_iter().for_each(|parked| self.backlog_memory.give(parked.body));
        gone.link.release(&mut self.repair_memory);
        gone.link.take_unacknowledged().release(&mut self.repair_memory);
        self.timers.clear(Timer::Link(id));
        if self.links.present.is_none() {
            self.timers.clear(Timer::Waiting);
            self.counters.drop_unknown_handle += self.waiting.clear();
        }
        for (own, _) in gone.announced.into_values() {
            self.end_if_unheard(own);
        }
    }

    /// Asks on the present link for what was not asked for there yet, or refused while the old one had it.
    fn ask_for_rest(&mut self) {
        let Some(present) = self.links.present.as_mut() else { return };
        let id = present.link.id;
        let publications = self.publications.iter().map(|(request, held)| (request, &held.message));
        let mut missing = Vec::new();
        for (request, message) in publications.chain(&self.subscriptions) {
            if present.asked.insert(*request) {
                missing.push(message.clone());
            }
        }
        for message in missing {
            self.say(id, message);
        }
    }

    /// The relay of the new link refuses what the old one has. Another publisher may have the name there, because one of
    /// the relays does not know that both are one: then it ends on the old link first. Whatever else it is, the old link
    /// keeps it for as long as it stands. `false` if there is no old link that has it.
    pub(super) fn kept_by_old_link(&mut self, request: u32, taken: bool) -> bool {
        let Links { present: Some(present), parting: Some(Parting { attached: old, .. }) } = &mut self.links
        else {
            return false;
        };
        if !old.asked.contains(&request) {
            return false;
        }
        present.asked.remove(&request);
        let old_id = old.link.id;
        if taken && self.publications.contains_key(&request) {
            old.asked.remove(&request);
            old.granted.remove(&request);
            self.say(old_id, Message::Unpublish { request });
            self.ask_for_rest();
        }
        true
    }

    /// Whether there is a newer link, on which that request stands or may come to stand.
    pub(super) fn is_superseded(&self, id: LinkId, request: u32) -> bool {
        !self.links.is_present(id)
            && self.links.present.as_ref().is_some_and(|present| present.asked.contains(&request))
    }

    /// The time has come to look at how far the move is.
    pub(super) fn look_at_move(&mut self, now: Timestamp) {
        let Links { present: Some(present), parting: Some(parting) } = &mut self.links else { return };
        let waited = now.since(parting.since) >= COME_WAIT;
        let comes = |own: &StreamHandle| {
            let silent = self.streams.get(own).is_none_or(|stream| now.since(stream.heard_at) >= SILENCE);
            present.brings(*own).is_some_and(|came| came || silent || waited)
        };
        let gone_over = self.publications.keys().all(|request| present.granted.contains_key(request))
            && self.subscriptions.keys().all(|request| present.subscribed.contains(request))
            && parting.attached.announced.values().all(|(own, _)| comes(own));
        if !gone_over {
            parting.left_at = None;
        } else if *parting.left_at.get_or_insert(now + LINGER) <= now {
            self.part(now, "moved to another link");
            return;
        }
        self.timers.set(Timer::Moving, now + LOOK_EVERY);
    }

    /// A stream ends when no link has it.
    pub(super) fn end_if_unheard(&mut self, own: StreamHandle) {
        if self.links.iter().any(|attached| attached.brings(own).is_some()) {
            return;
        }
        if let Some(stream) = self.streams.remove(&own) {
            self.names.remove(&stream.name);
            self.event(ClientEvent::Ended { handle: own });
        }
    }
}
