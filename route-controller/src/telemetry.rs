//! `/metrics`. Everything is counted where it happens, in plain numbers; here they become metrics, when somebody asks.
//!
//! The recorder belongs to this controller, not to the process: tests and `relayctl dev` run several in one.

use crate::engine::Counts;
use crate::history::HistoryCounts;
use crate::operations::Operations;
use crate::refusal::Refusal;
use metrics::{counter, describe_counter, describe_gauge, gauge, with_local_recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use route_core::{Counters, NodeState, StatusView};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// This controller's metrics.
pub(crate) struct Telemetry {
    recorder: PrometheusRecorder,
}

impl Telemetry {
    pub(crate) fn new() -> Telemetry {
        let recorder = PrometheusBuilder::new().build_recorder();
        with_local_recorder(&recorder, describe);
        Telemetry { recorder }
    }

    /// All metrics, in Prometheus' text format.
    pub(crate) async fn render(&self, operations: &Operations) -> Result<String, Refusal> {
        let question = |core: &route_core::Controller, now| {
            (core.status(), core.nodes(now), core.links(now), core.streams().len())
        };
        let engine = match operations.engine.leader() {
            Ok(engine) => engine,
            Err(_) => {
                // What it said of the overlay while it led is history.
                let recorder = PrometheusBuilder::new().build_recorder();
                with_local_recorder(&recorder, || {
                    describe();
                    gauge!("cascade_controller_leader").set(0);
                    record_counts(&operations.engine.counts);
                    record_history(&operations.history.counts);
                });
                return Ok(recorder.handle().render());
            }
        };
        let (status, nodes, links, streams) = engine.ask(question).await?;
        let mut states = BTreeMap::from([
            (NodeState::Connected, 0_u32),
            (NodeState::Silent, 0),
            (NodeState::Leaving, 0),
            (NodeState::Offline, 0),
            (NodeState::Revoked, 0),
        ]);
        for node in &nodes {
            *states.entry(node.state).or_default() += 1;
        }
        let links_usable = links.iter().filter(|link| link.usable).count();
        with_local_recorder(&self.recorder, || {
            for (state, relays) in states {
                gauge!("cascade_controller_relays", "state" => state_name(state)).set(relays);
            }
            gauge!("cascade_controller_links", "usable" => "true").set(links_usable as f64);
            gauge!("cascade_controller_links", "usable" => "false").set((links.len() - links_usable) as f64);
            gauge!("cascade_controller_streams").set(streams as f64);
            gauge!("cascade_controller_leader").set(1);
            record_status(&status);
            record_counts(&operations.engine.counts);
            record_history(&operations.history.counts);
        });
        Ok(self.recorder.handle().render())
    }
}

fn record_counts(counts: &Counts) {
    for (name, count) in [
        ("cascade_controller_joins_total", &counts.joined),
        ("cascade_controller_joins_refused_total", &counts.joins_refused),
        ("cascade_controller_joins_overflowed_total", &counts.joins_overflowed),
        ("cascade_controller_join_tokens_revoked_total", &counts.join_tokens_revoked),
        ("cascade_controller_renewals_total", &counts.renewed),
        ("cascade_controller_renewals_refused_total", &counts.renewals_refused),
        ("cascade_controller_revocations_total", &counts.revoked),
        ("cascade_controller_sessions_refused_total", &counts.sessions_refused),
        ("cascade_controller_sessions_void_total", &counts.sessions_void),
        ("cascade_controller_sessions_overflowed_total", &counts.sessions_overflowed),
        ("cascade_controller_messages_refused_total", &counts.messages_refused),
        ("cascade_controller_terms_total", &counts.terms),
        ("cascade_controller_etcd_errors_total", &counts.etcd_errors),
    ] {
        counter!(name).absolute(count.load(Ordering::Relaxed));
    }
    for (status, count) in [("401", &counts.api_unauthenticated), ("403", &counts.api_forbidden)] {
        counter!("cascade_controller_api_refused_total", "status" => status)
            .absolute(count.load(Ordering::Relaxed));
    }
}

fn record_history(counts: &HistoryCounts) {
    gauge!("cascade_controller_history_bytes").set(counts.bytes.load(Ordering::Relaxed) as f64);
    for (name, count) in [
        ("cascade_controller_history_frames_total", &counts.frames),
        ("cascade_controller_history_errors_total", &counts.errors),
    ] {
        counter!(name).absolute(count.load(Ordering::Relaxed));
    }
}

fn record_status(status: &StatusView) {
    gauge!("cascade_controller_term").set(status.term as f64);
    gauge!("cascade_controller_epoch").set(status.epoch.map_or(0.0, |epoch| f64::from(epoch.0)));
    gauge!("cascade_controller_recovering").set(u8::from(status.recovering));
    for (name, count) in counters(&status.counters) {
        counter!(name).absolute(count);
    }
}

fn counters(counters: &Counters) -> [(&'static str, u64); 27] {
    let Counters {
        sessions,
        kicked,
        names_contested,
        strays,
        reports_refused,
        reports_unasked,
        neighbour_lists,
        epochs_merged,
        tables_whole,
        tables_changed,
        tables_wanted,
        recomputes,
        epochs,
        epochs_urgent,
        route_changes,
        acks_missed,
        publications_granted,
        publications_refused,
        subscriptions_refused,
        limits_reached,
        risks_left_out,
        cost_changes,
        links_failed,
        reports_doubted,
        hubs_quarantined,
        streams_relieved,
        streams_returned,
    } = *counters;
    [
        ("cascade_controller_sessions_total", sessions),
        ("cascade_controller_sessions_kicked_total", kicked),
        ("cascade_controller_names_contested_total", names_contested),
        ("cascade_controller_strays_total", strays),
        ("cascade_controller_reports_refused_total", reports_refused),
        ("cascade_controller_reports_unasked_total", reports_unasked),
        ("cascade_controller_neighbour_lists_total", neighbour_lists),
        ("cascade_controller_epochs_merged_total", epochs_merged),
        ("cascade_controller_tables_whole_total", tables_whole),
        ("cascade_controller_tables_changed_total", tables_changed),
        ("cascade_controller_tables_wanted_total", tables_wanted),
        ("cascade_controller_recomputes_total", recomputes),
        ("cascade_controller_epochs_total", epochs),
        ("cascade_controller_epochs_urgent_total", epochs_urgent),
        ("cascade_controller_route_changes_total", route_changes),
        ("cascade_controller_acks_missed_total", acks_missed),
        ("cascade_controller_publications_granted_total", publications_granted),
        ("cascade_controller_publications_refused_total", publications_refused),
        ("cascade_controller_subscriptions_refused_total", subscriptions_refused),
        ("cascade_controller_limits_reached_total", limits_reached),
        ("cascade_controller_risks_left_out_total", risks_left_out),
        ("cascade_controller_cost_changes_total", cost_changes),
        ("cascade_controller_links_failed_total", links_failed),
        ("cascade_controller_reports_doubted_total", reports_doubted),
        ("cascade_controller_hubs_quarantined_total", hubs_quarantined),
        ("cascade_controller_streams_relieved_total", streams_relieved),
        ("cascade_controller_streams_returned_total", streams_returned),
    ]
}

fn state_name(state: NodeState) -> &'static str {
    match state {
        NodeState::Connected => "connected",
        NodeState::Silent => "silent",
        NodeState::Leaving => "leaving",
        NodeState::Offline => "offline",
        NodeState::Revoked => "revoked",
    }
}

fn describe() {
    describe_gauge!("cascade_controller_relays", "Relays known, by state");
    describe_gauge!(
        "cascade_controller_links",
        "Directions of links reported, by whether routes may use them"
    );
    describe_gauge!("cascade_controller_streams", "Streams published");
    describe_gauge!("cascade_controller_term", "Leadership term of this controller");
    describe_gauge!("cascade_controller_leader", "1 if this controller leads, 0 if another does");
    describe_counter!(
        "cascade_controller_terms_total",
        "Terms that this controller began, of one among several"
    );
    describe_counter!("cascade_controller_etcd_errors_total", "Calls to etcd that failed");
    describe_gauge!("cascade_controller_epoch", "Epoch that relays were last told to stamp");
    describe_gauge!("cascade_controller_recovering", "1 while waiting after a start for relays to report");
    describe_counter!("cascade_controller_joins_total", "Relays that joined with a token");
    describe_counter!("cascade_controller_joins_refused_total", "Joins refused");
    describe_counter!(
        "cascade_controller_joins_overflowed_total",
        "Joins refused because too many others waited"
    );
    describe_counter!("cascade_controller_join_tokens_revoked_total", "Join tokens taken back unused");
    describe_counter!("cascade_controller_renewals_total", "Certificates of relays renewed");
    describe_counter!("cascade_controller_renewals_refused_total", "Renewals refused");
    describe_counter!("cascade_controller_revocations_total", "Relays revoked");
    describe_counter!(
        "cascade_controller_sessions_void_total",
        "Sessions refused because their certificate was revoked, superseded or expired"
    );
    describe_counter!("cascade_controller_sessions_total", "Sessions of relays opened");
    describe_counter!(
        "cascade_controller_sessions_refused_total",
        "Sessions refused: no certificate, or no hello"
    );
    describe_counter!("cascade_controller_sessions_kicked_total", "Sessions ended by the controller");
    describe_counter!(
        "cascade_controller_sessions_overflowed_total",
        "Sessions ended because the relay took its messages too slowly"
    );
    describe_counter!(
        "cascade_controller_api_refused_total",
        "Calls of the admin API without a good token (401), or short of rights or addressed to another host (403)"
    );
    describe_counter!("cascade_controller_messages_refused_total", "Messages of relays that broke a limit");
    describe_counter!(
        "cascade_controller_names_contested_total",
        "Sessions refused because another process was in session under the same relay's name"
    );
    describe_counter!(
        "cascade_controller_strays_total",
        "Messages of sessions that are not, or not yet, or no longer a relay's own"
    );
    describe_counter!("cascade_controller_reports_refused_total", "Reports that named something unknown");
    describe_counter!(
        "cascade_controller_reports_unasked_total",
        "Reports on links that nobody was told to have"
    );
    describe_counter!("cascade_controller_neighbour_lists_total", "Neighbour lists sent to relays");
    describe_counter!(
        "cascade_controller_epochs_merged_total",
        "Tables computed that newer ones replaced before they were pushed"
    );
    describe_counter!("cascade_controller_tables_whole_total", "Tables sent to relays, whole");
    describe_counter!(
        "cascade_controller_tables_changed_total",
        "Tables sent to relays as what is new in them"
    );
    describe_counter!(
        "cascade_controller_tables_wanted_total",
        "Whole tables that relays asked for instead of changes"
    );
    describe_counter!("cascade_controller_recomputes_total", "Times the routes were computed");
    describe_counter!("cascade_controller_epochs_total", "Epochs prepared");
    describe_counter!(
        "cascade_controller_epochs_urgent_total",
        "Epochs that did not wait for the one before to settle, because routes had broken"
    );
    describe_counter!(
        "cascade_controller_route_changes_total",
        "Rows of route tables whose next hop changed"
    );
    describe_counter!("cascade_controller_acks_missed_total", "Times a relay did not acknowledge in time");
    describe_counter!("cascade_controller_publications_granted_total", "Publications granted");
    describe_counter!("cascade_controller_publications_refused_total", "Publications refused");
    describe_counter!("cascade_controller_subscriptions_refused_total", "Subscriptions refused");
    describe_counter!(
        "cascade_controller_limits_reached_total",
        "Of the refused ones, those whose namespace had reached a limit"
    );
    describe_counter!(
        "cascade_controller_risks_left_out_total",
        "Groups of relays that may fail together which computations of routes left out, beyond 128"
    );
    describe_counter!("cascade_controller_cost_changes_total", "Published link costs that changed");
    describe_counter!("cascade_controller_links_failed_total", "Links that failed");
    describe_gauge!("cascade_controller_history_bytes", "What the history takes on disk");
    describe_counter!("cascade_controller_history_frames_total", "Times that the history was written");
    describe_counter!(
        "cascade_controller_history_errors_total",
        "Times that the history could not be written"
    );
    describe_counter!(
        "cascade_controller_reports_doubted_total",
        "Reports not believed: faster than light, or far below what the other end measures"
    );
    describe_counter!(
        "cascade_controller_hubs_quarantined_total",
        "Times that a relay became a hub all of a sudden and was avoided for it"
    );
    describe_counter!(
        "cascade_controller_streams_relieved_total",
        "Streams moved to the policy that relieves theirs, because a link was loaded"
    );
    describe_counter!("cascade_controller_streams_returned_total", "Streams moved back from there");
}
