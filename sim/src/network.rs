//! The network between ports: paths, what crosses them, and connections over them.

use crate::capture::Crossing;
use crate::connection::{
    Connection, ConnectionId, DIAL_TIMEOUT, End, Flight, QUIC_OVERHEAD_BYTES, RESEND_FIRST, RESEND_LAST,
    Stage, next_backoff,
};
use crate::drive::{Departure, sealed_bytes};
use crate::hostile;
use crate::loss::Cost;
use crate::node::{Core, Dial, Stimulus};
use crate::play::SILENCE_EVERY;
use crate::scenario::{Host, RelayId};
use crate::trace::Event;
use crate::world::{Happening, Observer, World};
use link_model::{DropReason, Fate, Link, LinkChange, LinkSpec, Seed};
use relay_core::{LinkId, Peer};
use std::collections::btree_map::Entry;
use std::time::Duration;
use wire_format::control::LinkState;
use wire_format::session::{Cipher, Message, Role, WIRE_VERSIONS};
use wire_format::{DATAGRAM_BYTES_MAX, PacketNumber, codec};

/// One direction of the network between two hosts.
#[derive(Debug)]
pub(crate) struct Path {
    link: Link,
    /// What the scenario says of it, faults aside.
    planned: LinkSpec,
    /// Faults that cut it now.
    cuts: u32,
}

impl Path {
    pub(crate) fn new(spec: LinkSpec, seed: Seed) -> Path {
        Path { link: Link::new(spec.clone(), seed), planned: spec, cuts: 0 }
    }

    pub(crate) fn set(&mut self, spec: LinkSpec) {
        self.planned = spec;
        self.apply();
    }

    pub(crate) fn cut(&mut self, begins: bool) {
        if begins {
            self.cuts += 1;
        } else {
            self.cuts -= 1;
        }
        self.apply();
    }

    fn apply(&mut self) {
        let spec = if self.cuts > 0 {
            self.planned.with(&LinkChange::down(true)).expect("the switch fits every link")
        } else {
            self.planned.clone()
        };
        self.link.change(spec);
    }
}

impl World<'_> {
    fn offer(&mut self, direction: (Host, Host), bytes: usize) -> Fate {
        let now = self.now;
        match self.paths.get_mut(&direction) {
            Some(path) => path.link.offer(now, bytes),
            None => Fate::Dropped(DropReason::Down),
        }
    }

    fn connection(&mut self, ConnectionId(place): ConnectionId) -> &mut Connection {
        &mut self.connections[place as usize]
    }

    /// Who is at that end of a connection.
    pub(crate) fn host_at(&self, ConnectionId(place): ConnectionId, end: End) -> Host {
        self.connections[place as usize].end(end).host
    }

    // Dialling and the handshake.

    /// Wants a connection to a host, now and whenever it is lost.
    pub(crate) fn want_connection(&mut self, host: Host, to: Host) {
        let life = self.node(host).life;
        if let Entry::Vacant(dial) = self.node(host).dials.entry(to) {
            dial.insert(Dial::new());
            self.schedule(Duration::ZERO, Happening::Dial { host, life, to });
        }
    }

    pub(crate) fn dial(&mut self, host: Host, life: u32, to: Host) {
        let acceptor_life = self.node(to).life;
        let connection = ConnectionId(self.connections.len() as u32);
        let node = self.node(host);
        if !node.lives(life) || node.core.is_none() {
            return;
        }
        if node.dials.get(&to).is_none_or(|dial| dial.active.is_some()) {
            return;
        }
        // A link that was given up for silent may have been heard again.
        let held = self.held_link(host, to);
        let dial = self.node(host).dials.get_mut(&to).expect("looked up a moment ago");
        if held.is_some() {
            dial.active = held;
            return;
        }
        dial.active = Some(connection);
        self.connections.push(Connection::new((host, life), (to, acceptor_life)));
        self.schedule(DIAL_TIMEOUT, Happening::DialTimeout(connection));
        self.send_flight(connection, Flight::Initial, RESEND_FIRST);
    }

    /// The connection of a link that this relay dialled and that is not silent.
    fn held_link(&mut self, host: Host, to: Host) -> Option<ConnectionId> {
        let states = self.node(host).neighbour_states();
        let heard = states.into_iter().filter(|(_, state)| *state != LinkState::Down);
        let connections: Vec<_> =
            heard.filter_map(|(link, _)| self.node(host).links.get(&link).copied()).collect();
        let mut ours = connections.into_iter().filter(|(_, end)| *end == End::Dialler);
        ours.find(|(connection, _)| self.connection(*connection).direction(End::Dialler).1 == to)
            .map(|(connection, _)| connection)
    }

    /// A neighbour that crashed and came back does not know the old link any more: it is dialled anew.
    pub(crate) fn watch_silence(&mut self, relay: RelayId, life: u32) {
        let host = Host::Relay(relay);
        if !self.node(host).lives(life) {
            return;
        }
        self.schedule(SILENCE_EVERY, Happening::WatchSilence { relay, life });
        for (link, state) in self.node(host).neighbour_states() {
            let Some((connection, End::Dialler)) = self.node(host).links.get(&link).copied() else {
                continue;
            };
            if state == LinkState::Down {
                self.dial_failed(connection);
            }
        }
    }

    fn send_flight(&mut self, connection: ConnectionId, flight: Flight, wait: Duration) {
        let direction = self.connection(connection).direction(flight.from());
        let fate = self.offer(direction, flight.bytes());
        if let Fate::Delivered { at, copy_at: _ } = fate {
            self.queue.push(at, Happening::FlightArrives { connection, flight });
        }
        self.schedule(wait, Happening::FlightResend { connection, flight, wait });
    }

    pub(crate) fn flight_resend(&mut self, connection: ConnectionId, flight: Flight, wait: Duration) {
        if self.connection(connection).stage == Stage::Handshake(flight) {
            self.send_flight(connection, flight, (2 * wait).min(RESEND_LAST));
        }
    }

    pub(crate) fn flight_arrives(&mut self, connection: ConnectionId, flight: Flight) {
        if self.connection(connection).stage != Stage::Handshake(flight) {
            return;
        }
        let at = flight.from().other();
        let (host, life) =
            (self.connection(connection).end(at).host, self.connection(connection).end(at).life);
        if flight == Flight::Initial {
            // Whoever lives there now answers.
            let life = self.node(host).life;
            self.connection(connection).end_mut(at).life = life;
        } else if !self.node(host).lives(life) {
            return;
        }
        if self.node(host).core.is_none() {
            return;
        }
        match flight {
            Flight::Initial => self.next_flight(connection, Flight::Certificate),
            Flight::Certificate => self.next_flight(connection, Flight::Hello),
            Flight::Hello => match self.admit(connection) {
                Some(peer) => {
                    self.next_flight(connection, Flight::Answer);
                    self.link_up(connection, End::Acceptor, peer);
                }
                None => {
                    self.connection(connection).stage = Stage::Over;
                    self.dial_failed(connection);
                }
            },
            Flight::Answer => {
                self.connection(connection).stage = Stage::Established;
                match self.expected_peer(connection) {
                    Some(peer) => self.link_up(connection, End::Dialler, peer),
                    None => self.close_end(connection, End::Dialler),
                }
            }
        }
    }

    fn next_flight(&mut self, connection: ConnectionId, flight: Flight) {
        self.connection(connection).stage = Stage::Handshake(flight);
        self.send_flight(connection, flight, RESEND_FIRST);
    }

    /// What the acceptor makes of the dialler's hello; `None` is a refusal.
    fn admit(&mut self, connection: ConnectionId) -> Option<Peer> {
        let dialler = self.connection(connection).end(End::Dialler).host;
        let acceptor = self.connection(connection).end(End::Acceptor).host;
        let role = match dialler {
            Host::Relay(_) => Role::Relay { node: self.node(dialler).relay.node? },
            Host::Client(_) => Role::Client { token: self.scenario.host_name(dialler).to_owned() },
        };
        let hello = Message::Hello {
            versions: WIRE_VERSIONS,
            receiver: connection.0,
            ciphers: vec![Cipher::Aes128Gcm, Cipher::ChaCha20Poly1305],
            max_datagram: DATAGRAM_BYTES_MAX as u16,
            role,
        };
        let bytes = self.encoded(dialler, &hello)?;
        let Ok(Message::Hello { role, .. }) = decode(&bytes) else { return None };
        match role {
            Role::Relay { node } => {
                // The certificate names the dialler, the pushed list says which name belongs to that index.
                let name = self.node(acceptor).relay.neighbours.get(&node)?.clone();
                (name == self.scenario.host_name(dialler)).then_some(Peer::Relay { node })
            }
            Role::Client { token } => {
                let client = self.scenario.clients.iter().find(|client| client.name == token)?;
                Some(Peer::Client(client.rights.clone()))
            }
        }
    }

    fn expected_peer(&mut self, connection: ConnectionId) -> Option<Peer> {
        let dialler = self.connection(connection).end(End::Dialler).host;
        let acceptor = self.connection(connection).end(End::Acceptor).host;
        match dialler {
            Host::Client(_) => Some(Peer::Upstream),
            Host::Relay(_) => {
                let name = self.scenario.host_name(acceptor);
                let neighbours = &self.node(dialler).relay.neighbours;
                let known = neighbours.iter().find(|(_, neighbour)| *neighbour == name);
                known.map(|(node, _)| Peer::Relay { node: *node })
            }
        }
    }

    pub(crate) fn dial_timeout(&mut self, connection: ConnectionId) {
        if matches!(self.connection(connection).stage, Stage::Handshake(_)) {
            self.connection(connection).stage = Stage::Over;
            self.send_close(connection, End::Dialler);
            self.dial_failed(connection);
        }
    }

    /// The dialler waits and tries again, unless it is gone or no longer wants to.
    fn dial_failed(&mut self, connection: ConnectionId) {
        let (host, to) = self.connection(connection).direction(End::Dialler);
        let life = self.connection(connection).end(End::Dialler).life;
        let node = self.node(host);
        if !node.lives(life) {
            return;
        }
        let Some(dial) = node.dials.get_mut(&to).filter(|dial| dial.active == Some(connection)) else {
            return;
        };
        dial.active = None;
        let backoff = dial.backoff;
        dial.backoff = next_backoff(backoff);
        let wait = backoff + node.up_to(backoff / 4);
        self.schedule(wait, Happening::Dial { host, life, to });
    }

    fn link_up(&mut self, connection: ConnectionId, end: End, peer: Peer) {
        let (host, with) = self.connection(connection).direction(end);
        let link = self.node(host).new_link(connection, end);
        if let Some(dial) = self.node(host).dials.get_mut(&with) {
            dial.backoff = crate::connection::BACKOFF_FIRST;
        }
        self.connection(connection).end_mut(end).link = Some(link);
        self.record(Event::LinkUp { at: host, with });
        let max_datagram = DATAGRAM_BYTES_MAX as u16;
        self.feed(host, &[], Stimulus::LinkUp { link, peer, max_datagram });
    }

    /// A core closes a link.
    pub(crate) fn close(&mut self, host: Host, link: LinkId) {
        if let Some((connection, end)) = self.node(host).links.get(&link).copied() {
            self.close_end(connection, end);
        }
    }

    /// One end closes: it hears of that at once, the other when the word arrives, if it does.
    pub(crate) fn close_end(&mut self, connection: ConnectionId, end: End) {
        self.send_close(connection, end);
        self.schedule(Duration::ZERO, Happening::LinkOver { connection, end });
    }

    pub(crate) fn send_close(&mut self, connection: ConnectionId, from: End) {
        let direction = self.connection(connection).direction(from);
        if let Fate::Delivered { at, copy_at: _ } = self.offer(direction, QUIC_OVERHEAD_BYTES) {
            self.queue.push(at, Happening::LinkOver { connection, end: from.other() });
        }
    }

    pub(crate) fn link_over(&mut self, connection: ConnectionId, end: End) {
        self.connection(connection).stage = Stage::Over;
        let (host, with) = self.connection(connection).direction(end);
        let life = self.connection(connection).end(end).life;
        let link = self.connection(connection).end_mut(end).link.take();
        if !self.node(host).lives(life) {
            return;
        }
        if let Some(link) = link {
            self.meter_link(host, link);
            self.node(host).links.remove(&link);
            self.record(Event::LinkDown { at: host, with });
            self.feed(host, &[], Stimulus::LinkDown { link });
        }
        if end == End::Dialler {
            self.dial_failed(connection);
        }
    }

    /// What a link cost is known until its core forgets it.
    fn meter_link(&mut self, host: Host, link: LinkId) {
        let Observer::Meter(meter) = &mut self.observer else { return };
        let links = self.nodes.get(&host).and_then(|node| node.core.as_ref()).map(Core::relay_links);
        if let Some((_, stats)) = links.unwrap_or_default().into_iter().find(|(other, _)| *other == link) {
            meter.link_over(Cost::of(&stats.repair));
        }
    }

    // Sealed datagrams.

    pub(crate) fn send_datagram(&mut self, connection: ConnectionId, from: End, mut departure: Departure) {
        let (host, to_host) = self.connection(connection).direction(from);
        if !self.connection(connection).end_mut(from).number_is_fresh(departure.number) {
            let what = format!("packet number {} used twice or out of order", departure.number);
            self.violation(self.scenario.host_name(host), what);
        }
        let sound = departure.plain.len();
        if let (Host::Relay(_), Host::Relay(_)) = (host, to_host)
            && self.node(host).hostile > 0
            && let Some(heard) = self.connection(connection).end(from.other()).last_number
        {
            hostile::provoke(&mut departure.plain, departure.number, heard);
        }
        let bytes = sealed_bytes(&departure);
        if bytes > DATAGRAM_BYTES_MAX {
            let what = format!("a datagram of {bytes} bytes, more than the {DATAGRAM_BYTES_MAX} agreed on");
            self.violation(self.scenario.host_name(host), what);
        }
        let fate = self.offer((host, to_host), bytes);
        let end = from;
        self.tap(connection, end, Crossing::Datagram(departure.number.0, &departure.plain), fate);
        if let (
            Host::Relay(from),
            Host::Relay(to),
            Observer::Trace(_) | Observer::Hash(_) | Observer::Survey(_),
        ) = (host, to_host, &self.observer)
        {
            self.observe_datagram((connection, end), (from, to), &departure.plain[..sound], fate);
        }
        let Departure { link: _, number, plain } = departure;
        if let Fate::Delivered { at, copy_at } = fate {
            let to = from.other();
            if let Some(copy_at) = copy_at {
                let copy = Happening::DatagramArrives { connection, to, number, plain: plain.clone() };
                self.queue.push(copy_at, copy);
            }
            self.queue.push(at, Happening::DatagramArrives { connection, to, number, plain });
        }
    }

    pub(crate) fn datagram_arrives(
        &mut self,
        connection: ConnectionId,
        to: End,
        number: PacketNumber,
        plain: Vec<u8>,
    ) {
        let end = self.connection(connection).end_mut(to);
        let (host, life) = (end.host, end.life);
        // Before its keys are known and after they are forgotten, nobody can open it.
        let Some(link) = end.link else { return };
        if !end.admit(number) {
            return;
        }
        let node = self.node(host);
        if !node.lives(life) {
            return;
        }
        node.inbox.push((link, number, plain));
        if !std::mem::replace(&mut node.wake_is_due, true) {
            let late = node.lateness();
            self.schedule(late, Happening::Wake { host, life });
        }
    }

    // The reliable stream.

    /// A core says something to the other end.
    pub(crate) fn say(&mut self, host: Host, link: LinkId, message: &Message) {
        let Some((connection, end)) = self.node(host).links.get(&link).copied() else { return };
        let Some(bytes) = self.encoded(host, message) else { return };
        let place = self.connection(connection).end_mut(end).enqueue(bytes);
        self.send_segment(connection, end, place, RESEND_FIRST);
    }

    /// The message as bytes that give the same message again.
    fn encoded(&mut self, host: Host, message: &Message) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let encoded = codec::encode(message, &mut bytes).map_err(|error| error.to_string());
        let survives = encoded.and_then(|()| match decode(&bytes)? {
            same if same == *message => Ok(()),
            other => Err(format!("{message:?} became {other:?}")),
        });
        match survives {
            Ok(()) => Some(bytes),
            Err(what) => {
                self.violation(self.scenario.host_name(host), format!("session message: {what}"));
                None
            }
        }
    }

    pub(crate) fn send_segment(&mut self, connection: ConnectionId, from: End, place: u64, wait: Duration) {
        let direction = self.connection(connection).direction(from);
        let end = self.connection(connection).end(from);
        // The sender is gone, or the receiver has it.
        let Some(bytes) = end.unacknowledged.get(&place).filter(|_| end.link.is_some()).map(Vec::len) else {
            return;
        };
        let fate = self.offer(direction, bytes + QUIC_OVERHEAD_BYTES);
        if self.is_tapped(direction)
            && let Some(message) = self.connection(connection).end(from).unacknowledged.get(&place).cloned()
        {
            self.tap(connection, from, Crossing::Message(place, &message), fate);
        }
        match fate {
            Fate::Delivered { at, copy_at: _ } => {
                self.queue.push(at, Happening::SegmentArrives { connection, to: from.other(), place });
            }
            Fate::Dropped(_) => {
                let longer = (2 * wait).min(RESEND_LAST);
                self.schedule(wait, Happening::SegmentResend { connection, from, place, wait: longer });
            }
        }
    }

    pub(crate) fn segment_arrives(&mut self, connection: ConnectionId, to: End, place: u64) {
        let early = matches!(self.connection(connection).stage, Stage::Handshake(_));
        let receiver = self.connection(connection).end(to);
        let (host, life) = (receiver.host, receiver.life);
        let Some(link) = receiver.link else {
            if early {
                // What follows the answer waits for it.
                let again = Happening::SegmentArrives { connection, to, place };
                self.schedule(Duration::from_millis(10), again);
            }
            return;
        };
        if !self.node(host).lives(life) {
            return;
        }
        let Some(bytes) = self.connection(connection).end_mut(to.other()).unacknowledged.remove(&place)
        else {
            return;
        };
        for bytes in self.connection(connection).end_mut(to).receive(place, bytes) {
            match decode(&bytes) {
                Ok(message) => self.feed(host, &[], Stimulus::Message { link, message }),
                Err(what) => self.violation(self.scenario.host_name(host), what),
            }
        }
    }
}

/// The message in length prefix and body.
fn decode(bytes: &[u8]) -> Result<Message, String> {
    let (prefix, body) = bytes.split_first_chunk().ok_or("a message without a prefix")?;
    match codec::body_length(*prefix) {
        Ok(length) if length == body.len() => codec::decode(body).map_err(|error| error.to_string()),
        Ok(length) => Err(format!("a prefix of {length} before {} bytes", body.len())),
        Err(error) => Err(error.to_string()),
    }
}
