//! `/metrics`: Prometheus text, made from one look into the core.
//!
//! Core and port count by themselves, without a metrics library in the way of media. Each scrape fills a recorder of its
//! own: nothing is global, so any number of relays live in one process, and a link that is gone leaves no stale series.

use crate::api::{Running, Snapshot};
use crate::limits::resident_bytes;
use link_io::PortStats;
use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::PrometheusBuilder;
use relay_core::{LinkStats, LinkView, PeerView};
use std::time::Duration;
use wire_format::control::{LOSS_BURST_NAMES, LinkState, NamespaceUsage};

/// The text of one scrape.
pub(crate) fn render(running: &Running, snapshot: &Snapshot) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        describe();
        relay(running, snapshot);
        core(snapshot);
        port(&snapshot.port);
        for usage in &snapshot.namespaces {
            namespace(usage);
        }
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
    describe_counter!(
        "cascade_relay_controller_refusals_total",
        "Times that the controller would not have this relay: its name is in use, or its certificate void"
    );
    describe_gauge!(
        "cascade_relay_certificate_expires_unix_seconds",
        Unit::Seconds,
        "When this relay's certificate ends, seconds since 1970"
    );
    describe_counter!("cascade_relay_certificate_renewals_total", "Certificates that were renewed");
    describe_counter!(
        "cascade_relay_certificate_renewals_failed_total",
        "Attempts to renew the certificate that failed"
    );
    describe_gauge!("cascade_relay_memory_bytes", Unit::Bytes, "Memory of the process that is in use");
    describe_counter!(
        "cascade_relay_memory_refusals_total",
        "SFUs and registrations refused because the process uses as much memory as it may"
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
    describe_gauge!(
        "cascade_link_rtt_seconds",
        Unit::Seconds,
        "Round trip to the neighbour of the last second or so, without the moments in which a host was busy"
    );
    describe_gauge!("cascade_link_rtt_min_seconds", Unit::Seconds, "Least round trip of the last 10 to 20 s");
    describe_gauge!(
        "cascade_link_jitter_seconds",
        Unit::Seconds,
        "Interarrival jitter (RFC 3550), by direction"
    );
    describe_gauge!("cascade_link_loss_ratio", "Loss over about 10 s, by direction");
    describe_counter!(
        "cascade_namespace_packets_total",
        "Packets of a namespace's publishers and to its subscribers"
    );
    describe_counter!("cascade_namespace_bytes_total", Unit::Bytes, "Bytes of RTP in them");
    describe_counter!(
        "cascade_namespace_over_rate_total",
        "Packets dropped because the namespace sends too fast"
    );
    describe_counter!("cascade_link_datagrams_total", "Sealed datagrams, by direction");
    describe_counter!("cascade_link_bytes_total", Unit::Bytes, "Bytes of sealed datagrams, by direction");
    describe_gauge!(
        "cascade_link_rtt_smoothed_seconds",
        Unit::Seconds,
        "Smoothed round trip (RFC 6298), moments in which a host was busy included"
    );
    describe_gauge!(
        "cascade_link_rtt_variation_seconds",
        Unit::Seconds,
        "Mean deviation of the round trip (RFC 6298)"
    );
    describe_gauge!(
        "cascade_link_queueing_seconds",
        Unit::Seconds,
        "What datagrams wait in queues on the way, by direction: delay beyond the least of the last 10 to 20 s"
    );
    describe_gauge!(
        "cascade_link_deliverable_bytes_per_second",
        "What the way to the neighbour was found to carry; absent while nothing shows a limit"
    );
    describe_counter!(
        "cascade_link_rate_limits_total",
        "How often the link had to be held back because its way queued"
    );
    describe_gauge!(
        "cascade_link_waiting_bytes",
        Unit::Bytes,
        "Media that waits because the link carries no more"
    );
    describe_counter!(
        "cascade_link_loss_bursts_total",
        "How often so many datagrams in a row from the neighbour were missing, by length"
    );
    describe_gauge!(
        "cascade_link_residual_loss_ratio",
        "Datagrams with media that the neighbour sent and that did not come, repair taken into account, over about 10 s"
    );
    describe_counter!(
        "cascade_link_repair_datagrams_total",
        "Datagrams sent again or of parity, requests sent, and what became of those missing from the neighbour, by event"
    );
    describe_counter!(
        "cascade_link_repair_bytes_total",
        Unit::Bytes,
        "Bytes sent, by purpose: first (media for the first time), retransmission, parity, request, feedback, probe"
    );
    describe_gauge!("cascade_link_mtu_bytes", Unit::Bytes, "Largest datagram that is sent (UDP payload)");
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
    counter!("cascade_relay_controller_refusals_total").absolute(contact.refusals);
    gauge!("cascade_relay_certificate_expires_unix_seconds").set(contact.certificate_expires_unix_s as f64);
    counter!("cascade_relay_certificate_renewals_total").absolute(contact.renewals);
    counter!("cascade_relay_certificate_renewals_failed_total").absolute(contact.renewals_failed);
    if let Some(bytes) = resident_bytes() {
        gauge!("cascade_relay_memory_bytes").set(bytes as f64);
    }
    counter!("cascade_relay_memory_refusals_total").absolute(running.overlay.memory().refused());
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

/// Namespaces are few: the core tells no more than a bound apart.
fn namespace(usage: &NamespaceUsage) {
    for (direction, packets, bytes) in
        [("in", usage.packets_in, usage.bytes_in), ("out", usage.packets_out, usage.bytes_out)]
    {
        let labels = [("namespace", usage.namespace.clone()), ("direction", direction.to_owned())];
        counter!("cascade_namespace_packets_total", &labels).absolute(packets);
        counter!("cascade_namespace_bytes_total", &labels).absolute(bytes);
    }
    counter!("cascade_namespace_over_rate_total", "namespace" => usage.namespace.clone())
        .absolute(usage.packets_over_rate);
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
    quality(stats, &name);
    gauge!("cascade_link_mtu_bytes", "neighbour" => name).set(f64::from(stats.mtu_bytes));
}

fn quality(stats: &LinkStats, name: &str) {
    let (quality, repair) = (&stats.quality, &stats.repair);
    let labels =
        |key: &'static str, value: &'static str| [("neighbour", name.to_owned()), (key, value.to_owned())];
    if let Some(rtt) = quality.rtt_smoothed {
        gauge!("cascade_link_rtt_smoothed_seconds", "neighbour" => name.to_owned()).set(rtt.as_secs_f64());
    }
    if let Some(variation) = quality.rtt_variation {
        gauge!("cascade_link_rtt_variation_seconds", "neighbour" => name.to_owned())
            .set(variation.as_secs_f64());
    }
    for (direction, queueing) in [("in", quality.queueing_in), ("out", quality.queueing_out)] {
        gauge!("cascade_link_queueing_seconds", &labels("direction", direction)).set(queueing.as_secs_f64());
    }
    if let Some(rate) = quality.deliverable_out {
        gauge!("cascade_link_deliverable_bytes_per_second", "neighbour" => name.to_owned()).set(rate as f64);
    }
    counter!("cascade_link_rate_limits_total", "neighbour" => name.to_owned()).absolute(stats.rate_limited);
    gauge!("cascade_link_waiting_bytes", "neighbour" => name.to_owned()).set(count(stats.waiting_bytes));
    for (length, bursts) in LOSS_BURST_NAMES.into_iter().zip(quality.bursts_in) {
        counter!("cascade_link_loss_bursts_total", &labels("length", length)).absolute(bursts);
    }
    gauge!("cascade_link_residual_loss_ratio", "neighbour" => name.to_owned())
        .set(f64::from(quality.residual_in_ppm) / 1e6);
    for (event, datagrams) in [
        ("retransmitted", repair.retransmitted),
        ("parity", repair.parity),
        ("requests", repair.requests),
        ("requests_late", repair.requests_late),
        ("requests_ignored", repair.requests_ignored),
        ("rows_ignored", repair.rows_ignored),
        ("repairs_dropped", repair.repairs_dropped),
        ("missing", repair.missing),
        ("reordered", repair.reordered),
        ("recovered_retransmission", repair.recovered_again),
        ("recovered_parity", repair.recovered_parity),
    ] {
        counter!("cascade_link_repair_datagrams_total", &labels("event", event)).absolute(datagrams);
    }
    for (purpose, bytes) in [
        ("first", repair.first_bytes),
        ("retransmission", repair.retransmitted_bytes),
        ("parity", repair.parity_bytes),
        ("request", repair.request_bytes),
        ("feedback", repair.feedback_bytes),
        ("probe", repair.probe_bytes),
    ] {
        counter!("cascade_link_repair_bytes_total", &labels("purpose", purpose)).absolute(bytes);
    }
}

fn port(stats: &PortStats) {
    for (name, value) in stats.entries() {
        match name.strip_prefix("drop_") {
            Some(reason) => counter!("cascade_relay_port_drops_total", "reason" => reason).absolute(value),
            None => counter!("cascade_relay_port_total", "event" => name).absolute(value),
        }
    }
}

fn count(items: usize) -> f64 {
    u32::try_from(items).map_or(f64::INFINITY, f64::from)
}
