//! What may be said on the command line.

mod credentials;
mod policy;
mod routing;

use crate::output::{GraphFormat, ListFormat, TextFormat};
use crate::when::{When, when};
pub use credentials::{
    AddTokenKeyArgs, ApiToken, ApiTokenArgs, JoinToken, JoinTokenArgs, RemoveTokenKeyArgs,
    RevokeApiTokenArgs, RevokeJoinTokenArgs, RotateArgs, Token, TokenArgs, TokenKey,
};
pub use policy::{Policy, PolicyApplyArgs, PolicyShowArgs};
pub use routing::{CordonArgs, DiffArgs, DrainArgs, ExplainArgs, TraceArgs, WhyNotArgs};
use std::path::PathBuf;

const STREAM_COLUMNS: &str = "Columns of the table; `-o json` has more:
  destinations    relays to which the ingress sends the stream itself
  fed_by_holders  EGRESS<FEEDER: relays that get it from another that receives it
  copies          of each packet that cross links between relays, and the fewest possible
  haul_ms         the cost of the links that carry them, added up, and a bound below which it cannot be

Examples:
  relayctl streams
  relayctl streams -o csv";
const LINK_COLUMNS: &str = "Columns of the table; `-o csv` and `-o json` have more:
  state         of the link, as FROM says: up, suspect or down
  usable        routes may use it
  bridge        without it, relays that reach each other now would not
  cost_us       what routes are computed with: expected time of delivery and the price of a hop
  rtt_us        round trip of the last second or so, without moments in which a host was busy
  rtt_variation_us  mean deviation of the smoothed round trip (RFC 6298)
  jitter_us     interarrival jitter at TO (RFC 3550)
  queueing_us   what datagrams wait in queues on the way, beyond the least of the last 10 to 20 s
  loss_pct      datagrams lost on the way from FROM to TO, before repair
  residual_pct  datagrams with media that did not come, repair taken into account, over about 10 s
  overhead_pct  bytes of repair, feedback and probes over bytes sent for the first time
  rate_bytes_per_s  sent from FROM to TO
  age_s         age of the measurement

Examples:
  relayctl links
  relayctl links -o json | jq '.links[] | select(.residual_loss > 0.001) | {from, to, loss, repair_other}'
  relayctl links --at -2h
  relayctl links -o svg > links.svg";

const TRACE_COLUMNS: &str = "Columns of the table; `-o csv` and `-o json` have more:
  hop           who sends and who receives, from the publisher on
  packets       that came; where the receiving end does not tell, that left
  again         of these, those that were sent again
  parity        of these, those that parity restored
  missing       those between the first and the last that did not come this way
  one_way_us    half of the least round trip and the mean excess; no clocks are compared
  excess_us     how much longer packets took than the least of the last second: mean, 99th of a hundred and longest
  repair_us     the same of those that were restored: queueing and repair together
  residence_us  from coming to the sender of the hop to leaving it: mean and longest
  slack_min_us  the least that one of them might still lose on its further way
  planes        that they travelled on
  marked        of these, those that a relay moved to another plane on their way

Examples:
  relayctl trace demo/standup/ana
  relayctl trace demo/standup/ana/camera --for 5s -o json
  relayctl trace demo/standup/ana/camera -o svg > trace.svg";

/// Runs, inspects and administers a Cascade overlay.
#[derive(clap::Parser, Debug)]
#[command(name = "relayctl", version, after_help = EXAMPLES)]
pub struct Cli {
    /// How to reach the controller.
    #[command(flatten)]
    pub controller: ControllerArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How to reach the controller's admin API.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Controller")]
pub struct ControllerArgs {
    /// The controller's admin API.
    #[arg(
        long,
        value_name = "URL",
        global = true,
        env = "CASCADE_CONTROLLER",
        default_value = "http://127.0.0.1:4711"
    )]
    pub controller: String,
    /// File with the admin API's bearer token, where it asks for one.
    #[arg(long, value_name = "FILE", global = true, env = "CASCADE_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// Certificate of the overlay's CA (PEM, `ca.pem` in the controller's state directory), for https URLs.
    #[arg(long, value_name = "FILE", global = true, env = "CASCADE_CA_FILE")]
    pub ca_file: Option<PathBuf>,
}

/// What to do.
#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Run a whole overlay in this process: controller, relays, two SFUs and real media between them.
    Dev(crate::dev::DevArgs),
    /// Measure this overlay beside other software.
    #[command(subcommand)]
    Bench(Bench),
    /// List the relays.
    #[command(
        after_help = "Examples:\n  relayctl nodes\n  relayctl nodes -o json\n  relayctl nodes -o svg > map.svg"
    )]
    Nodes(GraphArgs),
    /// Change what a relay may do.
    #[command(subcommand)]
    Node(Node),
    /// Have routes avoid passing a relay: it stays a destination, and is passed only where nothing else leads on.
    #[command(after_help = "Examples:\n  relayctl cordon fra-1\n  relayctl cordon fra-1 -o json")]
    Cordon(CordonArgs),
    /// Let routes pass a relay again.
    #[command(after_help = "Examples:\n  relayctl uncordon fra-1")]
    Uncordon(CordonArgs),
    /// Empty a relay, so that it can be stopped: routes leave it, its SFUs move to other relays, and this waits until nothing is left there.
    #[command(
        after_help = "No packet is lost: each SFU that knows another relay links there before it leaves this one. SFUs that know no other, and \
                      plain RTP registrations, stay until somebody moves them; what is left is told on the way. The relay takes in no \
                      SFUs any more until `relayctl uncordon`.\n\n\
                      Examples:\n  relayctl drain fra-1\n  relayctl drain fra-1 --timeout 600 && ssh fra-1 systemctl stop relay-node"
    )]
    Drain(DrainArgs),
    /// List the links between relays, each direction apart.
    #[command(after_help = LINK_COLUMNS)]
    Links(LinksArgs),
    /// List the streams: where each enters the overlay and where it is delivered.
    #[command(after_help = STREAM_COLUMNS)]
    Streams(ListArgs),
    /// List the namespaces: what each holds and may hold, and what it sent and received.
    #[command(after_help = "Examples:\n  relayctl namespaces\n  relayctl namespaces -o json")]
    Namespaces(ListArgs),
    /// Watch the packets of a participant's streams for a moment: every hop with its one-way delay, queueing and repair.
    #[command(after_help = TRACE_COLUMNS)]
    Trace(TraceArgs),
    /// Show the routes.
    #[command(subcommand)]
    Routes(Routes),
    /// What counts as a good route, for which namespaces: weights, preferred and forbidden relays, pinned paths.
    #[command(subcommand, after_long_help = policy::help(), after_help = "`relayctl policy --help` shows a file of policies.")]
    Policy(Policy),
    /// Tokens that let SFUs publish and subscribe.
    #[command(subcommand)]
    Token(Token),
    /// Keys that the tokens of SFUs are checked with.
    #[command(subcommand)]
    TokenKey(TokenKey),
    /// Tokens of the controller's admin API.
    #[command(subcommand)]
    ApiToken(ApiToken),
    /// Tokens that let relays join the overlay.
    #[command(subcommand)]
    JoinToken(JoinToken),
}

/// `relayctl bench`
#[derive(clap::Subcommand, Debug)]
pub enum Bench {
    /// The same media over the same lossy link with the same delay budget, through this overlay, SRT and RIST: what each
    /// leaves lost, and at what price.
    Loss(crate::bench::LossArgs),
    /// Routes between all relays, from nothing and after one link has changed, beside petgraph's all-pairs on the same graph.
    Routes(crate::bench::routes::RoutesBenchArgs),
}

/// `relayctl node`
#[derive(clap::Subcommand, Debug)]
pub enum Node {
    /// Cut a relay off at once: its session ends, every other relay cuts its link to it, its certificate is void. It may
    /// join again with a new join token.
    #[command(after_help = "Examples:\n  relayctl node revoke fra-1\n  relayctl node revoke fra-1 -o json")]
    Revoke(RevokeArgs),
}

/// Arguments of `relayctl node revoke`.
#[derive(clap::Args, Debug)]
pub struct RevokeArgs {
    /// The relay's name.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// How to print: a sentence, or JSON.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: TextFormat,
}

/// `relayctl routes`
#[derive(clap::Subcommand, Debug)]
pub enum Routes {
    /// Print route tables: destination, plane, next hop, whole path, cost, epoch and age of every route.
    #[command(
        after_help = "Examples:\n  relayctl routes dump\n  relayctl routes dump --node fra-1 --plane 0\n  \
                      relayctl routes dump --node fra-1 -o svg > routes.svg"
    )]
    Dump(RoutesArgs),
    /// List the last hundred epochs: when each was stamped, and how much it changed.
    #[command(after_help = "Examples:\n  relayctl routes epochs\n  relayctl routes dump --epoch 17")]
    Epochs(ListArgs),
    /// Show what became another between two epochs: next hops, and prices of links.
    #[command(
        after_help = "Examples:\n  relayctl routes diff 16 17\n  relayctl routes diff --at 13:50 --at 14:05 -o json"
    )]
    Diff(DiffArgs),
    /// Explain the way from one relay to another: the one taken, the best other one, every term of what both cost, and what
    /// would have to change for the other to be taken.
    #[command(after_help = "Examples:\n  relayctl routes explain fra-1 gru-1\n  \
                      relayctl routes explain fra-1 gru-1 --at 14:05\n  relayctl routes explain fra-1 gru-1 -o svg > way.svg")]
    Explain(ExplainArgs),
    /// Tell why the way from one relay to another does not pass a third.
    #[command(after_help = "Examples:\n  relayctl routes why-not fra-1 gru-1 iad-1")]
    WhyNot(WhyNotArgs),
}

/// Arguments of commands that list.
#[derive(clap::Args, Debug)]
pub struct ListArgs {
    /// How to print: `table`, `json` or `csv`.
    #[arg(short, long, value_name = "FORMAT", default_value = "table", value_parser = list_format)]
    pub output: ListFormat,
}

/// A format of lists that cannot be drawn; who asks for a drawing hears what can be.
fn list_format(text: &str) -> Result<ListFormat, String> {
    let known = <ListFormat as clap::ValueEnum>::from_str(text, false);
    known.map_err(|_| match text {
        "dot" | "svg" => "there is nothing to draw in this list; `relayctl links -o dot` and `relayctl routes dump -o dot` draw \
                  the overlay"
            .to_owned(),
        _ => "write table, json or csv".to_owned(),
    })
}

/// Arguments of commands that list what can be drawn.
#[derive(clap::Args, Debug)]
pub struct GraphArgs {
    /// How to print; `dot` is for Graphviz, `svg` a picture.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: GraphFormat,
}

/// Arguments of `relayctl links`.
#[derive(clap::Args, Debug)]
pub struct LinksArgs {
    /// A moment of the past, as far as the controller's history goes: `-90s`, `-2h`, `14:05`, `2026-11-30T14:05:00Z`.
    #[arg(long, value_name = "TIME", value_parser = when, allow_hyphen_values = true)]
    pub at: Option<When>,
    /// How to print; `dot` is for Graphviz, `svg` a picture.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: GraphFormat,
}

/// Arguments of `relayctl routes dump`.
#[derive(clap::Args, Debug)]
pub struct RoutesArgs {
    /// Only the table of this relay.
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    /// Only this plane: 0 primary, 1 red, 2 blue.
    #[arg(long, value_name = "NUMBER")]
    pub plane: Option<u8>,
    /// Only this epoch, one of `relayctl routes epochs`; without it, the newest in use.
    #[arg(long, value_name = "NUMBER")]
    pub epoch: Option<u32>,
    /// A moment of the past instead, as far as the controller's history goes: `-90s`, `-2h`, `14:05`,
    /// `2026-11-30T14:05:00Z`.
    #[arg(long, value_name = "TIME", value_parser = when, allow_hyphen_values = true, conflicts_with = "epoch")]
    pub at: Option<When>,
    /// By this policy, one of `relayctl policy show`.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub policy: String,
    /// How to print; `dot` is for Graphviz, `svg` a picture.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: GraphFormat,
}

const EXAMPLES: &str = "Examples:
  relayctl dev
  relayctl nodes
  relayctl routes dump --node fra-1
  relayctl join-token create --name fra-1 --region eu-central
  relayctl token create --namespace demo --room '*' --publish --subscribe --ttl 1h";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[test]
    fn who_wants_a_list_drawn_hears_what_can_be() {
        for list in ["streams", "namespaces"] {
            for format in ["table", "json", "csv"] {
                assert!(Cli::try_parse_from(["relayctl", list, "-o", format]).is_ok(), "{list} {format}");
            }
            let error =
                Cli::try_parse_from(["relayctl", list, "-o", "dot"]).expect_err("no drawing").to_string();
            assert!(error.contains("relayctl links -o dot"), "{error}");
            let error =
                Cli::try_parse_from(["relayctl", list, "-o", "xml"]).expect_err("unknown").to_string();
            assert!(error.contains("table, json or csv"), "{error}");
        }
        for drawn in ["links", "nodes"] {
            assert!(Cli::try_parse_from(["relayctl", drawn, "-o", "svg"]).is_ok());
        }
    }
}
