//! Settings as people write them ([`Settings`]: a TOML file, flags of the same names) and what becomes of them once
//! they are checked ([`Config`]: legal by construction).

use crate::join::read_join_token;
use crate::limits::{LimitSettings, Limits};
use crate::plain::PlainConfig;
use control_proto::cli::{self, ConfigError, LogFormat};
use control_proto::recorder::RecorderConfig;
use control_proto::{JoinToken, check_relay_name};
use link_io::WORKERS_MAX;
use relay_core::RateLimit;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use wire_format::control::{Position, limits};
use wire_format::session::WIRE_VERSIONS;

/// The relay process of Cascade: carries media between SFUs, hop by hop, beside other relays.
#[derive(clap::Parser)]
#[command(name = "relay-node", version, after_help = EXAMPLES)]
pub struct Cli {
    /// TOML file with the settings below, their names with underscores. A flag wins over the file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

const EXAMPLES: &str = "\
Examples:
  First start, with a join token made by `relayctl join-token create --name fra-1 --region eu-central`:
    relay-node --name fra-1 --region eu-central --join-token-file fra-1.token \\
               --state-dir /var/lib/cascade/fra-1 --advertise 203.0.113.7:4700

  Later starts need no token, the certificate is in the state directory:
    relay-node --config /etc/cascade/relay-node.toml

  A second relay on one host:
    relay-node --config relay-2.toml --listen 0.0.0.0:4800 --api-listen 127.0.0.1:4801

  For somebody who looks for a fault, with `sim replay relay.rec`:
    relay-node --config /etc/cascade/relay-node.toml --record /var/lib/cascade/relay.rec --record-max 1GiB

  Is it ready, and which links does it have?
    curl -s http://127.0.0.1:4701/readyz; curl -s http://127.0.0.1:4701/v1/links";

/// Settings as written. Every field is a key of the file and a flag. Not `Debug`: one of them is a secret.
#[derive(clap::Args, Serialize, Deserialize, Clone, Default)]
#[serde(default)]
pub struct Settings {
    /// Unique name of this relay, the one in its join token. Taken from the token or the certificate if not set.
    #[arg(long)]
    pub name: Option<String>,
    /// Region, for instance `eu-central`. Taken from the join token if not set.
    #[arg(long)]
    pub region: Option<String>,
    /// Internet provider or cloud, for people and policies, and since its relays may fail together.
    #[arg(long)]
    pub isp: Option<String>,
    /// Free labels. Relays with the same tag `risk:NAME` may fail together: redundant ways avoid to pass such on both sides.
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// Where this relay stands: degrees north of the equator, -90 to 90. Together with `longitude` it lets the controller
    /// refuse round trips that light cannot make.
    #[arg(long, value_name = "DEGREES", allow_negative_numbers = true)]
    pub latitude: Option<f64>,
    /// Degrees east of Greenwich, -180 to 180.
    #[arg(long, value_name = "DEGREES", allow_negative_numbers = true)]
    pub longitude: Option<f64>,
    /// Controllers, HOST:PORT, tried in turn; of several, one leads and the others name it. Taken from the join token if
    /// not set. May be repeated, or separated by commas.
    #[arg(long = "controller", value_name = "HOST:PORT", value_delimiter = ',')]
    pub controllers: Vec<String>,
    /// Join token. It is a secret that other users of this host can see in a flag: prefer the file.
    #[arg(long, value_name = "TOKEN")]
    pub join_token: Option<String>,
    /// File that holds the join token. Needed until the relay has its certificate; works once.
    #[arg(long, value_name = "FILE")]
    pub join_token_file: Option<PathBuf>,
    /// Directory for this relay's key, certificate and node index; created if absent [default: /var/lib/cascade/relay]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Bind address of the relay port, UDP [default: port 4700 of every address, IPv6 and IPv4]
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<SocketAddr>,
    /// Addresses at which other relays and SFUs reach the relay port, best first [default: `listen`, where it names one]
    #[arg(long, value_name = "IP:PORT")]
    pub advertise: Vec<SocketAddr>,
    /// Bind address of the local HTTP API [default: 127.0.0.1:4701]
    #[arg(long, value_name = "IP:PORT")]
    pub api_listen: Option<SocketAddr>,
    /// File with the bearer token that the local API asks for; required beyond loopback.
    #[arg(long, value_name = "FILE")]
    pub api_token_file: Option<PathBuf>,
    /// Certificate chain of the local API, PEM; required beyond loopback.
    #[arg(long, value_name = "FILE")]
    pub api_tls_certificate: Option<PathBuf>,
    /// Private key of the local API's certificate, PEM.
    #[arg(long, value_name = "FILE")]
    pub api_tls_key: Option<PathBuf>,
    /// Reach the named neighbour at this address instead of the advertised ones (a private network, a test).
    #[arg(long = "neighbour-address", value_name = "NAME=IP:PORT", value_parser = neighbour_address)]
    #[serde(with = "as_table")]
    pub neighbour_addresses: Vec<(String, SocketAddr)>,
    /// Threads that forward media, each with a socket and a core of its own; 1 to 16 [default: 1]
    #[arg(long, value_name = "N")]
    pub workers: Option<u8>,
    /// Networks that plain RTP may come from and go to [default: loopback]
    #[arg(long = "plain-network", value_name = "ADDRESS/BITS")]
    pub plain_networks: Vec<String>,
    /// UDP ports for plain RTP registrations that want their own, FIRST-LAST [default: any that the system gives]
    #[arg(long, value_name = "FIRST-LAST")]
    pub plain_ports: Option<String>,
    /// What this relay takes on: `links=1000,streams=5000,memory=512MiB`; in the file, a table `[limits]` with these keys
    /// [default: 1024 links, 65536 streams, no limit of memory]
    #[arg(long, value_name = "LIMITS")]
    pub limits: Option<LimitSettings>,
    /// Receive buffer of the relay port's socket, for each worker [default: 4194304]
    #[arg(long, value_name = "BYTES")]
    pub receive_buffer_bytes: Option<u32>,
    /// Send buffer of the relay port's socket [default: 4194304]
    #[arg(long, value_name = "BYTES")]
    pub send_buffer_bytes: Option<u32>,
    /// Datagrams per second that the link of one SFU may bring; 0 for no bound [default: 50000]
    #[arg(long, value_name = "PACKETS")]
    pub client_packet_rate: Option<u64>,
    /// Bits per second that the link of one SFU may bring (UDP payload); 0 for no bound [default: 500000000]
    #[arg(long, value_name = "BITS")]
    pub client_bit_rate: Option<u64>,
    /// Highest version of the link protocol to offer, for instance while an upgrade rolls through the overlay
    /// [default: the highest that this build speaks]
    #[arg(long, value_name = "VERSION")]
    pub wire_version_max: Option<u8>,
    /// File to write down everything in that the relay is told, for `sim replay` to run it again: datagrams without media,
    /// messages and timers, without keys or tokens; with names of relays, rooms and users. It grows with traffic, and costs
    /// memory and time for each packet. One that is there is kept as `FILE.old` [default: nothing is recorded]
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Largest recording; what comes after that is not recorded [default: 256MiB]
    #[arg(long, value_name = "BYTES")]
    pub record_max: Option<String>,
    /// Which log lines are written, for instance `info` or `relay_node=debug,info` [default: info]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// How log lines look [default: text]
    #[arg(long, value_enum)]
    pub log_format: Option<LogFormat>,
}

/// How the log is written.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// How lines look.
    pub format: LogFormat,
    /// Which lines are written.
    pub filter: String,
}

/// The local API's listener and what guards it.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    /// Bind address; port 0 takes any.
    pub listen: SocketAddr,
    /// Bearer token that every request must carry, but those for health.
    pub token_file: Option<PathBuf>,
    /// Certificate chain and private key, PEM files.
    pub tls: Option<(PathBuf, PathBuf)>,
}

/// Settings that were checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Unique name; `None` takes the one in the certificate or the join token.
    pub name: Option<String>,
    /// Region; `None` takes the join token's.
    pub region: Option<String>,
    /// Internet provider or cloud.
    pub isp: String,
    /// Free labels.
    pub tags: Vec<String>,
    /// Where it stands.
    pub position: Option<Position>,
    /// Controllers, `HOST:PORT`; empty takes the join token's.
    pub controllers: Vec<String>,
    /// The right to join, where there is no certificate yet.
    pub join_token: Option<JoinToken>,
    /// Where the right to join was looked for, for the error that says it is missing.
    pub join_token_file: Option<PathBuf>,
    /// Directory for what must survive a restart.
    pub state_dir: PathBuf,
    /// Bind addresses of the relay port; the first that can be bound is taken. Port 0 takes any.
    pub listen: Vec<SocketAddr>,
    /// Where others reach the relay port; empty: at the address that was bound.
    pub advertise: Vec<SocketAddr>,
    /// The local API.
    pub api: ApiConfig,
    /// Neighbours that are reached elsewhere than they advertise.
    pub neighbour_addresses: BTreeMap<String, SocketAddr>,
    /// What it takes on.
    pub limits: Limits,
    /// Threads that forward media.
    pub workers: u8,
    /// Plain RTP.
    pub plain: PlainConfig,
    /// Receive buffer of the relay port's socket, bytes, for each worker.
    pub receive_buffer_bytes: u32,
    /// Send buffer of the relay port's socket, bytes.
    pub send_buffer_bytes: u32,
    /// What the link of one SFU may bring.
    pub client_rate: RateLimit,
    /// Lowest and highest version of the link protocol to speak.
    pub wire_versions: (u8, u8),
    /// Where inputs are recorded.
    pub record: Option<RecorderConfig>,
    /// The log.
    pub log: LogConfig,
}

const RELAY_PORT: u16 = 4700;
const SOCKET_BUFFER_BYTES: u32 = 4 * 1024 * 1024;
const CLIENT_PACKET_RATE: u64 = 50_000;
const CLIENT_BIT_RATE: u64 = 500_000_000;
const TAGS_MAX: usize = 64;
const PLAIN_NETWORKS_MAX: usize = 64;

impl Cli {
    /// Reads the file, lays the flags over it and checks the whole.
    ///
    /// # Errors
    /// If a setting is wrong; the text names it and says what to do.
    pub fn config(&self) -> Result<Config, ConfigError> {
        cli::load(self.config.as_deref(), &self.settings)?.check()
    }
}

impl Config {
    /// A relay on loopback, on ports that the system chooses, for tests and programs that run an overlay within
    /// themselves.
    pub fn local(state_dir: impl Into<PathBuf>, join_token: Option<JoinToken>) -> Config {
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Config {
            name: None,
            region: None,
            isp: String::new(),
            tags: Vec::new(),
            position: None,
            controllers: Vec::new(),
            join_token,
            join_token_file: None,
            state_dir: state_dir.into(),
            listen: vec![any_port],
            advertise: Vec::new(),
            api: ApiConfig { listen: any_port, token_file: None, tls: None },
            neighbour_addresses: BTreeMap::new(),
            plain: PlainConfig::default(),
            limits: Limits::default(),
            workers: 1,
            receive_buffer_bytes: SOCKET_BUFFER_BYTES,
            send_buffer_bytes: SOCKET_BUFFER_BYTES,
            client_rate: RateLimit::new(Some(CLIENT_PACKET_RATE), Some(CLIENT_BIT_RATE)),
            wire_versions: WIRE_VERSIONS,
            record: None,
            log: LogConfig { format: LogFormat::default(), filter: "info".to_owned() },
        }
    }
}

impl Settings {
    /// Settings from the text of a file; `path` only appears in errors.
    ///
    /// # Errors
    /// If the text says something that is not understood.
    pub fn from_toml(path: &Path, text: &str) -> Result<Settings, ConfigError> {
        cli::merge(Some((path, text)), &Settings::default())
    }

    /// Checks every setting by itself and against the others.
    ///
    /// # Errors
    /// If one is wrong; the text names it and says what to do.
    pub fn check(self) -> Result<Config, ConfigError> {
        if let Some(name) = &self.name {
            check_relay_name(name).map_err(|error| ConfigError::value("name", name, error.to_string()))?;
        }
        let mut texts: Vec<_> = self.tags.iter().map(|tag| ("tags", tag)).collect();
        texts.extend(self.region.iter().map(|region| ("region", region)));
        texts.extend(self.isp.iter().map(|isp| ("isp", isp)));
        for (key, text) in texts {
            if text.is_empty() || text.len() > limits::NAME_BYTES {
                let problem =
                    format!("1 to {} bytes are allowed; leave it out if it has no value", limits::NAME_BYTES);
                return Err(ConfigError::value(key, text, problem));
            }
        }
        at_most("tags", self.tags.len(), TAGS_MAX)?;
        at_most("controllers", self.controllers.len(), control_proto::limits::CONTROLLERS)?;
        for controller in &self.controllers {
            check_host_and_port("controllers", controller)?;
        }
        let join_token = read_join_token(self.join_token.as_deref(), self.join_token_file.as_deref())?;
        if let (Some(token), Some(name)) = (&join_token, &self.name)
            && token.name != *name
        {
            let problem = format!(
                "the join token is for a relay named {:?}; use that name, or create a token for this one",
                token.name
            );
            return Err(ConfigError::value("name", name, problem));
        }
        let advertise = checked_advertise(self.listen, self.advertise)?;
        let listen = match self.listen {
            Some(address) => vec![address],
            None => vec![
                SocketAddr::from((Ipv6Addr::UNSPECIFIED, RELAY_PORT)),
                SocketAddr::from((Ipv4Addr::UNSPECIFIED, RELAY_PORT)),
            ],
        };
        for (key, bytes) in [
            ("receive_buffer_bytes", self.receive_buffer_bytes),
            ("send_buffer_bytes", self.send_buffer_bytes),
        ] {
            let range = 65_536..=1 << 30;
            if let Some(bytes) = bytes.filter(|bytes| !range.contains(bytes)) {
                let problem =
                    "must be from 65536 (64 KiB) to 1073741824 (1 GiB); the default is 4194304 (4 MiB)";
                return Err(ConfigError::value(key, bytes, problem));
            }
        }
        let api =
            checked_api(self.api_listen, self.api_token_file, self.api_tls_certificate, self.api_tls_key)?;
        let mut neighbour_addresses = BTreeMap::new();
        for (name, address) in self.neighbour_addresses {
            check_relay_name(&name)
                .map_err(|error| ConfigError::value("neighbour_addresses", &name, error.to_string()))?;
            neighbour_addresses.insert(name, address);
        }
        at_most("plain_networks", self.plain_networks.len(), PLAIN_NETWORKS_MAX)?;
        let plain = PlainConfig::checked(&self.plain_networks, self.plain_ports.as_deref())?;
        at_most("neighbour_addresses", neighbour_addresses.len(), limits::NEIGHBOURS)?;
        Ok(Config {
            name: self.name,
            region: self.region,
            isp: self.isp.unwrap_or_default(),
            tags: self.tags,
            position: checked_position(self.latitude, self.longitude)?,
            controllers: self.controllers,
            join_token,
            join_token_file: self.join_token_file,
            state_dir: self.state_dir.unwrap_or_else(|| PathBuf::from("/var/lib/cascade/relay")),
            listen,
            advertise,
            api,
            neighbour_addresses,
            plain,
            limits: self.limits.unwrap_or_default().check()?,
            workers: checked_workers(self.workers)?,
            receive_buffer_bytes: self.receive_buffer_bytes.unwrap_or(SOCKET_BUFFER_BYTES),
            send_buffer_bytes: self.send_buffer_bytes.unwrap_or(SOCKET_BUFFER_BYTES),
            client_rate: RateLimit::new(
                checked_rate("client_packet_rate", self.client_packet_rate, CLIENT_PACKET_RATE, 100)?,
                checked_rate("client_bit_rate", self.client_bit_rate, CLIENT_BIT_RATE, 1_000_000)?,
            ),
            wire_versions: checked_wire_versions(self.wire_version_max)?,
            record: RecorderConfig::from_settings(self.record, self.record_max.as_deref())?,
            log: LogConfig {
                format: self.log_format.unwrap_or_default(),
                filter: self.log.unwrap_or_else(|| "info".to_owned()),
            },
        })
    }
}

/// Others must be able to reach every advertised address. A wildcard `listen` names none, so it needs `advertise`.
fn checked_advertise(
    listen: Option<SocketAddr>,
    advertise: Vec<SocketAddr>,
) -> Result<Vec<SocketAddr>, ConfigError> {
    at_most("advertise", advertise.len(), limits::ADDRESSES)?;
    for address in &advertise {
        if address.ip().is_unspecified() || address.ip().is_multicast() || address.port() == 0 {
            let problem = "nobody can reach this; give an address of this host and the port of `listen`, for \
                           instance 203.0.113.7:4700";
            return Err(ConfigError::value("advertise", address, problem));
        }
    }
    if advertise.is_empty() && listen.is_none_or(|listen| listen.ip().is_unspecified()) {
        let advice = "`listen` is every address of this host, so say at which others reach the relay port: for \
                      instance advertise = [\"203.0.113.7:4700\"], or listen = \"127.0.0.1:4700\" for a trial on one \
                      host";
        return Err(ConfigError::missing("advertise", advice));
    }
    Ok(advertise)
}

/// Beyond loopback the API asks for a token and speaks TLS.
fn checked_api(
    listen: Option<SocketAddr>,
    token_file: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
) -> Result<ApiConfig, ConfigError> {
    let listen = listen.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 4701)));
    let tls = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => {
            return Err(ConfigError::missing("api_tls_key", "`api_tls_certificate` is: set both or neither"));
        }
        (None, Some(_)) => {
            return Err(ConfigError::missing("api_tls_certificate", "`api_tls_key` is: set both or neither"));
        }
    };
    if !listen.ip().is_loopback() && (token_file.is_none() || tls.is_none()) {
        let problem = "beyond loopback the API needs a token and TLS: set api_token_file, api_tls_certificate and \
                       api_tls_key, or listen on 127.0.0.1";
        return Err(ConfigError::value("api_listen", listen, problem));
    }
    Ok(ApiConfig { listen, token_file, tls })
}

/// Both coordinates or none.
fn checked_position(latitude: Option<f64>, longitude: Option<f64>) -> Result<Option<Position>, ConfigError> {
    let (latitude, longitude) = match (latitude, longitude) {
        (None, None) => return Ok(None),
        (Some(latitude), Some(longitude)) => (latitude, longitude),
        (Some(_), None) => return Err(ConfigError::missing("longitude", "because latitude is set")),
        (None, Some(_)) => return Err(ConfigError::missing("latitude", "because longitude is set")),
    };
    let place = format!("{latitude}, {longitude}");
    let problem = "there is no such place: latitude is -90 to 90, longitude -180 to 180 degrees";
    Position::from_degrees(latitude, longitude)
        .map(Some)
        .ok_or_else(|| ConfigError::value("latitude, longitude", place, problem))
}

fn checked_workers(workers: Option<u8>) -> Result<u8, ConfigError> {
    let workers = workers.unwrap_or(1);
    if workers == 0 || usize::from(workers) > WORKERS_MAX {
        let problem = format!("1 to {WORKERS_MAX} are possible; more than the host has cores is no use");
        return Err(ConfigError::value("workers", workers, problem));
    }
    Ok(workers)
}

/// A rate per second, `None` for no bound.
fn checked_rate(
    key: &'static str,
    rate: Option<u64>,
    default: u64,
    least: u64,
) -> Result<Option<u64>, ConfigError> {
    let rate = rate.unwrap_or(default);
    if rate != 0 && rate < least {
        let problem = format!("must be at least {least}, or 0 for no bound; the default is {default}");
        return Err(ConfigError::value(key, rate, problem));
    }
    Ok((rate != 0).then_some(rate))
}

/// All versions of this build, up to the highest wanted.
fn checked_wire_versions(highest: Option<u8>) -> Result<(u8, u8), ConfigError> {
    let (least, most) = WIRE_VERSIONS;
    match highest {
        None => Ok(WIRE_VERSIONS),
        Some(highest) if (least..=most).contains(&highest) => Ok((least, highest)),
        Some(highest) => {
            let problem = format!("this build speaks versions {least} to {most}");
            Err(ConfigError::value("wire_version_max", highest, problem))
        }
    }
}

fn at_most(key: &'static str, count: usize, max: usize) -> Result<(), ConfigError> {
    if count > max {
        return Err(ConfigError::value(
            key,
            format!("{count} entries"),
            format!("at most {max} are allowed"),
        ));
    }
    Ok(())
}

fn check_host_and_port(key: &'static str, text: &str) -> Result<(), ConfigError> {
    let legal = text.rsplit_once(':').is_some_and(|(host, port)| {
        let bare_v6 = host.contains(':') && !host.starts_with('[');
        !host.is_empty() && !host.contains('/') && !bare_v6 && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    if legal {
        return Ok(());
    }
    Err(ConfigError::value(
        key,
        text,
        "give HOST:PORT, for instance controller.example:4710 or [2001:db8::1]:4710",
    ))
}

fn neighbour_address(text: &str) -> Result<(String, SocketAddr), String> {
    let (name, address) = text.split_once('=').ok_or("give NAME=IP:PORT, for instance r2=127.0.0.1:4702")?;
    let address = address.parse().map_err(|_| format!("{address:?} is not IP:PORT"))?;
    Ok((name.to_owned(), address))
}

/// Pairs in memory, a table in the file.
mod as_table {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::collections::BTreeMap;
    use std::net::SocketAddr;

    pub(super) fn serialize<S: Serializer>(
        pairs: &[(String, SocketAddr)],
        out: S,
    ) -> Result<S::Ok, S::Error> {
        let table: BTreeMap<&str, SocketAddr> =
            pairs.iter().map(|(name, address)| (name.as_str(), *address)).collect();
        table.serialize(out)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        input: D,
    ) -> Result<Vec<(String, SocketAddr)>, D::Error> {
        let table = BTreeMap::<String, SocketAddr>::deserialize(input)?;
        Ok(table.into_iter().collect())
    }
}
