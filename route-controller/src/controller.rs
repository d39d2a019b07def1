//! A whole controller: store, CA, event loop and both servers, started and stopped together.

use crate::admin::{self, Admin};
use crate::api_tokens::ApiTokens;
use crate::ca::Authority;
use crate::clock;
use crate::config::Config;
use crate::engine::{Engine, EngineHandle, Health, Keys, Request};
use crate::grpc;
use crate::operations::Operations;
use crate::ration::Ration;
use crate::store::Store;
use crate::telemetry::Telemetry;
use crate::tls::{Identity, Purpose, TlsListener};
use crate::tokens::{SIGNING_KEY, SigningKey, TokenIssuer, hex};
use crate::vault::Vault;
use anyhow::Context as _;
use control_proto::CERTIFICATE_GRACE;
use route_core::ControllerConfig;
use std::fs;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Longest time given to sessions and requests under way when stopping.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);
const STORE_FILE: &str = "route-controller.redb";
const CA_FILE: &str = "ca.pem";
const CA_HASH_FILE: &str = "ca.sha256";
const CA_CERTIFICATE: &str = "ca-certificate";
const CA_KEY: &str = "ca-key";

/// A running controller. Dropped without [`Controller::shutdown`], it ends abruptly, as in a crash.
pub struct Controller {
    operations: Operations,
    grpc_address: SocketAddr,
    admin_address: SocketAddr,
    stop: watch::Sender<bool>,
    grpc: JoinHandle<()>,
    admin: JoinHandle<()>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Controller {
    /// Opens or makes the store, begins a new term, and serves. Relays can connect when this returns.
    ///
    /// # Errors
    /// If the state directory, its key or one of the addresses cannot be used; the text says what to do.
    pub async fn start(config: Config) -> anyhow::Result<Controller> {
        let state = State::open(&config)?;
        let (grpc_listener, grpc_address) = bind(&config.grpc_addresses(), "listen").await?;
        let (admin_listener, admin_address) = bind(&[config.admin_listen], "admin_listen").await?;
        let advertise = advertised(&config, grpc_address);
        let authority = Arc::clone(&state.keys.authority);
        let issuer = Arc::clone(&state.keys.issuer);
        let api_tokens = Arc::clone(&state.keys.api_tokens);
        let (engine, thread) = state.engine(&config)?.spawn()?;

        let hosts = config.hosts();
        let identity = Identity::new(Arc::clone(&authority), hosts.clone(), Purpose::Grpc)?;
        let operations = Operations {
            engine: engine.clone(),
            issuer,
            api_tokens,
            ca_sha256: authority.sha256(),
            advertise: advertise.into(),
        };
        let (stop, stopping) = watch::channel(false);
        let grpc = serve_grpc(TlsListener::new(grpc_listener, identity)?, engine, stopping.clone());
        let admin = Admin {
            operations: operations.clone(),
            telemetry: Arc::new(Telemetry::new()),
            bearer: config.bearer.clone().map(Into::into),
            strangers: Arc::new(Ration::new()),
        };
        let admin = if config.admin_listen.ip().is_loopback() {
            serve_admin(admin_listener, admin, stopping)
        } else {
            let identity = Identity::new(Arc::clone(&authority), hosts, Purpose::Admin)?;
            serve_admin(TlsListener::new(admin_listener, identity)?, admin, stopping)
        };
        tracing::info!(
            grpc = %grpc_address,
            admin = %admin_address,
            ca_sha256 = hex(&operations.ca_sha256),
            "the route controller runs"
        );
        Ok(Controller { operations, grpc_address, admin_address, stop, grpc, admin, thread: Some(thread) })
    }

    /// Where relays connect.
    pub fn grpc_address(&self) -> SocketAddr {
        self.grpc_address
    }

    /// Where the admin API is.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// What the controller can be asked.
    pub fn operations(&self) -> &Operations {
        &self.operations
    }

    /// Waits until the controller can no longer go on.
    ///
    /// # Errors
    /// Always, with the reason, unless it was stopped.
    pub async fn failed(&self) -> anyhow::Result<()> {
        match self.operations.engine.ended().await {
            Health::Failed(reason) => Err(anyhow::anyhow!(reason)),
            Health::Running | Health::Stopped => Ok(()),
        }
    }

    /// Ends sessions and requests, then everything else. Relays keep forwarding and look for a controller again.
    pub async fn shutdown(mut self) {
        let _ = self.operations.engine.send(Request::Stop).await;
        let _ = self.operations.engine.ended().await;
        self.stop.send_replace(true);
        let both = async {
            let _ = (&mut self.grpc).await;
            let _ = (&mut self.admin).await;
        };
        if tokio::time::timeout(STOP_TIMEOUT, both).await.is_err() {
            tracing::warn!("connections were still open when the controller stopped");
        }
        if let Some(thread) = self.thread.take() {
            // The loop has ended, so this does not wait; the store is closed when it returns.
            let _ = thread.join();
        }
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.grpc.abort();
        self.admin.abort();
    }
}

/// What is read from the state directory before anything runs.
struct State {
    store: Store,
    keys: Keys,
}

impl State {
    fn open(config: &Config) -> anyhow::Result<State> {
        let folder = &config.state_dir;
        let cannot = || {
            format!(
                "cannot use state_dir {}: it must be a directory that this user may write",
                folder.display()
            )
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(cannot)?;
        let store_file = folder.join(STORE_FILE);
        private(&store_file).with_context(cannot)?;
        let store = Store::open(&store_file)?;

        let stored = (store.secret(CA_CERTIFICATE)?, store.secret(CA_KEY)?);
        let sealed_keys = store.secrets(SIGNING_KEY)?;
        let (authority, vault, signing_keys) = match stored {
            (Some(certificate), Some(ca_key)) if !sealed_keys.is_empty() => {
                let vault = Vault::open(&config.key_file, false)?;
                let ca_key = vault.open_sealed(CA_KEY, &ca_key)?;
                let keys = sealed_keys.into_iter().map(|(name, sealed)| open_key(&vault, name, &sealed));
                let keys = keys.collect::<anyhow::Result<_>>()?;
                (Authority::load(&certificate, &ca_key)?, vault, keys)
            }
            (None, None) if sealed_keys.is_empty() => {
                let vault = Vault::open(&config.key_file, true)?;
                let (authority, ca_key) = Authority::generate()?;
                let ca_key = zeroize::Zeroizing::new(ca_key);
                let token_key = zeroize::Zeroizing::new(SigningKey::generate()?);
                store.set_secrets(&[
                    (CA_CERTIFICATE, authority.certificate().as_ref()),
                    (CA_KEY, &vault.seal(CA_KEY, &ca_key)?),
                    (SIGNING_KEY, &vault.seal(SIGNING_KEY, &token_key)?),
                ])?;
                tracing::info!(state_dir = %folder.display(), "a new overlay: its CA and token signing key were made");
                (authority, vault, vec![SigningKey::load(SIGNING_KEY.to_owned(), &token_key, 0)?])
            }
            _ => anyhow::bail!(
                "{} holds only a part of the CA: restore it from the backup",
                store_file.display()
            ),
        };
        fs::write(folder.join(CA_FILE), authority.pem()).with_context(cannot)?;
        // SFUs are given it, so that they know relays of this overlay.
        fs::write(folder.join(CA_HASH_FILE), format!("{}\n", hex(&authority.sha256())))
            .with_context(cannot)?;
        let issuer = TokenIssuer::new(signing_keys, &authority.sha256());
        let api_tokens = ApiTokens::new(store.api_tokens()?);
        let (authority, issuer, api_tokens) = (Arc::new(authority), Arc::new(issuer), Arc::new(api_tokens));
        Ok(State { store, keys: Keys { authority, issuer, vault, api_tokens } })
    }

    fn engine(self, config: &Config) -> anyhow::Result<Engine> {
        let memory = self.store.begin_term(clock::unix_s())?;
        let lines = self.store.lines()?;
        let mut seed = [0; 8];
        aws_lc_rs::rand::fill(&mut seed).context("the system gives no random numbers")?;
        let core = route_core::Controller::new(ControllerConfig {
            term: memory.term,
            nodes: memory.nodes,
            quarantined: memory.quarantined,
            index_quarantine: config.index_quarantine,
            // After that its certificate can no longer be renewed.
            return_within: config.certificate_lifetime + CERTIFICATE_GRACE,
            epoch_floor: memory.epoch_floor,
            room_floor: memory.room_floor,
            certificates: lines.iter().map(|(name, line)| (name.clone(), line.rule())).collect(),
            limits: config.limits.clone(),
            cost: config.cost.clone(),
            seed: u64::from_ne_bytes(seed),
        });
        Ok(Engine::new(core, self.store, self.keys, lines, config.certificate_lifetime))
    }
}

/// A token signing key; its name in the store says when it was made.
fn open_key(vault: &Vault, name: String, sealed: &[u8]) -> anyhow::Result<SigningKey> {
    let made_unix_s = match name.strip_prefix(SIGNING_KEY).and_then(|rest| rest.strip_prefix('/')) {
        Some(seconds) => seconds.parse().with_context(|| format!("the store's {name} has no time"))?,
        None => 0,
    };
    let pkcs8 = vault.open_sealed(&name, sealed)?;
    SigningKey::load(name, &pkcs8, made_unix_s)
}

/// Makes the file, readable by its owner only, unless it is there.
fn private(file: &Path) -> io::Result<()> {
    match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
        Ok(mut file) => file.flush(),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Binds the first address that this host has.
async fn bind(addresses: &[SocketAddr], key: &str) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let mut failure = None;
    for address in addresses {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                let address = listener.local_addr()?;
                return Ok((listener, address));
            }
            Err(error) => failure = failure.or(Some((address, error))),
        }
    }
    let (address, error) = failure.context("no address to listen on")?;
    Err(error).with_context(|| {
        format!(
            "cannot listen on {address}: is another route-controller running? `{key}` sets another address"
        )
    })
}

/// Where relays find this controller: as configured, else where it listens, if that is one address.
fn advertised(config: &Config, grpc_address: SocketAddr) -> Vec<String> {
    if !config.advertise.is_empty() {
        return config.advertise.clone();
    }
    if grpc_address.ip().is_unspecified() {
        tracing::warn!("`advertise` is not set: relays can connect, but no join token can be made");
        return Vec::new();
    }
    vec![grpc_address.to_string()]
}

fn serve_grpc(
    listener: TlsListener,
    engine: EngineHandle,
    stopping: watch::Receiver<bool>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        if let Err(error) = grpc::serve(listener, engine, stopping).await {
            tracing::error!("the gRPC server ended: {error}");
        }
    })
}

fn serve_admin<L>(listener: L, admin: Admin, mut stopping: watch::Receiver<bool>) -> JoinHandle<()>
where
    L: axum::serve::Listener,
    L::Addr: std::fmt::Debug,
{
    tokio::spawn(async move {
        let served = axum::serve(listener, admin::router(admin)).with_graceful_shutdown(async move {
            // An error means that whoever would stop it is gone: stop too.
            let _ = stopping.wait_for(|stop| *stop).await;
        });
        if let Err(error) = served.await {
            tracing::error!("the admin API ended: {error}");
        }
    })
}
