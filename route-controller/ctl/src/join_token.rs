//! `relayctl join-token ...`

use crate::ControllerArgs;
use crate::cli::{JoinTokenArgs, ListArgs, RevokeJoinTokenArgs};
use crate::client::Client;
use crate::output::{self, Grid, ListFormat, TextFormat, yes_or_no};
use route_controller::{JoinTokenAnswer, JoinTokenRequest, JoinTokenRow};

/// `relayctl join-token create`
pub(crate) fn create(controller: &ControllerArgs, args: &JoinTokenArgs) -> anyhow::Result<()> {
    let request = JoinTokenRequest {
        name: args.name.clone(),
        region: args.region.clone(),
        ttl_s: Some(args.ttl.as_secs()),
        replace: args.replace,
    };
    let answer = Client::new(controller)?.post("/v1/join-tokens", &request)?;
    output::print(&match args.output {
        TextFormat::Json => output::json(&answer),
        TextFormat::Text => {
            format!("{}\n", output::printable(&output::parsed::<JoinTokenAnswer>(answer)?.token))
        }
    })
}

/// `relayctl join-token list`
pub(crate) fn list(controller: &ControllerArgs, args: &ListArgs) -> anyhow::Result<()> {
    let answer = Client::new(controller)?.get("/v1/join-tokens", &[])?;
    output::print(&match args.output {
        ListFormat::Json => output::json(&answer),
        ListFormat::Table => grid(&output::rows(answer, "join_tokens")?).to_table(),
        ListFormat::Csv => grid(&output::rows(answer, "join_tokens")?).to_csv(),
    })
}

/// `relayctl join-token revoke`
pub(crate) fn revoke(controller: &ControllerArgs, args: &RevokeJoinTokenArgs) -> anyhow::Result<()> {
    Client::new(controller)?.delete(&format!("/v1/join-tokens/{}", output::path_segment(&args.id)))?;
    output::print(&match args.output {
        TextFormat::Json => output::json(&serde_json::json!({ "id": args.id, "state": "revoked" })),
        TextFormat::Text => {
            format!("{} is revoked: nobody can join with it.\n", output::printable(&args.id))
        }
    })
}

fn grid(rows: &[JoinTokenRow]) -> Grid {
    let cells = |row: &JoinTokenRow| {
        vec![
            row.id.clone(),
            row.name.clone(),
            output::text(row.region.as_deref().unwrap_or_default()),
            yes_or_no(row.replace),
            output::utc(row.created_unix_s),
            output::utc(row.expires_unix_s),
        ]
    };
    Grid {
        columns: vec!["id", "name", "region", "replace", "created", "expires"],
        rows: rows.iter().map(cells).collect(),
    }
}
