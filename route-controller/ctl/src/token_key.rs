//! `relayctl token-key ...`

use crate::ControllerArgs;
use crate::cli::{AddTokenKeyArgs, ListArgs, RemoveTokenKeyArgs, RotateArgs};
use crate::client::Client;
use crate::output::{self, ABSENT, Grid, ListFormat, TextFormat};
use route_controller::{TokenKeyRequest, TokenKeyRow};
use serde_json::json;

/// `relayctl token-key list`
pub(crate) fn list(controller: &ControllerArgs, args: &ListArgs) -> anyhow::Result<()> {
    let answer = Client::new(controller)?.get("/v1/token-keys", &[])?;
    output::print(&match args.output {
        ListFormat::Json => output::json(&answer),
        ListFormat::Table => grid(&output::rows(answer, "token_keys")?).to_table(),
        ListFormat::Csv => grid(&output::rows(answer, "token_keys")?).to_csv(),
    })
}

/// `relayctl token-key add`
pub(crate) fn add(controller: &ControllerArgs, args: &AddTokenKeyArgs) -> anyhow::Result<()> {
    let request = TokenKeyRequest {
        id: args.id.clone(),
        public_key: args.public_key.clone(),
        namespace: args.namespace.clone(),
    };
    Client::new(controller)?.post("/v1/token-keys", &request)?;
    output::print(&match args.output {
        TextFormat::Json => output::json(&json!({ "id": args.id, "state": "registered" })),
        TextFormat::Text => {
            format!("{} is registered: relays accept its tokens.\n", output::printable(&args.id))
        }
    })
}

/// `relayctl token-key remove`
pub(crate) fn remove(controller: &ControllerArgs, args: &RemoveTokenKeyArgs) -> anyhow::Result<()> {
    Client::new(controller)?.delete(&format!("/v1/token-keys/{}", output::path_segment(&args.id)))?;
    output::print(&match args.output {
        TextFormat::Json => output::json(&json!({ "id": args.id, "state": "removed" })),
        TextFormat::Text => format!(
            "{} is removed: its tokens are refused, and links that stand on them end.\n",
            output::printable(&args.id)
        ),
    })
}

/// `relayctl token-key rotate`
pub(crate) fn rotate(controller: &ControllerArgs, args: &RotateArgs) -> anyhow::Result<()> {
    let answer = Client::new(controller)?.post("/v1/signing-key/rotate", &json!({}))?;
    output::print(&match args.output {
        TextFormat::Json => output::json(&answer),
        TextFormat::Text => {
            let row: TokenKeyRow = output::parsed(answer)?;
            let from = row.signs_from_unix_s.map_or_else(|| "now".to_owned(), output::utc);
            format!(
                "{} signs new tokens from {from} on. Tokens of the former key stay good: remove that when the last of \
                 them has expired.\n",
                output::printable(&row.id)
            )
        }
    })
}

fn grid(rows: &[TokenKeyRow]) -> Grid {
    let cells = |row: &TokenKeyRow| {
        vec![
            row.id.clone(),
            row.role.clone(),
            row.signs_from_unix_s.map_or(ABSENT.to_owned(), output::utc),
            output::text(row.namespace.as_deref().unwrap_or_default()),
            row.public_key.clone(),
        ]
    };
    Grid {
        columns: vec!["id", "role", "signs_from", "namespace", "public_key"],
        rows: rows.iter().map(cells).collect(),
    }
}
