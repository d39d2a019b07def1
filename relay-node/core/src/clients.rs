//! SFUs at their relay: what they may do, publish and want.

use crate::notice::EndReason;
use crate::relay::{Relay, Side, Timer};
use crate::room_pattern::matches_pattern;
use crate::streams::LocalSubscriber;
use crate::{ClientRights, LinkId, PeerView, PlainId, RateLimit, RateMeter};
use std::collections::BTreeMap;
use std::time::Duration;
use wire_format::control::{PublicationReport, StreamName, SubscriptionReport, ToController, limits};
use wire_format::session::{Message, RefusalCode};
use wire_format::{
    ClientKey, Incarnation, MediaKind, PublicationId, PublisherKey, Slack, StreamHandle, StreamKey,
    SubscriptionId, Timestamp,
};

/// Publications on one link.
const PUBLICATIONS_MAX: usize = 1024;
/// Subscriptions on one link.
const SUBSCRIPTIONS_MAX: usize = 1024;

/// Whose a publication or subscription is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    /// An SFU's that is linked, under the number of its request.
    Link { link: LinkId, request: u32 },
    /// A plain RTP registration's; `plain` keeps the rest.
    Plain,
}

/// A stream that an SFU publishes here.
#[derive(Clone, Debug)]
pub(crate) struct Publication {
    pub(crate) owner: Owner,
    pub(crate) name: StreamName,
    pub(crate) kind: MediaKind,
    pub(crate) slack: Slack,
    /// Its publisher asks for two disjoint ways at once.
    pub(crate) protect: bool,
    /// Who publishes, if it may go on on another link.
    pub(crate) publisher: Option<PublisherKey>,
    pub(crate) granted: Option<Granted>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Granted {
    pub(crate) key: StreamKey,
    pub(crate) incarnation: Incarnation,
    /// Its name on the link; plain RTP has none.
    pub(crate) handle: Option<StreamHandle>,
}

impl Publication {
    pub(crate) fn report(&self, publication: PublicationId) -> PublicationReport {
        PublicationReport {
            publication,
            name: self.name.clone(),
            kind: self.kind,
            granted: self.granted.as_ref().map(|granted| (granted.key, granted.incarnation)),
            protect: self.protect,
            publisher: self.publisher,
        }
    }
}

/// What an SFU wants here.
#[derive(Clone, Debug)]
pub(crate) struct Subscription {
    pub(crate) owner: Owner,
    pub(crate) namespace: String,
    pub(crate) room: String,
    pub(crate) user: Option<String>,
    pub(crate) stream: Option<String>,
}

impl Subscription {
    pub(crate) fn report(&self, subscription: SubscriptionId) -> SubscriptionReport {
        SubscriptionReport {
            subscription,
            namespace: self.namespace.clone(),
            room: self.room.clone(),
            user: self.user.clone(),
            stream: self.stream.clone(),
        }
    }

    pub(crate) fn matches(&self, name: &StreamName) -> bool {
        self.namespace == name.namespace
            && self.room == name.room
            && self.user.as_ref().is_none_or(|user| *user == name.user)
            && self.stream.as_ref().is_none_or(|stream| *stream == name.stream)
    }
}

/// What a media frame of a publisher needs to know of its publication.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inbound {
    pub(crate) key: StreamKey,
    pub(crate) incarnation: Incarnation,
    pub(crate) slack: Slack,
    pub(crate) kind: MediaKind,
}

/// An SFU's side of a link.
#[derive(Debug)]
pub(crate) struct ClientSide {
    rights: ClientRights,
    key: Option<ClientKey>,
    publications: BTreeMap<u32, PublicationId>,
    subscriptions: BTreeMap<u32, SubscriptionId>,
    inbound: BTreeMap<StreamHandle, Inbound>,
    outbound: BTreeMap<StreamHandle, StreamKey>,
    last_inbound: u16,
    last_outbound: u16,
    rate: RateLimit,
    meter: RateMeter,
    /// Datagrams dropped because they came faster than that.
    over_rate: u64,
}

impl ClientSide {
    pub(crate) fn new(rights: ClientRights, rate: RateLimit) -> ClientSide {
        ClientSide {
            rights,
            key: None,
            publications: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            inbound: BTreeMap::new(),
            outbound: BTreeMap::new(),
            last_inbound: 0,
            last_outbound: 0,
            rate,
            meter: RateMeter::default(),
            over_rate: 0,
        }
    }

    pub(crate) fn rights(&self) -> &ClientRights {
        &self.rights
    }

    /// A datagram came. `false` if the SFU sends faster than it may.
    pub(crate) fn admit(&mut self, now: Timestamp, bytes: usize) -> bool {
        let admitted = self.meter.admit(&self.rate, now, bytes);
        self.over_rate += u64::from(!admitted);
        admitted
    }

    pub(crate) fn view(&self) -> PeerView {
        PeerView::Client {
            subject: self.rights.subject.clone(),
            namespace: self.rights.namespace.clone(),
            publications: self.publications.len(),
            subscriptions: self.subscriptions.len(),
            over_rate: self.over_rate,
        }
    }

    pub(crate) fn inbound(&self, handle: StreamHandle) -> Option<Inbound> {
        self.inbound.get(&handle).copied()
    }

    pub(crate) fn announced(&self, handle: StreamHandle) -> Option<StreamKey> {
        self.outbound.get(&handle).copied()
    }

    fn may_enter(&self, room: &str) -> bool {
        matches_pattern(&self.rights.room_pattern, room)
    }

    /// A free handle, not one that was used a moment ago: frames under its old meaning may be on their way.
    fn new_inbound(&mut self, inbound: Inbound) -> StreamHandle {
        let handle = next_free(&mut self.last_inbound, &self.inbound);
        self.inbound.insert(handle, inbound);
        handle
    }

    fn new_outbound(&mut self, key: StreamKey) -> StreamHandle {
        let handle = next_free(&mut self.last_outbound, &self.outbound);
        self.outbound.insert(handle, key);
        handle
    }
}

fn next_free<T>(last: &mut u16, taken: &BTreeMap<StreamHandle, T>) -> StreamHandle {
    loop {
        *last = last.wrapping_add(1);
        if !taken.contains_key(&StreamHandle(*last)) {
            return StreamHandle(*last);
        }
    }
}

impl Relay {
    /// A message of a link's reliable stream.
    pub(crate) fn message(&mut self, now: Timestamp, link: LinkId, message: Message) {
        let Some(entry) = self.link_mut(link) else { return };
        let is_client = matches!(entry.side, Side::Client(_));
        match message {
            Message::Publish { request, room, user, stream, kind, budget_ms } if is_client => {
                self.publish_or_refuse(link, request, [room, user, stream], kind, budget_ms, false);
            }
            Message::PublishProtected { request, room, user, stream, kind, budget_ms } if is_client => {
                self.publish_or_refuse(link, request, [room, user, stream], kind, budget_ms, true);
            }
            Message::Subscribe { request, room, user, stream } if is_client => {
                if let Err((code, reason)) = self.subscribe(now, link, request, room, user, stream) {
                    self.refuse(link, request, code, reason);
                }
            }
            Message::Unpublish { request } if is_client => self.unpublish(link, request),
            Message::Unsubscribe { request } if is_client => self.unsubscribe(link, request),
            Message::Client { key } if is_client => {
                if let Some(client) = self.client(link) {
                    client.key = Some(key);
                }
            }
            Message::Goodbye => self.peer_leaves(now, link),
            Message::Hello { .. }
            | Message::Accept { .. }
            | Message::Refuse { .. }
            | Message::Publish { .. }
            | Message::PublishProtected { .. }
            | Message::Published { .. }
            | Message::Unpublish { .. }
            | Message::Subscribe { .. }
            | Message::Subscribed { .. }
            | Message::Unsubscribe { .. }
            | Message::Announce { .. }
            | Message::Ended { .. }
            | Message::Lanes { .. }
            | Message::Client { .. } => self.counters.messages_refused += 1,
        }
    }

    fn refuse(&mut self, link: LinkId, request: u32, code: RefusalCode, reason: String) {
        self.counters.messages_refused += 1;
        self.say(link, Message::Refuse { request: Some(request), code, reason });
    }

    fn client(&mut self, link: LinkId) -> Option<&mut ClientSide> {
        match &mut self.link_mut(link)?.side {
            Side::Client(client) => Some(client),
            Side::Relay { node: _ } => None,
        }
    }

    pub(crate) fn next_registration(&mut self) -> u32 {
        self.next_registration = self.next_registration.wrapping_add(1);
        self.worker.registration(self.next_registration)
    }

    /// As many streams are published here as may be held.
    pub(crate) fn is_full_of_publications(&self) -> bool {
        self.publications.len() >= self.streams.most()
    }

    fn publish_or_refuse(
        &mut self,
        link: LinkId,
        request: u32,
        names: [String; 3],
        kind: MediaKind,
        budget_ms: Option<u32>,
        protect: bool,
    ) {
        if let Err((code, reason)) = self.publish(link, request, names, kind, budget_ms, protect) {
            self.refuse(link, request, code, reason);
        }
    }

    fn publish(
        &mut self,
        link: LinkId,
        request: u32,
        [room, user, stream]: [String; 3],
        kind: MediaKind,
        budget_ms: Option<u32>,
        protect: bool,
    ) -> Result<(), (RefusalCode, String)> {
        let publication = PublicationId(self.next_registration());
        let full = self.is_full_of_publications().then(|| self.reason_full("publish"));
        let Some(client) = self.client(link) else { return Ok(()) };
        check_names([&room, &user, &stream])?;
        let budget = budget_ms.map(|ms| Duration::from_millis(ms.into()));
        let slack = kind.slack(budget).map_err(|error| (RefusalCode::Invalid, error.to_string()))?;
        if !client.rights.publish || !client.may_enter(&room) {
            return Err(rights(&client.rights, "publish", &room));
        }
        if client.publications.contains_key(&request) || client.subscriptions.contains_key(&request) {
            return Err((RefusalCode::Invalid, format!("request {request} is in use on this link")));
        }
        if client.publications.len() >= PUBLICATIONS_MAX {
            return Err((
                RefusalCode::Limit,
                format!("{PUBLICATIONS_MAX} publications on one link are the limit; open a second link"),
            ));
        }
        if let Some(reason) = full {
            self.counters.refused_stream_limit += 1;
            return Err((RefusalCode::Limit, reason));
        }
        client.publications.insert(request, publication);
        let publisher = client.key.map(|key| key.publisher(request));
        let name = StreamName { namespace: client.rights.namespace.clone(), room, user, stream };
        let owner = Owner::Link { link, request };
        let publication_state = Publication { owner, name, kind, slack, protect, publisher, granted: None };
        let report = publication_state.report(publication);
        self.publications.insert(publication, publication_state);
        self.report(ToController::Published(report));
        Ok(())
    }

    fn subscribe(
        &mut self,
        now: Timestamp,
        link: LinkId,
        request: u32,
        room: String,
        user: Option<String>,
        stream: Option<String>,
    ) -> Result<(), (RefusalCode, String)> {
        let subscription = SubscriptionId(self.next_registration());
        let Some(client) = self.client(link) else { return Ok(()) };
        check_names([&room].into_iter().chain(&user).chain(&stream))?;
        if !client.rights.subscribe || !client.may_enter(&room) {
            return Err(rights(&client.rights, "subscribe", &room));
        }
        if client.publications.contains_key(&request) || client.subscriptions.contains_key(&request) {
            return Err((RefusalCode::Invalid, format!("request {request} is in use on this link")));
        }
        if client.subscriptions.len() >= SUBSCRIPTIONS_MAX {
            return Err((
                RefusalCode::Limit,
                format!("{SUBSCRIPTIONS_MAX} subscriptions on one link are the limit; open a second link"),
            ));
        }
        client.subscriptions.insert(request, subscription);
        let namespace = client.rights.namespace.clone();
        let owner = Owner::Link { link, request };
        let wanted = Subscription { owner, namespace, room, user, stream };
        self.say(link, Message::Subscribed { request });
        self.begin_subscription(now, subscription, wanted);
        Ok(())
    }

    /// Puts a subscription in force.
    pub(crate) fn begin_subscription(
        &mut self,
        now: Timestamp,
        subscription: SubscriptionId,
        wanted: Subscription,
    ) {
        let report = wanted.report(subscription);
        if !self.controller_up {
            self.join_streams_held_here(now, subscription, &wanted);
        }
        self.subscriptions.insert(subscription, wanted);
        self.report(ToController::Subscribed(report));
    }

    /// Without a controller, a subscription still gets what this relay already receives or where it is published.
    fn join_streams_held_here(
        &mut self,
        now: Timestamp,
        subscription: SubscriptionId,
        wanted: &Subscription,
    ) {
        self.subscriptions.insert(subscription, wanted.clone());
        let matching: Vec<_> =
            self.streams.iter().filter(|s| wanted.matches(&s.entry.name)).map(|s| s.entry.clone()).collect();
        for mut entry in matching {
            entry.subscriptions.push(subscription);
            self.hand_over_wanted(entry.key, entry.ingress);
            self.apply_entry(now, entry);
        }
    }

    fn unpublish(&mut self, link: LinkId, request: u32) {
        let Some(publication) = self.client(link).and_then(|client| client.publications.remove(&request))
        else {
            return;
        };
        let removed = self.remove_publication(publication);
        if let Some(granted) = removed.and_then(|publication| publication.granted)
            && let (Some(handle), Some(client)) = (granted.handle, self.client(link))
        {
            client.inbound.remove(&handle);
        }
        self.report(ToController::Unpublished { publication });
    }

    fn unsubscribe(&mut self, link: LinkId, request: u32) {
        let Some(subscription) = self.client(link).and_then(|client| client.subscriptions.remove(&request))
        else {
            return;
        };
        self.end_subscription(subscription);
    }

    /// Takes a subscription out of force.
    pub(crate) fn end_subscription(&mut self, subscription: SubscriptionId) {
        let ended = self.subscriptions.remove(&subscription);
        self.report(ToController::Unsubscribed { subscription });
        let others = ended.map_or(Vec::new(), |ended| self.others_of(&ended));
        for key in self.streams.forget_subscription(subscription) {
            self.keep_for_others(key, &others);
            self.refresh_local(key);
        }
    }

    /// What else the SFU of a subscription that ended wants in its room.
    fn others_of(&mut self, ended: &Subscription) -> Vec<SubscriptionId> {
        let Owner::Link { link, request: _ } = ended.owner else { return Vec::new() };
        let Some(client) = self.client(link) else { return Vec::new() };
        let own: Vec<_> = client.subscriptions.values().copied().collect();
        let same_room =
            |id: &SubscriptionId| self.subscriptions.get(id).is_some_and(|other| other.room == ended.room);
        own.into_iter().filter(same_room).collect()
    }

    /// The link of an SFU is gone: so is all that it published and wanted.
    pub(crate) fn forget_client(&mut self, _now: Timestamp, link: LinkId, client: ClientSide) {
        self.timers.clear(Timer::Token(link));
        for publication in client.publications.into_values() {
            self.remove_publication(publication);
            self.report(ToController::Unpublished { publication });
        }
        for subscription in client.subscriptions.into_values() {
            self.subscriptions.remove(&subscription);
            self.streams.forget_subscription(subscription);
            self.report(ToController::Unsubscribed { subscription });
        }
        let gone: Vec<_> = client.outbound.into_values().collect();
        for key in gone {
            if let Some(stream) = self.streams.find(key) {
                stream.local.retain(|subscriber| subscriber.link != link);
            }
        }
    }

    /// The controller has given a publication its ids.
    pub(crate) fn publication_granted(
        &mut self,
        id: PublicationId,
        key: StreamKey,
        incarnation: Incarnation,
    ) {
        let Some(publication) = self.publications.get_mut(&id) else { return };
        let Owner::Link { link, request } = publication.owner else {
            let granted = Granted { key, incarnation, handle: None };
            if let Some(before) = publication.granted.replace(granted) {
                self.publishers.remove(&(before.key, id));
            }
            self.publishers.insert((key, id));
            self.plain_granted(id, granted);
            return;
        };
        let inbound = Inbound { key, incarnation, slack: publication.slack, kind: publication.kind };
        let before = publication.granted.take();
        if let Some(before) = &before {
            self.publishers.remove(&(before.key, id));
        }
        let handle = before.as_ref().and_then(|granted| granted.handle);
        let Some(client) = self.client(link) else { return };
        let handle = match handle {
            Some(handle) => {
                client.inbound.insert(handle, inbound);
                handle
            }
            None => client.new_inbound(inbound),
        };
        if let Some(publication) = self.publications.get_mut(&id) {
            publication.granted = Some(Granted { key, incarnation, handle: Some(handle) });
            self.publishers.insert((key, id));
        }
        if before.is_none() {
            self.say(link, Message::Published { request, handle });
        }
    }

    pub(crate) fn remove_publication(&mut self, id: PublicationId) -> Option<Publication> {
        let removed = self.publications.remove(&id)?;
        if let Some(granted) = &removed.granted {
            self.publishers.remove(&(granted.key, id));
        }
        Some(removed)
    }

    /// The controller refuses a publication.
    pub(crate) fn publication_refused(&mut self, id: PublicationId, code: RefusalCode, reason: String) {
        let Some(publication) = self.remove_publication(id) else { return };
        let Owner::Link { link, request } = publication.owner else {
            let is_limit = code == RefusalCode::Limit;
            let reason = if is_limit { EndReason::Limit(reason) } else { EndReason::Refused(reason) };
            self.end_plain_for(PlainId::Publication(id), reason);
            return;
        };
        if let Some(client) = self.client(link) {
            client.publications.remove(&request);
            if let Some(handle) = publication.granted.and_then(|granted| granted.handle) {
                client.inbound.remove(&handle);
            }
        }
        self.refuse(link, request, code, reason);
    }

    /// The controller refuses a subscription.
    pub(crate) fn subscription_refused(&mut self, id: SubscriptionId, reason: String) {
        let Some(subscription) = self.subscriptions.remove(&id) else { return };
        // It may have been given what was held here, without the controller.
        for key in self.streams.forget_subscription(id) {
            self.refresh_local(key);
        }
        let Owner::Link { link, request } = subscription.owner else {
            self.end_plain_for(PlainId::Subscription(id), EndReason::Limit(reason));
            return;
        };
        if let Some(client) = self.client(link) {
            client.subscriptions.remove(&request);
        }
        self.refuse(link, request, RefusalCode::Limit, reason);
    }

    /// Brings whoever gets a stream here in line with the subscriptions of its entry. `true` if someone was added.
    pub(crate) fn refresh_local(&mut self, key: StreamKey) -> bool {
        let Some(stream) = self.streams.find(key) else { return false };
        let entry = stream.entry.clone();
        let before = std::mem::take(&mut stream.local);
        let mut wanted: BTreeMap<LinkId, Vec<u32>> = BTreeMap::new();
        for subscription in &entry.subscriptions {
            let owner = self.subscriptions.get(subscription).map(|subscription| subscription.owner);
            if let Some(Owner::Link { link, request }) = owner {
                wanted.entry(link).or_default().push(request);
            }
        }
        let mut local = Vec::with_capacity(wanted.len());
        for subscriber in before {
            if wanted.remove(&subscriber.link).is_some() {
                local.push(subscriber);
            } else {
                self.end_local(subscriber);
            }
        }
        let added = self.refresh_plain(key) | !wanted.is_empty();
        for (link, subscriptions) in wanted {
            let Some(client) = self.client(link) else { continue };
            let handle = client.new_outbound(key);
            local.push(LocalSubscriber { link, handle });
            let StreamName { namespace: _, room, user, stream } = entry.name.clone();
            let (kind, incarnation) = (entry.kind, entry.incarnation);
            self.say(
                link,
                Message::Announce { handle, subscriptions, room, user, stream, kind, incarnation },
            );
        }
        if let Some(stream) = self.streams.find(key) {
            stream.local = local;
        }
        added
    }

    /// Tells an SFU that a stream is over.
    pub(crate) fn end_local(&mut self, subscriber: LocalSubscriber) {
        if let Some(client) = self.client(subscriber.link) {
            client.outbound.remove(&subscriber.handle);
            self.say(subscriber.link, Message::Ended { handle: subscriber.handle });
        }
    }
}

pub(crate) fn check_names<'a>(
    names: impl IntoIterator<Item = &'a String>,
) -> Result<(), (RefusalCode, String)> {
    for name in names {
        if name.is_empty() || name.len() > limits::NAME_BYTES {
            let reason = format!("a name has {} bytes; 1 to {} are allowed", name.len(), limits::NAME_BYTES);
            return Err((RefusalCode::Invalid, reason));
        }
        // Operators read names on terminals.
        if name.chars().any(char::is_control) {
            let reason = format!("the name {name:?} contains a control character");
            return Err((RefusalCode::Invalid, reason));
        }
    }
    Ok(())
}

fn rights(rights: &ClientRights, what: &str, room: &str) -> (RefusalCode, String) {
    let reason = format!(
        "the token of {:?} does not grant to {what} in room {room:?} of namespace {:?} (rooms granted: {:?}, publish: {}, \
         subscribe: {})",
        rights.subject, rights.namespace, rights.room_pattern, rights.publish, rights.subscribe
    );
    (RefusalCode::Rights, reason)
}
