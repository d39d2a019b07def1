//! A whole controller: store, CA, event loop and both servers, started and stopped together.

use crate::admin::{self, Admin};
use crate::candidate::{self, Candidate};
use crate::clock::{self, Clock};
use crate::config::Config;
use crate::engine::{Counts, Engine, EngineHandle, Health, Request, count};
use crate::etcd::Etcd;
use crate::grpc;
use crate::history::{History, Keeper};
use crate::keys::Keys;
use crate::operations::Operations;
use crate::ration::Ration;
use crate::recording::{self, CoreRecording};
use crate::store::{Memory, Store};
use crate::telemetry::Telemetry;
use crate::tenure::Tenure;
use crate::threads;
use crate::tls::{Identity, Purpose, TlsListener};
use crate::tokens::hex;
use crate::vault::Vault;
use anyhow::Context as _;
use control_proto::CERTIFICATE_GRACE;
use control_proto::recorder::Recorder;
use route_core::{ControllerConfig, Policies};
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
/// How often an etcd is asked that does not answer yet.
const STORE_PAUSE: Duration = Duration::from_millis(500);

/// A running controller. Dropped without [`Controller::shutdown`], it ends abruptly, as in a crash.
pub struct Controller {
    operations: Operations,
    grpc_address: SocketAddr,
    admin_address: SocketAddr,
    stop: watch::Sender<bool>,
    grpc: JoinHandle<()>,
    admin: JoinHandle<()>,
    keeper: JoinHandle<()>,
    work: Work,
}

/// What computes routes, if this controller leads.
enum Work {
    /// It is alone: one loop for as long as it runs.
    Alone(Option<std::thread::JoinHandle<()>>),
    /// One of several.
    Candidate { stop: watch::Sender<bool>, task: JoinHandle<()> },
}

impl Controller {
    /// Opens or makes the store, begins a new term, and serves. Relays can connect when this returns. One of several
    /// controllers serves when it has reached the store, and leads when it is its turn.
    ///
    /// # Errors
    /// If the state directory, its key or one of the addresses cannot be used; the text says what to do.
    pub async fn start(config: Config) -> anyhow::Result<Controller> {
        let folder = StateFolder::make(&config)?;
        // Before anything that waits: an address that cannot be used is told at once.
        let alone = if config.etcd.is_none() { Some(folder.open(&config)?) } else { None };
        let (grpc_listener, grpc_address) = bind(&config.grpc_addresses(), "listen").await?;
        let (admin_listener, admin_address) = bind(&[config.admin_listen], "admin_listen").await?;
        let advertise = advertised(&config, grpc_address);
        let recorder = recorder(&config)?;
        let (keys, engine, work) = match alone {
            Some((mut store, keys)) => {
                let memory = store.begin_term(clock::unix_s())?;
                let tenure = Tenure::unlimited(Clock::start());
                let engine = engine_of(
                    &config,
                    store,
                    keys.clone(),
                    memory,
                    Arc::default(),
                    tenure,
                    recorder.as_ref(),
                )?;
                let (engine, thread) = engine.spawn()?.alone();
                (keys, engine, Work::Alone(Some(thread)))
            }
            None => campaign(&config, &advertise, recorder).await?,
        };
        folder.write_ca(&keys)?;
        let authority = keys.authority;

        let hosts = config.hosts();
        let identity = Identity::new(Arc::clone(&authority), hosts.clone(), Purpose::Grpc)?;
        let history = Arc::new(History::open(&config.history));
        let keeper = tokio::spawn(Keeper::new(Arc::clone(&history), engine.clone()).run());
        let operations = Operations {
            history,
            engine: engine.clone(),
            issuer: keys.issuer,
            api_tokens: keys.api_tokens,
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
        Ok(Controller { operations, grpc_address, admin_address, stop, grpc, admin, keeper, work })
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
            Health::Running | Health::Stopped | Health::Deposed => Ok(()),
        }
    }

    /// Ends sessions and requests, then everything else. Relays keep forwarding and look for a controller again.
    pub async fn shutdown(mut self) {
        match &self.work {
            Work::Alone(_) => drop(self.operations.engine.send(Request::Stop).await),
            Work::Candidate { stop, task: _ } => drop(stop.send_replace(true)),
        }
        let _ = self.operations.engine.ended().await;
        self.stop.send_replace(true);
        let both = async {
            let _ = (&mut self.grpc).await;
            let _ = (&mut self.admin).await;
        };
        if tokio::time::timeout(STOP_TIMEOUT, both).await.is_err() {
            tracing::warn!("connections were still open when the controller stopped");
        }
        if let Work::Alone(thread) = &mut self.work
            && let Some(thread) = thread.take()
        {
            // The loop has ended, so this does not wait; the store is closed when it returns.
            let _ = thread.join();
        }
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.grpc.abort();
        self.admin.abort();
        self.keeper.abort();
        if let Work::Candidate { stop: _, task } = &self.work {
            task.abort();
        }
    }
}

/// The state directory.
struct StateFolder<'a> {
    path: &'a Path,
}

impl StateFolder<'_> {
    fn make(config: &Config) -> anyhow::Result<StateFolder<'_>> {
        let folder = StateFolder { path: &config.state_dir };
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder.path);
        made.with_context(|| folder.cannot())?;
        Ok(folder)
    }

    /// The store and the keys in it, made now if there is none.
    fn open(&self, config: &Config) -> anyhow::Result<(Store, Keys)> {
        let store_file = self.path.join(STORE_FILE);
        private(&store_file).with_context(|| self.cannot())?;
        let mut store = Store::open(&store_file)?;
        let found = !Keys::are_in(&store, &store_file.display().to_string())?;
        let vault = Vault::open(&config.key_file, found)?;
        if found {
            store.found(Keys::found(&vault)?)?;
            tracing::info!(state_dir = %self.path.display(), "a new overlay: its CA and token signing key were made");
        }
        let keys = Keys::open(&store, vault)?;
        Ok((store, keys))
    }

    /// For those who are given the CA, and for SFUs its hash, so that they know relays of this overlay.
    fn write_ca(&self, keys: &Keys) -> anyhow::Result<()> {
        fs::write(self.path.join(CA_FILE), keys.authority.pem()).with_context(|| self.cannot())?;
        let hash = format!("{}\n", hex(&keys.authority.sha256()));
        fs::write(self.path.join(CA_HASH_FILE), hash).with_context(|| self.cannot())
    }

    fn cannot(&self) -> String {
        format!(
            "cannot use state_dir {}: it must be a directory that this user may write",
            self.path.display()
        )
    }
}

/// The keys of the overlay whose store is in etcd, made now if it is new. Waits for etcd.
async fn shared_keys(config: &Config, etcd: &Etcd) -> anyhow::Result<Keys> {
    let vault = Vault::open(&config.key_file, false).context(
        "controllers that share a store share this key: make it once (`openssl rand -out FILE 32`) and copy it to each",
    )?;
    let mut waited = false;
    loop {
        match etcd.rows().await {
            Ok(rows) => {
                let store = Store::copy(rows);
                if Keys::are_in(&store, "the store in etcd")? {
                    return Keys::open(&store, vault);
                }
                let changes = Keys::found(&vault)?;
                match etcd.found(&changes[0], &changes).await {
                    Ok(true) => tracing::info!("a new overlay: its CA and token signing key were made"),
                    // Another controller was faster.
                    Ok(false) => {}
                    Err(error) => tracing::warn!("etcd did not take the new CA: {}", error.message()),
                }
            }
            Err(error) if waited => tracing::debug!("etcd does not answer: {}", error.message()),
            Err(error) => {
                tracing::warn!("waiting for etcd, which does not answer: {}", error.message());
                waited = true;
            }
        }
        tokio::time::sleep(STORE_PAUSE).await;
    }
}

/// Takes part in elections from now on.
async fn campaign(
    config: &Config,
    advertise: &[String],
    recorder: Option<Recorder>,
) -> anyhow::Result<(Keys, EngineHandle, Work)> {
    let name = advertise.first().cloned().context(
        "`advertise` is not set: one of several controllers must know by which address relays reach it",
    )?;
    let etcd = config.etcd.as_ref().context("`store` names no etcd")?;
    let counts = Arc::<Counts>::default();
    let etcd = Arc::new(Etcd::new(etcd, name.clone(), Arc::clone(&counts))?);
    let keys = shared_keys(config, &etcd).await?;
    let config = config.clone();
    let begin: candidate::Begin = {
        let (counts, keys) = (Arc::clone(&counts), keys.clone());
        Box::new(move |mut store, tenure| {
            count(&counts.terms);
            keys.refresh(&store)?;
            let memory = store.begin_term(clock::unix_s())?;
            let counts = Arc::clone(&counts);
            engine_of(&config, store, keys.clone(), memory, counts, tenure, recorder.as_ref())?.spawn()
        })
    };
    let (stop, stopping) = watch::channel(false);
    let (candidate, seat, health) = Candidate::new(etcd, name, begin, stopping);
    let engine = EngineHandle::shared(seat, health, counts);
    Ok((keys, engine, Work::Candidate { stop, task: tokio::spawn(candidate.run()) }))
}

/// The loop of one term.
fn engine_of(
    config: &Config,
    mut store: Store,
    keys: Keys,
    memory: Memory,
    counts: Arc<Counts>,
    tenure: Tenure,
    recorder: Option<&Recorder>,
) -> anyhow::Result<Engine> {
    let lines = store.lines()?;
    let policies = policies(config, &mut store)?;
    let mut seed = [0; 8];
    aws_lc_rs::rand::fill(&mut seed).context("the system gives no random numbers")?;
    let core_config = ControllerConfig {
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
        executor: threads::on_all_processors(),
        neighbours: config.neighbours,
        feeding: config.feeding.clone(),
        policies,
        seed: u64::from_ne_bytes(seed),
    };
    let recording = recorder.map(|recorder| CoreRecording::begin(recorder, clock::unix_ms(), &core_config));
    let core = route_core::Controller::new(core_config);
    let engine = Engine::new(core, store, keys, lines, config.certificate_lifetime, counts, tenure);
    Ok(engine.with_recording(recording))
}

/// Where inputs are recorded, if they are to be.
fn recorder(config: &Config) -> anyhow::Result<Option<Recorder>> {
    let Some(record) = &config.record else { return Ok(None) };
    let recorder = Recorder::start(record, &recording::header(clock::unix_ms()));
    let recorder = recorder.with_context(|| {
        format!("cannot record to {}: it must be a file that this user may write", record.file.display())
    })?;
    Ok(Some(recorder))
}

/// What counts as a good route: what the file says, if that is news, or what was in force last.
fn policies(config: &Config, store: &mut Store) -> anyhow::Result<Policies> {
    if let Some(document) = &config.policies
        && store.take_policies(document)?
    {
        tracing::info!(policies = document.policies.len(), "policies are taken from the file");
    }
    match store.policies()? {
        Some(document) => document.policies().context("the stored policies are damaged; restore the backup"),
        None => Ok(Policies::default()),
    }
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
