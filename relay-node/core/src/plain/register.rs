//! Registrations: their beginning, renewal and end.

use super::reception::Reception;
use super::{Plain, PlainId, PlainPort};
use crate::clients::{Granted, Owner, Publication, Subscription, check_names};
use crate::notice::{EndReason, Notice};
use crate::relay::{Relay, Timer};
use crate::{Output, RelayEvent};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use wire_format::control::{StreamName, ToController};
use wire_format::{
    BudgetError, MediaKind, Prioritizer, PublicationId, RtpDescription, Slack, StreamKey, SubscriptionId,
    Timestamp,
};

/// Plain publications of a relay.
const PUBLICATIONS_MAX: usize = 1024;
/// Plain subscriptions of a relay.
const SUBSCRIPTIONS_MAX: usize = 1024;
/// Sources of one publication that reports are made about; more take the place of the one silent longest.
pub(super) const SOURCES_MAX: usize = 4;

/// Who may send to a publication.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlainSource {
    /// The host.
    pub ip: IpAddr,
    /// The port; `None` takes any.
    pub port: Option<u16>,
}

/// Where a registration is served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlainLocal {
    /// Socket of RTP.
    pub rtp_port: PlainPort,
    /// Its address, as the SFU sees it.
    pub rtp: SocketAddr,
    /// Socket of RTCP; that of RTP where both share one.
    pub rtcp_port: PlainPort,
    /// Its address, as the SFU sees it.
    pub rtcp: SocketAddr,
    /// The SFU has a port of its own for RTCP.
    pub separate: bool,
}

/// What a plain publication is made from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlainPublish {
    /// What it is called.
    pub name: StreamName,
    /// What it carries.
    pub kind: MediaKind,
    /// Which source; needed on the relay port, where it tells publications of one host apart.
    pub ssrc: Option<u32>,
    /// Who sends it.
    pub source: PlainSource,
    /// Where it is received.
    pub local: PlainLocal,
    /// Delay budget on top of the path's own delay; `None` takes the default of the kind.
    pub budget: Option<Duration>,
    /// Its packets are to go two disjoint ways at once (1+1 protection), as far as there are two.
    pub protect: bool,
    /// What its RTP is, for the priority of its packets.
    pub description: RtpDescription,
    /// How long it lives without being renewed; `None` lives on.
    pub lease: Option<Duration>,
}

/// What a plain subscription is made from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlainSubscribe {
    /// Tenant.
    pub namespace: String,
    /// Call.
    pub room: String,
    /// Only this participant.
    pub user: Option<String>,
    /// Only the stream of this name.
    pub stream: Option<String>,
    /// Where RTP is sent to.
    pub destination: SocketAddr,
    /// Where RTCP is sent to, if it is known.
    pub rtcp_destination: Option<SocketAddr>,
    /// Where it is sent from.
    pub local: PlainLocal,
    /// How long it lives without being renewed; `None` lives on.
    pub lease: Option<Duration>,
}

/// Why a registration is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PlainRefusal {
    /// As many as there may be.
    #[error("{0} plain registrations of this kind are the limit of a relay")]
    Limit(usize),
    /// As many streams as the relay may hold are published at it.
    #[error("this relay holds {0} streams, its limit (`streams` in [limits] of its configuration)")]
    Streams(usize),
    /// On the relay port it could not be told from another.
    #[error("publication {} already takes SSRC {ssrc} from there", .by.0)]
    Taken {
        /// The other.
        by: PublicationId,
        /// The SSRC of both.
        ssrc: u32,
    },
    /// On the relay port a publication is known by its SSRC, and none is given.
    #[error("a publication on the relay port is known by its source and SSRC: give `ssrc`")]
    NeedsSsrc,
    /// It would be sent to this relay itself.
    #[error("{0} is a port of this relay: its packets would come back")]
    Loop(SocketAddr),
    /// The delay budget is too short or too long.
    #[error("{0}")]
    Budget(#[from] BudgetError),
    /// A name is empty, too long or unreadable.
    #[error("{0}")]
    Name(String),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    pub(super) every: Duration,
    pub(super) until: Timestamp,
}

#[derive(Debug)]
pub(crate) struct PlainPublication {
    pub(super) spec: PlainPublish,
    pub(super) lease: Option<Lease>,
    pub(super) granted: Option<Granted>,
    pub(super) slack: Slack,
    pub(super) prioritizer: Prioritizer,
    pub(super) next_sequence: u32,
    /// The SSRC that this relay has in RTCP towards the publisher.
    pub(super) own_ssrc: u32,
    pub(super) sources: Vec<Reception>,
    /// The last source heard.
    pub(super) last_ssrc: Option<u32>,
    pub(super) rtp_from: Option<SocketAddr>,
    pub(super) rtcp_from: Option<SocketAddr>,
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) strangers: u64,
    pub(super) keyframe_requests: u64,
}

#[derive(Debug)]
pub(crate) struct PlainSubscription {
    pub(super) spec: PlainSubscribe,
    pub(super) lease: Option<Lease>,
    /// Where its RTCP came from.
    pub(super) rtcp_from: Option<SocketAddr>,
    /// Streams that match it.
    pub(super) streams: Vec<StreamKey>,
    pub(super) strangers: u64,
    pub(super) keyframe_requests: u64,
    /// Packets asked for again.
    pub(super) nacked: u64,
    /// Of these, sent again.
    pub(super) resent: u64,
    /// Packets that may be sent again now.
    pub(super) resend_tokens: u32,
    pub(super) resend_filled: Timestamp,
}

impl PlainPublication {
    /// Where RTCP for the publisher goes.
    pub(super) fn rtcp_to(&self) -> Option<SocketAddr> {
        let beside = |rtp: SocketAddr| SocketAddr::new(rtp.ip(), rtp.port().saturating_add(1));
        if self.spec.local.separate { self.rtcp_from.or(self.rtp_from.map(beside)) } else { self.rtp_from }
    }
}

impl PlainSubscription {
    /// Where RTCP for the subscriber goes.
    pub(super) fn rtcp_to(&self) -> SocketAddr {
        let PlainSubscribe { destination, rtcp_destination, local, .. } = &self.spec;
        if let Some(given) = rtcp_destination {
            return *given;
        }
        if !local.separate {
            return *destination;
        }
        self.rtcp_from.unwrap_or(SocketAddr::new(destination.ip(), destination.port().saturating_add(1)))
    }

    /// Hosts that its RTCP may come from.
    pub(super) fn rtcp_ips(&self) -> [IpAddr; 2] {
        let PlainSubscribe { destination, rtcp_destination, .. } = &self.spec;
        [destination.ip(), rtcp_destination.unwrap_or(*destination).ip()]
    }
}

impl Plain {
    /// Whether a registration receives at an address.
    fn is_own(&self, address: SocketAddr) -> bool {
        let publications = self.publications.values().map(|held| &held.spec.local);
        let subscriptions = self.subscriptions.values().map(|held| &held.spec.local);
        publications.chain(subscriptions).any(|local| local.rtp == address || local.rtcp == address)
    }

    /// An address of a registration to be, to which a subscription already sends.
    fn destined_to(&self, local: &PlainLocal) -> Option<SocketAddr> {
        let mut destinations = self.subscriptions.values().map(|held| held.spec.destination);
        destinations.find(|to| *to == local.rtp || *to == local.rtcp)
    }

    fn take_ports(&mut self, local: &PlainLocal, id: PlainId) {
        // The RTCP port first: where both are one, it is the port of RTP.
        for (port, rtcp) in [(local.rtcp_port, true), (local.rtp_port, false)] {
            if port != PlainPort::RELAY {
                self.own.insert(port, (id, rtcp));
            }
        }
    }

    fn lease_mut(&mut self, id: PlainId) -> Option<&mut Option<Lease>> {
        match id {
            PlainId::Publication(id) => Some(&mut self.publications.get_mut(&id)?.lease),
            PlainId::Subscription(id) => Some(&mut self.subscriptions.get_mut(&id)?.lease),
        }
    }
}

impl Relay {
    /// A change that is no input, but counts as one.
    fn changed<R>(&mut self, now: Timestamp, change: impl FnOnce(&mut Relay) -> R) -> R {
        self.annex.clear();
        self.arena_bytes = 0;
        let answer = change(self);
        self.plain_deliver(now, &[]);
        answer
    }

    /// Registers a publication. It counts as an input: drain the core afterwards.
    ///
    /// # Errors
    /// [`PlainRefusal`]; nothing has changed then.
    pub fn publish_plain(
        &mut self,
        now: Timestamp,
        spec: PlainPublish,
    ) -> Result<PublicationId, PlainRefusal> {
        self.changed(now, |relay| relay.begin_plain_publication(now, spec))
    }

    fn begin_plain_publication(
        &mut self,
        now: Timestamp,
        spec: PlainPublish,
    ) -> Result<PublicationId, PlainRefusal> {
        let StreamName { namespace, room, user, stream } = &spec.name;
        check_names([namespace, room, user, stream]).map_err(|(_, reason)| PlainRefusal::Name(reason))?;
        let slack = spec.kind.slack(spec.budget)?;
        if self.plain.publications.len() >= PUBLICATIONS_MAX {
            return Err(PlainRefusal::Limit(PUBLICATIONS_MAX));
        }
        if self.is_full_of_publications() {
            self.counters.refused_stream_limit += 1;
            return Err(PlainRefusal::Streams(self.streams.most()));
        }
        if let Some(to) = self.plain.destined_to(&spec.local) {
            return Err(PlainRefusal::Loop(to));
        }
        let id = PublicationId(self.next_registration());
        if spec.local.rtp_port == PlainPort::RELAY {
            let ssrc = spec.ssrc.ok_or(PlainRefusal::NeedsSsrc)?;
            let known_by = (spec.source.ip, spec.source.port.unwrap_or(0), ssrc);
            if let Some(by) = self.plain.by_source.get(&known_by) {
                return Err(PlainRefusal::Taken { by: *by, ssrc });
            }
            self.plain.by_source.insert(known_by, id);
            self.plain.by_sender.insert((spec.source.ip, ssrc), id);
        }
        self.plain.take_ports(&spec.local, PlainId::Publication(id));
        let publication = Publication {
            owner: Owner::Plain,
            name: spec.name.clone(),
            kind: spec.kind,
            slack,
            protect: spec.protect,
            publisher: None,
            granted: None,
        };
        self.report(ToController::Published(publication.report(id)));
        let state = PlainPublication {
            lease: None,
            granted: None,
            slack,
            prioritizer: Prioritizer::new(spec.kind, spec.description),
            next_sequence: 0,
            own_ssrc: mix(self.plain.seed, id.0),
            sources: Vec::new(),
            last_ssrc: spec.ssrc,
            rtp_from: None,
            rtcp_from: None,
            packets: 0,
            bytes: 0,
            strangers: 0,
            keyframe_requests: 0,
            spec,
        };
        self.publications.insert(id, publication);
        let lease = state.spec.lease;
        self.plain.publications.insert(id, state);
        self.begin_lease(now, PlainId::Publication(id), lease);
        Ok(id)
    }

    /// Registers a subscription. It counts as an input: drain the core afterwards.
    ///
    /// # Errors
    /// [`PlainRefusal`]; nothing has changed then.
    pub fn subscribe_plain(
        &mut self,
        now: Timestamp,
        spec: PlainSubscribe,
    ) -> Result<SubscriptionId, PlainRefusal> {
        self.changed(now, |relay| relay.begin_plain_subscription(now, spec))
    }

    fn begin_plain_subscription(
        &mut self,
        now: Timestamp,
        spec: PlainSubscribe,
    ) -> Result<SubscriptionId, PlainRefusal> {
        let PlainSubscribe { namespace, room, user, stream, .. } = &spec;
        check_names([namespace, room].into_iter().chain(user).chain(stream))
            .map_err(|(_, reason)| PlainRefusal::Name(reason))?;
        if self.plain.subscriptions.len() >= SUBSCRIPTIONS_MAX {
            return Err(PlainRefusal::Limit(SUBSCRIPTIONS_MAX));
        }
        for to in [Some(spec.destination), spec.rtcp_destination].into_iter().flatten() {
            if to == spec.local.rtp || to == spec.local.rtcp || self.plain.is_own(to) {
                return Err(PlainRefusal::Loop(to));
            }
        }
        let id = SubscriptionId(self.next_registration());
        self.plain.take_ports(&spec.local, PlainId::Subscription(id));
        let wanted = Subscription {
            owner: Owner::Plain,
            namespace: spec.namespace.clone(),
            room: spec.room.clone(),
            user: spec.user.clone(),
            stream: spec.stream.clone(),
        };
        let lease = spec.lease;
        let state = PlainSubscription {
            lease: None,
            rtcp_from: None,
            streams: Vec::new(),
            strangers: 0,
            keyframe_requests: 0,
            nacked: 0,
            resent: 0,
            resend_tokens: super::feedback::RESEND_BURST,
            resend_filled: now,
            spec,
        };
        if state.spec.local.rtcp_port == PlainPort::RELAY {
            for ip in state.rtcp_ips() {
                let listeners = self.plain.listeners.entry(ip).or_default();
                if !listeners.contains(&id) {
                    listeners.push(id);
                }
            }
        }
        self.plain.subscriptions.insert(id, state);
        self.begin_subscription(now, id, wanted);
        self.begin_lease(now, PlainId::Subscription(id), lease);
        Ok(id)
    }

    /// Renews the lease of a registration, or gives it another; `None` keeps what it has. `false` if there is no such
    /// registration. It counts as an input: drain the core afterwards.
    pub fn renew_plain(&mut self, now: Timestamp, id: PlainId, lease: Option<Duration>) -> bool {
        self.changed(now, |relay| relay.begin_lease(now, id, lease))
    }

    fn begin_lease(&mut self, now: Timestamp, id: PlainId, lease: Option<Duration>) -> bool {
        let Some(held) = self.plain.lease_mut(id) else { return false };
        if let Some(every) = lease.or(held.map(|held| held.every)) {
            let until = now + every;
            *held = Some(Lease { every, until });
            self.timers.set(Timer::PlainLease(id), until);
        }
        true
    }

    /// Ends a registration. `false` if there is none. It counts as an input: drain the core afterwards.
    pub fn end_plain(&mut self, now: Timestamp, id: PlainId) -> bool {
        self.changed(now, |relay| relay.end_registration(id))
    }

    fn end_registration(&mut self, id: PlainId) -> bool {
        let local = match id {
            PlainId::Publication(publication) => {
                let Some(state) = self.plain.publications.remove(&publication) else { return false };
                self.timers.clear(Timer::PlainReport(publication));
                if self.remove_publication(publication).is_some() {
                    self.report(ToController::Unpublished { publication });
                }
                self.plain.by_source.retain(|_, by| *by != publication);
                let senders = self.plain.by_source.iter().map(|((ip, _, ssrc), by)| ((*ip, *ssrc), *by));
                self.plain.by_sender = senders.collect();
                state.spec.local
            }
            PlainId::Subscription(subscription) => {
                if !self.plain.subscriptions.contains_key(&subscription) {
                    return false;
                }
                if self.subscriptions.contains_key(&subscription) {
                    self.end_subscription(subscription);
                }
                let Some(state) = self.plain.subscriptions.remove(&subscription) else { return false };
                self.plain.listeners.retain(|_, listeners| {
                    listeners.retain(|other| *other != subscription);
                    !listeners.is_empty()
                });
                state.spec.local
            }
        };
        self.timers.clear(Timer::PlainLease(id));
        for port in [local.rtp_port, local.rtcp_port] {
            if self.plain.own.remove(&port).is_some() {
                self.output(Output::ClosePlain { port });
            }
        }
        true
    }

    /// Nobody renewed it.
    pub(crate) fn plain_lease_over(&mut self, id: PlainId) {
        self.counters.plain_leases_over += 1;
        self.end_plain_for(id, EndReason::Lease);
    }

    /// Ends a registration by itself.
    pub(crate) fn end_plain_for(&mut self, id: PlainId, reason: EndReason) {
        if self.end_registration(id) {
            self.notice(Notice::Ended { id, reason });
        }
    }

    pub(crate) fn plain_granted(&mut self, id: PublicationId, granted: Granted) {
        let Some(publication) = self.plain.publications.get_mut(&id) else { return };
        if publication.granted.replace(granted).is_none() {
            self.notice(Notice::Granted { id: PlainId::Publication(id) });
        }
    }

    pub(crate) fn notice(&mut self, notice: Notice) {
        self.output(Output::Event(RelayEvent::Notice(notice)));
    }
}

/// A number that two registrations hardly share, the same in every run (the finaliser of SplitMix64).
fn mix(seed: u64, id: u32) -> u32 {
    let mut mixed = (seed ^ u64::from(id) << 32 ^ u64::from(id)).wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    (mixed ^ mixed >> 31) as u32
}
