//! A process with a port: a core under its driver, and the part of its shell that the simulator plays.

use crate::connection::{BACKOFF_FIRST, ConnectionId, End};
use crate::drive::{Drained, Driver};
use crate::host_clock::HostClock;
use crate::scenario::{Host, StreamNumber};
use crate::world::Happening;
use link_model::{Seed, Xoshiro256};
use relay_core::{
    Client, ClientCommand, ClientEvent, Input, LinkId, LinkStats, Outgoing, Output, Peer, PeerView, Received,
    Relay, RelayCommand, RelayEvent,
};
use route_core::SessionId;
use std::collections::BTreeMap;
use std::time::Duration;
use wire_format::control::LinkState;
use wire_format::session::Message;
use wire_format::{NodeIndex, PacketNumber, StreamHandle, Timestamp};

/// Between what is due and a process noticing it, at most.
pub(crate) const LATENESS_US_MAX: u64 = 80;

/// One input of either kind of core.
#[derive(Debug)]
pub(crate) enum Stimulus<'a> {
    LinkUp { link: LinkId, peer: Peer, max_datagram: u16 },
    LinkDown { link: LinkId },
    Datagrams(&'a [Received]),
    Local(&'a [Outgoing]),
    Message { link: LinkId, message: Message },
    Timeout,
    Relay(RelayCommand),
    Client(ClientCommand),
}

impl<'a> Stimulus<'a> {
    /// As an input of a core whose own commands `command` picks out.
    fn input<C>(self, command: impl FnOnce(Stimulus<'a>) -> Option<C>) -> Option<Input<'a, C>> {
        Some(match self {
            Stimulus::LinkUp { link, peer, max_datagram } => Input::LinkUp { link, peer, max_datagram },
            Stimulus::LinkDown { link } => Input::LinkDown { link },
            Stimulus::Datagrams(batch) => Input::Datagrams(batch),
            Stimulus::Local(batch) => Input::Local(batch),
            Stimulus::Message { link, message } => Input::Message { link, message },
            Stimulus::Timeout => Input::Timeout,
            own @ (Stimulus::Relay(_) | Stimulus::Client(_)) => Input::Command(command(own)?),
        })
    }
}

/// What either kind of core tells its process.
#[derive(Debug)]
pub(crate) enum NodeEvent {
    Relay(RelayEvent),
    Client(ClientEvent),
}

/// Either kind of core.
#[derive(Debug)]
pub(crate) enum Core {
    Relay(Box<Driver<Relay>>),
    Client(Box<Driver<Client>>),
}

impl Core {
    fn step(&mut self, now: Timestamp, arena: &[u8], stimulus: Stimulus<'_>) -> Drained<NodeEvent> {
        match self {
            Core::Relay(driver) => {
                let command = |own| if let Stimulus::Relay(command) = own { Some(command) } else { None };
                let input = stimulus.input(command).expect("relays get the commands of relays");
                relabel(driver.step(now, arena, input), NodeEvent::Relay)
            }
            Core::Client(driver) => {
                let command = |own| if let Stimulus::Client(command) = own { Some(command) } else { None };
                let input = stimulus.input(command).expect("clients get the commands of clients");
                relabel(driver.step(now, arena, input), NodeEvent::Client)
            }
        }
    }

    fn deadline(&self) -> Option<Timestamp> {
        match self {
            Core::Relay(driver) => driver.deadline(),
            Core::Client(driver) => driver.deadline(),
        }
    }

    /// What the core knows of its links to relays; a client has none.
    pub(crate) fn relay_links(&self) -> Vec<(LinkId, LinkStats)> {
        let views = match self {
            Core::Relay(driver) => driver.core().link_views(),
            Core::Client(_) => Vec::new(),
        };
        let to_relays = views.into_iter().filter(|view| matches!(view.peer, PeerView::Relay { .. }));
        to_relays.map(|view| (view.link, view.stats)).collect()
    }

    /// Counters that are not zero.
    pub(crate) fn counters(&self) -> Vec<(&'static str, u64)> {
        let all: Vec<_> = match self {
            Core::Relay(driver) => driver.core().counters().entries().collect(),
            Core::Client(driver) => driver.core().counters().entries().collect(),
        };
        all.into_iter().filter(|(_, value)| *value > 0).collect()
    }
}

fn relabel<E>(drained: Drained<E>, label: impl Fn(E) -> NodeEvent) -> Drained<NodeEvent> {
    let outputs = drained.outputs.into_iter().map(|output| match output {
        Output::Message { link, message } => Output::Message { link, message },
        Output::Close { link, reason } => Output::Close { link, reason },
        Output::PathChallenged { link } => Output::PathChallenged { link },
        Output::ClosePlain { port } => Output::ClosePlain { port },
        Output::Event(event) => Output::Event(label(event)),
    });
    Drained {
        departures: drained.departures,
        deliveries: drained.deliveries,
        outputs: outputs.collect(),
        violations: drained.violations,
    }
}

/// What a process does about a host that it dials.
#[derive(Debug)]
pub(crate) struct Dial {
    /// The connection that stands or is being made.
    pub(crate) active: Option<ConnectionId>,
    /// To wait before the next.
    pub(crate) backoff: Duration,
}

impl Dial {
    pub(crate) fn new() -> Dial {
        Dial { active: None, backoff: BACKOFF_FIRST }
    }
}

/// The part of a relay's shell that is played.
#[derive(Debug, Default)]
pub(crate) struct RelayShell {
    /// From the certificate; survives the process.
    pub(crate) node: Option<NodeIndex>,
    /// Names that certificates of neighbours must carry.
    pub(crate) neighbours: BTreeMap<NodeIndex, String>,
    pub(crate) session: Option<SessionId>,
    pub(crate) control_backoff: Duration,
}

/// The part of a client's process that is played.
#[derive(Debug, Default)]
pub(crate) struct ClientShell {
    /// Streams announced, by handle; `None` for one that the scenario does not know.
    pub(crate) announced: BTreeMap<StreamHandle, Option<StreamNumber>>,
    /// Which of its relays it uses.
    pub(crate) place: usize,
}

/// A process with a port.
#[derive(Debug)]
pub(crate) struct Node {
    /// Counts starts; what belongs to an earlier life does not reach a later one.
    pub(crate) life: u32,
    pub(crate) alive: bool,
    /// Faults that keep it dead now.
    pub(crate) held_down: u32,
    /// Faults that make it hostile now.
    pub(crate) hostile: u32,
    /// Faults that keep it from running now.
    pub(crate) frozen: u32,
    /// What would have happened to it meanwhile.
    pub(crate) stalled: Vec<Happening>,
    pub(crate) core: Option<Core>,
    clock: HostClock,
    rng: Xoshiro256,
    /// Datagrams that came since the last wake-up.
    pub(crate) inbox: Vec<(LinkId, PacketNumber, Vec<u8>)>,
    pub(crate) wake_is_due: bool,
    /// When the world will look at the deadline.
    pub(crate) alarm: Option<Duration>,
    pub(crate) links: BTreeMap<LinkId, (ConnectionId, End)>,
    next_link: u32,
    pub(crate) dials: BTreeMap<Host, Dial>,
    pub(crate) relay: RelayShell,
    pub(crate) client: ClientShell,
}

impl Node {
    pub(crate) fn new(seed: Seed, clock_drift_ppm: u32) -> Node {
        let mut rng = seed.child("shell").stream();
        // Clocks of two hosts have nothing in common.
        let origin = Duration::from_micros(rng.within(0..=3_600_000_000));
        Node {
            life: 0,
            alive: false,
            held_down: 0,
            hostile: 0,
            frozen: 0,
            stalled: Vec::new(),
            core: None,
            clock: HostClock::new(seed, origin, clock_drift_ppm),
            rng,
            inbox: Vec::new(),
            wake_is_due: false,
            alarm: None,
            links: BTreeMap::new(),
            next_link: 0,
            dials: BTreeMap::new(),
            relay: RelayShell::default(),
            client: ClientShell::default(),
        }
    }

    /// The process starts.
    pub(crate) fn start(&mut self) {
        self.life += 1;
        self.alive = true;
        self.relay =
            RelayShell { node: self.relay.node, control_backoff: BACKOFF_FIRST, ..RelayShell::default() };
    }

    /// The process dies.
    pub(crate) fn stop(&mut self) {
        self.alive = false;
        self.core = None;
        self.frozen = 0;
        self.stalled.clear();
        self.inbox.clear();
        self.wake_is_due = false;
        self.alarm = None;
        self.links.clear();
        self.next_link = 0;
        self.dials.clear();
        self.relay.session = None;
        self.relay.neighbours.clear();
        self.client.announced.clear();
    }

    /// That life of the process is the present one.
    pub(crate) fn lives(&self, life: u32) -> bool {
        self.alive && self.life == life
    }

    pub(crate) fn new_link(&mut self, connection: ConnectionId, end: End) -> LinkId {
        let link = LinkId(self.next_link);
        self.next_link += 1;
        self.links.insert(link, (connection, end));
        link
    }

    /// A little time until the process notices something.
    pub(crate) fn lateness(&mut self) -> Duration {
        Duration::from_micros(self.rng.within(0..=LATENESS_US_MAX))
    }

    /// A draw of its own, for backoff and the like.
    pub(crate) fn up_to(&mut self, most: Duration) -> Duration {
        Duration::from_micros(self.rng.within(0..=most.as_micros() as u64))
    }

    /// What its clock shows.
    fn local(&self, now: Duration) -> Timestamp {
        self.clock.shows(now)
    }

    pub(crate) fn step(
        &mut self,
        now: Duration,
        arena: &[u8],
        stimulus: Stimulus<'_>,
    ) -> Option<Drained<NodeEvent>> {
        let local = self.local(now);
        Some(self.core.as_mut()?.step(local, arena, stimulus))
    }

    /// The state of every link to a relay.
    pub(crate) fn neighbour_states(&self) -> Vec<(LinkId, LinkState)> {
        match &self.core {
            Some(Core::Relay(driver)) => {
                driver.core().neighbour_states().into_iter().map(|(link, _, state)| (link, state)).collect()
            }
            Some(Core::Client(_)) | None => Vec::new(),
        }
    }

    /// The core's deadline by the world's clock.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let deadline = self.core.as_ref()?.deadline()?;
        Some(self.clock.world(deadline))
    }
}
