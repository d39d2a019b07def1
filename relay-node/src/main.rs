//! `relay-node`: wires settings, log and signals to the library.

use clap::Parser as _;
use relay_node::{Cli, RelayError, exit_code, run, stop_signal};
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    exit_code(relay().await)
}

async fn relay() -> Result<(), RelayError> {
    let config = Cli::parse().config()?;
    control_proto::cli::init_logging(config.log.format, &config.log.filter)?;
    run(config, stop_signal()?).await
}
