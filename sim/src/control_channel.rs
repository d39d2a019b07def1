//! One relay's session with the controller: two ordered, reliable ways with a delay, which break as a whole. Messages
//! travel as bytes, so that every conversion of `control-proto` is exercised with what the cores really say.

use control_proto::proto;
use prost::Message;
use route_core::SessionId;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use wire_format::control::{LinkState, ToController, ToRelay};

use crate::scenario::RelayId;

/// A session whose network is cut is missed by both ends after this.
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(5);

/// Which way a message goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Way {
    ToController,
    ToRelay,
}

/// A session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) relay: RelayId,
    /// Life of the relay's process that opened it.
    pub(crate) relay_life: u32,
    /// The relay's end is open.
    pub(crate) relay_open: bool,
    /// The controller's end is open.
    pub(crate) controller_open: bool,
    /// The controller has been told of it, with the relay's hello.
    pub(crate) introduced: bool,
    /// The controller has taken it for the relay's. It does not while an older one of the relay may still speak.
    pub(crate) welcomed: bool,
    /// What the relay said last of each link.
    pub(crate) reported: BTreeMap<RelayId, LinkState>,
    to_controller: Lane,
    to_relay: Lane,
}

/// One way of a session.
#[derive(Debug, Default)]
struct Lane {
    under_way: VecDeque<Vec<u8>>,
    /// When the last of them arrives.
    last_arrival: Duration,
    /// Arrivals put off because the network is cut.
    put_off: usize,
}

impl Session {
    pub(crate) fn new(id: SessionId, relay: RelayId, relay_life: u32) -> Session {
        Session {
            id,
            relay,
            relay_life,
            relay_open: true,
            controller_open: true,
            introduced: false,
            welcomed: false,
            reported: BTreeMap::new(),
            to_controller: Lane::default(),
            to_relay: Lane::default(),
        }
    }

    fn lane(&mut self, way: Way) -> &mut Lane {
        match way {
            Way::ToController => &mut self.to_controller,
            Way::ToRelay => &mut self.to_relay,
        }
    }

    /// Puts a message under way; it arrives at the time returned, not before those sent earlier.
    pub(crate) fn send(&mut self, way: Way, now: Duration, delay: Duration, bytes: Vec<u8>) -> Duration {
        let lane = self.lane(way);
        lane.last_arrival = lane.last_arrival.max(now + delay);
        lane.under_way.push_back(bytes);
        lane.last_arrival
    }

    /// The next message has come.
    pub(crate) fn arrive(&mut self, way: Way) -> Option<Vec<u8>> {
        self.lane(way).under_way.pop_front()
    }

    /// The next message would have come, but the network is cut.
    pub(crate) fn put_off(&mut self, way: Way) {
        self.lane(way).put_off += 1;
    }

    /// The network is whole again: how many messages are to be sent again.
    pub(crate) fn take_put_off(&mut self, way: Way) -> usize {
        std::mem::take(&mut self.lane(way).put_off)
    }
}

pub(crate) fn encode_to_controller(message: ToController) -> Vec<u8> {
    proto::ToController::from(message).encode_to_vec()
}

pub(crate) fn decode_to_controller(bytes: &[u8]) -> Result<ToController, String> {
    let message = proto::ToController::decode(bytes).map_err(|error| error.to_string())?;
    ToController::try_from(message).map_err(|error| error.to_string())
}

pub(crate) fn encode_to_relay(message: ToRelay) -> Vec<u8> {
    proto::ToRelay::from(message).encode_to_vec()
}

pub(crate) fn decode_to_relay(bytes: &[u8]) -> Result<ToRelay, String> {
    let message = proto::ToRelay::decode(bytes).map_err(|error| error.to_string())?;
    ToRelay::try_from(message).map_err(|error| error.to_string())
}
