//! `relayctl api-token ...`

use crate::ControllerArgs;
use crate::cli::{ApiTokenArgs, ListArgs, RevokeApiTokenArgs};
use crate::client::Client;
use crate::output::{self, ABSENT, Grid, ListFormat, TextFormat};
use route_controller::{ApiTokenAnswer, ApiTokenRequest, ApiTokenRow};
use serde_json::json;

/// `relayctl api-token create`
pub(crate) fn create(controller: &ControllerArgs, args: &ApiTokenArgs) -> anyhow::Result<()> {
    let request = ApiTokenRequest {
        name: args.name.clone(),
        rights: args.rights.into(),
        ttl_s: args.ttl.map(|ttl| ttl.as_secs()),
    };
    let answer = Client::new(controller)?.post("/v1/api-tokens", &request)?;
    output::print(&match args.output {
        TextFormat::Json => output::json(&answer),
        TextFormat::Text => {
            format!("{}\n", output::printable(&output::parsed::<ApiTokenAnswer>(answer)?.token))
        }
    })
}

/// `relayctl api-token list`
pub(crate) fn list(controller: &ControllerArgs, args: &ListArgs) -> anyhow::Result<()> {
    let answer = Client::new(controller)?.get("/v1/api-tokens", &[])?;
    output::print(&match args.output {
        ListFormat::Json => output::json(&answer),
        ListFormat::Table => grid(&output::rows(answer, "api_tokens")?).to_table(),
        ListFormat::Csv => grid(&output::rows(answer, "api_tokens")?).to_csv(),
    })
}

/// `relayctl api-token revoke`
pub(crate) fn revoke(controller: &ControllerArgs, args: &RevokeApiTokenArgs) -> anyhow::Result<()> {
    Client::new(controller)?.delete(&format!("/v1/api-tokens/{}", output::path_segment(&args.name)))?;
    output::print(&match args.output {
        TextFormat::Json => output::json(&json!({ "name": args.name, "state": "revoked" })),
        TextFormat::Text => {
            format!("{} is revoked: its token opens nothing any more.\n", output::printable(&args.name))
        }
    })
}

fn grid(rows: &[ApiTokenRow]) -> Grid {
    let cells = |row: &ApiTokenRow| {
        vec![
            row.name.clone(),
            row.rights.name().to_owned(),
            output::utc(row.created_unix_s),
            row.expires_unix_s.map_or(ABSENT.to_owned(), output::utc),
        ]
    };
    Grid { columns: vec!["name", "rights", "created", "expires"], rows: rows.iter().map(cells).collect() }
}
