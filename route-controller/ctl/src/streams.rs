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

#[cfg(test)]
mod tests {
    use super::*;
    use route_controller::ProtectionRow;

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
        let grid = grid(&[stream, unheard, bare]);
        insta::assert_snapshot!("table", grid.to_table());
        insta::assert_snapshot!("csv", grid.to_csv());
    }
}
