//! What the trace keeps of the datagrams that relays send to each other, and of the media in them.

use crate::connection::{ConnectionId, End};
use crate::media;
use crate::scenario::{Host, RelayId};
use crate::trace::{Datagram, Event, Frame, Purpose};
use crate::world::World;
use link_model::{DropReason, Fate};
use std::time::Duration;
use wire_format::{
    FRAGMENT_HEADER_BYTES, FragmentHeader, FrameKind, MediaHeader, SEAL_OVERHEAD_BYTES, frames, whole_frame,
};

impl World<'_> {
    /// A datagram enters the network from one relay to another.
    pub(crate) fn observe_datagram(
        &mut self,
        sender: (ConnectionId, End),
        (from, to): (RelayId, RelayId),
        plain: &[u8],
        fate: Fate,
    ) {
        let bytes = (plain.len() + SEAL_OVERHEAD_BYTES) as u32;
        let (mut purpose, mut media_frames, mut asks) = (Purpose::Feedback, 0, false);
        for frame in frames(plain).flatten() {
            let of_frame = match frame.kind {
                FrameKind::Media | FrameKind::Fragment => {
                    media_frames += 1;
                    Purpose::Media
                }
                FrameKind::Repair => Purpose::Again,
                FrameKind::Parity => Purpose::Parity,
                FrameKind::RepairRequest => {
                    asks = true;
                    Purpose::Feedback
                }
                FrameKind::Heartbeat
                | FrameKind::KeyframeRequest
                | FrameKind::Edge
                | FrameKind::EdgeKeyframeRequest
                | FrameKind::MtuProbe
                | FrameKind::PathChallenge
                | FrameKind::Unknown(_) => Purpose::Feedback,
            };
            purpose = purpose.min(of_frame);
        }
        let fate_of_all = arrival(fate);
        self.record(Event::Datagram(Datagram {
            from,
            to,
            bytes,
            purpose,
            media_frames,
            asks,
            fate: fate_of_all,
        }));
        self.record_frames(sender, (from, to), plain, fate);
    }

    /// Notes media frames that leave for a relay; of one that was cut, when its second half does.
    fn record_frames(
        &mut self,
        (connection, end): (ConnectionId, End),
        (from, to): (RelayId, RelayId),
        plain: &[u8],
        fate: Fate,
    ) {
        for frame in frames(plain) {
            let Ok(frame) = frame else { return self.malformed(from) };
            let body = &plain[frame.body];
            match frame.kind {
                FrameKind::Media => self.record_media(from, to, body, fate),
                FrameKind::Fragment => {
                    let Ok(header) = FragmentHeader::decode(body) else { return self.malformed(from) };
                    let share = &body[FRAGMENT_HEADER_BYTES..];
                    let key = (connection, end, header.id);
                    if !header.second {
                        self.first_halves.insert(key, (share.to_vec(), fate));
                        continue;
                    }
                    let Some((mut whole, first_fate)) = self.first_halves.remove(&key) else {
                        return self.malformed(from);
                    };
                    whole.extend(share);
                    let fate = later(first_fate, fate);
                    match whole_frame(&whole) {
                        Ok(frame) if frame.kind == FrameKind::Media => {
                            self.record_media(from, to, &whole[frame.body], fate);
                        }
                        Ok(_) | Err(_) => return self.malformed(from),
                    }
                }
                FrameKind::Heartbeat
                | FrameKind::KeyframeRequest
                | FrameKind::Edge
                | FrameKind::EdgeKeyframeRequest
                | FrameKind::MtuProbe
                | FrameKind::PathChallenge
                | FrameKind::RepairRequest
                | FrameKind::Repair
                | FrameKind::Parity
                | FrameKind::Unknown(_) => {}
            }
        }
    }

    fn malformed(&mut self, from: RelayId) {
        self.violation(self.scenario.host_name(Host::Relay(from)), "sent a malformed frame".to_owned());
    }

    fn record_media(&mut self, from: RelayId, to: RelayId, body: &[u8], fate: Fate) {
        let parts = MediaHeader::decode(body).ok().and_then(|(header, header_bytes)| {
            let packet = media::identify(&body[header_bytes..])?;
            let destinations: Option<Vec<_>> =
                header.destinations.iter().map(|node| self.relay_of_node.get(&node).copied()).collect();
            Some((header, packet, destinations?))
        });
        let Some((header, packet, mut destinations)) = parts else {
            let what = "sent a media frame that makes no sense".to_owned();
            return self.violation(self.scenario.host_name(Host::Relay(from)), what);
        };
        destinations.sort_unstable();
        self.record(Event::Frame(Frame {
            from,
            to,
            packet,
            incarnation: header.incarnation.0,
            plane: header.plane.0,
            epoch: header.epoch,
            hop_limit: header.hop_limit,
            marked: header.marked,
            protected: header.protected,
            policy: header.policy.bits(),
            destinations,
            fate: arrival(fate),
        }));
    }
}

/// When it comes out first, or why it does not.
fn arrival(fate: Fate) -> Result<Duration, DropReason> {
    match fate {
        Fate::Delivered { at, copy_at: _ } => Ok(at),
        Fate::Dropped(reason) => Err(reason),
    }
}

/// What becomes of a frame in two datagrams.
fn later(first: Fate, second: Fate) -> Fate {
    match (first, second) {
        (Fate::Delivered { at, copy_at: _ }, Fate::Delivered { at: other, copy_at: _ }) => {
            Fate::Delivered { at: at.max(other), copy_at: None }
        }
        (dropped @ Fate::Dropped(_), _) | (Fate::Delivered { .. }, dropped @ Fate::Dropped(_)) => dropped,
    }
}
