//! What may be said on the command line.

use crate::output::{GraphFormat, ListFormat, TokenFormat};
use std::path::PathBuf;

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
    /// List the relays.
    #[command(after_help = "Examples:\n  relayctl nodes\n  relayctl nodes -o json")]
    Nodes(ListArgs),
    /// Change what a relay may do.
    #[command(subcommand)]
    Node(Node),
    /// List the links between relays, each direction apart.
    #[command(after_help = "Examples:\n  relayctl links\n  relayctl links -o dot | dot -Tsvg > links.svg")]
    Links(GraphArgs),
    /// List the streams: where each enters the overlay and where it is delivered.
    #[command(after_help = "Examples:\n  relayctl streams\n  relayctl streams -o csv")]
    Streams(ListArgs),
    /// List the namespaces: what each holds and may hold, and what it sent and received.
    #[command(after_help = "Examples:\n  relayctl namespaces\n  relayctl namespaces -o json")]
    Namespaces(ListArgs),
    /// Show the routes.
    #[command(subcommand)]
    Routes(Routes),
    /// Tokens that let SFUs publish and subscribe.
    #[command(subcommand)]
    Token(Token),
    /// Keys that the tokens of SFUs are checked with.
    #[command(subcommand)]
    TokenKey(TokenKey),
    /// Tokens that let relays join the overlay.
    #[command(subcommand)]
    JoinToken(JoinToken),
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
    pub output: TokenFormat,
}

/// `relayctl routes`
#[derive(clap::Subcommand, Debug)]
pub enum Routes {
    /// Print route tables: destination, plane, next hop, whole path, cost, epoch and age of every route.
    #[command(
        after_help = "Examples:\n  relayctl routes dump\n  relayctl routes dump --node fra-1 --plane 0\n  \
                      relayctl routes dump --node fra-1 -o dot | dot -Tsvg > routes.svg"
    )]
    Dump(RoutesArgs),
}

/// `relayctl token`
#[derive(clap::Subcommand, Debug)]
pub enum Token {
    /// Print a token (JWT) for an SFU or a native client.
    #[command(
        after_help = "Examples:\n  relayctl token create --namespace demo --room '*' --publish --subscribe\n  \
                            relayctl token create --namespace demo --room 'team-*' --subscribe --ttl 12h --subject sfu-b"
    )]
    Create(TokenArgs),
}

/// `relayctl token-key`
#[derive(clap::Subcommand, Debug)]
pub enum TokenKey {
    /// List the keys: those that the controller signs with, will and did, and those of other token services. Tokens of all
    /// of them are accepted.
    #[command(after_help = "Examples:\n  relayctl token-key list\n  relayctl token-key list -o json")]
    List(ListArgs),
    /// Register the public key of a token service of your own. Relays have it at once.
    #[command(
        after_help = "Examples:\n  relayctl token-key add --id 2026-11 --public-key 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\n  \
                            relayctl token-key add --id demo-2 --public-key 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo --namespace demo"
    )]
    Add(AddTokenKeyArgs),
    /// Remove a key: its tokens are refused from now on, and links that stand on them end at once.
    #[command(after_help = "Examples:\n  relayctl token-key remove 2026-10")]
    Remove(RemoveTokenKeyArgs),
    /// Make the key that the controller signs tokens with from a few seconds later on. Those before stay good until they
    /// are removed.
    #[command(
        after_help = "Examples:\n  relayctl token-key rotate\n  relayctl token-key list\n  relayctl token-key remove ID   # when its last token has expired"
    )]
    Rotate(RotateArgs),
}

/// Arguments of `relayctl token-key add`.
#[derive(clap::Args, Debug)]
pub struct AddTokenKeyArgs {
    /// `kid` of the tokens that it signs.
    #[arg(long, value_name = "KID")]
    pub id: String,
    /// The Ed25519 public key, base64url without padding: the `x` of a JWK.
    #[arg(long, value_name = "BASE64URL")]
    pub public_key: String,
    /// The only namespace that its tokens may grant; without it, any.
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// How to print: a sentence, or JSON.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: TokenFormat,
}

/// Arguments of `relayctl token-key remove`.
#[derive(clap::Args, Debug)]
pub struct RemoveTokenKeyArgs {
    /// The key's id, as `relayctl token-key list` shows it.
    #[arg(value_name = "ID")]
    pub id: String,
    /// How to print: a sentence, or JSON.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: TokenFormat,
}

/// Arguments of `relayctl token-key rotate`.
#[derive(clap::Args, Debug)]
pub struct RotateArgs {
    /// How to print: a sentence, or JSON.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: TokenFormat,
}

/// `relayctl join-token`
#[derive(clap::Subcommand, Debug)]
pub enum JoinToken {
    /// Print a token with which one relay of the given name may join, once.
    #[command(after_help = "Examples:\n  relayctl join-token create --name fra-1 --region eu-central\n  \
                      relayctl join-token create --name fra-1 --region eu-central --ttl 1h > fra-1.join-token\n  \
                      relayctl join-token create --name fra-1 --replace")]
    Create(JoinTokenArgs),
    /// List the tokens that wait to be used; the tokens themselves are told once, when they are made.
    #[command(after_help = "Examples:\n  relayctl join-token list\n  relayctl join-token list -o json")]
    List(ListArgs),
    /// Take back a token that nobody has used.
    #[command(after_help = "Examples:\n  relayctl join-token revoke 0f3a9c2b77d1e604")]
    Revoke(RevokeJoinTokenArgs),
}

/// Arguments of `relayctl join-token revoke`.
#[derive(clap::Args, Debug)]
pub struct RevokeJoinTokenArgs {
    /// The token's id, as `relayctl join-token list` shows it.
    #[arg(value_name = "ID")]
    pub id: String,
    /// How to print: a sentence, or JSON.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: TokenFormat,
}

/// Arguments of commands that list.
#[derive(clap::Args, Debug)]
pub struct ListArgs {
    /// How to print.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: ListFormat,
}

/// Arguments of commands that list what can be drawn.
#[derive(clap::Args, Debug)]
pub struct GraphArgs {
    /// How to print; `dot` is for Graphviz.
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
    /// Only this epoch; without it, the newest in use.
    #[arg(long, value_name = "NUMBER")]
    pub epoch: Option<u32>,
    /// How to print; `dot` is for Graphviz.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: GraphFormat,
}

/// Arguments of `relayctl token create`.
#[derive(clap::Args, Debug)]
pub struct TokenArgs {
    /// Tenant that the token is for.
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: String,
    /// Rooms that the token is for; `*` matches any run of characters.
    #[arg(long, value_name = "PATTERN")]
    pub room: String,
    /// May publish.
    #[arg(long)]
    pub publish: bool,
    /// May subscribe.
    #[arg(long)]
    pub subscribe: bool,
    /// Whom the token is for, for people.
    #[arg(long, value_name = "NAME", default_value = "relayctl")]
    pub subject: String,
    /// How long it is valid: `90s`, `15m`, `1h`, `30d`.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = control_proto::cli::parse_duration)]
    pub ttl: std::time::Duration,
    /// How to print: the token alone, or JSON.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: TokenFormat,
}

/// Arguments of `relayctl join-token create`.
#[derive(clap::Args, Debug)]
pub struct JoinTokenArgs {
    /// The relay's name: lower-case letters, digits and hyphens.
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// The relay's region, for instance `eu-central`.
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,
    /// Let it take the place of a relay of that name that runs now, whose certificate is then void.
    #[arg(long)]
    pub replace: bool,
    /// How long it can be used: `90s`, `15m`, `1h`, `30d`.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = control_proto::cli::parse_duration)]
    pub ttl: std::time::Duration,
    /// How to print: the token alone, or JSON.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: TokenFormat,
}

const EXAMPLES: &str = "Examples:
  relayctl dev
  relayctl nodes
  relayctl routes dump --node fra-1
  relayctl join-token create --name fra-1 --region eu-central
  relayctl token create --namespace demo --room '*' --publish --subscribe --ttl 1h";
