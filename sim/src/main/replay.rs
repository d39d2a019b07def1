//! `sim replay`.

use anyhow::Context as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) const HELP: &str = "A recording is what `route-controller --record FILE` and `relay-node --record FILE` write. Its inputs are run through the same
core, as they came: nothing is simulated. Printed is what happened, each thing with the record that brought it about. Of a controller:
epochs with what gave reason for them, routes that changed, and what both ways cost when the epoch before was stamped and cost now.
Of a relay: what the controller told it, what became of its links and by what, destinations that moved, and the first drop for each reason.

Examples:
  sim replay controller.rec
  sim replay controller.rec --until 90s
  sim replay relay.rec --json | jq '.happened[] | select(.kind == \"reroute\")'
  sim replay controller.rec --json | jq '.happened[] | select(.kind == \"epoch\") | .detail'

Exit status: 0 when all outputs are those that were recorded, 1 when they differ or records are missing, 2 for bad arguments and
when the file is no recording.";

/// Largest file that is read: more than any bound that makes sense.
const FILE_BYTES_MAX: u64 = 4 << 30;

#[derive(clap::Args)]
pub(crate) struct ReplayArgs {
    /// The recording.
    file: PathBuf,
    /// Stop at this time of its clock, for instance 90s or 1500ms.
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Duration>,
    /// Print one JSON object instead.
    #[arg(long)]
    json: bool,
}

fn time(text: &str) -> Result<Duration, String> {
    link_model::parse_duration(text).ok_or_else(|| "write for instance 90s or 1500ms".to_owned())
}

/// Whether the replay did what was recorded.
pub(crate) fn run(args: &ReplayArgs) -> anyhow::Result<bool> {
    let name = || args.file.display().to_string();
    let bytes = std::fs::metadata(&args.file).with_context(name)?.len();
    anyhow::ensure!(bytes <= FILE_BYTES_MAX, "{}: {bytes} bytes are too many", name());
    let bytes = std::fs::read(&args.file).with_context(name)?;
    let replay = sim::replay(&bytes, args.until).with_context(name)?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", replay.json())?;
    } else {
        writeln!(out, "{replay}")?;
    }
    Ok(replay.is_reproduced())
}
