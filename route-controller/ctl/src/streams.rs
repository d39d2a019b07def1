//! `relayctl streams`

use crate::cli::ListArgs;
use crate::client::Client;
use crate::output::{self, Grid};
use crate::{ControllerArgs, output::ListFormat};
use route_controller::StreamRow;
use wire_format::MediaKind;

pub(crate) fn run(controller: &ControllerArgs, args: &ListArgs) -> anyhow::Result<()> {
    let answer = Client::new(controller)?.get("/v1/streams", &[])?;
    output::print(&match args.output {
        ListFormat::Json => output::json(&answer),
        ListFormat::Table => grid(&output::rows(answer, "streams")?).to_table(),
        ListFormat::Csv => grid(&output::rows(answer, "streams")?).to_csv(),
    })
}

fn grid(rows: &[StreamRow]) -> Grid {
    let cells = |row: &StreamRow| {
        let kind = match row.kind {
            MediaKind::Audio => "audio",
            MediaKind::Video => "video",
        };
        vec![
            row.namespace.clone(),
            row.room.clone(),
            row.user.clone(),
            row.stream.clone(),
            kind.to_owned(),
            format!("{}/{}/{}", row.room_id, row.user_id, row.stream_id),
            row.incarnation.to_string(),
            row.ingress.clone(),
            output::text(&row.destinations.join(" ")),
            output::text(&row.egresses.join(" ")),
            row.subscriptions.to_string(),
            protection(row),
            output::text(&fed_by_holders(row)),
            format!("{}/{}", row.copies.total, row.copies.bound),
            format!("{}/{}", row.copies.haul_us / 1_000, row.copies.haul_us_bound / 1_000),
        ]
    };
    Grid {
        columns: vec![
            "namespace",
            "room",
            "user",
            "stream",
            "kind",
            "ids",
            "incarnation",
            "ingress",
            "destinations",
            "egresses",
            "subscriptions",
            "protected",
            "fed_by_holders",
            "copies",
            "haul_ms",
        ],
        rows: rows.iter().map(cells).collect(),
    }
}

/// Whether a stream goes two ways at once: to how many of its destinations, unless it is all.
fn protection(row: &StreamRow) -> String {
    let protected = row.protection.iter().filter(|way| way.protected).count();
    if !row.protect {
        "-".to_owned()
    } else if protected == row.protection.len() {
        "yes".to_owned()
    } else {
        format!("{protected} of {}", row.protection.len())
    }
}

/// Relays that are not fed by the ingress, and by whom they are.
fn fed_by_holders(row: &StreamRow) -> String {
    let others = row.feeds.iter().filter(|feed| feed.feeder != row.ingress);
    let others: Vec<_> = others.map(|feed| format!("{}<{}", feed.egress, feed.feeder)).collect();
    others.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use route_controller::{CopiesRow, FeedRow, ProtectionRow};

    #[test]
    fn table_and_csv() {
        let stream = StreamRow {
            namespace: "demo".into(),
            room: "standup, daily".into(),
            user: "ana".into(),
            stream: "camera".into(),
            kind: MediaKind::Video,
            room_id: 7,
            user_id: 2,
            stream_id: 1,
            incarnation: 3,
            ingress: "fra-1".into(),
            destinations: vec!["gru-1".into(), "sin-1".into()],
            egresses: vec!["gru-1".into(), "sin-1".into()],
            subscriptions: 5,
            policy: "default".into(),
            relieved: false,
            protect: true,
            protection: vec![
                ProtectionRow {
                    egress: "gru-1".into(),
                    protected: true,
                    planes: vec![0, 2],
                    ways: Vec::new(),
                    reason: None,
                    redundant_share: Vec::new(),
                },
                ProtectionRow {
                    egress: "sin-1".into(),
                    protected: false,
                    planes: Vec::new(),
                    ways: Vec::new(),
                    reason: Some("every way passes the link fra-1-sin-1".into()),
                    redundant_share: Vec::new(),
                },
            ],
            feeds: Vec::new(),
            copies: CopiesRow::default(),
        };
        let feed = |egress: &str, feeder: &str| FeedRow {
            egress: egress.into(),
            feeder: feeder.into(),
            former: None,
            holders: usize::from(feeder != "fra-1"),
            delay_us: Some(90_000),
            direct_us: Some(88_000),
        };
        let fed = StreamRow {
            destinations: vec!["sin-1".into()],
            protect: false,
            protection: Vec::new(),
            feeds: vec![feed("gru-1", "sin-1"), feed("sin-1", "fra-1")],
            copies: CopiesRow {
                total: 3,
                direct: 4,
                bound: 2,
                haul_us: 171_000,
                haul_us_direct: 240_900,
                haul_us_bound: 120_000,
            },
            ..stream.clone()
        };
        let unheard = StreamRow {
            stream: "microphone".into(),
            kind: MediaKind::Audio,
            destinations: Vec::new(),
            egresses: Vec::new(),
            subscriptions: 0,
            protection: Vec::new(),
            ..stream.clone()
        };
        let bare = StreamRow { stream: "screen".into(), protect: false, ..unheard.clone() };
        let grid = grid(&[stream, fed, unheard, bare]);
        insta::assert_snapshot!("table", grid.to_table());
        insta::assert_snapshot!("csv", grid.to_csv());
    }
}
