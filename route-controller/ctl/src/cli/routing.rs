//! Arguments of commands that explain routes and empty relays.

use crate::output::{GraphFormat, ListFormat, TextFormat, WayFormat};
use crate::when::{When, when};
use std::time::Duration;

/// Arguments of `relayctl cordon` and `relayctl uncordon`.
#[derive(clap::Args, Debug)]
pub struct CordonArgs {
    /// The relay's name.
    #[arg(value_name = "NODE")]
    pub name: String,
    /// How to print: a sentence, or JSON.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: TextFormat,
}

/// Arguments of `relayctl drain`.
#[derive(clap::Args, Debug)]
pub struct DrainArgs {
    /// The relay's name.
    #[arg(value_name = "NODE")]
    pub name: String,
    /// How long to wait, seconds; 0 looks once.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub timeout: u64,
    /// How to print: a sentence, or JSON.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: TextFormat,
}

/// Arguments of `relayctl routes diff`.
#[derive(clap::Args, Debug)]
pub struct DiffArgs {
    /// The first epoch.
    #[arg(value_name = "EPOCH", required_unless_present = "at", requires = "after")]
    pub before: Option<u32>,
    /// The second one.
    #[arg(value_name = "EPOCH")]
    pub after: Option<u32>,
    /// Two moments of the past instead; see `relayctl routes explain`.
    #[arg(long, value_name = "TIME", value_parser = when, allow_hyphen_values = true, num_args = 1, conflicts_with = "before")]
    pub at: Vec<When>,
    /// By this policy, one of `relayctl policy show`; the past is known of `default` alone.
    #[arg(long, value_name = "NAME", default_value = "default", conflicts_with = "at")]
    pub policy: String,
    /// How to print: `table`, `json` or `csv`.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: ListFormat,
}

/// Arguments of `relayctl routes explain`.
#[derive(clap::Args, Debug)]
pub struct ExplainArgs {
    /// The relay where the way begins.
    #[arg(value_name = "FROM")]
    pub from: String,
    /// The relay where it ends.
    #[arg(value_name = "TO")]
    pub to: String,
    /// A moment of the past, as far as the controller's history goes: `-90s`, `-2h`, `14:05`, `2026-11-30T14:05:00Z`.
    #[arg(long, value_name = "TIME", value_parser = when, allow_hyphen_values = true)]
    pub at: Option<When>,
    /// By this policy, one of `relayctl policy show`.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub policy: String,
    /// How to print; `dot` is for Graphviz, `svg` a picture.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: WayFormat,
}

/// Arguments of `relayctl trace`.
#[derive(clap::Args, Debug)]
pub struct TraceArgs {
    /// Whose streams, or which of them: names as `relayctl streams` lists them. A slash within a name is %2F.
    #[arg(value_name = "NAMESPACE/ROOM/USER[/STREAM]")]
    pub stream: String,
    /// How long to watch, 100ms to 10s.
    #[arg(long = "for", value_name = "DURATION", default_value = "2s", value_parser = watched)]
    pub duration: Duration,
    /// How to print; `dot` is for Graphviz, `svg` a picture.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: GraphFormat,
}

fn watched(text: &str) -> Result<Duration, String> {
    let duration = match text.strip_suffix("ms") {
        Some(ms) => Duration::from_millis(ms.parse().map_err(|_| "write for instance 500ms or 2s")?),
        None => control_proto::cli::parse_duration(text)?,
    };
    let most = wire_format::control::limits::TRACE_DURATION;
    if (Duration::from_millis(100)..=most).contains(&duration) {
        Ok(duration)
    } else {
        Err("watch for 100ms to 10s".to_owned())
    }
}

/// Arguments of `relayctl routes why-not`.
#[derive(clap::Args, Debug)]
pub struct WhyNotArgs {
    /// The relay where the way begins.
    #[arg(value_name = "FROM")]
    pub from: String,
    /// The relay where it ends.
    #[arg(value_name = "TO")]
    pub to: String,
    /// The relay that it might pass.
    #[arg(value_name = "VIA")]
    pub via: String,
    /// By this policy, one of `relayctl policy show`.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub policy: String,
    /// How to print; `dot` is for Graphviz, `svg` a picture.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: WayFormat,
}
