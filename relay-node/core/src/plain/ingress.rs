//! Plain RTP on its way in, and what its publishers hear of it.

use super::reception::{Reception, clock_rate};
use super::register::SOURCES_MAX;
use super::{PlainId, PlainPort, PlainReceived};
use crate::clients::Owner;
use crate::forward::Entering;
use crate::relay::{Relay, Timer};
use crate::trace::Arriving;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;
use wire_format::rtcp::{self, RtcpBody, RtcpPacket};
use wire_format::rtp::{self, RtpHeader};
use wire_format::{Priority, PublicationId, Sequence, StreamKey, Timestamp};

/// Distance of receiver reports.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// RTCP of a publisher that travels with its stream: a sender report with the names that follow it, or a goodbye.
struct Travelling {
    publication: PublicationId,
    ssrc: u32,
    range: Range<usize>,
}

impl Relay {
    /// Datagrams of plain SFUs, or of strangers.
    pub(crate) fn plain_datagrams(&mut self, now: Timestamp, arena: &[u8], batch: &[PlainReceived]) {
        for received in batch {
            let packet = &arena[received.range.clone()];
            if rtp::is_rtcp(packet) {
                self.plain_rtcp(now, packet, received);
            } else {
                self.plain_rtp(now, packet, received);
            }
        }
    }

    fn plain_rtp(&mut self, now: Timestamp, packet: &[u8], received: &PlainReceived) {
        let PlainReceived { port, source, range: _ } = received;
        let Some(header) = RtpHeader::parse(packet) else {
            self.counters.drop_plain_malformed += 1;
            return;
        };
        let publication = if *port == PlainPort::RELAY {
            let known = |port| self.plain.by_source.get(&(source.ip(), port, header.ssrc)).copied();
            known(source.port()).or_else(|| known(0))
        } else {
            self.publication_of(*port, *source)
        };
        match publication {
            Some(publication) => self.plain_published(now, publication, &header, packet, received),
            None => self.counters.drop_plain_stranger += 1,
        }
    }

    /// The publication that a port of its own belongs to, if the source may use it.
    fn publication_of(&mut self, port: PlainPort, source: SocketAddr) -> Option<PublicationId> {
        let Some((PlainId::Publication(id), rtcp)) = self.plain.own.get(&port).copied() else { return None };
        let publication = self.plain.publications.get_mut(&id)?;
        let wanted = publication.spec.source;
        // RTCP that comes to a port of its own comes from one, too.
        let right_port = rtcp || wanted.port.is_none_or(|port| port == source.port());
        if wanted.ip == source.ip() && right_port {
            return Some(id);
        }
        publication.strangers += 1;
        None
    }

    fn plain_published(
        &mut self,
        now: Timestamp,
        id: PublicationId,
        header: &RtpHeader,
        packet: &[u8],
        received: &PlainReceived,
    ) {
        let Some(publication) = self.plain.publications.get_mut(&id) else { return };
        publication.packets += 1;
        publication.bytes += packet.len() as u64;
        publication.rtp_from = Some(received.source);
        publication.last_ssrc = Some(header.ssrc);
        let at = match publication.sources.iter().position(|source| source.ssrc == header.ssrc) {
            Some(at) => at,
            None => {
                let rate = clock_rate(publication.spec.kind, header.payload_type);
                let source = Reception::new(now, header.ssrc, header.sequence, rate);
                if publication.sources.len() < SOURCES_MAX {
                    publication.sources.push(source);
                    publication.sources.len() - 1
                } else {
                    let heard = |(_, source): &(usize, &Reception)| source.heard;
                    let oldest = publication.sources.iter().enumerate().min_by_key(heard);
                    let at = oldest.map_or(0, |(at, _)| at);
                    publication.sources[at] = source;
                    at
                }
            }
        };
        publication.sources[at].hear(now, header.sequence, header.timestamp);
        self.timers.set_if_unset(Timer::PlainReport(id), now + REPORT_EVERY);
        let priority = publication.prioritizer.priority(packet, false);
        self.plain_enters(now, id, received.range.clone(), priority, false);
    }

    /// Numbers a packet of a publication and sends it on its way.
    fn plain_enters(
        &mut self,
        now: Timestamp,
        id: PublicationId,
        packet: Range<usize>,
        priority: Priority,
        rtcp: bool,
    ) {
        let Some(publication) = self.plain.publications.get_mut(&id) else { return };
        let Some(granted) = &publication.granted else {
            self.counters.drop_plain_not_granted += 1;
            return;
        };
        // Counted before anything can be lost, so that a gap shows how much is missing.
        let sequence = Sequence(publication.next_sequence);
        publication.next_sequence = publication.next_sequence.wrapping_add(1);
        let entering = Entering {
            key: granted.key,
            incarnation: granted.incarnation,
            sequence,
            slack: publication.slack,
            priority,
            rtcp,
        };
        if !self.traces.is_empty() {
            self.trace_in(now, &Arriving::entering(&entering, None, packet.len()));
        }
        self.enter(now, &entering, packet);
    }

    /// A compound of a publisher, a subscriber, or a stranger.
    fn plain_rtcp(&mut self, now: Timestamp, datagram: &[u8], received: &PlainReceived) {
        let PlainReceived { port, source, range } = received;
        let owner = match self.plain.own.get(port) {
            Some((PlainId::Publication(_), _)) => {
                self.publication_of(*port, *source).map(PlainId::Publication)
            }
            Some((PlainId::Subscription(id), _)) => {
                self.subscription_of(*id, *source).map(PlainId::Subscription)
            }
            None => None,
        };
        if *port != PlainPort::RELAY && owner.is_none() {
            self.counters.drop_plain_stranger += 1;
            return;
        }
        let mut known = owner.is_some();
        let mut travelling: Option<Travelling> = None;
        for packet in rtcp::packets(datagram) {
            let Ok(RtcpPacket { range: part, body }) = packet else {
                self.counters.drop_plain_malformed += 1;
                break;
            };
            let place = range.start + part.start..range.start + part.end;
            match body {
                RtcpBody::SenderReport { ssrc, ntp, blocks: _ } => {
                    let Some(publication) = self.sender(owner, *source, ssrc) else { continue };
                    known = true;
                    self.sender_report(now, publication, ssrc, ntp, *source);
                    self.travel(now, travelling.take());
                    travelling = Some(Travelling { publication, ssrc, range: place });
                }
                RtcpBody::SourceDescription { mut chunks } => {
                    // The names of this source alone go with its report; others' would need another packet.
                    if let Some(report) = &mut travelling
                        && report.range.end == place.start
                        && chunks.all(|ssrc| ssrc == report.ssrc)
                    {
                        report.range.end = place.end;
                    }
                }
                RtcpBody::Bye { mut sources } => {
                    self.travel(now, travelling.take());
                    let Some(ssrc) = sources.clone().next() else { continue };
                    let Some(publication) = self.sender(owner, *source, ssrc) else { continue };
                    known = true;
                    if sources.all(|other| other == ssrc) {
                        self.source_ends(publication, ssrc);
                        self.travel(now, Some(Travelling { publication, ssrc, range: place }));
                    } else {
                        self.counters.plain_rtcp_ignored += 1;
                    }
                }
                RtcpBody::ReceiverReport { .. }
                | RtcpBody::Nack { .. }
                | RtcpBody::PictureLoss { .. }
                | RtcpBody::FullIntraRequest { .. }
                | RtcpBody::Other { .. } => {
                    known |= self.plain_feedback(now, owner, *port, *source, &body);
                }
            }
        }
        self.travel(now, travelling);
        if !known {
            self.counters.drop_plain_stranger += 1;
        }
    }

    /// The publication that a source of RTCP belongs to.
    fn sender(&self, owner: Option<PlainId>, from: SocketAddr, ssrc: u32) -> Option<PublicationId> {
        match owner {
            Some(PlainId::Publication(id)) => Some(id),
            Some(PlainId::Subscription(_)) => None,
            None => self.plain.by_sender.get(&(from.ip(), ssrc)).copied(),
        }
    }

    fn travel(&mut self, now: Timestamp, travelling: Option<Travelling>) {
        if let Some(Travelling { publication, ssrc: _, range }) = travelling {
            let Some(state) = self.plain.publications.get_mut(&publication) else { return };
            let priority = state.prioritizer.priority(&[], true);
            self.plain_enters(now, publication, range, priority, true);
        }
    }

    fn sender_report(&mut self, now: Timestamp, id: PublicationId, ssrc: u32, ntp: u64, from: SocketAddr) {
        let Some(publication) = self.plain.publications.get_mut(&id) else { return };
        publication.rtcp_from = Some(from);
        if let Some(source) = publication.sources.iter_mut().find(|source| source.ssrc == ssrc) {
            source.hear_sender_report(now, ntp);
        }
    }

    /// A source says goodbye; another may follow it in the same publication.
    fn source_ends(&mut self, id: PublicationId, ssrc: u32) {
        if let Some(publication) = self.plain.publications.get_mut(&id) {
            publication.sources.retain(|source| source.ssrc != ssrc);
        }
    }

    /// A receiver report is due. The next one follows the next packet.
    pub(crate) fn plain_report_due(&mut self, now: Timestamp, id: PublicationId) {
        let Some(publication) = self.plain.publications.get_mut(&id) else { return };
        let Some(to) = publication.rtcp_to() else { return };
        let mut blocks = arrayvec::ArrayVec::<_, SOURCES_MAX>::new();
        for source in publication.sources.iter_mut().filter(|source| source.has_news()) {
            blocks.push(source.report(now));
        }
        if blocks.is_empty() {
            return;
        }
        let own = publication.own_ssrc;
        let (port, from) = (publication.spec.local.rtcp_port, publication.spec.local.rtcp.ip());
        let sent = self.plain.push_made(port, from, to, |out, cname| {
            rtcp::write_receiver_report(out, own, &blocks);
            rtcp::write_cname(out, own, cname);
        });
        self.counters.plain_reports_sent += u64::from(sent);
        self.counters.drop_plain_queue_full += u64::from(!sent);
    }

    /// A keyframe of a stream published here in plain RTP is wanted. `false` if its publisher cannot be told.
    pub(crate) fn ask_plain_publisher(&mut self, id: PublicationId) -> bool {
        let Some(publication) = self.plain.publications.get_mut(&id) else { return false };
        let (Some(to), Some(media)) = (publication.rtcp_to(), publication.last_ssrc) else { return false };
        let own = publication.own_ssrc;
        let (port, from) = (publication.spec.local.rtcp_port, publication.spec.local.rtcp.ip());
        publication.keyframe_requests += 1;
        let sent = self.plain.push_made(port, from, to, |out, cname| {
            // A compound begins with a report (RFC 3550 section 6.1), be it empty.
            rtcp::write_receiver_report(out, own, &[]);
            rtcp::write_cname(out, own, cname);
            rtcp::write_picture_loss(out, own, media);
        });
        self.counters.drop_plain_queue_full += u64::from(!sent);
        sent
    }

    /// The plain publication that carries a stream.
    pub(crate) fn plain_publisher_of(&self, key: StreamKey) -> Option<PublicationId> {
        let (id, publication) = self.published_here(key)?;
        matches!(publication.owner, Owner::Plain).then_some(id)
    }
}
