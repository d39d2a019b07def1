//! From TOML to a legal scenario.

use super::{
    Backdrop, CLOCK_DRIFT_PPM_MAX, ClientId, ClientSpec, Expect, Fault, FaultKind, Grain, Host, RelayId,
    RelaySpec, Rhythm, Rooms, RouteLimits, Routing, Scenario, Stalls, StreamSpec, SubscriptionSpec,
};
use super::{keys, policies, spread};
use link_model::{LinkOption, LinkSchedule, LinkSpec, Selector, SpecError, parse_duration};
use relay_core::ClientRights;
use route_core::PolicyError;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use wire_format::Priority;
use wire_format::control::Position;

/// Why a text is no scenario. The message says what is wrong and what to do.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScenarioError {
    /// No TOML, a key absent, or a value of the wrong type.
    #[error("{0}")]
    Syntax(String),
    /// A key that does not exist.
    #[error("unknown key `{key}` in {place}; did you mean `{nearest}`? Keys are {}", .keys.join(", "))]
    UnknownKey {
        /// The table.
        place: String,
        /// The key.
        key: String,
        /// The known key most like it.
        nearest: &'static str,
        /// All known keys.
        keys: &'static [&'static str],
    },
    /// A name that nothing in the scenario has.
    #[error("{place}: there is no {what} {name:?}; there are {known}")]
    UnknownName {
        /// The table.
        place: &'static str,
        /// Relay or client.
        what: &'static str,
        /// The name.
        name: String,
        /// All that exist.
        known: String,
    },
    /// A name given twice.
    #[error("two hosts are called {0:?}; names are unique among relays and clients")]
    TwoOfAName(String),
    /// A value that makes no sense.
    #[error("{place}: {key} = {value:?}: {problem}")]
    Value {
        /// The table.
        place: &'static str,
        /// The key.
        key: &'static str,
        /// What was written.
        value: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// Policies that make no sense.
    #[error("[[policy]]: {0}")]
    Policies(#[from] PolicyError),
    /// A link that makes no sense.
    #[error("{place}: {problem}")]
    Link {
        /// The table.
        place: &'static str,
        /// What is wrong.
        problem: SpecError,
    },
}

/// Relays, clients, streams and subscriptions of a scenario.
const HOSTS_MAX: usize = 1_000;
const STREAMS_MAX: usize = 10_000;
const RUN_MAX: Duration = Duration::from_secs(3_600);
const FLOW_RUN_MAX: Duration = Duration::from_secs(31 * 24 * 3_600);

pub(super) type FileReader<'a> = &'a mut dyn FnMut(&str) -> std::io::Result<String>;

impl Scenario {
    /// Reads a scenario. `read` gives the text of a loss trace that it names.
    ///
    /// # Errors
    /// A message for people about the first thing that is wrong.
    pub fn parse(text: &str, read: FileReader<'_>) -> Result<Scenario, ScenarioError> {
        let syntax = |error: toml::de::Error| ScenarioError::Syntax(error.to_string().trim_end().to_owned());
        let table: toml::Table = toml::from_str(text).map_err(syntax)?;
        keys::check(&table)?;
        let file: keys::File = toml::from_str(text).map_err(syntax)?;
        let backdrop =
            file.topology.as_ref().map(|wanted| spread::backdrop(wanted, &file, read)).transpose()?;
        let scenario = Reader::new(&file, backdrop.as_ref())?.scenario(&file, backdrop, read)?;
        let routing = routing(file.routing.as_deref())?;
        if scenario.grain == Grain::Flow && routing != Routing::Overlay {
            let (value, problem) = (routing.to_string(), "it takes `grain = \"packet\"`".to_owned());
            return Err(ScenarioError::Value { place: "the scenario", key: "routing", value, problem });
        }
        Ok(scenario.routed(routing))
    }
}

/// Names that the file defines.
struct Reader {
    relays: Vec<String>,
    clients: Vec<String>,
    run_for: Duration,
}

impl Reader {
    fn new(file: &keys::File, backdrop: Option<&Backdrop>) -> Result<Reader, ScenarioError> {
        let own = file.relay.iter().flatten().map(|relay| relay.name.clone());
        let placed = backdrop.iter().flat_map(|backdrop| &backdrop.topology.places);
        let relays: Vec<_> = own.chain(placed.map(|place| place.name.clone())).collect();
        let clients: Vec<_> = file.client.iter().flatten().map(|client| client.name.clone()).collect();
        let mut seen = BTreeSet::new();
        if let Some(twice) = relays.iter().chain(&clients).find(|name| !seen.insert(name.as_str())) {
            return Err(ScenarioError::TwoOfAName(twice.clone()));
        }
        let streams = file.stream.as_ref().map_or(0, Vec::len);
        // Rooms bring their own; at flow grain nobody needs to speak.
        let least = usize::from(file.rooms.is_none() && grain(file)? == Grain::Packet);
        let counts = [
            ("relay", relays.len(), 1, HOSTS_MAX),
            ("client", clients.len(), least, HOSTS_MAX),
            ("stream", streams, least, STREAMS_MAX),
        ];
        for (key, count, least, most) in counts {
            if count < least || count > most {
                let problem = format!("{least} to {most} are possible");
                return Err(ScenarioError::Value {
                    place: "the scenario",
                    key,
                    value: count.to_string(),
                    problem,
                });
            }
        }
        let run_for = duration("the scenario", "run_for", &file.run_for)?;
        let run_max = match grain(file)? {
            Grain::Packet => RUN_MAX,
            Grain::Flow => FLOW_RUN_MAX,
        };
        if run_for < 2 * Scenario::TAIL || run_for > run_max {
            let problem = format!("{:?} to {run_max:?} are possible", 2 * Scenario::TAIL);
            let value = file.run_for.clone();
            return Err(ScenarioError::Value { place: "the scenario", key: "run_for", value, problem });
        }
        Ok(Reader { relays, clients, run_for })
    }

    fn scenario(
        &self,
        file: &keys::File,
        backdrop: Option<Backdrop>,
        read: FileReader<'_>,
    ) -> Result<Scenario, ScenarioError> {
        let clients = file.client.iter().flatten();
        let clients = clients.map(|client| self.client(client)).collect::<Result<Vec<_>, _>>()?;
        let faults = file.fault.iter().flatten().map(|fault| self.fault(fault)).collect::<Result<_, _>>()?;
        let controller_delay = file.controller_delay.as_deref().unwrap_or("10ms");
        let feed_gain = match file.feed_gain.as_deref() {
            Some("none") => None,
            Some(text) => Some(duration("the scenario", "feed_gain", text)?),
            None => route_core::FeedingConfig::default().gain,
        };
        let index_quarantine = match file.index_quarantine.as_deref() {
            Some(text) => duration("the scenario", "index_quarantine", text)?,
            None => route_core::INDEX_QUARANTINE,
        };
        let grain = grain(file)?;
        let mut relays = file.relay.iter().flatten().map(relay).collect::<Result<Vec<_>, _>>()?;
        relays.extend(backdrop.iter().flat_map(Backdrop::relays));
        let rooms =
            file.rooms.iter().flatten().map(|rooms| Rooms::read(rooms, read)).collect::<Result<_, _>>()?;
        let expected = match (&file.expect, grain) {
            (Some(table), _) => expect(table)?,
            (None, Grain::Flow) => Expect::nothing(),
            (None, Grain::Packet) => {
                let problem =
                    "[expect] says what must hold: give `recover_within` and `delivered_min`".to_owned();
                return Err(ScenarioError::Syntax(problem));
            }
        };
        let mut scenario = Scenario {
            name: file.name.clone(),
            seed: file.seed.unwrap_or(1),
            grain,
            run_for: self.run_for,
            relays,
            paths: self.paths(file, &clients, backdrop.as_ref(), read)?,
            topology: backdrop,
            rooms,
            mesh_max: file
                .mesh_max
                .map(|most| in_range("the scenario", "mesh_max", most, 2, 1_000))
                .transpose()?
                .map(|most| most as usize),
            report_every: every("report_every", file.report_every.as_deref(), "1s")?,
            sample_every: every("sample_every", file.sample_every.as_deref(), "60s")?,
            routes: file.routes.as_ref().map(RouteLimits::read).transpose()?.unwrap_or_default(),
            clients,
            controller_delay: duration("the scenario", "controller_delay", controller_delay)?,
            index_quarantine,
            feed_gain,
            packets_from: packets_from(file.packets_from)?,
            clock_drift_ppm: in_range(
                "the scenario",
                "clock_drift_ppm",
                file.clock_drift_ppm.unwrap_or(0),
                0,
                CLOCK_DRIFT_PPM_MAX,
            )?,
            stalls: file.stalls.as_ref().map(stalls).transpose()?,
            streams: file
                .stream
                .iter()
                .flatten()
                .map(|stream| self.stream(stream, read))
                .collect::<Result<_, _>>()?,
            subscriptions: file
                .subscription
                .iter()
                .flatten()
                .map(|s| self.subscription(s))
                .collect::<Result<_, _>>()?,
            faults,
            policies: policies::policies(file)?,
            policies_from: match file.policies_from.as_deref() {
                Some(text) => duration("the scenario", "policies_from", text)?,
                None => Duration::ZERO,
            },
            egress: file.price.iter().flatten().map(policies::price).collect(),
            routing: Routing::Overlay,
            expect: expected,
        };
        if grain == Grain::Packet {
            scenario.move_in()?;
        }
        Ok(scenario)
    }

    fn relay_id(&self, place: &'static str, name: &str) -> Result<RelayId, ScenarioError> {
        let at = self.relays.iter().position(|relay| relay == name);
        at.map(|at| RelayId(at as u16)).ok_or_else(|| unknown(place, "relay", name, &self.relays))
    }

    fn client_id(&self, place: &'static str, name: &str) -> Result<ClientId, ScenarioError> {
        let at = self.clients.iter().position(|client| client == name);
        at.map(|at| ClientId(at as u16)).ok_or_else(|| unknown(place, "client", name, &self.clients))
    }

    fn client(&self, client: &keys::Client) -> Result<ClientSpec, ScenarioError> {
        Ok(ClientSpec {
            name: client.name.clone(),
            relay: self.relay_id("[[client]]", &client.relay)?,
            others: client
                .others
                .iter()
                .flatten()
                .map(|name| self.relay_id("[[client]]", name))
                .collect::<Result<_, _>>()?,
            rights: ClientRights {
                subject: client.name.clone(),
                namespace: client.namespace.clone().unwrap_or_else(|| "demo".to_owned()),
                room_pattern: client.rooms.clone().unwrap_or_else(|| "*".to_owned()),
                publish: client.publish.unwrap_or(true),
                subscribe: client.subscribe.unwrap_or(true),
                token: None,
            },
        })
    }

    fn stream(&self, stream: &keys::Stream, read: FileReader<'_>) -> Result<StreamSpec, ScenarioError> {
        const PLACE: &str = "[[stream]]";
        let (from, until) = self.span(PLACE, stream.from.as_deref(), stream.until.as_deref())?;
        let time =
            |key, text: &Option<String>| text.as_deref().map(|text| duration(PLACE, key, text)).transpose();
        let priority = stream.priority.as_deref().map(|text| priority(PLACE, text)).transpose()?;
        Ok(StreamSpec {
            client: self.client_id(PLACE, &stream.client)?,
            room: stream.room.clone(),
            user: stream.user.clone(),
            name: stream.stream.clone(),
            kind: stream.kind,
            rhythm: Rhythm::read(stream, read)?,
            budget: time("budget", &stream.budget)?,
            protect: stream.protect.unwrap_or(false),
            priority,
            from,
            until,
        })
    }

    fn subscription(&self, wanted: &keys::Subscription) -> Result<SubscriptionSpec, ScenarioError> {
        const PLACE: &str = "[[subscription]]";
        let (from, until) = self.span(PLACE, wanted.from.as_deref(), wanted.until.as_deref())?;
        Ok(SubscriptionSpec {
            client: self.client_id(PLACE, &wanted.client)?,
            room: wanted.room.clone(),
            user: wanted.user.clone(),
            stream: wanted.stream.clone(),
            from,
            until,
        })
    }

    /// From when to when, within the time of media.
    fn span(
        &self,
        place: &'static str,
        from: Option<&str>,
        until: Option<&str>,
    ) -> Result<(Duration, Duration), ScenarioError> {
        let end = self.run_for - Scenario::TAIL;
        let from_time = from.map_or(Ok(Duration::ZERO), |text| duration(place, "from", text))?;
        let until_time = until.map_or(Ok(end), |text| duration(place, "until", text))?;
        if from_time < until_time && until_time <= end {
            return Ok((from_time, until_time));
        }
        let value = format!("{} .. {}", from.unwrap_or("0"), until.unwrap_or("the end"));
        let problem = format!("the end comes after the beginning and not after {end:?}");
        Err(ScenarioError::Value { place, key: "from .. until", value, problem })
    }

    fn fault(&self, fault: &keys::Fault) -> Result<Fault, ScenarioError> {
        const PLACE: &str = "[[fault]]";
        let at = duration(PLACE, "at", &fault.at)?;
        let until = fault.until.as_deref().map(|text| duration(PLACE, "until", text)).transpose()?;
        if until.is_some_and(|until| until <= at) {
            let value = fault.until.clone().unwrap_or_default();
            let problem = "must be later than `at`".to_owned();
            return Err(ScenarioError::Value { place: PLACE, key: "until", value, problem });
        }
        let relay = |name: &String| self.relay_id(PLACE, name);
        let mut kinds = Vec::new();
        if let Some(selectors) = &fault.cut {
            let cuts = selectors.split(',').map(|selector| self.selected(PLACE, selector.trim()));
            kinds.push(FaultKind::Cut(cuts.collect::<Result<Vec<_>, _>>()?.concat()));
        }
        if let Some(name) = &fault.crash {
            let controller = name == "controller";
            kinds.push(if controller { FaultKind::ControllerCrash } else { FaultKind::Crash(relay(name)?) });
        }
        for (name, kind) in [
            (&fault.leave, FaultKind::Leave as fn(RelayId) -> FaultKind),
            (&fault.isolate, FaultKind::Isolate),
            (&fault.mute, FaultKind::Mute),
            (&fault.freeze, FaultKind::Freeze),
            (&fault.hostile, FaultKind::Hostile),
            (&fault.drain, FaultKind::Drain),
        ] {
            kinds.extend(name.as_ref().map(relay).transpose()?.map(kind));
        }
        let Ok([kind]) = <[FaultKind; 1]>::try_from(kinds) else {
            let problem = "exactly one of cut, crash, leave, isolate, mute, freeze, hostile and drain says what happens";
            let (value, problem) = (fault.at.clone(), problem.to_owned());
            return Err(ScenarioError::Value { place: PLACE, key: "at", value, problem });
        };
        Ok(Fault { kind, at, until })
    }

    fn hosts(&self) -> impl Iterator<Item = (Host, &String)> {
        let relays = self.relays.iter().enumerate().map(|(at, name)| (Host::Relay(RelayId(at as u16)), name));
        let clients =
            self.clients.iter().enumerate().map(|(at, name)| (Host::Client(ClientId(at as u16)), name));
        relays.chain(clients)
    }

    /// All directions that a selector names; `all` are those between relays.
    fn selected(&self, place: &'static str, text: &str) -> Result<Vec<(Host, Host)>, ScenarioError> {
        let selector = Selector::parse(text).map_err(|problem| ScenarioError::Link { place, problem })?;
        let mut directions = Vec::new();
        for (from, from_name) in self.hosts() {
            for (to, to_name) in self.hosts() {
                let relays = matches!((from, to), (Host::Relay(_), Host::Relay(_)));
                if from != to && selector.matches(from_name, to_name) && (relays || selector != Selector::All)
                {
                    directions.push((from, to));
                }
            }
        }
        if directions.is_empty() {
            let names: Vec<_> = self.hosts().map(|(_, name)| name.as_str()).collect();
            let problem = SpecError::NoSuchLink { selector: text.to_owned(), names: names.join(", ") };
            return Err(ScenarioError::Link { place, problem });
        }
        Ok(directions)
    }

    fn paths(
        &self,
        file: &keys::File,
        clients: &[ClientSpec],
        backdrop: Option<&Backdrop>,
        read: FileReader<'_>,
    ) -> Result<BTreeMap<(Host, Host), LinkSchedule>, ScenarioError> {
        const PLACE: &str = "[[link]]";
        let failed = |problem| ScenarioError::Link { place: PLACE, problem };
        let mut base: BTreeMap<(Host, Host), LinkSpec> = BTreeMap::new();
        if let Some(mesh) = &file.mesh {
            let spec = LinkSpec::parse(mesh, read).map_err(failed)?;
            for direction in self.selected("mesh", "all").unwrap_or_default() {
                base.insert(direction, spec.clone());
            }
        }
        let edge =
            LinkSpec::parse(file.clients_link.as_deref().unwrap_or("delay=1ms"), read).map_err(failed)?;
        for (at, client) in clients.iter().enumerate() {
            let client_host = Host::Client(ClientId(at as u16));
            for relay in client.others.iter().chain([&client.relay]).map(|relay| Host::Relay(*relay)) {
                base.insert((client_host, relay), edge.clone());
                base.insert((relay, client_host), edge.clone());
            }
        }
        let mut options: BTreeMap<(Host, Host), Vec<LinkOption>> = BTreeMap::new();
        if let Some(backdrop) = backdrop.filter(|_| grain(file) == Ok(Grain::Packet)) {
            backdrop.lay(&mut base, &mut options);
        }
        for link in file.link.iter().flatten() {
            let from = link.from.as_deref().unwrap_or("0");
            let option =
                LinkOption::parse(&format!("{}:{}@{from}", link.between, link.is), read).map_err(failed)?;
            for direction in self.selected(PLACE, &link.between)? {
                options.entry(direction).or_default().push(option.clone());
                base.entry(direction).or_default();
            }
        }
        let name = |host| match host {
            Host::Relay(relay) => &self.relays[usize::from(relay.0)],
            Host::Client(client) => &self.clients[usize::from(client.0)],
        };
        base.into_iter()
            .map(|(direction, spec)| {
                let own = options.remove(&direction).unwrap_or_default();
                let schedule = LinkSchedule::new(&spec, name(direction.0), name(direction.1), &own);
                Ok((direction, schedule.map_err(failed)?))
            })
            .collect()
    }
}

fn relay(relay: &keys::Relay) -> Result<RelaySpec, ScenarioError> {
    let region = relay.region.clone().unwrap_or_else(|| "nowhere".to_owned());
    let place = |at: [f64; 2]| {
        Position::from_degrees(at[0], at[1]).ok_or_else(|| ScenarioError::Value {
            place: "[[relay]]",
            key: "position",
            value: format!("{at:?}"),
            problem: "degrees north (-90 to 90) and east (-180 to 180) are expected".to_owned(),
        })
    };
    let position = relay.position.map(place).transpose()?;
    Ok(RelaySpec { name: relay.name.clone(), region, position })
}

fn grain(file: &keys::File) -> Result<Grain, ScenarioError> {
    match file.grain.as_deref() {
        None | Some("packet") => Ok(Grain::Packet),
        Some("flow") => Ok(Grain::Flow),
        Some(other) => Err(ScenarioError::Value {
            place: "the scenario",
            key: "grain",
            value: other.to_owned(),
            problem: "packet and flow are possible".to_owned(),
        }),
    }
}

/// At least a tenth of a second.
fn every(key: &'static str, text: Option<&str>, default: &str) -> Result<Duration, ScenarioError> {
    const PLACE: &str = "the scenario";
    let text = text.unwrap_or(default);
    let parsed = duration(PLACE, key, text)?;
    if parsed >= Duration::from_millis(100) {
        return Ok(parsed);
    }
    let problem = "100ms at least".to_owned();
    Err(ScenarioError::Value { place: PLACE, key, value: text.to_owned(), problem })
}

fn routing(text: Option<&str>) -> Result<Routing, ScenarioError> {
    text.map_or(Ok(Routing::Overlay), str::parse).map_err(|problem| ScenarioError::Value {
        place: "the scenario",
        key: "routing",
        value: text.unwrap_or_default().to_owned(),
        problem,
    })
}

fn stalls(stalls: &keys::Stalls) -> Result<Stalls, ScenarioError> {
    const PLACE: &str = "[stalls]";
    let read = Stalls {
        shortest: duration(PLACE, "shortest", &stalls.shortest)?,
        longest: duration(PLACE, "longest", &stalls.longest)?,
        apart: duration(PLACE, "apart", &stalls.apart)?,
    };
    if read.shortest <= read.longest && !read.apart.is_zero() {
        return Ok(read);
    }
    let value = format!("{}, {}, {}", stalls.shortest, stalls.longest, stalls.apart);
    let problem = "the longest is not shorter than the shortest, and there is time in between".to_owned();
    Err(ScenarioError::Value { place: PLACE, key: "shortest, longest, apart", value, problem })
}

fn expect(expect: &keys::Expect) -> Result<Expect, ScenarioError> {
    const PLACE: &str = "[expect]";
    let optional =
        |key, text: &Option<String>| text.as_deref().map(|text| duration(PLACE, key, text)).transpose();
    let recover_within = duration(PLACE, "recover_within", &expect.recover_within)?;
    Ok(Expect {
        recover_within,
        reroute_within: optional("reroute_within", &expect.reroute_within)?.unwrap_or(recover_within),
        gap_max: optional("gap_max", &expect.gap_max)?,
        join_within: optional("join_within", &expect.join_within)?.unwrap_or(recover_within),
        settled_within: optional("settled_within", &expect.settled_within)?,
        delivered_min: expect.delivered_min,
    })
}

impl Expect {
    /// What judges of packets ask of a scenario without packets.
    fn nothing() -> Expect {
        let within = Duration::MAX;
        Expect {
            recover_within: within,
            reroute_within: within,
            gap_max: None,
            join_within: within,
            settled_within: None,
            delivered_min: 0,
        }
    }
}

fn priority(place: &'static str, text: &str) -> Result<Priority, ScenarioError> {
    match text {
        "base" => Ok(Priority::BASE),
        "video" => Ok(Priority::VIDEO),
        "enhancement" => Ok(Priority::ENHANCEMENT),
        _ => {
            let problem = "base, video and enhancement are possible".to_owned();
            Err(ScenarioError::Value { place, key: "priority", value: text.to_owned(), problem })
        }
    }
}

pub(super) fn duration(
    place: &'static str,
    key: &'static str,
    text: &str,
) -> Result<Duration, ScenarioError> {
    parse_duration(text).ok_or_else(|| ScenarioError::Value {
        place,
        key,
        value: text.to_owned(),
        problem: "expected a time, for instance 20ms or 1.5s".to_owned(),
    })
}

/// Where links begin to count; what they send after that leaves numbers enough.
fn packets_from(first: Option<u64>) -> Result<u64, ScenarioError> {
    let first = first.unwrap_or(0);
    if first > u64::from(u32::MAX) << 16 {
        let problem = "2 to the 48th at most are possible".to_owned();
        return Err(ScenarioError::Value {
            place: "the scenario",
            key: "packets_from",
            value: first.to_string(),
            problem,
        });
    }
    Ok(first)
}

pub(super) fn in_range(
    place: &'static str,
    key: &'static str,
    value: u32,
    least: u32,
    most: u32,
) -> Result<u32, ScenarioError> {
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    let problem = format!("{least} to {most} are possible");
    Err(ScenarioError::Value { place, key, value: value.to_string(), problem })
}

fn unknown(place: &'static str, what: &'static str, name: &str, known: &[String]) -> ScenarioError {
    ScenarioError::UnknownName { place, what, name: name.to_owned(), known: known.join(", ") }
}
