//! Settings, from a file and flags, and what they mean.

use crate::etcd::{EtcdConfig, EtcdTls};
use crate::history::HistoryConfig;
use crate::namespaces::NamespaceSettings;
use crate::policies::PolicyDocument;
use anyhow::Context as _;
use control_proto::cli::{ConfigError, LogFormat, parse_duration};
use control_proto::recorder::RecorderConfig;
use route_core::{CostConfig, EgressPrice, FeedingConfig, NeighbourConfig, NeighbourConfigError};
use serde::{Deserialize, Serialize};
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Shortest bearer token accepted: 16 bytes in hexadecimal or base64 are far longer.
const BEARER_BYTES_MIN: usize = 16;
/// Largest token file read.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Most addresses advertised.
const ADVERTISE_MAX: usize = control_proto::limits::CONTROLLERS;
const LIFETIME_DEFAULT: Duration = Duration::from_secs(24 * 3600);
const LIFETIME_MIN: Duration = Duration::from_secs(600);
const LIFETIME_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
const QUARANTINE_MIN: Duration = Duration::from_secs(600);
const QUARANTINE_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
const MONEY_WORTH_MS_MAX: u64 = 60_000;
/// With so much to spare nobody feeds others.
const HOLDER_GAIN_MS_MAX: u64 = 60_000;
const EGRESS_PRICES_MAX: usize = 1_000;
const ETCD_MEMBERS_MAX: usize = 16;
/// What keys in etcd begin with if nothing else is asked for.
const ETCD_PREFIX: &str = "cascade";
const ETCD_PREFIX_BYTES_MAX: usize = 128;
const GRPC_PORT: u16 = 4710;
const ADMIN_PORT: u16 = 4711;
const STATE_DIR: &str = "/var/lib/cascade/route-controller";
const KEY_FILE: &str = "ca.key-encryption";

/// Every setting; each is a key of the configuration file and a flag.
#[derive(clap::Args, Serialize, Deserialize, Default, Clone, Debug)]
#[serde(default)]
pub struct Settings {
    /// Directory of the store, its key and the CA's certificate [default: /var/lib/cascade/route-controller].
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Where the store lies, if several controllers share it: `etcd://HOST:PORT[,HOST:PORT...][/PREFIX]`. They elect a leader,
    /// and need the same `key_encryption_file` [default: a file in `state_dir`, for a controller that is alone].
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// Certificate authority of etcd's certificates, PEM: etcd is spoken to by TLS, then.
    #[arg(long, value_name = "FILE")]
    pub store_ca: Option<PathBuf>,
    /// Certificate that etcd is shown, PEM.
    #[arg(long, value_name = "FILE")]
    pub store_certificate: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, value_name = "FILE")]
    pub store_key: Option<PathBuf>,
    /// Where relays connect (gRPC over TLS) [default: every address, port 4710].
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<SocketAddr>,
    /// By which names or addresses relays reach this controller; written into join tokens. May be repeated. Of several
    /// controllers: this one's first, then those of the others
    /// [default: `listen`, if that is one address].
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    pub advertise: Vec<String>,
    /// Where the admin API listens [default: 127.0.0.1:4711]. Beyond loopback it speaks TLS and needs
    /// `admin_token_file`.
    #[arg(long, value_name = "IP:PORT")]
    pub admin_listen: Option<SocketAddr>,
    /// File with the bearer token that the admin API asks for.
    #[arg(long, value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,
    /// File with the key under which private keys are encrypted in the store, 32 bytes; made at the first start
    /// [default: ca.key-encryption in `state_dir`].
    #[arg(long, value_name = "FILE")]
    pub key_encryption_file: Option<PathBuf>,
    /// How long a relay's certificate is valid; it is renewed after two thirds of that [default: 24h].
    #[arg(long, value_name = "DURATION")]
    pub certificate_lifetime: Option<String>,
    /// How long the node index of a relay that was revoked is given to no other, 10m to 366d; that of a relay that left is
    /// kept at least for as long as it may come back with its certificate [default: 24h].
    #[arg(long, value_name = "DURATION")]
    pub index_quarantine: Option<String>,
    /// Limits of namespaces: `default:streams=100,bit_rate=50Mbit/s;demo:relays=3,subscriptions=1000`; in the file,
    /// tables `[namespaces.default]`, `[namespaces.demo]` with these keys. `bit_rate` is what a namespace may publish at
    /// one relay; a relay of N workers counts for each of them, so up to N times as much may pass there [default: no limits].
    #[arg(long, value_name = "LIMITS")]
    pub namespaces: Option<NamespaceSettings>,
    /// What traffic from one region to another costs, `FROM>TO=DOLLARS` per gigabyte, `*` for any region; the first that
    /// fits counts [default: nothing costs anything]. Costly ways are taken where they are shorter by more than
    /// `money_worth_ms` says.
    #[arg(long = "egress-price", value_name = "FROM>TO=DOLLARS")]
    pub egress_prices: Vec<String>,
    /// How much longer a way may take that saves a dollar per gigabyte, 0 to 60000 [default: 100].
    #[arg(long, value_name = "MILLISECONDS")]
    pub money_worth_ms: Option<u64>,
    /// Up to so many relays all link to each other, 2 to 1024; of more each is linked to some of the others
    /// [default: 256].
    #[arg(long, value_name = "RELAYS")]
    pub mesh_relays: Option<usize>,
    /// How many links a relay has at most where not all link to each other, 8 to 1024 [default: 32].
    #[arg(long, value_name = "LINKS")]
    pub relay_links: Option<usize>,
    /// Folder of the history, which `relayctl routes explain --at` and the like ask: a day of what was measured and decided
    /// [default: history in `state_dir`].
    #[arg(long, value_name = "DIR")]
    pub history_dir: Option<PathBuf>,
    /// What the history may take, for instance 512MiB; 0 keeps none [default: 512MiB].
    #[arg(long, value_name = "BYTES")]
    pub history_bytes: Option<String>,
    /// For how long it is kept, as far as that suffices [default: 24h].
    #[arg(long, value_name = "DURATION")]
    pub history_keep: Option<String>,
    /// File to write down everything in that routes hang on, for `sim replay` to run it again: reports, sessions, an operator's
    /// decisions, without media, keys or tokens; with names of relays, rooms and users. One that is there is kept as
    /// `FILE.old` [default: nothing is recorded].
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Largest recording; what comes after that is not recorded [default: 256MiB].
    #[arg(long, value_name = "BYTES")]
    pub record_max: Option<String>,
    /// What a relay that feeds others with a stream that it receives must spare to do so, instead of the relay where the stream
    /// enters: delay and cost of long links together, 0 to 60000; with 60000 no relay feeds another [default: 20].
    #[arg(long, value_name = "MILLISECONDS")]
    pub holder_gain_ms: Option<u64>,
    /// File that says what counts as a good route, for which namespaces; `relayctl policy --help` shows one. It is taken at a
    /// start if it says something else than when it was read last: what was changed by the API stays otherwise
    /// [default: one policy for all].
    #[arg(long, value_name = "FILE")]
    pub policies: Option<PathBuf>,
    /// What to log: `error`, `warn`, `info`, `debug`, `trace`, or by module [default: info].
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// How log lines look [default: text].
    #[arg(long, value_enum)]
    pub log_format: Option<LogFormat>,
}

/// Settings that make sense.
#[derive(Clone, PartialEq, Eq)]
pub struct Config {
    pub(crate) state_dir: PathBuf,
    /// `None`: the store is a file in `state_dir`.
    pub(crate) etcd: Option<EtcdConfig>,
    /// `None`: every address of both families, or of IPv4 where there is no IPv6.
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) advertise: Vec<String>,
    pub(crate) admin_listen: SocketAddr,
    pub(crate) bearer: Option<String>,
    pub(crate) key_file: PathBuf,
    pub(crate) certificate_lifetime: Duration,
    pub(crate) index_quarantine: Duration,
    pub(crate) limits: route_core::LimitsConfig,
    pub(crate) cost: CostConfig,
    pub(crate) neighbours: NeighbourConfig,
    pub(crate) history: HistoryConfig,
    pub(crate) feeding: FeedingConfig,
    pub(crate) policies: Option<PolicyDocument>,
    pub(crate) record: Option<RecorderConfig>,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Config {
            state_dir,
            etcd,
            listen,
            advertise,
            admin_listen,
            bearer,
            key_file,
            certificate_lifetime,
            index_quarantine,
            limits,
            cost,
            neighbours,
            history,
            feeding,
            policies,
            record,
        } = self;
        f.debug_struct("Config")
            .field("state_dir", state_dir)
            .field("etcd", etcd)
            .field("listen", listen)
            .field("advertise", advertise)
            .field("admin_listen", admin_listen)
            .field("bearer", &bearer.as_ref().map(|_| ".."))
            .field("key_file", key_file)
            .field("certificate_lifetime", certificate_lifetime)
            .field("index_quarantine", index_quarantine)
            .field("limits", limits)
            .field("cost", cost)
            .field("neighbours", neighbours)
            .field("history", history)
            .field("feeding", feeding)
            .field("policies", policies)
            .field("record", record)
            .finish()
    }
}

impl Config {
    /// A controller on loopback, on ports that the system chooses, for tests and programs that run an overlay within
    /// themselves.
    pub fn local(state_dir: impl Into<PathBuf>) -> Config {
        let state_dir = state_dir.into();
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Config {
            key_file: state_dir.join(KEY_FILE),
            history: HistoryConfig::within(&state_dir),
            state_dir,
            etcd: None,
            listen: Some(any_port),
            advertise: Vec::new(),
            admin_listen: any_port,
            bearer: None,
            certificate_lifetime: LIFETIME_DEFAULT,
            index_quarantine: route_core::INDEX_QUARANTINE,
            limits: route_core::LimitsConfig::default(),
            cost: CostConfig::default(),
            neighbours: NeighbourConfig::default(),
            feeding: FeedingConfig::default(),
            policies: None,
            record: None,
        }
    }

    /// The same with other prices of links.
    #[must_use]
    pub fn with_cost(self, cost: CostConfig) -> Config {
        Config { cost, ..self }
    }

    /// The same with certificates of another lifetime, to the second.
    #[must_use]
    pub fn with_certificate_lifetime(self, certificate_lifetime: Duration) -> Config {
        Config { certificate_lifetime, ..self }
    }

    /// The same with another quarantine of node indices.
    #[must_use]
    pub fn with_index_quarantine(self, index_quarantine: Duration) -> Config {
        Config { index_quarantine, ..self }
    }

    /// What the settings mean.
    ///
    /// # Errors
    /// If one of them cannot be used.
    pub fn from_settings(settings: Settings) -> anyhow::Result<Config> {
        let state_dir = settings.state_dir.unwrap_or_else(|| PathBuf::from(STATE_DIR));
        if settings.advertise.len() > ADVERTISE_MAX {
            let problem = format!("name at most {ADVERTISE_MAX}");
            return Err(ConfigError::value("advertise", settings.advertise.len(), problem).into());
        }
        for address in &settings.advertise {
            host(address)?;
        }
        let admin_listen =
            settings.admin_listen.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, ADMIN_PORT)));
        let bearer = settings.admin_token_file.as_deref().map(read_bearer).transpose()?;
        if !admin_listen.ip().is_loopback() && bearer.is_none() {
            return Err(ConfigError::value(
                "admin_listen",
                admin_listen,
                "the admin API beyond loopback needs a bearer token: set `admin_token_file` to a file that holds one \
                 (for instance made with `openssl rand -hex 32`), or listen on 127.0.0.1",
            )
            .into());
        }
        let tls = tls(settings.store_ca, settings.store_certificate, settings.store_key)?;
        let etcd = etcd(settings.store.as_deref(), tls)?;
        if etcd.is_some() && settings.key_encryption_file.is_none() {
            let advice = "controllers that share a store share the key of its private keys: make it once (`openssl rand \
                          -out FILE 32`), copy it to each, and name it";
            return Err(ConfigError::missing("key_encryption_file", advice).into());
        }
        let limits = settings.namespaces.unwrap_or_default().limits();
        let limits = limits.map_err(|problem| ConfigError::value("namespaces", "", problem))?;
        let history = HistoryConfig::from_settings(
            &state_dir,
            settings.history_dir,
            settings.history_bytes.as_deref(),
            settings.history_keep.as_deref(),
        )?;
        Ok(Config {
            limits,
            history,
            key_file: settings.key_encryption_file.unwrap_or_else(|| state_dir.join(KEY_FILE)),
            state_dir,
            etcd,
            listen: settings.listen,
            advertise: settings.advertise,
            admin_listen,
            bearer,
            certificate_lifetime: lifetime(settings.certificate_lifetime.as_deref())?,
            index_quarantine: quarantine(settings.index_quarantine.as_deref())?,
            cost: CostConfig {
                egress: egress(&settings.egress_prices)?,
                dollar_per_gb: money_worth(settings.money_worth_ms)?,
                ..CostConfig::default()
            },
            neighbours: neighbours(settings.mesh_relays, settings.relay_links)?,
            feeding: feeding(settings.holder_gain_ms)?,
            policies: settings.policies.as_deref().map(policies).transpose()?,
            record: RecorderConfig::from_settings(settings.record, settings.record_max.as_deref())?,
        })
    }

    /// Names and addresses by which clients may check this controller's certificate, beside its own name.
    pub(crate) fn hosts(&self) -> Vec<String> {
        let mut hosts = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        let listened = [self.listen.map(|listen| listen.ip()), Some(self.admin_listen.ip())];
        let listened =
            listened.into_iter().flatten().filter(|ip| !ip.is_unspecified()).map(|ip| ip.to_string());
        let advertised = self.advertise.iter().filter_map(|address| host(address).ok());
        for host in listened.chain(advertised) {
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        hosts
    }

    /// Where to bind for relays, in order of preference.
    pub(crate) fn grpc_addresses(&self) -> Vec<SocketAddr> {
        match self.listen {
            Some(listen) => vec![listen],
            None => vec![
                SocketAddr::from((Ipv6Addr::UNSPECIFIED, GRPC_PORT)),
                SocketAddr::from((Ipv4Addr::UNSPECIFIED, GRPC_PORT)),
            ],
        }
    }
}

/// Where the store lies, checked. `None`: in a file.
fn etcd(url: Option<&str>, tls: Option<EtcdTls>) -> Result<Option<EtcdConfig>, ConfigError> {
    let Some(url) = url else {
        return match tls {
            None => Ok(None),
            Some(_) => Err(ConfigError::missing("store", "and store_ca says how to speak to one in etcd")),
        };
    };
    let wrong = || {
        let problem =
            "write etcd://HOST:PORT[,HOST:PORT...][/PREFIX], for instance etcd://10.0.0.1:2379,10.0.0.2:2379";
        // Whoever writes a password there should not find it in a log.
        ConfigError::value("store", if url.contains('@') { "(not shown)" } else { url }, problem)
    };
    let rest = url.strip_prefix("etcd://").ok_or_else(wrong)?;
    let (members, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let members: Vec<String> = members.split(',').map(str::to_owned).collect();
    if members.len() > ETCD_MEMBERS_MAX || members.iter().any(|member| host(member).is_err()) {
        return Err(wrong());
    }
    let prefix = prefix.trim_end_matches('/');
    let prefix = format!("/{}", if prefix.is_empty() { ETCD_PREFIX } else { prefix });
    if !prefix.bytes().all(|byte| byte.is_ascii_graphic()) || prefix.len() > ETCD_PREFIX_BYTES_MAX {
        return Err(wrong());
    }
    if tls.is_none() && !members.iter().all(|member| is_loopback(member)) {
        tracing::warn!(
            store = url,
            "etcd beyond loopback without TLS: whoever reaches it can take over the overlay; set `store_ca`"
        );
    }
    Ok(Some(EtcdConfig { members, prefix, tls }))
}

fn is_loopback(address: &str) -> bool {
    address.starts_with("localhost:")
        || address.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_loopback())
}

/// How etcd is spoken to, checked.
fn tls(
    ca: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
) -> Result<Option<EtcdTls>, ConfigError> {
    match (ca, certificate, key) {
        (None, None, None) => Ok(None),
        (Some(ca), None, None) => Ok(Some(EtcdTls { ca, own: None })),
        (Some(ca), Some(certificate), Some(key)) => Ok(Some(EtcdTls { ca, own: Some((certificate, key)) })),
        (None, _, _) => {
            Err(ConfigError::missing("store_ca", "TLS to etcd needs it beside store_certificate"))
        }
        (Some(_), None, Some(_)) => Err(ConfigError::missing("store_certificate", "store_key is its key")),
        (Some(_), Some(_), None) => Err(ConfigError::missing("store_key", "store_certificate needs its key")),
    }
}

/// What the file says, checked.
fn policies(file: &Path) -> anyhow::Result<PolicyDocument> {
    let document = PolicyDocument::read(file)?;
    document.policies().with_context(|| file.display().to_string())?;
    Ok(document)
}

/// The lifetime of certificates, checked.
fn lifetime(text: Option<&str>) -> Result<Duration, ConfigError> {
    let Some(text) = text else { return Ok(LIFETIME_DEFAULT) };
    let wrong = |problem: String| ConfigError::value("certificate_lifetime", text, problem);
    let lifetime = parse_duration(text).map_err(wrong)?;
    if (LIFETIME_MIN..=LIFETIME_MAX).contains(&lifetime) {
        return Ok(lifetime);
    }
    Err(wrong(
        "from 10m to 366d are allowed: shorter ones would expire in every short outage of the controller, and the \
         longer they are, the longer a stolen one is worth something"
            .to_owned(),
    ))
}

/// The quarantine of node indices, checked.
fn quarantine(text: Option<&str>) -> Result<Duration, ConfigError> {
    let Some(text) = text else { return Ok(route_core::INDEX_QUARANTINE) };
    let wrong = |problem: String| ConfigError::value("index_quarantine", text, problem);
    let quarantine = parse_duration(text).map_err(wrong)?;
    if (QUARANTINE_MIN..=QUARANTINE_MAX).contains(&quarantine) {
        return Ok(quarantine);
    }
    Err(wrong(
        "from 10m to 366d are allowed: a relay that the controller cannot reach may hold tables for minutes that name \
         the index"
            .to_owned(),
    ))
}

/// Prices of traffic between regions, checked.
fn egress(texts: &[String]) -> Result<Vec<EgressPrice>, ConfigError> {
    if texts.len() > EGRESS_PRICES_MAX {
        let problem = format!("name at most {EGRESS_PRICES_MAX}");
        return Err(ConfigError::value("egress_prices", texts.len(), problem));
    }
    let price = |text: &String| {
        let (regions, dollars) = text.split_once('=')?;
        let (from, to) = regions.split_once('>')?;
        let micro_dollars = dollars.parse::<f64>().ok()? * 1e6;
        let is_price = (0.0..=EgressPrice::MICRO_DOLLARS_MAX as f64).contains(&micro_dollars);
        (is_price && !from.is_empty() && !to.is_empty()).then(|| EgressPrice {
            from: from.to_owned(),
            to: to.to_owned(),
            micro_dollars_per_gb: micro_dollars.round() as u64,
        })
    };
    let problem = "write FROM>TO=DOLLARS per gigabyte, 0 to 1000, for instance sa-east>*=0.138";
    texts
        .iter()
        .map(|text| price(text).ok_or_else(|| ConfigError::value("egress_prices", text, problem)))
        .collect()
}

/// What a dollar per gigabyte is worth, checked.
fn neighbours(mesh_relays: Option<usize>, relay_links: Option<usize>) -> anyhow::Result<NeighbourConfig> {
    let usual = NeighbourConfig::default();
    let (mesh_max, links_max) =
        (mesh_relays.unwrap_or(usual.mesh_max()), relay_links.unwrap_or(usual.links_max()));
    NeighbourConfig::new(mesh_max, links_max).map_err(|error| {
        let (key, given) = match error {
            NeighbourConfigError::MeshMax(given) => ("mesh_relays", given),
            NeighbourConfigError::LinksMax(given) => ("relay_links", given),
        };
        ConfigError::value(key, given, error.to_string()).into()
    })
}

fn money_worth(ms: Option<u64>) -> Result<Duration, ConfigError> {
    match ms {
        None => Ok(CostConfig::default().dollar_per_gb),
        Some(ms) if ms <= MONEY_WORTH_MS_MAX => Ok(Duration::from_millis(ms)),
        Some(ms) => Err(ConfigError::value("money_worth_ms", ms, "60000 is the most")),
    }
}

/// When relays feed others, checked.
fn feeding(gain_ms: Option<u64>) -> Result<FeedingConfig, ConfigError> {
    let default = FeedingConfig::default();
    match gain_ms {
        None => Ok(default),
        Some(HOLDER_GAIN_MS_MAX) => Ok(FeedingConfig { gain: None, ..default }),
        Some(ms) if ms < HOLDER_GAIN_MS_MAX => {
            Ok(FeedingConfig { gain: Some(Duration::from_millis(ms)), ..default })
        }
        Some(ms) => {
            Err(ConfigError::value("holder_gain_ms", ms, "60000 is the most: no relay feeds another"))
        }
    }
}

/// The host of HOST:PORT.
fn host(address: &str) -> Result<String, ConfigError> {
    let wrong = || {
        ConfigError::value(
            "advertise",
            address,
            "write HOST:PORT, for instance controller.example:4710 or [2001:db8::1]:4710",
        )
    };
    if let Ok(address) = address.parse::<SocketAddr>() {
        return if address.ip().is_unspecified() || address.port() == 0 {
            Err(wrong())
        } else {
            Ok(address.ip().to_string())
        };
    }
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let port_is_legal = port.parse::<u16>().is_ok_and(|port| port != 0);
    let host_is_legal = host.len() <= 253 && host.split('.').all(label) && host.parse::<IpAddr>().is_err();
    if port_is_legal && host_is_legal { Ok(host.to_owned()) } else { Err(wrong()) }
}

fn read_bearer(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    std::fs::File::open(file)
        .and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text))
        .with_context(|| format!("cannot read admin_token_file {}", file.display()))?;
    let token = text.trim();
    anyhow::ensure!(
        token.len() >= BEARER_BYTES_MIN && token.bytes().all(|byte| byte.is_ascii_graphic()),
        "admin_token_file {}: the token must be one word of at least {BEARER_BYTES_MIN} characters; make one with \
         `openssl rand -hex 32`",
        file.display()
    );
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(settings: Settings) -> String {
        format!("{:#}", Config::from_settings(settings).expect_err("must be refused"))
    }

    #[test]
    fn beyond_loopback_the_admin_api_needs_a_token() -> anyhow::Result<()> {
        let admin_listen = Some("0.0.0.0:4711".parse()?);
        let text = refused(Settings { admin_listen, ..Settings::default() });
        assert!(text.contains("admin_token_file"), "{text}");
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("token");
        std::fs::write(&file, "short\n")?;
        let settings = Settings { admin_listen, admin_token_file: Some(file.clone()), ..Settings::default() };
        assert!(refused(settings.clone()).contains("at least 16"));
        std::fs::write(&file, "0123456789abcdef\n")?;
        let config = Config::from_settings(settings)?;
        assert_eq!(config.bearer.as_deref(), Some("0123456789abcdef"));
        assert!(!format!("{config:?}").contains("0123456789abcdef"));
        Ok(())
    }

    #[test]
    fn advertised_addresses_have_host_and_port() {
        for good in ["controller.example:4710", "192.0.2.1:4710", "[2001:db8::1]:4710", "localhost:1"] {
            assert!(host(good).is_ok(), "{good}");
        }
        for bad in
            ["controller.example", "0.0.0.0:4710", "2001:db8::1:4710", "x:0", ":4710", "a b:1", "x..y:1"]
        {
            let advertise = vec![bad.to_owned()];
            let text = refused(Settings { advertise, ..Settings::default() });
            assert!(text.contains(bad) && text.contains("HOST:PORT"), "{text}");
        }
    }

    #[test]
    fn a_shared_store_names_etcd_and_the_key_that_all_controllers_share() -> anyhow::Result<()> {
        let settings = |store: &str| Settings {
            store: Some(store.to_owned()),
            key_encryption_file: Some("/etc/cascade/key".into()),
            ..Settings::default()
        };
        let etcd = Config::from_settings(settings("etcd://127.0.0.1:2379"))?.etcd.expect("etcd");
        assert_eq!((etcd.members, etcd.prefix.as_str()), (vec!["127.0.0.1:2379".to_owned()], "/cascade"));
        let etcd = Config::from_settings(settings("etcd://a:1,[::1]:2/eu/one/"))?.etcd.expect("etcd");
        assert_eq!((etcd.members.len(), etcd.prefix.as_str(), etcd.tls), (2, "/eu/one", None));
        for bad in ["redb://x", "etcd://", "etcd://a", "etcd://a:1,", "etcd://a:1/b c", "127.0.0.1:2379"] {
            let text = refused(settings(bad));
            assert!(text.contains("store") && text.contains("etcd://HOST:PORT"), "{text}");
        }
        let text = refused(settings("etcd://me:secret@a:1"));
        assert!(!text.contains("secret"), "{text}");
        let text = refused(Settings { key_encryption_file: None, ..settings("etcd://127.0.0.1:2379") });
        assert!(text.contains("key_encryption_file") && text.contains("openssl rand"), "{text}");
        let text = refused(Settings { store_key: Some("k".into()), ..settings("etcd://127.0.0.1:2379") });
        assert!(text.contains("store_ca"), "{text}");
        let text = refused(Settings { store_ca: Some("ca".into()), ..Settings::default() });
        assert!(text.contains("`store` is not set"), "{text}");
        Ok(())
    }

    #[test]
    fn certificates_live_neither_too_short_nor_too_long() -> anyhow::Result<()> {
        let settings =
            |text: &str| Settings { certificate_lifetime: Some(text.to_owned()), ..Settings::default() };
        assert_eq!(Config::from_settings(settings("12h"))?.certificate_lifetime, Duration::from_secs(43_200));
        assert_eq!(Config::from_settings(Settings::default())?.certificate_lifetime, LIFETIME_DEFAULT);
        for bad in ["9m", "367d", "24", "soon"] {
            let text = refused(settings(bad));
            assert!(text.contains("certificate_lifetime") && text.contains(bad), "{text}");
        }
        Ok(())
    }

    #[test]
    fn indices_are_in_quarantine_for_ten_minutes_at_least() -> anyhow::Result<()> {
        let settings =
            |text: &str| Settings { index_quarantine: Some(text.to_owned()), ..Settings::default() };
        assert_eq!(Config::from_settings(settings("10m"))?.index_quarantine, QUARANTINE_MIN);
        assert_eq!(Config::from_settings(Settings::default())?.index_quarantine, Duration::from_secs(86_400));
        for bad in ["9m", "367d", "24", "soon"] {
            let text = refused(settings(bad));
            assert!(text.contains("index_quarantine") && text.contains(bad), "{text}");
        }
        Ok(())
    }

    #[test]
    fn prices_of_traffic_name_two_regions_and_dollars() -> anyhow::Result<()> {
        let settings = |text: &str| Settings { egress_prices: vec![text.to_owned()], ..Settings::default() };
        let price = &Config::from_settings(settings("sa-east>*=0.138"))?.cost.egress[0];
        assert_eq!((price.from.as_str(), price.to.as_str()), ("sa-east", "*"));
        assert_eq!(price.micro_dollars_per_gb, 138_000);
        for bad in ["sa-east=0.1", "a>b", ">b=1", "a>b=-1", "a>b=1001", "a>b=nan", "a>b=x"] {
            let text = refused(settings(bad));
            assert!(text.contains("egress_prices") && text.contains(bad), "{text}");
        }
        let gain = |ms| feeding(Some(ms)).map(|feeding| feeding.gain);
        assert_eq!((gain(5)?, gain(60_000)?), (Some(Duration::from_millis(5)), None));
        let gain = Settings { holder_gain_ms: Some(60_001), ..Settings::default() };
        assert!(refused(gain).contains("holder_gain_ms"));
        let worth = Settings { money_worth_ms: Some(60_001), ..Settings::default() };
        assert!(refused(worth).contains("money_worth_ms"));
        Ok(())
    }

    #[test]
    fn links_of_a_relay_are_neither_too_few_nor_too_many() -> anyhow::Result<()> {
        let settings =
            |mesh_relays, relay_links| Settings { mesh_relays, relay_links, ..Settings::default() };
        let set = Config::from_settings(settings(Some(100), Some(16)))?.neighbours;
        assert_eq!((set.mesh_max(), set.links_max()), (100, 16));
        let text = refused(settings(Some(1), None));
        assert!(text.contains("mesh_relays") && text.contains("2 to 1024"), "{text}");
        let text = refused(settings(None, Some(7)));
        assert!(text.contains("relay_links") && text.contains("8 to 1024"), "{text}");
        Ok(())
    }

    #[test]
    fn the_certificate_names_what_is_advertised() -> anyhow::Result<()> {
        let settings = Settings {
            listen: Some("192.0.2.1:4710".parse()?),
            advertise: vec!["controller.example:4710".to_owned(), "192.0.2.1:4710".to_owned()],
            ..Settings::default()
        };
        let hosts = Config::from_settings(settings)?.hosts();
        assert_eq!(hosts, ["localhost", "127.0.0.1", "::1", "192.0.2.1", "controller.example"]);
        Ok(())
    }
}
