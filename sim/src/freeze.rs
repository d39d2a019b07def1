//! Processes that stand still: a machine that swaps, a debugger, a virtual machine that is moved. Nothing happens in them
//! or because of them; their sockets take what comes until they are full. When they go on, everything comes at once.

use crate::connection::{ConnectionId, End};
use crate::control_channel::{KEEPALIVE, Way};
use crate::scenario::{Host, RelayId};
use crate::world::{Happening, World};
use std::time::Duration;

/// Datagrams and other events that wait for a process that stands still; datagrams beyond are lost.
const STALLED_MAX: usize = 8_192;

impl World<'_> {
    pub(crate) fn freeze(&mut self, relay: RelayId, begins: bool) {
        let host = Host::Relay(relay);
        let node = self.node(host);
        if !node.alive {
            return;
        }
        if begins {
            node.frozen += 1;
            if let Some(session) = node.relay.session {
                self.schedule(KEEPALIVE, Happening::ControlKeepalive { session });
            }
            return;
        }
        self.go_on(host);
    }

    /// One reason less to stand still.
    fn go_on(&mut self, host: Host) {
        let node = self.node(host);
        // One that died meanwhile has forgotten that it stood still.
        node.frozen = node.frozen.saturating_sub(1);
        if node.frozen > 0 {
            return;
        }
        for stalled in std::mem::take(&mut self.node(host).stalled) {
            self.schedule(Duration::ZERO, stalled);
        }
        // Whether it looks at its deadline or into its sockets first is chance.
        self.node(host).alarm = None;
        self.set_alarm(host);
    }

    /// The host of a relay does other things for a while, and again later.
    pub(crate) fn stall(&mut self, relay: RelayId, life: u32, begins: bool) {
        let host = Host::Relay(relay);
        let Some(stalls) = self.scenario.stalls.filter(|_| self.nodes[&host].lives(life)) else { return };
        let next = if begins {
            self.node(host).frozen += 1;
            stalls.shortest + self.node(host).up_to(stalls.longest - stalls.shortest)
        } else {
            self.go_on(host);
            self.node(host).up_to(2 * stalls.apart)
        };
        self.schedule(next, Happening::Stall { relay, life, begins: !begins });
    }

    /// Keeps back what happens to a process that stands still. `None`: it does not happen now.
    pub(crate) fn unless_frozen(&mut self, happening: Happening) -> Option<Happening> {
        let Some(host) = self.concerned(&happening) else { return Some(happening) };
        let node = self.node(host);
        if node.frozen == 0 {
            return Some(happening);
        }
        // An alarm is set anew when it goes on; what its sockets have no room for is lost.
        let is_alarm = matches!(happening, Happening::Alarm { host: _, life: _ });
        let is_datagram = matches!(happening, Happening::DatagramArrives { .. });
        let has_room = !is_datagram || node.stalled.len() < STALLED_MAX;
        if has_room && !is_alarm {
            node.stalled.push(happening);
        }
        None
    }

    /// Whose process has to run for that.
    fn concerned(&self, happening: &Happening) -> Option<Host> {
        let end_of = |connection: &ConnectionId, end: End| self.host_at(*connection, end);
        match happening {
            Happening::Alarm { host, life: _ }
            | Happening::Wake { host, life: _ }
            | Happening::Dial { host, life: _, to: _ } => Some(*host),
            Happening::WatchSilence { relay, life: _ }
            | Happening::ControlDial { relay, life: _ }
            | Happening::ControlUp { relay, life: _ } => Some(Host::Relay(*relay)),
            Happening::DialTimeout(connection) => Some(end_of(connection, End::Dialler)),
            Happening::FlightArrives { connection, flight } => {
                Some(end_of(connection, flight.from().other()))
            }
            Happening::FlightResend { connection, flight, wait: _ } => {
                Some(end_of(connection, flight.from()))
            }
            Happening::DatagramArrives { connection, to: end, number: _, plain: _ }
            | Happening::SegmentArrives { connection, to: end, place: _ }
            | Happening::SegmentResend { connection, from: end, place: _, wait: _ }
            | Happening::LinkOver { connection, end } => Some(end_of(connection, *end)),
            Happening::ControlArrives { session, way: Way::ToRelay }
            | Happening::ControlOver { session, way: Way::ToRelay } => {
                self.sessions.get(session).map(|session| Host::Relay(session.relay))
            }
            Happening::Start(_)
            | Happening::Exit { host: _, life: _ }
            | Happening::Policies
            | Happening::ControllerAlarm { life: _ }
            | Happening::ControlArrives { session: _, way: Way::ToController }
            | Happening::ControlOver { session: _, way: Way::ToController }
            | Happening::ControlKeepalive { session: _ }
            | Happening::PathChanges { direction: _, spec: _ }
            | Happening::Burst(_)
            | Happening::Publication { stream: _, begins: _ }
            | Happening::Subscription { place: _, begins: _ }
            | Happening::Stall { relay: _, life: _, begins: _ }
            | Happening::Fault { place: _, begins: _ } => None,
        }
    }
}
