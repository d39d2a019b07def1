//! `/metrics`: Prometheus text, made from one look into the core.
//!
//! Core and port count by themselves, without a metrics library in the way of media. Each scrape fills a recorder of its
//! own: nothing is global, so any number of relays live in one process, and a link that is gone leaves no stale series.

use crate::api::{Running, Snapshot};
use link_io::PortStats;
use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::PrometheusBuilder;
use relay_core::{LinkView, PeerView};
use std::time::Duration;
use wire_format::control::LinkState;

/// The text of one scrape.
pub(crate) fn render(running: &Running, snapshot: &Snapshot) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        describe();
        relay(running, snapshot);
        core(snapshot);
        port(&snapshot.port);
        for link in &snapshot.links {
            match &link.peer {
                PeerView::Relay { node } => {
                    let name = running.overlay.name_of(*node).unwrap_or_else(|| format!("node-{node}"));
                    neighbour(link, name);
                }
                PeerView::Client { .. } => {}
            }
        }
    });
    recorder.handle().render()
}

fn describe() {
    describe_gauge!("cascade_relay_info", "1; its labels say which relay and version this is");
    describe_gauge!("cascade_relay_controller_connected", "1 while a session with the controller stands");
    describe_counter!(
        "cascade_relay_controller_sessions_total",
        "Sessions with the controller since the start"
    );
    describe_gauge!("cascade_relay_stamp_epoch", "Epoch that new media frames carry");
    describe_gauge!("cascade_relay_streams", "Rows of the stream table");
    describe_gauge!("cascade_relay_client_links", "Links to SFUs and other clients");
    describe_counter!("cascade_relay_core_total", "What the relay core did, by event");
    describe_counter!("cascade_relay_core_drops_total", "Frames that the relay core dropped, by reason");
    describe_counter!("cascade_relay_port_total", "What the relay port did, by event");
    describe_counter!("cascade_relay_port_drops_total", "Datagrams that the relay port dropped, by reason");
    describe_gauge!(
        "cascade_link_up",
        "1 if the link can carry media, 0.5 while it is suspect, 0 if it is down"
    );
    describe_gauge!("cascade_link_rtt_seconds", Unit::Seconds, "Smoothed round trip to the neighbour");
    describe_gauge!("cascade_link_rtt_min_seconds", Unit::Seconds, "Least round trip of the last 10 to 20 s");
    describe_gauge!(
        "cascade_link_jitter_seconds",
        Unit::Seconds,
        "Interarrival jitter (RFC 3550), by direction"
    );
    describe_gauge!("cascade_link_loss_ratio", "Loss over about 10 s, by direction");
    describe_counter!("cascade_link_datagrams_total", "Sealed datagrams, by direction");
    describe_counter!("cascade_link_bytes_total", Unit::Bytes, "Bytes of sealed datagrams, by direction");
}

fn relay(running: &Running, snapshot: &Snapshot) {
    let labels = [
        ("name", running.name.to_string()),
        ("region", running.region.to_string()),
        ("node", snapshot.tables.node.map_or(String::new(), |node| node.to_string())),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
    ];
    gauge!("cascade_relay_info", &labels).set(1.0);
    let contact = running.overlay.contact();
    gauge!("cascade_relay_controller_connected").set(f64::from(u8::from(contact.connected)));
    counter!("cascade_relay_controller_sessions_total").absolute(contact.sessions);
    gauge!("cascade_relay_stamp_epoch").set(f64::from(snapshot.tables.stamp.0));
    gauge!("cascade_relay_streams").set(count(snapshot.streams.len()));
    let clients = snapshot.links.iter().filter(|link| matches!(link.peer, PeerView::Client { .. })).count();
    gauge!("cascade_relay_client_links").set(count(clients));
}

fn core(snapshot: &Snapshot) {
    for (name, value) in snapshot.counters.entries() {
        match name.strip_prefix("drop_") {
            Some(reason) => counter!("cascade_relay_core_drops_total", "reason" => reason).absolute(value),
            None => counter!("cascade_relay_core_total", "event" => name).absolute(value),
        }
    }
}

fn neighbour(link: &LinkView, name: String) {
    let stats = &link.stats;
    let up = match stats.state {
        LinkState::Up => 1.0,
        LinkState::Suspect => 0.5,
        LinkState::Down => 0.0,
    };
    gauge!("cascade_link_up", "neighbour" => name.clone()).set(up);
    if let Some(rtt) = stats.rtt {
        gauge!("cascade_link_rtt_seconds", "neighbour" => name.clone()).set(rtt.as_secs_f64());
    }
    if let Some(rtt) = stats.rtt_min {
        gauge!("cascade_link_rtt_min_seconds", "neighbour" => name.clone()).set(rtt.as_secs_f64());
    }
    let direction = |direction: &'static str, jitter: Duration, loss_ppm: u32, datagrams: u64, bytes: u64| {
        let labels = [("neighbour", name.clone()), ("direction", direction.to_owned())];
        gauge!("cascade_link_jitter_seconds", &labels).set(jitter.as_secs_f64());
        gauge!("cascade_link_loss_ratio", &labels).set(f64::from(loss_ppm) / 1e6);
        counter!("cascade_link_datagrams_total", &labels).absolute(datagrams);
        counter!("cascade_link_bytes_total", &labels).absolute(bytes);
    };
    direction("in", stats.jitter_in, stats.loss_in_ppm, stats.datagrams_in, stats.bytes_in);
    direction("out", stats.jitter_out, stats.loss_out_ppm, stats.datagrams_out, stats.bytes_out);
}

fn port(stats: &PortStats) {
    for (name, value) in port_counters(stats) {
        match name.strip_prefix("drop_") {
            Some(reason) => counter!("cascade_relay_port_drops_total", "reason" => reason).absolute(value),
            None => counter!("cascade_relay_port_total", "event" => name).absolute(value),
        }
    }
}

fn port_counters(stats: &PortStats) -> impl Iterator<Item = (&'static str, u64)> {
    macro_rules! each {
        ($($name:ident),* $(,)?) => {
            [$((stringify!($name), stats.$name)),*]
        };
    }
    let counters = each![
        wakeups,
        datagrams_in,
        bytes_in,
        datagrams_out,
        bytes_out,
        trains_out,
        quic_in,
        quic_out,
        deliveries,
        links_up,
        links_down,
        drop_unknown_kind,
        drop_rtp,
        drop_stun,
        drop_malformed,
        drop_unknown_receiver,
        drop_failed_open,
        drop_replayed,
        drop_quic_queue,
        drop_quic_send,
        drop_local_queue,
        drop_local_oversize,
        drop_sink,
        drop_no_link,
        drop_send_oversize,
        drop_send_number,
        drop_send_key,
        drop_send_would_block,
        drop_send_error,
        refused_handshakes,
        refused_links,
        refused_diallers,
        failed_handshakes,
        closed_message_queue,
        closed_bad_message,
        key_generations,
    ];
    counters.into_iter()
}

fn count(items: usize) -> f64 {
    u32::try_from(items).map_or(f64::INFINITY, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_counter_of_the_port_is_forgotten() {
        let shown = format!("{:?}", PortStats::default());
        let fields: Vec<_> = shown.split([' ', '{', ',']).filter_map(|word| word.strip_suffix(':')).collect();
        let counted: Vec<_> = port_counters(&PortStats::default()).map(|(name, _)| name).collect();
        assert_eq!(counted, fields);
    }
}
