//! Arguments of commands that explain routes and empty relays.

use crate::output::{ListFormat, TextFormat, WayFormat};

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
    #[arg(value_name = "EPOCH")]
    pub before: u32,
    /// The second one.
    #[arg(value_name = "EPOCH")]
    pub after: u32,
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
    /// How to print; `dot` is for Graphviz.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: WayFormat,
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
    /// How to print; `dot` is for Graphviz.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: WayFormat,
}
