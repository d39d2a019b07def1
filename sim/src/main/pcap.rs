//! `sim pcap`.

use anyhow::Context as _;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

pub(crate) const HELP: &str = "The file is a pcapng: each plain datagram and each message of the links' reliable streams as it enters the network, with
what became of it (wire-format/SPEC.md, section 14). Relays are 10.0.x.y and SFUs 10.1.x.y, in the order of the scenario,
and named in the file. Times are those of the run. Nobody judges the run: its trace hash is that of `sim run`.

Examples:
  sim pcap sim/scenarios/ring-cut.toml --out ring.pcapng
  sim pcap sim/scenarios/slow-link.toml --out slow.pcapng --seed 7 --link 'r1>r2'
  wireshark -X lua_script:wire-format/cascade.lua -N n ring.pcapng
  tshark -X lua_script:wire-format/cascade.lua -N n -r ring.pcapng -Y 'cascade.capture.lost && cascade.stream.room == 1'

Exit status: 0 when the file is written, 2 for bad arguments and when it cannot be.";

#[derive(clap::Args)]
pub(crate) struct PcapArgs {
    /// The scenario.
    scenario: PathBuf,
    /// The file to write; one that is there is replaced.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Another seed than the scenario's own.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Only this link: A-B both ways, A>B one way.
    #[arg(long, value_name = "A-B|A>B|all", default_value = "all")]
    link: String,
}

/// Writes the file.
pub(crate) fn run(
    args: &PcapArgs,
    load: impl Fn(&Path) -> anyhow::Result<sim::Scenario>,
) -> anyhow::Result<()> {
    let scenario = load(&args.scenario)?;
    let links = sim::links_named(&scenario, &args.link).with_context(|| format!("--link {}", args.link))?;
    let seed = args.seed.unwrap_or(scenario.seed);
    let failed = || format!("cannot write {}", args.out.display());
    let mut file = BufWriter::new(std::fs::File::create(&args.out).with_context(failed)?);
    let captured = sim::capture(&scenario, seed, &links, &mut file).with_context(failed)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "scenario: {}\nseed: {seed}", scenario.name)?;
    writeln!(
        out,
        "datagrams: {}, lost by the network: {}; session messages: {}",
        captured.datagrams, captured.datagrams_lost, captured.messages
    )?;
    writeln!(out, "{}: {} bytes", args.out.display(), captured.bytes)?;
    writeln!(out, "trace hash: {:016x}", captured.hash)?;
    Ok(())
}
