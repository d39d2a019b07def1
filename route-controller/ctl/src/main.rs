//! The operator's command line.

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    relayctl::run(relayctl::Cli::parse())
}
