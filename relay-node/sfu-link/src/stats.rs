//! Measurements and counters of a client.

use link_io::PortStats;
use relay_core::Client;
use std::net::SocketAddr;
use std::time::Duration;

/// Measurements of the present link, and counters since the client was made.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Stats {
    /// The relay linked to; `None` while there is no link.
    pub relay: Option<SocketAddr>,
    /// Round trip to the relay of the last second or so, without the moments in which a host was busy.
    pub rtt: Option<Duration>,
    /// Loss towards the relay over about 10 s, parts per million.
    pub loss_out_ppm: u32,
    /// Loss from the relay over about 10 s, parts per million.
    pub loss_in_ppm: u32,
    /// Interarrival jitter of what comes from the relay.
    pub jitter_in: Duration,
    /// Links made after the first one.
    pub reconnects: u64,
    /// Packets sent to the relay.
    pub packets_out: u64,
    /// Packets received from the relay.
    pub packets_in: u64,
    /// Dropped on the way out: queue full.
    pub dropped_full: u64,
    /// Dropped on the way out: larger than the overlay carries.
    pub dropped_too_large: u64,
    /// Dropped on the way out: no link, or the publication not granted on it yet.
    pub dropped_no_link: u64,
    /// Dropped on the way in: a subscription's reader was too slow.
    pub dropped_slow_reader: u64,
    /// Everything that the port counts.
    pub port: PortStats,
}

impl Stats {
    pub(crate) fn new(core: &Client, port: &PortStats) -> Stats {
        let counters = core.counters();
        let mut stats = Stats {
            packets_out: counters.media_published,
            packets_in: counters.media_delivered,
            dropped_full: port.drop_local_queue + counters.drop_queue_full,
            dropped_too_large: port.drop_local_oversize + counters.drop_oversize,
            dropped_no_link: counters.drop_unknown_link,
            dropped_slow_reader: port.drop_sink,
            port: *port,
            ..Stats::default()
        };
        if let Some((_, link)) = core.link() {
            stats.rtt = link.rtt;
            stats.loss_out_ppm = link.loss_out_ppm;
            stats.loss_in_ppm = link.loss_in_ppm;
            stats.jitter_in = link.jitter_in;
        }
        stats
    }
}
