//! A whole overlay on loopback: the controller, the relays and the proxy between them, as the binaries run them.

use crate::dev::args::Options;
use crate::dev::clock::Clock;
use crate::dev::impair::{CarriedByLink, Pair, Proxy};
use crate::dev::topology::relay_name;
use anyhow::{Context as _, bail};
use link_model::{LinkSchedule, LinkSpec, Seed};
use relay_node::RelayNode;
use route_controller::{Controller, JoinTokenRequest, LinkRow, Operations, RoutesQuery, TokenRequest};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

/// The tenant of the SFUs.
pub const NAMESPACE: &str = "demo";
/// For relays to join and measure their links.
const READY_TIMEOUT: Duration = Duration::from_secs(20);
/// How often the controller is asked whether it is so far.
const READY_POLL: Duration = Duration::from_millis(50);
/// How long the token of an SFU is valid, s: longer than anyone watches.
const TOKEN_TTL_S: u64 = 30 * 24 * 3600;

/// Controller, relays and proxy, all in this process. Its state lies in a temporary directory that goes with it.
pub struct Overlay {
    relays: Vec<Relay>,
    proxy: Proxy,
    controller: Controller,
    /// Pairs that the topology connects.
    connected: Vec<(usize, usize)>,
    /// Of these, pairs whose link carries datagrams from the start.
    usable: Vec<(usize, usize)>,
    state: TempDir,
}

struct Relay {
    name: String,
    port_address: SocketAddr,
    api_address: SocketAddr,
    /// `None` once it was killed.
    node: Option<RelayNode>,
}

impl Overlay {
    /// Starts everything and waits until every link is measured and the last relay can be reached from the first.
    ///
    /// # Errors
    /// If something does not start, or is not ready in time.
    pub async fn start(options: &Options) -> anyhow::Result<Overlay> {
        let state =
            tempfile::Builder::new().prefix("cascade-dev-").tempdir().context("no temporary directory")?;
        let mut config = route_controller::Config::local(state.path().join("controller"));
        if let Some(lifetime) = options.certificate_lifetime {
            config = config.with_certificate_lifetime(lifetime);
        }
        let controller = Controller::start(config).await.context("the controller does not start")?;
        let proxy = start_proxy(options)?;
        let mut relays = Vec::new();
        for number in 0..options.relays {
            let relay = start_relay(&state, controller.operations(), &proxy, options, number)
                .await
                .with_context(|| format!("relay {} does not start", relay_name(number)))?;
            proxy.relay_listens(number, relay.port_address);
            relays.push(relay);
        }
        let down = |pair: &Pair| pair.there.first().down || pair.back.first().down;
        let usable = pairs(options)?.into_iter().filter(|pair| !down(pair)).map(|pair| pair.relays).collect();
        let links = options.topology.links(options.relays);
        let connected = links.into_iter().map(|(pair, _)| pair).collect();
        let overlay = Overlay { relays, proxy, controller, connected, usable, state };
        overlay.ready().await?;
        Ok(overlay)
    }

    async fn ready(&self) -> anyhow::Result<()> {
        let clock = Clock::start();
        while clock.now() < READY_TIMEOUT {
            if self.unmeasured().await?.is_empty()
                && self.route().await?.is_some()
                && self.relays_ready().await?
            {
                return Ok(());
            }
            tokio::time::sleep(READY_POLL).await;
        }
        let (first, last) = (&self.relays[0].name, &self.relays[self.relays.len() - 1].name);
        match self.unmeasured().await?.as_slice() {
            [] => bail!("{last} cannot be reached from {first} after {READY_TIMEOUT:?}"),
            missing => bail!("after {READY_TIMEOUT:?} these links are not up: {}", missing.join(", ")),
        }
    }

    /// Whether the relays themselves say that SFUs can come.
    async fn relays_ready(&self) -> anyhow::Result<bool> {
        for relay in &self.relays {
            let url = format!("http://{}/readyz", relay.api_address);
            let ready = tokio::task::spawn_blocking(move || ureq::get(url).call().is_ok());
            if !ready.await.context("asking a relay")? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Links that should be usable and are not yet.
    async fn unmeasured(&self) -> anyhow::Result<Vec<String>> {
        let rows = self.links().await?;
        let measured = |from: &str, to: &str| {
            rows.iter().any(|row| row.from == from && row.to == to && row.usable && row.rtt_us.is_some())
        };
        let missing = self.usable.iter().flat_map(|(a, b)| [(*a, *b), (*b, *a)]).filter_map(|(from, to)| {
            let (from, to) = (&self.relays[from].name, &self.relays[to].name);
            (!measured(from, to)).then(|| format!("{from}>{to}"))
        });
        Ok(missing.collect())
    }

    /// The path that the controller's newest tables give from the first relay to the last; `None` if there is none.
    ///
    /// # Errors
    /// If the controller does not answer.
    pub async fn route(&self) -> anyhow::Result<Option<Vec<String>>> {
        let (first, last) = (&self.relays[0].name, &self.relays[self.relays.len() - 1].name);
        if first == last {
            return Ok(Some(vec![first.clone()]));
        }
        let query = RoutesQuery {
            node: Some(first.clone()),
            destination: Some(last.clone()),
            plane: Some(0),
            ..RoutesQuery::default()
        };
        let rows = self.controller.operations().routes(query).await?;
        Ok(rows.into_iter().next().map(|row| row.path))
    }

    /// What the controller knows of the links of this topology.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn links(&self) -> anyhow::Result<Vec<LinkRow>> {
        let number = |name: &str| self.relays.iter().position(|relay| relay.name == name);
        let connected = |row: &LinkRow| {
            let (Some(from), Some(to)) = (number(&row.from), number(&row.to)) else { return false };
            self.connected.contains(&(from.min(to), from.max(to)))
        };
        let rows = self.controller.operations().links().await?;
        Ok(rows.into_iter().filter(connected).collect())
    }

    /// The epoch that relays stamp.
    ///
    /// # Errors
    /// If the controller does not answer.
    pub async fn epoch(&self) -> anyhow::Result<Option<u32>> {
        Ok(self.controller.operations().status().await?.epoch.map(|epoch| epoch.0))
    }

    /// The controller.
    pub fn controller(&self) -> &Controller {
        &self.controller
    }

    /// How many relays were started.
    pub fn len(&self) -> usize {
        self.relays.len()
    }

    /// Never true; here because there is `len`.
    pub fn is_empty(&self) -> bool {
        self.relays.is_empty()
    }

    /// The relay port of a relay, counted from 0.
    pub fn port_address(&self, relay: usize) -> SocketAddr {
        self.relays[relay].port_address
    }

    /// Where files may lie for as long as this overlay runs.
    pub fn directory(&self) -> &Path {
        self.state.path()
    }

    /// The local API of a relay, counted from 0.
    pub fn api_address(&self, relay: usize) -> SocketAddr {
        self.relays[relay].api_address
    }

    /// A relay that runs, counted from 0; `None` if it was killed.
    pub fn relay(&self, relay: usize) -> Option<&RelayNode> {
        self.relays[relay].node.as_ref()
    }

    /// Kills a relay, counted from 0, without a goodbye. Does nothing if that was done before.
    pub fn kill(&mut self, relay: usize) {
        if let Some(node) = self.relays[relay].node.take() {
            node.kill();
        }
    }

    /// A token that lets an SFU publish and subscribe in every room.
    ///
    /// # Errors
    /// If the controller gives none.
    pub fn token(&self, subject: &str) -> anyhow::Result<String> {
        let request = TokenRequest {
            namespace: NAMESPACE.to_owned(),
            room: "*".to_owned(),
            publish: true,
            subscribe: true,
            subject: Some(subject.to_owned()),
            ttl_s: Some(TOKEN_TTL_S),
        };
        Ok(self.controller.operations().create_token(&request)?.token)
    }

    /// The hash by which SFUs know the overlay's CA.
    pub fn ca_sha256(&self) -> [u8; 32] {
        self.controller.operations().ca_sha256()
    }

    /// The proxy counts times of scheduled changes from now on.
    pub fn start_schedule(&self) {
        self.proxy.start_schedule();
    }

    /// One direction between two relays, counted from 0, does something else from now on.
    pub fn change_link(&self, from: usize, to: usize, spec: LinkSpec) {
        self.proxy.change(from, to, spec);
    }

    /// What each direction between relays, counted from 0, has carried.
    pub fn carried(&self) -> CarriedByLink {
        self.proxy.carried()
    }

    /// Stops relays and controller in good order.
    pub async fn stop(self) {
        let Overlay { relays, proxy: _proxy, controller, connected: _, usable: _, state: _state } = self;
        let mut stopping = tokio::task::JoinSet::new();
        for node in relays.into_iter().filter_map(|relay| relay.node) {
            stopping.spawn(node.stop());
        }
        stopping.join_all().await;
        controller.shutdown().await;
    }
}

/// Every pair of relays of the run and what lies between them. Pairs that the topology does not connect are there too,
/// for good down: relays link to whom the controller names, and it names everyone.
fn pairs(options: &Options) -> anyhow::Result<Vec<Pair>> {
    let links: BTreeMap<_, _> = options.topology.links(options.relays).into_iter().collect();
    let all = (0..options.relays).flat_map(|low| (low + 1..options.relays).map(move |high| (low, high)));
    let pairs = all.map(|(low, high)| {
        let cut = LinkSpec { down: true, ..LinkSpec::default() };
        let (base, changes) = match links.get(&(low, high)) {
            Some(base) => (base, options.links.as_slice()),
            None => (&cut, [].as_slice()),
        };
        let schedule = |from, to| LinkSchedule::new(base, &relay_name(from), &relay_name(to), changes);
        Ok(Pair { relays: (low, high), there: schedule(low, high)?, back: schedule(high, low)? })
    });
    pairs.collect()
}

fn start_proxy(options: &Options) -> anyhow::Result<Proxy> {
    Proxy::start(&pairs(options)?, Seed(options.seed)).context("the impairment proxy does not start")
}

async fn start_relay(
    state: &TempDir,
    operations: &Operations,
    proxy: &Proxy,
    options: &Options,
    number: usize,
) -> anyhow::Result<Relay> {
    let name = relay_name(number);
    let request =
        JoinTokenRequest { name: name.clone(), region: Some("dev".to_owned()), ttl_s: None, replace: false };
    let token = operations.create_join_token(request).await?.token;
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let others =
        (0..options.relays).filter_map(|other| Some((relay_name(other), proxy.address(number, other)?)));
    let settings = relay_node::Settings {
        join_token: Some(token),
        state_dir: Some(state.path().join(&name)),
        listen: Some(any_port),
        api_listen: Some(any_port),
        neighbour_addresses: others.collect(),
        workers: Some(options.workers),
        ..relay_node::Settings::default()
    };
    let node = RelayNode::start(settings.check()?).await?;
    Ok(Relay { name, port_address: node.port_address(), api_address: node.api_address(), node: Some(node) })
}
