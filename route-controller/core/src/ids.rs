//! Ids of rooms, users and streams.
//!
//! Room ids come in blocks that are made durable before use, so a controller never gives one that an earlier
//! controller may have given. Users and streams are counted within a room id of *this* controller. A stream that was
//! given its ids by an earlier controller keeps them; a new stream of the same room then has another room id, which
//! nobody minds: subscriptions are matched by name, and all that relays ask of ids is that no two streams share them.

use crate::api::StoreUpdate;
use crate::effect::Effect;
use std::collections::BTreeMap;
use wire_format::control::StreamName;
use wire_format::{RoomId, StreamId, StreamKey, UserId};

/// Room ids made durable at a time.
const ROOM_BLOCK: u32 = 256;
/// Greatest room id believed of a relay: a reported one must not use up the rest.
const ROOM_REPORTED_MAX: u32 = u32::MAX / 2;

#[derive(Clone, Debug)]
struct User {
    id: UserId,
    next_stream: u16,
}

#[derive(Clone, Debug)]
struct Room {
    id: RoomId,
    next_user: u32,
    users: BTreeMap<String, User>,
}

/// Gives ids.
#[derive(Clone, Debug)]
pub(crate) struct Ids {
    next_room: u32,
    durable_below: u32,
    rooms: BTreeMap<(String, String), Room>,
}

impl Ids {
    /// Ids from what the store says was never used.
    pub(crate) fn new(floor: RoomId) -> Ids {
        Ids { next_room: floor.0.max(1), durable_below: floor.0, rooms: BTreeMap::new() }
    }

    /// Ids that no stream ever had, or `None` if there are none left.
    pub(crate) fn allocate(&mut self, name: &StreamName, out: &mut Vec<Effect>) -> Option<StreamKey> {
        let place = (name.namespace.clone(), name.room.clone());
        if self.rooms.get(&place).is_none_or(|room| room.next_user == u32::MAX) {
            let room = Room { id: self.allocate_room(out)?, next_user: 1, users: BTreeMap::new() };
            self.rooms.insert(place.clone(), room);
        }
        let room = self.rooms.get_mut(&place)?;
        let known = room.users.get(&name.user).is_some_and(|user| user.next_stream < u16::MAX);
        if !known {
            room.users.insert(name.user.clone(), User { id: UserId(room.next_user), next_stream: 1 });
            room.next_user += 1;
        }
        let user = room.users.get_mut(&name.user)?;
        let key = StreamKey { room: room.id, user: user.id, stream: StreamId(user.next_stream) };
        user.next_stream += 1;
        Some(key)
    }

    /// Ids are in use that an earlier controller gave.
    pub(crate) fn adopt(&mut self, key: StreamKey, out: &mut Vec<Effect>) {
        if key.room.0 >= self.durable_below && key.room.0 <= ROOM_REPORTED_MAX {
            // The store lost its floor.
            self.next_room = key.room.0 + 1;
            self.make_durable(out);
        }
    }

    /// No stream of this user is known any more.
    pub(crate) fn forget_user(&mut self, name: &StreamName) {
        if let Some(room) = self.rooms.get_mut(&(name.namespace.clone(), name.room.clone())) {
            room.users.remove(&name.user);
        }
    }

    /// No stream of this room is known any more.
    pub(crate) fn forget_room(&mut self, name: &StreamName) {
        self.rooms.remove(&(name.namespace.clone(), name.room.clone()));
    }

    fn allocate_room(&mut self, out: &mut Vec<Effect>) -> Option<RoomId> {
        let id = self.next_room;
        self.next_room = id.checked_add(1)?;
        self.make_durable(out);
        Some(RoomId(id))
    }

    fn make_durable(&mut self, out: &mut Vec<Effect>) {
        if self.durable_below < self.next_room {
            self.durable_below = self.next_room.saturating_add(ROOM_BLOCK);
            out.push(Effect::Persist(StoreUpdate::RoomFloor(RoomId(self.durable_below))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn name(room: &str, user: &str, stream: u32) -> StreamName {
        StreamName {
            namespace: "demo".into(),
            room: room.into(),
            user: user.into(),
            stream: stream.to_string(),
        }
    }

    #[test]
    fn ids_are_never_given_twice() {
        let mut ids = Ids::new(RoomId(0));
        let mut out = Vec::new();
        let mut seen = BTreeSet::new();
        for stream in 0..70_000 {
            let key = ids.allocate(&name("a", "alice", stream), &mut out).expect("ids left");
            assert!(seen.insert(key));
        }
        ids.forget_user(&name("a", "alice", 0));
        assert!(seen.insert(ids.allocate(&name("a", "alice", 0), &mut out).expect("ids left")));
        ids.forget_room(&name("a", "alice", 0));
        assert!(seen.insert(ids.allocate(&name("a", "alice", 0), &mut out).expect("ids left")));
    }

    #[test]
    fn rooms_are_durable_before_they_are_used() {
        let mut ids = Ids::new(RoomId(7));
        let mut floor = 7;
        for room in 0..1_000 {
            let mut out = Vec::new();
            let key = ids.allocate(&name(&room.to_string(), "alice", 0), &mut out).expect("ids left");
            for effect in out {
                assert!(
                    matches!(effect, Effect::Persist(StoreUpdate::RoomFloor(RoomId(next))) if { floor = next; true })
                );
            }
            assert!((7..floor).contains(&key.room.0));
        }
    }
}
