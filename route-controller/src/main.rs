//! The route controller's process.

use anyhow::Context as _;
use clap::Parser;
use control_proto::cli;
use route_controller::{Config, Controller, Settings};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Computes the routes of a Cascade overlay, pushes them to its relays, and is its certificate authority.
#[derive(Parser)]
#[command(name = "route-controller", version, after_help = EXAMPLES)]
struct Flags {
    /// Configuration file (TOML). Every key is also a flag; a flag wins.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

const EXAMPLES: &str = "Examples:
  route-controller --config /etc/cascade/route-controller.toml
  route-controller --state-dir ./controller --listen 127.0.0.1:4710
  route-controller --config /etc/cascade/route-controller.toml --record /var/lib/cascade/controller.rec

Then, on the same host:
  relayctl join-token create --name fra-1 --region eu-central
  relayctl nodes";

fn main() -> ExitCode {
    let flags = Flags::parse();
    let settings = match cli::load(flags.config.as_deref(), &flags.settings) {
        Ok(settings) => settings,
        Err(error) => return refuse(&error.into()),
    };
    let filter = settings.log.clone().unwrap_or_else(|| "info".to_owned());
    if let Err(error) = cli::init_logging(settings.log_format.unwrap_or_default(), &filter) {
        return refuse(&error.into());
    }
    let config = match Config::from_settings(settings) {
        Ok(config) => config,
        Err(error) => return refuse(&error),
    };
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
        .and_then(|runtime| runtime.block_on(run(config)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let controller = Controller::start(config).await?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!("stopping on SIGTERM"),
        _ = interrupt.recv() => tracing::info!("stopping on SIGINT"),
        failure = controller.failed() => failure?,
    }
    controller.shutdown().await;
    Ok(())
}

/// A wrong setting is told in plain words, whatever the log looks like.
fn refuse(error: &anyhow::Error) -> ExitCode {
    use std::io::Write as _;
    // Nobody is left to tell if stderr is closed.
    let _ = writeln!(std::io::stderr(), "route-controller: {error:#}");
    ExitCode::from(2)
}
