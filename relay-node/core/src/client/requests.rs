//! What the process around the core asks for, and what relays answer.

use super::Client;
use crate::duplicates::DuplicateWindow;
use crate::{ClientCommand, ClientEvent, LinkId};
use wire_format::control::StreamName;
use wire_format::session::{Message, RefusalCode};
use wire_format::{
    EdgeKeyframeRequest, FrameKind, Incarnation, MediaKind, Prioritizer, Slack, StreamHandle, Timestamp,
};

/// Streams announced at once on a link; the handle is 16 bits wide.
const ANNOUNCED_MAX: usize = 1 << 15;

#[derive(Debug)]
pub(crate) struct Publication {
    pub(super) message: Message,
    pub(super) prioritizer: Prioritizer,
    pub(super) slack: Slack,
    /// When a link last wanted a keyframe.
    pub(crate) keyframe_at: Option<Timestamp>,
    pub(super) next_sequence: u32,
}

/// A stream that is announced on a link or two.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) name: StreamName,
    pub(super) incarnation: Incarnation,
    /// What came of it by any link.
    pub(super) seen: DuplicateWindow,
    /// When something came last.
    pub(super) heard_at: Timestamp,
}

impl Client {
    pub(super) fn message(&mut self, now: Timestamp, link: LinkId, message: Message) {
        let Some(attached) = self.links.get_mut(link) else { return };
        match message {
            Message::Published { request, handle } => {
                if self.publications.contains_key(&request) && attached.asked.contains(&request) {
                    attached.granted.insert(request, handle);
                    self.event(ClientEvent::Published { request });
                }
            }
            Message::Subscribed { request } => {
                if self.subscriptions.contains_key(&request) && attached.asked.contains(&request) {
                    attached.subscribed.insert(request);
                    self.event(ClientEvent::Subscribed { request });
                }
            }
            Message::Refuse { request: Some(request), code, reason } => {
                self.refused(link, request, code, reason);
            }
            Message::Announce { handle, subscriptions, room, user, stream, kind, incarnation } => {
                if attached.announced.len() >= ANNOUNCED_MAX {
                    self.counters.messages_refused += 1;
                    return;
                }
                self.ended(link, handle);
                let name = StreamName { namespace: String::new(), room, user, stream };
                if self.announced(now, link, handle, subscriptions, name, kind, incarnation) {
                    self.deliver_waiting(now, link, handle, kind);
                }
            }
            Message::Ended { handle } => self.ended(link, handle),
            Message::Goodbye => {
                let first = !std::mem::replace(&mut attached.leaving, true);
                if first && self.links.is_present(link) {
                    self.event(ClientEvent::RelayLeaving);
                }
            }
            Message::Hello { .. }
            | Message::Accept { .. }
            | Message::Refuse { request: None, .. }
            | Message::Publish { .. }
            | Message::PublishProtected { .. }
            | Message::Unpublish { .. }
            | Message::Subscribe { .. }
            | Message::Unsubscribe { .. }
            | Message::Lanes { .. }
            | Message::Client { .. } => self.counters.messages_refused += 1,
        }
    }

    /// A request is refused, or what was granted is taken back.
    fn refused(&mut self, link: LinkId, request: u32, code: RefusalCode, reason: String) {
        let on_new = self.links.is_present(link);
        if on_new && self.kept_by_old_link(request, code == RefusalCode::Unavailable) {
            return;
        }
        let superseded = self.is_superseded(link, request);
        if let Some(attached) = self.links.get_mut(link) {
            attached.asked.remove(&request);
            attached.granted.remove(&request);
            attached.subscribed.remove(&request);
        }
        if superseded {
            return;
        }
        self.publications.remove(&request);
        self.subscriptions.remove(&request);
        self.event(ClientEvent::Refused { request, code, reason });
    }

    /// A stream is announced on a link. `false` if it is an older publication of one that is known.
    #[expect(clippy::too_many_arguments, reason = "the fields of one message")]
    fn announced(
        &mut self,
        now: Timestamp,
        link: LinkId,
        handle: StreamHandle,
        subscriptions: Vec<u32>,
        name: StreamName,
        kind: MediaKind,
        incarnation: Incarnation,
    ) -> bool {
        let known = self.names.get(&name).copied();
        let same = known.filter(|own| self.streams.get(own).is_some_and(|s| s.incarnation == incarnation));
        if let Some(own) = same {
            // The other link brings it already.
            if let Some(attached) = self.links.get_mut(link) {
                attached.announced.insert(handle, (own, false));
            }
            return true;
        }
        if let Some(own) = known {
            let is_older = self
                .streams
                .get(&own)
                .is_some_and(|known| incarnation.0.wrapping_sub(known.incarnation.0) > 127);
            if is_older {
                return false;
            }
            for attached in self.links.iter_mut() {
                attached.announced.retain(|_, (stream, _)| *stream != own);
            }
            self.end_if_unheard(own);
        }
        let own = self.new_handle();
        let StreamName { namespace: _, room, user, stream } = name.clone();
        let seen = DuplicateWindow::new(incarnation);
        self.names.insert(name.clone(), own);
        self.streams.insert(own, Heard { name, incarnation, seen, heard_at: now });
        if let Some(attached) = self.links.get_mut(link) {
            attached.announced.insert(handle, (own, false));
        }
        let announced =
            ClientEvent::Announced { handle: own, subscriptions, room, user, stream, kind, incarnation };
        self.event(announced);
        true
    }

    /// A link does not bring a stream any more.
    fn ended(&mut self, link: LinkId, handle: StreamHandle) {
        let own = self.links.get_mut(link).and_then(|attached| attached.announced.remove(&handle));
        if let Some((own, _)) = own {
            self.end_if_unheard(own);
        }
    }

    /// There are fewer streams than handles: each link announces half as many at most.
    fn new_handle(&mut self) -> StreamHandle {
        loop {
            self.last_handle = self.last_handle.wrapping_add(1);
            let handle = StreamHandle(self.last_handle);
            if !self.streams.contains_key(&handle) {
                return handle;
            }
        }
    }

    pub(super) fn command(&mut self, command: ClientCommand) {
        match command {
            ClientCommand::Publish { request, room, user, stream, kind, budget, protect, description } => {
                let budget = budget.unwrap_or(kind.budget_default());
                let budget_ms = Some(u32::try_from(budget.as_millis()).unwrap_or(u32::MAX));
                let message = if protect {
                    Message::PublishProtected { request, room, user, stream, kind, budget_ms }
                } else {
                    Message::Publish { request, room, user, stream, kind, budget_ms }
                };
                let publication = Publication {
                    message: message.clone(),
                    prioritizer: Prioritizer::new(kind, description),
                    slack: Slack::from_duration(budget),
                    keyframe_at: None,
                    next_sequence: 0,
                };
                self.publications.insert(request, publication);
                self.ask(request, message);
            }
            ClientCommand::Unpublish { request } => {
                if self.publications.remove(&request).is_some() {
                    self.take_back(request, &Message::Unpublish { request });
                }
            }
            ClientCommand::Subscribe { request, room, user, stream } => {
                let message = Message::Subscribe { request, room, user, stream };
                self.subscriptions.insert(request, message.clone());
                self.ask(request, message);
            }
            ClientCommand::Unsubscribe { request } => {
                if self.subscriptions.remove(&request).is_some() {
                    self.take_back(request, &Message::Unsubscribe { request });
                }
            }
            ClientCommand::RequestKeyframe { handle } => self.request_keyframe(handle),
            ClientCommand::Shutdown => {
                for link in self.links.ids() {
                    self.say(link, Message::Goodbye);
                }
            }
        }
    }

    /// On the present link alone; an old one is about to be left.
    fn ask(&mut self, request: u32, message: Message) {
        let Some(link) = self.links.ids().next() else { return };
        if let Some(attached) = self.links.get_mut(link) {
            attached.asked.insert(request);
            attached.granted.remove(&request);
            attached.subscribed.remove(&request);
        }
        self.say(link, message);
    }

    /// On each link where it was asked for.
    fn take_back(&mut self, request: u32, message: &Message) {
        for link in self.links.ids() {
            let Some(attached) = self.links.get_mut(link) else { continue };
            attached.granted.remove(&request);
            attached.subscribed.remove(&request);
            if attached.asked.remove(&request) {
                self.say(link, message.clone());
            }
        }
    }

    /// By the newer link that brings the stream.
    pub(super) fn request_keyframe(&mut self, own: StreamHandle) {
        let found = self.links.iter_mut().find_map(|attached| Some((attached.handle_of(own)?, attached)));
        let Some((handle, attached)) = found else { return };
        let body = EdgeKeyframeRequest { handle }.encode();
        if attached.link.push_small(FrameKind::EdgeKeyframeRequest, &body).is_ok() {
            attached.ready = true;
            self.counters.keyframe_requests_sent += 1;
        } else {
            self.counters.drop_queue_full += 1;
        }
    }
}
