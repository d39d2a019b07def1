//! What an owner or an operator may know about a link.

use super::Link;
use crate::RepairStats;
use std::time::Duration;
use wire_format::control::{LinkQuality, LinkState};

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
    /// How well it carries media, as others are told.
    pub quality: LinkQuality,
    /// How often a limit was needed.
    pub rate_limited: u64,
    /// Bytes of media that wait because it carries no more.
    pub waiting_bytes: usize,
}

impl Link {
    pub(crate) fn stats(&self) -> LinkStats {
        let repair = self.repair.stats();
        let [repair_audio, repair_other] = self.repair.plans().map(|plan| plan.told());
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
            in_use: self.routed || self.media_at.is_some() || self.peer_in_use,
            history_bytes: self.repair.history.memory(),
            mtu_bytes: self.mtu.datagram_max(),
            mtu_probes: self.mtu.probes_sent(),
            mtu_fallbacks: self.mtu.fallbacks(),
            quality: LinkQuality {
                rtt_smoothed: self.feedback.rtt(),
                rtt_variation: self.feedback.rtt().map(|_| self.feedback.rtt_var()),
                queueing_in: self.reception.queueing(),
                queueing_out: self.sending.queueing(),
                deliverable_out: self.sending.limit(),
                bursts_in: self.repair.lost_in().counts,
                residual_in_ppm: self.residual.ppm(),
                repair: repair.totals(),
                repair_audio,
                repair_other,
            },
            repair,
            rate_limited: self.sending.limited(),
            waiting_bytes: self.sending.waiting_bytes(),
        }
    }
}
