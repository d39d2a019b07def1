//! What a run came to.

use super::{Histogram, Playback};
use crate::scenario::{ClientId, RelayId, StreamNumber};
use std::collections::BTreeMap;
use std::time::Duration;

/// What one direction of a link between relays carried: bytes of UDP payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LinkLoad {
    /// Datagrams with media that were sent for the first time.
    pub media_bytes: u64,
    /// Datagrams sent again.
    pub again_bytes: u64,
    /// Parity.
    pub parity_bytes: u64,
    /// Heartbeats, requests, probes.
    pub feedback_bytes: u64,
}

impl LinkLoad {
    /// All of it.
    pub fn bytes(&self) -> u64 {
        self.carried_bytes() + self.feedback_bytes
    }

    /// Media and its repair.
    pub fn carried_bytes(&self) -> u64 {
        self.media_bytes + self.again_bytes + self.parity_bytes
    }
}

/// What a run came to. Terms are explained where it is measured.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Figures {
    /// Packets due, once for each subscriber.
    pub due: u64,
    /// Of these, delivered.
    pub delivered: u64,
    /// Of these, later than they should have been.
    pub late: u64,
    /// Of those due, not delivered.
    pub lost: u64,
    /// Bytes of the packets delivered.
    pub delivered_bytes: u64,
    /// From publisher to subscriber, audio.
    pub audio_delay: Histogram,
    /// The same, video.
    pub video_delay: Histogram,
    /// Silences longer than 40 ms.
    pub silences: Histogram,
    /// For each disturbance and each stream at each subscriber.
    pub failovers: Histogram,
    /// Of audio at players.
    pub audio_playback: Playback,
    /// Of video at players.
    pub video_playback: Playback,
    /// By direction.
    pub links: BTreeMap<(RelayId, RelayId), LinkLoad>,
    /// Media frames that relays sent to relays.
    pub copies: u64,
    /// Packets that publishers sent while these were counted.
    pub published: u64,
    /// How often a relay got a stream from another relay than before.
    pub route_changes: u64,
    /// What links cost by the scenario's prices, US dollars.
    pub dollars: f64,
    /// The relays that each stream passed on its way to each subscriber in the end.
    pub paths: BTreeMap<(StreamNumber, ClientId), Vec<RelayId>>,
    /// The same when the first fault began.
    pub paths_before: BTreeMap<(StreamNumber, ClientId), Vec<RelayId>>,
    /// What the first disturbance did to each stream at each subscriber.
    pub gaps: BTreeMap<(StreamNumber, ClientId), Duration>,
    /// How long links were watched.
    pub counted: Duration,
    /// Broken laws, in words; the first few.
    pub violations: Vec<String>,
}

impl Figures {
    /// Of both kinds.
    pub fn delay(&self) -> Histogram {
        let mut both = self.audio_delay.clone();
        both.add(&self.video_delay);
        both
    }

    /// Of both kinds.
    pub fn playback(&self) -> Playback {
        let mut both = self.audio_playback;
        both.add(self.video_playback);
        both
    }

    /// Over all links.
    pub fn load(&self) -> LinkLoad {
        self.links.values().fold(LinkLoad::default(), |sum, load| LinkLoad {
            media_bytes: sum.media_bytes + load.media_bytes,
            again_bytes: sum.again_bytes + load.again_bytes,
            parity_bytes: sum.parity_bytes + load.parity_bytes,
            feedback_bytes: sum.feedback_bytes + load.feedback_bytes,
        })
    }
}
