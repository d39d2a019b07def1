//! Arguments of `relayctl policy`

use crate::output::ListFormat;
use std::path::PathBuf;

const EXAMPLE: &str = include_str!("../../../../deploy/policies.toml");

/// `relayctl policy`
#[derive(clap::Subcommand, Debug)]
pub enum Policy {
    /// List the policies: what each is, and how many streams travel by it.
    #[command(after_help = "Examples:\n  relayctl policy show\n  relayctl policy show -o json")]
    Show(PolicyShowArgs),
    /// Put the policies of a file in place of those there are, or tell what that would change.
    #[command(after_help = "Examples:\n  relayctl policy apply policies.toml --dry-run\n  \
                            relayctl policy apply policies.toml\n  \
                            relayctl policy apply policies.toml --dry-run -o csv > changes.csv\n\n\
                            `relayctl policy --help` shows a file.")]
    Apply(PolicyApplyArgs),
}

/// Arguments of `relayctl policy show`.
#[derive(clap::Args, Debug)]
pub struct PolicyShowArgs {
    /// How to print: `table`, `json` or `csv`.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: ListFormat,
}

/// Arguments of `relayctl policy apply`.
#[derive(clap::Args, Debug)]
pub struct PolicyApplyArgs {
    /// The policies, TOML.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Change nothing: list the routes and streams that would change.
    #[arg(long)]
    pub dry_run: bool,
    /// How to print: `table`, `json` or `csv`.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: ListFormat,
}

/// What a file of policies looks like.
pub(super) fn help() -> String {
    format!(
        "Examples:\n  relayctl policy show\n  relayctl policy apply policies.toml --dry-run\n\nA file of policies:\n\n{EXAMPLE}"
    )
}
