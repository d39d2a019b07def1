//! What an owner or an operator may know about a link.

use super::Link;
use crate::RepairStats;
use std::time::Duration;
use wire_format::control::{LOSS_BURSTS, LinkState, RepairPlan};

/// What an owner or an operator may know about a link.
#[derive(Clone, PartialEq, Debug)]
pub struct LinkStats {
    /// Whether it can carry media.
    pub state: LinkState,
    /// Round trip without the moments in which a host was busy: the least of the last second or so, `None` before the
    /// first sample.
    pub rtt: Option<Duration>,
    /// Least round trip of the last 10 to 20 s.
    pub rtt_min: Option<Duration>,
    /// Interarrival jitter of what arrives.
    pub jitter_in: Duration,
    /// Interarrival jitter at the other end.
    pub jitter_out: Duration,
    /// Loss of what was sent over about 10 s, parts per million.
    pub loss_out_ppm: u32,
    /// Loss of what should have arrived over about 10 s, parts per million.
    pub loss_in_ppm: u32,
    /// Bytes per second sent (UDP payload) in the last second.
    pub rate_out: u64,
    /// Bytes per second received (UDP payload) in the last second.
    pub rate_in: u64,
    /// Datagrams sent.
    pub datagrams_out: u64,
    /// Datagrams received.
    pub datagrams_in: u64,
    /// Bytes sent (UDP payload).
    pub bytes_out: u64,
    /// Bytes received (UDP payload).
    pub bytes_in: u64,
    /// Round trips measured.
    pub samples: u64,
    /// Smoothed round trip (RFC 6298), moments in which a host was busy included.
    pub rtt_smoothed: Option<Duration>,
    /// Its mean deviation (RFC 6298).
    pub rtt_variation: Option<Duration>,
    /// How often so many datagrams in a row were missing here, by the buckets of [`wire_format::control::LOSS_BURST_NAMES`].
    pub bursts_in: [u64; LOSS_BURSTS],
    /// What was missing here and was not restored, over about 10 s, parts per million.
    pub residual_in_ppm: u32,
    /// Media or a route depends on it, here or at the other end.
    pub in_use: bool,
    /// Memory of what it sent of late, for the case that it has to go again.
    pub history_bytes: usize,
    /// Largest datagram that is sent (UDP payload); what is larger travels in halves.
    pub mtu_bytes: u16,
    /// MTU probes sent.
    pub mtu_probes: u32,
    /// How often large datagrams were found to vanish.
    pub mtu_fallbacks: u64,
    /// What repair did and cost.
    pub repair: RepairStats,
    /// What is done against loss of what is sent, and why: for audio, and for everything else.
    pub repair_plans: [RepairPlan; 2],
    /// Queueing delay of what arrives: above the least that the path took in the last 10 to 20 s.
    pub queueing_in: Duration,
    /// The same of what is sent, as the other end says.
    pub queueing_out: Duration,
    /// Bytes a second (UDP payload) that it is given at most, because more made a queue; `None` as long as nothing did.
    pub rate_limit: Option<u64>,
    /// How often a limit was needed.
    pub rate_limited: u64,
    /// Bytes of media that wait because it carries no more.
    pub waiting_bytes: usize,
}

impl Link {
    pub(crate) fn stats(&self) -> LinkStats {
        LinkStats {
            state: self.liveness.state(),
            rtt: self.feedback.rtt_calm(),
            rtt_min: self.feedback.rtt_min(),
            jitter_in: self.reception.jitter(),
            jitter_out: self.feedback.jitter(),
            loss_out_ppm: self.feedback.loss_ppm(),
            loss_in_ppm: self.reception.loss_ppm(),
            rate_out: self.rate_out.per_second(),
            rate_in: self.rate_in.per_second(),
            datagrams_out: self.datagrams_out,
            datagrams_in: self.reception.received(),
            bytes_out: self.bytes_out,
            bytes_in: self.bytes_in,
            samples: self.feedback.samples(),
            rtt_smoothed: self.feedback.rtt(),
            rtt_variation: self.feedback.rtt().map(|_| self.feedback.rtt_var()),
            bursts_in: self.repair.lost_in().counts,
            residual_in_ppm: self.residual.ppm(),
            in_use: self.routed || self.media_at.is_some() || self.peer_in_use,
            history_bytes: self.repair.history.memory(),
            mtu_bytes: self.mtu.datagram_max(),
            mtu_probes: self.mtu.probes_sent(),
            mtu_fallbacks: self.mtu.fallbacks(),
            repair: self.repair.stats(),
            repair_plans: self.repair.plans().map(|plan| plan.told()),
            queueing_in: self.reception.queueing(),
            queueing_out: self.sending.queueing(),
            rate_limit: self.sending.limit(),
            rate_limited: self.sending.limited(),
            waiting_bytes: self.sending.waiting_bytes(),
        }
    }
}
