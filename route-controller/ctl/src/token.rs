//! `relayctl token create`

use crate::ControllerArgs;
use crate::cli::TokenArgs;
use crate::client::Client;
use crate::output::{self, TextFormat};
use anyhow::bail;
use route_controller::{TokenAnswer, TokenRequest};

pub(crate) fn run(controller: &ControllerArgs, args: &TokenArgs) -> anyhow::Result<()> {
    if !args.publish && !args.subscribe {
        bail!("the token would allow nothing: give --publish, --subscribe or both");
    }
    let request = TokenRequest {
        namespace: args.namespace.clone(),
        room: args.room.clone(),
        publish: args.publish,
        subscribe: args.subscribe,
        subject: Some(args.subject.clone()),
        ttl_s: Some(args.ttl.as_secs()),
    };
    let answer = Client::new(controller)?.post("/v1/tokens", &request)?;
    output::print(&match args.output {
        TextFormat::Json => output::json(&answer),
        TextFormat::Text => {
            format!("{}\n", output::printable(&output::parsed::<TokenAnswer>(answer)?.token))
        }
    })
}
