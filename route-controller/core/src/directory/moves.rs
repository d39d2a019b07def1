//! Publications that move: an SFU goes to another relay and takes along what it publishes.
//!
//! It publishes there under the same name, by a key that only itself knows. That publication goes on with the ids and the
//! incarnation of the one before, and with its sequence, so that nobody who receives the stream notices. It is granted
//! when all of its row is in place; the one before carries what its relay still gets until the SFU ends it. So each
//! packet has a whole row before it, whichever relay it comes to.

use super::{Directory, Stream, Timer};
use crate::effect::Effect;
use std::time::Duration;
use wire_format::control::StreamName;
use wire_format::{NodeIndex, PublicationId, PublisherKey, Timestamp};

/// How long the row of a relay that a publication moves to may take. After that it is granted as it is: a relay that hangs
/// must not hold it up.
const MOVE_WAIT: Duration = Duration::from_secs(1);
/// Publications that their publisher has left but not ended.
const LEAVING_MAX: usize = 4;

/// What else of a stream's publisher there is beside its present publication.
#[derive(Clone, Debug, Default)]
pub(super) struct Moves {
    /// Becomes the present one as soon as its row is in place, or then.
    pub(super) arriving: Option<((NodeIndex, PublicationId), Timestamp)>,
    /// Were the present one, oldest first, and still carry what comes to them.
    pub(super) leaving: Vec<(NodeIndex, PublicationId)>,
}

impl Moves {
    /// Their relays.
    pub(super) fn relays(&self) -> impl Iterator<Item = NodeIndex> + '_ {
        self.arriving.iter().map(|(id, _)| id.0).chain(self.leaving.iter().map(|id| id.0))
    }

    /// Whether a publication is one of them.
    pub(super) fn holds(&self, id: (NodeIndex, PublicationId)) -> bool {
        self.arriving.is_some_and(|(arriving, _)| arriving == id) || self.leaving.contains(&id)
    }

    /// A publication ended. `true` if it was one of them.
    pub(super) fn ended(&mut self, id: (NodeIndex, PublicationId)) -> bool {
        let held = self.holds(id);
        self.arriving = self.arriving.filter(|(arriving, _)| *arriving != id);
        self.leaving.retain(|leaving| *leaving != id);
        held
    }
}

impl Directory {
    /// Whether that publisher has the name already, and so moves.
    pub(super) fn moves(&self, name: &StreamName, publisher: Option<PublisherKey>) -> bool {
        let live = self.streams.get(name).and_then(|stream| self.publications.get(&stream.live?));
        publisher.is_some() && live.is_some_and(|live| live.publisher == publisher)
    }

    /// A publication takes over from another of its publisher: at the same relay at once, elsewhere when its row is there.
    pub(super) fn arrive(
        &mut self,
        now: Timestamp,
        name: &StreamName,
        id: (NodeIndex, PublicationId),
        out: &mut Vec<Effect>,
    ) {
        let Some(stream) = self.streams.get_mut(name) else { return };
        if stream.live.is_some_and(|live| live.0 == id.0) {
            self.take_over(name, id, out);
            return;
        }
        let until = now + MOVE_WAIT;
        stream.moves.arriving = Some((id, until));
        self.timers.insert((until, Timer::Stream(name.clone())));
    }

    /// The publication that arrives is the present one now.
    pub(super) fn take_over(
        &mut self,
        name: &StreamName,
        id: (NodeIndex, PublicationId),
        out: &mut Vec<Effect>,
    ) {
        let (Some(stream), Some(publication)) = (self.streams.get_mut(name), self.publications.get(&id))
        else {
            return;
        };
        stream.moves.ended(id);
        if let Some(before) = stream.live.replace(id).filter(|before| *before != id) {
            if stream.moves.leaving.len() >= LEAVING_MAX {
                stream.moves.leaving.remove(0);
            }
            stream.moves.leaving.push(before);
        }
        stream.kind = publication.kind;
        stream.protect = publication.protect;
        stream.forget_at = None;
        self.grant(id, name, out);
    }

    /// The present publication ended: another one of its publisher is the present one, if there is one.
    pub(super) fn go_on(&mut self, name: &StreamName, out: &mut Vec<Effect>) -> bool {
        let Some(stream) = self.streams.get_mut(name) else { return false };
        if let Some((arriving, _)) = stream.moves.arriving {
            self.take_over(name, arriving, out);
            return true;
        }
        stream.live = stream.moves.leaving.pop();
        stream.live.is_some()
    }

    /// Whether what arrives can be granted: `placed` says that its row is in place. Its stamps must reach whoever gets the
    /// stream at the relay that it leaves, too.
    pub(super) fn has_arrived(
        stream: &Stream,
        now: Timestamp,
        placed: bool,
    ) -> Option<(NodeIndex, PublicationId)> {
        let (id, until) = stream.moves.arriving?;
        let left = stream.live.map(|live| live.0);
        let served =
            left.is_none_or(|left| !stream.matching.contains_key(&left) || stream.is_confirmed(left));
        (until <= now || placed && served).then_some(id)
    }
}
