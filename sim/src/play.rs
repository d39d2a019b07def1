//! The scenario is played: processes start and die, clients publish and subscribe, the network is cut.

use crate::drive::Driver;
use crate::media;
use crate::node::{Core, Stimulus};
use crate::scenario::{ClientId, FaultKind, Host, RelayId, StreamNumber};
use crate::trace::{Event, Packet};
use crate::world::{Happening, World};
use relay_core::{Client, ClientCommand, ClientConfig, ClientEvent, Outgoing, RelayCommand};
use std::collections::btree_map::Entry;
use std::time::Duration;
use wire_format::{ClientKey, MediaKind, RtpDescription};

/// Processes of a scenario start within this of its beginning.
const START_WITHIN: Duration = Duration::from_millis(200);
/// A relay that was told to stop ends after this, whoever has not heard its goodbye by then.
const GOODBYE_TAKES: Duration = Duration::from_millis(300);
/// Distance of looks for neighbours that have fallen silent.
pub(crate) const SILENCE_EVERY: Duration = Duration::from_millis(250);
/// Requests of subscriptions are counted from here, those of publications from zero.
const SUBSCRIPTION_REQUESTS: u32 = 1 << 16;

impl World<'_> {
    /// Everything that the scenario foresees.
    pub(crate) fn schedule_all(&mut self) {
        let scenario = self.scenario;
        self.start_controller();
        let hosts: Vec<_> = self.nodes.keys().copied().collect();
        for host in hosts {
            let after = self.node(host).up_to(START_WITHIN);
            self.schedule(after, Happening::Start(host));
        }
        for (direction, schedule) in &scenario.paths {
            for (at, spec) in schedule.later() {
                self.schedule(*at, Happening::PathChanges { direction: *direction, spec: spec.clone() });
            }
        }
        // Nothing is asked of a client that has not started.
        let earliest = |at: Duration| at.max(START_WITHIN);
        for stream in scenario.stream_numbers() {
            let spec = scenario.stream(stream);
            self.schedule(earliest(spec.from), Happening::Publication { stream, begins: true });
            self.schedule(spec.until, Happening::Publication { stream, begins: false });
        }
        for (place, spec) in scenario.subscriptions.iter().enumerate() {
            self.schedule(earliest(spec.from), Happening::Subscription { place, begins: true });
            self.schedule(spec.until, Happening::Subscription { place, begins: false });
        }
        if scenario.policies_from > Duration::ZERO {
            self.schedule(scenario.policies_from, Happening::Policies);
        }
        for (place, fault) in scenario.faults.iter().enumerate() {
            self.schedule(fault.at, Happening::Fault { place, begins: true });
            if let Some(until) = fault.until {
                self.schedule(until, Happening::Fault { place, begins: false });
            }
        }
    }

    // Processes.

    pub(crate) fn start(&mut self, host: Host) {
        if self.node(host).held_down > 0 {
            return;
        }
        self.node(host).start();
        let life = self.node(host).life;
        match host {
            Host::Relay(relay) => {
                if self.node(host).relay.node.is_some() {
                    self.make_relay_core(relay);
                }
                self.schedule(Duration::ZERO, Happening::ControlDial { relay, life });
                self.schedule(SILENCE_EVERY, Happening::WatchSilence { relay, life });
                if self.scenario.stalls.is_some() {
                    self.schedule(Duration::ZERO, Happening::Stall { relay, life, begins: true });
                }
            }
            Host::Client(client) => {
                let seed = self.seed.child("client").child(self.scenario.host_name(host));
                let mut key = [0; 16];
                key[..8].copy_from_slice(&seed.0.to_be_bytes());
                let core = Client::new(ClientConfig { seed: seed.0, key: Some(ClientKey(key)) });
                self.node(host).core = Some(Core::Client(Box::new(Driver::new(core))));
                self.want_connection(host, Host::Relay(self.scenario.client(client).relay));
            }
        }
    }

    /// A relay's process dies.
    fn kill(&mut self, relay: RelayId) {
        let host = Host::Relay(relay);
        if !self.node(host).alive {
            return;
        }
        self.record_counters(host);
        self.abandon_session(relay);
        self.node(host).stop();
    }

    /// A process that has said goodbye ends: connections are closed with a word.
    pub(crate) fn exit(&mut self, host: Host, life: u32) {
        let Host::Relay(relay) = host else { return };
        if !self.node(host).lives(life) {
            return;
        }
        let links: Vec<_> = self.node(host).links.values().copied().collect();
        for (connection, end) in links {
            self.send_close(connection, end);
        }
        self.kill(relay);
    }

    pub(crate) fn fault(&mut self, place: usize, begins: bool) {
        let scenario = self.scenario;
        self.record(if begins { Event::FaultBegins(place) } else { Event::FaultEnds(place) });
        match &scenario.faults[place].kind {
            FaultKind::Cut(directions) => {
                for direction in directions {
                    if let Some(path) = self.paths.get_mut(direction) {
                        path.cut(begins);
                    }
                }
            }
            FaultKind::Crash(relay) if begins => {
                self.node(Host::Relay(*relay)).held_down += 1;
                self.kill(*relay);
            }
            FaultKind::Leave(relay) if begins => {
                let host = Host::Relay(*relay);
                self.node(host).held_down += 1;
                self.feed(host, &[], Stimulus::Relay(RelayCommand::Shutdown));
                let life = self.node(host).life;
                self.schedule(GOODBYE_TAKES, Happening::Exit { host, life });
            }
            FaultKind::Crash(relay) | FaultKind::Leave(relay) => {
                let host = Host::Relay(*relay);
                self.node(host).held_down -= 1;
                if self.node(host).held_down == 0 {
                    // One that is still saying goodbye is hurried.
                    let life = self.node(host).life;
                    self.exit(host, life);
                    self.start(host);
                }
            }
            FaultKind::Isolate(relay) => self.isolate(*relay, begins),
            FaultKind::Mute(relay) => self.mute(*relay, begins),
            FaultKind::Freeze(relay) => self.freeze(*relay, begins),
            FaultKind::Hostile(relay) => {
                let node = self.node(Host::Relay(*relay));
                node.hostile = if begins { node.hostile + 1 } else { node.hostile - 1 };
            }
            FaultKind::Drain(relay) => {
                let name = scenario.host_name(Host::Relay(*relay)).to_owned();
                self.operator_says(if begins {
                    route_core::Input::Drain { name }
                } else {
                    route_core::Input::Cordon { name, cordoned: false }
                });
            }
            FaultKind::ControllerCrash if begins => {
                self.controller.held_down += 1;
                self.stop_controller();
            }
            FaultKind::ControllerCrash => {
                self.controller.held_down -= 1;
                if self.controller.held_down == 0 {
                    self.start_controller();
                }
            }
        }
    }

    // Media.

    pub(crate) fn publication(&mut self, stream: StreamNumber, begins: bool) {
        let spec = self.scenario.stream(stream);
        let request = u32::from(stream.0);
        let command = if begins {
            ClientCommand::Publish {
                request,
                room: spec.room.clone(),
                user: spec.user.clone(),
                stream: spec.name.clone(),
                kind: spec.kind,
                budget: spec.budget,
                protect: spec.protect,
                description: RtpDescription { priority: spec.priority, ..RtpDescription::default() },
            }
        } else if spec.until < self.scenario.media_end() {
            ClientCommand::Unpublish { request }
        } else {
            // Everything stops: the last packets are to arrive.
            return;
        };
        self.feed(Host::Client(spec.client), &[], Stimulus::Client(command));
    }

    pub(crate) fn subscription(&mut self, place: usize, begins: bool) {
        let spec = &self.scenario.subscriptions[place];
        let request = SUBSCRIPTION_REQUESTS + place as u32;
        let command = if begins {
            let (room, user, stream) = (spec.room.clone(), spec.user.clone(), spec.stream.clone());
            ClientCommand::Subscribe { request, room, user, stream }
        } else if spec.until < self.scenario.media_end() {
            ClientCommand::Unsubscribe { request }
        } else {
            return;
        };
        self.feed(Host::Client(spec.client), &[], Stimulus::Client(command));
    }

    pub(crate) fn client_event(&mut self, host: Host, event: ClientEvent) {
        let Host::Client(client) = host else { return };
        match event {
            ClientEvent::Published { request } => {
                let Ok(number) = u16::try_from(request) else { return };
                let stream = StreamNumber(number);
                self.record(Event::Published(stream));
                if let Entry::Vacant(first) = self.next_packet.entry(stream) {
                    first.insert(0);
                    let interval = media::interval(self.scenario, stream);
                    let after = self.node(host).up_to(interval);
                    self.schedule(after, Happening::Burst(stream));
                }
            }
            ClientEvent::Announced { handle, room, user, stream, kind, .. } => {
                let namespace = &self.scenario.client(client).rights.namespace;
                let number = self.scenario.stream_named(namespace, &room, &user, &stream);
                self.record(Event::Announced { client, stream: number });
                self.node(host).client.announced.insert(handle, number);
                if kind == MediaKind::Video {
                    let command = ClientCommand::RequestKeyframe { handle };
                    self.feed(host, &[], Stimulus::Client(command));
                }
            }
            ClientEvent::Ended { handle } => {
                let stream = self.node(host).client.announced.remove(&handle).flatten();
                self.record(Event::Ended { client, stream });
            }
            ClientEvent::Refused { request: _, code: _, reason } => {
                self.record(Event::Refused { client, reason });
            }
            ClientEvent::KeyframeRequested { request } => {
                if let Ok(number) = u16::try_from(request) {
                    self.record(Event::KeyframeRequested(StreamNumber(number)));
                }
            }
            ClientEvent::RelayLeaving => self.move_client(host, client),
            ClientEvent::Subscribed { request: _ } => {}
        }
    }

    /// A client's relay sends it away: it links to its next one.
    fn move_client(&mut self, host: Host, client: ClientId) {
        let spec = self.scenario.client(client);
        if spec.others.is_empty() {
            return;
        }
        let relay = |place: usize| match place {
            0 => Host::Relay(spec.relay),
            other => Host::Relay(spec.others[other - 1]),
        };
        let node = self.node(host);
        let left = relay(node.client.place);
        node.client.place = (node.client.place + 1) % (spec.others.len() + 1);
        let next = relay(node.client.place);
        node.dials.remove(&left);
        self.want_connection(host, next);
    }

    pub(crate) fn burst(&mut self, stream: StreamNumber) {
        let spec = self.scenario.stream(stream);
        if self.now >= spec.until {
            return;
        }
        let first = self.next_packet.get(&stream).copied().unwrap_or(0);
        let (mut next, mut wait) = (first, Duration::ZERO);
        while wait.is_zero() {
            wait = spec.rhythm.wait_after(next);
            next += 1;
        }
        self.next_packet.insert(stream, next);
        let (mut arena, mut batch) = (Vec::new(), Vec::new());
        for number in first..next {
            let packet = Packet { stream, number };
            let bytes = media::build(self.scenario, packet);
            let rtcp = media::is_rtcp(number);
            self.record(Event::Sent { packet, rtcp, digest: media::digest(&bytes) });
            let start = arena.len();
            arena.extend(bytes);
            batch.push(Outgoing { publication: u32::from(stream.0), range: start..arena.len(), rtcp });
        }
        self.feed(Host::Client(spec.client), &arena, Stimulus::Local(&batch));
        self.schedule(wait, Happening::Burst(stream));
    }
}
