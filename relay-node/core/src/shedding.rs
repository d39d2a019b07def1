//! What becomes known of frames that a link could not carry: they are counted, and where the frames that follow are of
//! no use without one, a keyframe is asked for. A relay that only passes a stream on does not know where it enters, and
//! leaves that to those who receive it.

use crate::backlog::{Flow, Shed};
use crate::client::{self, Attached, Client};
use crate::clients::ClientSide;
use crate::relay::{Relay, Side, Timer, slot};
use crate::{ClientEvent, Counters, LinkId};
use std::time::Duration;
use wire_format::{HOP_LIMIT, MediaKind, Timestamp};

/// Distance of two keyframes that an SFU's end asks of its publisher for one stream; relays merge requests likewise.
const KEYFRAME_EVERY: Duration = Duration::from_secs(1);

impl Counters {
    fn count_shed(&mut self, shed: &Shed) {
        let [audio, base, video, enhancement] = shed.dropped;
        self.drop_congested_audio += audio;
        self.drop_congested_base += base;
        self.drop_congested_video += video;
        self.drop_congested_enhancement += enhancement;
    }
}

impl Relay {
    /// Where a link carries only so much: what of this wake-up and of what waits leaves now.
    pub(crate) fn schedule_link(&mut self, now: Timestamp, id: LinkId, arena: &[u8]) {
        let Relay { links, annex, backlog_memory, timers, .. } = self;
        let Some(entry) = links.get_mut(slot(id)).and_then(Option::as_mut) else { return };
        if !entry.link.is_paced() {
            return;
        }
        if entry.link.schedule(now, (arena, annex), backlog_memory)
            && let Some(next) = entry.link.rearm(now)
        {
            timers.set(Timer::Link(id), next);
        }
        if let Some(shed) = entry.link.take_shed() {
            self.shed(now, id, &shed);
        }
    }

    fn shed(&mut self, now: Timestamp, id: LinkId, shed: &Shed) {
        self.counters.count_shed(shed);
        for flow in &shed.keyframes {
            let key = match flow {
                Flow::Stream(key) => Some(*key),
                Flow::Handle(handle) => self.link_mut(id).and_then(|entry| match &entry.side {
                    Side::Client(client) => ClientSide::announced(client, *handle),
                    Side::Relay { node: _ } => None,
                }),
            };
            let Some(stream) = key.and_then(|key| self.streams.find(key)) else { continue };
            let (key, ingress, kind) = (stream.entry.key, stream.entry.ingress, stream.entry.kind);
            if kind == MediaKind::Video {
                self.want_keyframe(now, key, ingress, HOP_LIMIT);
            }
        }
    }
}

impl Client {
    /// Where the link carries only so much: what of this wake-up and of what waits leaves now.
    pub(crate) fn schedule_link(&mut self, now: Timestamp, id: LinkId, arena: &[u8]) {
        let attached = self.links.get_mut(id).filter(|attached| attached.link.is_paced());
        let Some(Attached { link, granted, .. }) = attached else { return };
        if link.schedule(now, (arena, &mut self.annex), &mut self.backlog_memory)
            && let Some(next) = link.rearm(now)
        {
            self.timers.set(client::Timer::Link(id), next);
        }
        let Some(shed) = link.take_shed() else { return };
        self.counters.count_shed(&shed);
        let mut wanted = Vec::new();
        for (request, publication) in &mut self.publications {
            let lacks =
                granted.get(request).is_some_and(|handle| shed.keyframes.contains(&Flow::Handle(*handle)));
            let asked_of_late = publication.keyframe_at.is_some_and(|at| now.since(at) < KEYFRAME_EVERY);
            if lacks && !asked_of_late {
                publication.keyframe_at = Some(now);
                wanted.push(*request);
            }
        }
        for request in wanted {
            self.event(ClientEvent::KeyframeRequested { request });
        }
    }
}
