//! `relayctl dev`: a whole overlay in one process, with real media across it and a judge at the end.
//!
//! [`Overlay`] is the controller, the relays and the impairment proxy between them: the code of the binaries, real
//! sockets on loopback, real handshakes. [`Call`] is two SFUs, the first of which plays a recording; whatever the other
//! receives is compared with what was sent. [`run`] puts both together and sums up in a [`Summary`].

mod args;
mod call;
pub(crate) mod checker;
pub(crate) mod clock;
mod histogram;
mod impair;
mod live;
mod monitor;
mod overlay;
mod own_stream;
pub(crate) mod player;
mod recording;
pub(crate) mod repair;
mod report;
mod run;
mod topology;

pub use args::{Budget, DevArgs, Kill, Options, Victim};
pub use call::{Call, StreamStatus};
pub use checker::StreamCounts;
pub use impair::{Carried, CarriedByLink, Pair, Proxy};
pub use overlay::{NAMESPACE, Overlay};
pub use recording::{Recording, Track};
pub use report::{ControlSummary, Quantiles, RepairSummary, Summary};
pub use run::{Outcome, run};
pub use topology::{RELAYS_MAX, Topology, relay_name};

use anyhow::Context as _;
use control_proto::cli::{LogFormat, init_logging};
use live::Live;
use own_stream::Guide;
use std::io::Write as _;
use std::process::ExitCode;

/// `relayctl dev`. Status 0 if the run was a success, 2 for arguments that make no sense, else 1.
pub(crate) fn command(args: &DevArgs) -> ExitCode {
    let checked = args.options().and_then(|options| {
        init_logging(LogFormat::Text, &args.log).context("--log")?;
        Ok(options)
    });
    match checked {
        Ok(options) => match watch(&options, args.json) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                crate::output::complain(&error);
                ExitCode::FAILURE
            }
        },
        Err(error) => {
            crate::output::complain(&error);
            ExitCode::from(2)
        }
    }
}

fn watch(options: &Options, json: bool) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    let Outcome { summary, success } = runtime.block_on(async {
        // SIGTERM ends a run as Ctrl-C does, with its summary.
        let stop = relay_node::stop_signal().context("signals cannot be caught")?;
        let guide = if json { Guide::None } else { Guide::Shown };
        run::run_shown(options, &mut Live::new(json), guide, stop).await
    })?;
    let verdict = if success { "ok" } else { "not ok: see the counts above" };
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    let text = format!("\n{}{verdict}\n", summary.to_text());
    // Whoever closed the other end of a pipe does not want to see it.
    let _ = if json {
        err.write_all(text.as_bytes()).and_then(|()| writeln!(out, "{}", summary.to_json()))
    } else {
        out.write_all(text.as_bytes())
    };
    Ok(success)
}
