//! Who publishes and wants what, and when: the streams and subscriptions of a scenario, and the users of its rooms, one
//! after the other.

use crate::scenario::{RelayId, Rooms, Scenario, Visits, bits_per_s};
use link_model::Seed;
use std::time::Duration;
use wire_format::MediaKind;
use wire_format::control::StreamName;

/// Something that a user does.
#[derive(Clone, Debug)]
pub(crate) struct Act {
    pub(crate) relay: RelayId,
    pub(crate) begins: bool,
    pub(crate) what: What,
}

/// What the user has there until it is undone.
#[derive(Clone, Debug)]
pub(crate) enum What {
    Stream {
        number: u32,
        name: StreamName,
        kind: MediaKind,
        protect: bool,
        bits_per_s: u64,
    },
    Subscription {
        number: u32,
        namespace: String,
        room: String,
        user: Option<String>,
        stream: Option<String>,
    },
}

/// A seat of a room, and who sits there now.
#[derive(Debug)]
pub(crate) struct Seat {
    rooms: usize,
    room: u32,
    seat: u32,
    visits: Visits,
    visit: u32,
}

/// Everyone.
#[derive(Debug)]
pub(crate) struct Crowd<'a> {
    scenario: &'a Scenario,
    seats: Vec<Seat>,
    /// Numbers of publications and subscriptions, never used twice.
    next: u32,
}

impl<'a> Crowd<'a> {
    pub(crate) fn new(scenario: &'a Scenario, seed: Seed) -> Crowd<'a> {
        let mut seats = Vec::new();
        let (relays, end) = (scenario.relays.len(), scenario.media_end());
        for (place, rooms) in scenario.rooms.iter().enumerate() {
            for room in 0..rooms.count {
                for seat in 0..rooms.seats(seed, room) {
                    let visits = rooms.visits(seed, (room, seat), relays, end);
                    seats.push(Seat { rooms: place, room, seat, visits, visit: 0 });
                }
            }
        }
        Crowd { scenario, seats, next: 1 }
    }

    pub(crate) fn seats(&self) -> usize {
        self.seats.len()
    }

    fn number(&mut self) -> u32 {
        self.next += 1;
        self.next - 1
    }

    /// What is written down, each with its time.
    pub(crate) fn written(&mut self) -> Vec<(Duration, Act)> {
        let scenario = self.scenario;
        let mut acts = Vec::new();
        let both = |acts: &mut Vec<_>, (from, until): (Duration, Duration), act: Act| {
            acts.push((until, Act { begins: false, ..act.clone() }));
            acts.push((from, act));
        };
        for stream in &scenario.streams {
            let client = scenario.client(stream.client);
            let name = StreamName {
                namespace: client.rights.namespace.clone(),
                room: stream.room.clone(),
                user: stream.user.clone(),
                stream: stream.name.clone(),
            };
            let what = What::Stream {
                number: self.number(),
                name,
                kind: stream.kind,
                protect: stream.protect,
                bits_per_s: bits_per_s(&stream.rhythm),
            };
            both(&mut acts, (stream.from, stream.until), Act { relay: client.relay, begins: true, what });
        }
        for wanted in &scenario.subscriptions {
            let client = scenario.client(wanted.client);
            let what = What::Subscription {
                number: self.number(),
                namespace: client.rights.namespace.clone(),
                room: wanted.room.clone(),
                user: wanted.user.clone(),
                stream: wanted.stream.clone(),
            };
            both(&mut acts, (wanted.from, wanted.until), Act { relay: client.relay, begins: true, what });
        }
        acts
    }

    /// The next user of a seat: comes and leaves then, and does this in between.
    pub(crate) fn next_visit(&mut self, seat: usize) -> Option<(Duration, Duration, Vec<Act>)> {
        let visit = self.seats[seat].visits.next()?;
        self.seats[seat].visit += 1;
        let Seat { rooms, room, seat, visit: count, .. } = self.seats[seat];
        let rooms: &'a Rooms = &self.scenario.rooms[rooms];
        let (name, user) = (rooms.room(room), format!("u{seat}.{count}"));
        let act = |what| Act { relay: visit.relay, begins: true, what };
        let mut acts = Vec::new();
        for media in &rooms.media {
            acts.push(act(What::Stream {
                number: self.number(),
                name: StreamName {
                    namespace: rooms.namespace.clone(),
                    room: name.clone(),
                    user: user.clone(),
                    stream: media.name.to_owned(),
                },
                kind: media.kind,
                protect: rooms.protect,
                bits_per_s: bits_per_s(&media.rhythm),
            }));
        }
        acts.push(act(What::Subscription {
            number: self.number(),
            namespace: rooms.namespace.clone(),
            room: name,
            user: None,
            stream: None,
        }));
        Some((visit.from, visit.until, acts))
    }
}
