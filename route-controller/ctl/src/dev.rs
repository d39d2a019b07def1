//! `relayctl dev`: a whole overlay in one process.

use std::process::ExitCode;

/// Arguments of `relayctl dev`.
#[derive(clap::Args, Debug)]
pub struct DevArgs {}

pub(crate) fn run(_args: DevArgs) -> ExitCode {
    crate::output::complain(&anyhow::anyhow!("this build has no `dev`"));
    ExitCode::FAILURE
}
