//! What may be said on the command line about credentials.

use crate::output::TextFormat;
use route_controller::ApiRights;

use super::ListArgs;

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
    pub output: TextFormat,
}

/// Arguments of `relayctl token-key remove`.
#[derive(clap::Args, Debug)]
pub struct RemoveTokenKeyArgs {
    /// The key's id, as `relayctl token-key list` shows it.
    #[arg(value_name = "ID")]
    pub id: String,
    /// How to print: a sentence, or JSON.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: TextFormat,
}

/// Arguments of `relayctl token-key rotate`.
#[derive(clap::Args, Debug)]
pub struct RotateArgs {
    /// How to print: a sentence, or JSON.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: TextFormat,
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
    pub output: TextFormat,
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
    pub output: TextFormat,
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
    pub output: TextFormat,
}

/// `relayctl api-token`
#[derive(clap::Subcommand, Debug)]
pub enum ApiToken {
    /// Print a token for the controller's admin API. It is told once: the controller keeps its hash.
    #[command(
        after_help = "Examples:\n  relayctl api-token create --name grafana --rights read > grafana.token\n  \
                            relayctl api-token create --name token-service --rights issue --ttl 90d\n  \
                            relayctl --token-file grafana.token nodes"
    )]
    Create(ApiTokenArgs),
    /// List the tokens: whose they are and what they may do.
    #[command(after_help = "Examples:\n  relayctl api-token list\n  relayctl api-token list -o json")]
    List(ListArgs),
    /// Take a token back: the next call with it is refused.
    #[command(after_help = "Examples:\n  relayctl api-token revoke grafana")]
    Revoke(RevokeApiTokenArgs),
}

/// Arguments of `relayctl api-token create`.
#[derive(clap::Args, Debug)]
pub struct ApiTokenArgs {
    /// Whose it is, for lists and the controller's log.
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// What it may do.
    #[arg(long, value_name = "RIGHTS", value_enum)]
    pub rights: Rights,
    /// How long it is valid: `12h`, `90d`; without it, until it is revoked.
    #[arg(long, value_name = "DURATION", value_parser = control_proto::cli::parse_duration)]
    pub ttl: Option<std::time::Duration>,
    /// How to print: the token alone, or JSON.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: TextFormat,
}

/// What a token of the admin API may do.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rights {
    /// Look at everything that is no secret.
    Read,
    /// Make tokens for SFUs, and nothing else.
    Issue,
    /// Read, issue, and change nodes, join tokens and token keys.
    Operate,
    /// Everything, tokens of the admin API included.
    Admin,
}

impl From<Rights> for ApiRights {
    fn from(rights: Rights) -> ApiRights {
        match rights {
            Rights::Read => ApiRights::Read,
            Rights::Issue => ApiRights::Issue,
            Rights::Operate => ApiRights::Operate,
            Rights::Admin => ApiRights::Admin,
        }
    }
}

/// Arguments of `relayctl api-token revoke`.
#[derive(clap::Args, Debug)]
pub struct RevokeApiTokenArgs {
    /// The token's name, as `relayctl api-token list` shows it.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// How to print: a sentence, or JSON.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: TextFormat,
}
