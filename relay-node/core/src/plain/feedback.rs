//! RTCP of plain subscribers: what they miss, and what they no longer see.

use super::cache::Found;
use super::{Bytes, Departure, PlainId, PlainPort};
use crate::relay::Relay;
use std::net::SocketAddr;
use wire_format::rtcp::{LostPackets, RtcpBody};
use wire_format::{HOP_LIMIT, MediaKind, StreamKey, SubscriptionId, Timestamp};

/// Packets sent again to one subscriber, per second and at once.
const RESEND_RATE: u32 = 512;
pub(super) const RESEND_BURST: u32 = 256;
/// Packets asked for in one NACK that are looked at.
const LOST_MAX: usize = 512;

impl Relay {
    /// The subscription that a port of its own belongs to, if the source may use it. Its address is learned.
    pub(super) fn subscription_of(
        &mut self,
        id: SubscriptionId,
        source: SocketAddr,
    ) -> Option<SubscriptionId> {
        let subscription = self.plain.subscriptions.get_mut(&id)?;
        if !subscription.rtcp_ips().contains(&source.ip()) {
            subscription.strangers += 1;
            return None;
        }
        self.learn_rtcp_address(id, source);
        Some(id)
    }

    /// Feedback about a stream. `owner` is known where the port is one registration's own. `false` if it is a stranger's.
    pub(super) fn plain_feedback(
        &mut self,
        now: Timestamp,
        owner: Option<PlainId>,
        port: PlainPort,
        source: SocketAddr,
        body: &RtcpBody<'_>,
    ) -> bool {
        let listens = match owner {
            // Receiver reports of a publisher, and what it wants of others, end here.
            Some(PlainId::Publication(_)) => {
                self.counters.plain_rtcp_ignored += 1;
                return true;
            }
            Some(PlainId::Subscription(id)) => Some(id),
            None => None,
        };
        if listens.is_none() && (port != PlainPort::RELAY || !self.plain.listeners.contains_key(&source.ip()))
        {
            return false;
        }
        match body {
            RtcpBody::Nack { media, lost } => match self.heard_by(listens, source, *media) {
                Some((subscription, key)) => self.send_plain_again(now, subscription, key, *media, *lost),
                None => self.counters.plain_rtcp_ignored += 1,
            },
            RtcpBody::PictureLoss { media } => self.picture_lost(now, listens, source, *media),
            RtcpBody::FullIntraRequest { targets } => {
                for (media, _) in *targets {
                    self.picture_lost(now, listens, source, media);
                }
            }
            RtcpBody::ReceiverReport { ssrc: _, blocks } => {
                self.counters.plain_reports_received += 1;
                if let Some((subscription, _)) =
                    blocks.clone().find_map(|block| self.heard_by(listens, source, block.ssrc))
                {
                    self.learn_rtcp_address(subscription, source);
                }
            }
            RtcpBody::SenderReport { .. }
            | RtcpBody::SourceDescription { .. }
            | RtcpBody::Bye { .. }
            | RtcpBody::Other { .. } => self.counters.plain_rtcp_ignored += 1,
        }
        true
    }

    /// The stream that a subscriber means by an SSRC. On the relay port the subscriber itself is found by it, and among
    /// several of one host by its address.
    fn heard_by(
        &self,
        listens: Option<SubscriptionId>,
        source: SocketAddr,
        media: u32,
    ) -> Option<(SubscriptionId, StreamKey)> {
        let one = listens.as_slice();
        let candidates = match listens {
            Some(_) => one,
            None => self.plain.listeners.get(&source.ip()).map_or(&[][..], Vec::as_slice),
        };
        let subscriptions =
            || candidates.iter().filter_map(|id| Some((*id, self.plain.subscriptions.get(id)?)));
        let named = || {
            subscriptions().filter_map(|(id, subscription)| {
                let claim = self.plain.claims.get(&(subscription.spec.destination, media));
                claim.filter(|(_, by)| *by == id).map(|(key, _)| (id, *key, subscription))
            })
        };
        let exact = named().find(|(_, _, subscription)| {
            subscription.spec.destination == source || subscription.rtcp_to() == source
        });
        if let Some((id, key, _)) = exact.or_else(|| named().next()) {
            return Some((id, key));
        }
        // Some receivers leave the SSRC out; where there is one stream only, it is meant.
        let mut single = subscriptions()
            .filter(|(_, subscription)| subscription.spec.destination == source || listens.is_some())
            .filter_map(|(id, subscription)| match subscription.streams[..] {
                [key] => Some((id, key)),
                _ => None,
            });
        single.next()
    }

    fn picture_lost(
        &mut self,
        now: Timestamp,
        listens: Option<SubscriptionId>,
        source: SocketAddr,
        media: u32,
    ) {
        let Some((id, key)) = self.heard_by(listens, source, media) else {
            self.counters.plain_rtcp_ignored += 1;
            return;
        };
        self.learn_rtcp_address(id, source);
        if let Some(subscription) = self.plain.subscriptions.get_mut(&id) {
            subscription.keyframe_requests += 1;
        }
        let Some(entry) = self.streams.find(key).map(|stream| &stream.entry) else { return };
        if entry.kind == MediaKind::Video {
            let ingress = entry.ingress;
            self.counters.plain_keyframe_requests += 1;
            self.want_keyframe(now, key, ingress, HOP_LIMIT);
        }
    }

    /// Sends packets again, as many as may be; those that have not come yet are remembered.
    fn send_plain_again(
        &mut self,
        now: Timestamp,
        id: SubscriptionId,
        key: StreamKey,
        ssrc: u32,
        lost: LostPackets<'_>,
    ) {
        let Relay { streams, plain, counters, .. } = self;
        let Some(row) = streams.find(key).map(|stream| &mut stream.plain) else { return };
        let Some(subscription) = plain.subscriptions.get_mut(&id) else { return };
        let (port, from) = (subscription.spec.local.rtp_port, subscription.spec.local.rtp.ip());
        let to = subscription.spec.destination;
        subscription.refill(now);
        for sequence in lost.take(LOST_MAX) {
            subscription.nacked += 1;
            counters.plain_nacks_received += 1;
            let Some(cache) = &mut row.cache else { break };
            if subscription.resend_tokens == 0 {
                counters.drop_plain_resend_rate += 1;
                continue;
            }
            match cache.ask(now, ssrc, sequence, id) {
                Found::JustSent => counters.drop_plain_resend_rate += 1,
                Found::Absent => row.await_packet(now, ssrc, sequence, id),
                Found::Here { at, bytes } => {
                    subscription.resend_tokens -= 1;
                    subscription.resent += 1;
                    counters.plain_nacks_answered += 1;
                    plain.queue.push_back(Departure {
                        port,
                        from,
                        to,
                        bytes: Bytes::Cached { key, at, bytes },
                    });
                }
            }
        }
    }

    /// Where a subscriber's RTCP comes from is where it wants it, unless it said otherwise.
    fn learn_rtcp_address(&mut self, id: SubscriptionId, source: SocketAddr) {
        let Relay { streams, plain, .. } = self;
        let Some(subscription) = plain.subscriptions.get_mut(&id) else { return };
        if subscription.rtcp_from == Some(source) {
            return;
        }
        subscription.rtcp_from = Some(source);
        let rtcp_to = subscription.rtcp_to();
        for key in &subscription.streams {
            let legs = streams.find(*key).map(|stream| stream.plain.legs.iter_mut());
            for leg in legs.into_iter().flatten().filter(|leg| leg.subscription == id) {
                leg.rtcp_to = rtcp_to;
            }
        }
    }
}

impl super::PlainSubscription {
    /// Packets that may be sent again come back with time.
    fn refill(&mut self, now: Timestamp) {
        let micros = u64::try_from(now.since(self.resend_filled).as_micros()).unwrap_or(u64::MAX);
        let more = micros.saturating_mul(RESEND_RATE.into()) / 1_000_000;
        if more > 0 {
            let tokens = (u64::from(self.resend_tokens) + more).min(RESEND_BURST.into());
            self.resend_tokens = tokens as u32;
            self.resend_filled = now;
        }
    }
}
