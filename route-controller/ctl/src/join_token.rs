//! `relayctl join-token create`

use crate::ControllerArgs;
use crate::cli::JoinTokenArgs;
use crate::client::Client;
use crate::output::{self, TokenFormat};
use route_controller::{JoinTokenAnswer, JoinTokenRequest};

pub(crate) fn run(controller: &ControllerArgs, args: &JoinTokenArgs) -> anyhow::Result<()> {
    let request = JoinTokenRequest {
        name: args.name.clone(),
        region: args.region.clone(),
        ttl_s: Some(args.ttl.as_secs()),
        replace: args.replace,
    };
    let answer = Client::new(controller)?.post("/v1/join-tokens", &request)?;
    output::print(&match args.output {
        TokenFormat::Json => output::json(&answer),
        TokenFormat::Text => format!("{}\n", output::parsed::<JoinTokenAnswer>(answer)?.token),
    })
}
