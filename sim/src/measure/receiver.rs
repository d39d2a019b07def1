//! A stream at one of its subscribers.

use super::player::Player;
use super::{Figures, Sent};
use crate::scenario::StreamSpec;
use std::collections::VecDeque;
use std::time::Duration;
use wire_format::MediaKind;

/// Silences are kept from here on.
const SILENCE_MIN: Duration = Duration::from_millis(40);
/// What a disturbance does shows within this.
const SHOWS_WITHIN: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    NotDue,
    /// In the frame of that number, if it is of one.
    Due(Option<u64>),
    Delivered,
}

#[derive(Debug)]
pub(crate) struct Receiver {
    kind: MediaKind,
    /// The longest pause that the publisher makes.
    pause: Duration,
    /// What comes later than that is late.
    limit: Option<Duration>,
    /// When packets are due.
    spans: Vec<(Duration, Duration)>,
    /// Of the packets that may still come.
    packets: VecDeque<State>,
    player: Player,
    /// Frame that packets are of now.
    frame: Option<u64>,
    /// The number of the first packet since which all were due.
    since: Option<(u64, Duration)>,
    /// When something came last, since then.
    last: Option<Duration>,
    /// When the last packet that is due left.
    last_due: Duration,
    /// What each disturbance did so far, by its place.
    failovers: Vec<Duration>,
}

impl Receiver {
    pub(crate) fn new(
        spec: &StreamSpec,
        spans: Vec<(Duration, Duration)>,
        limit: Option<Duration>,
    ) -> Receiver {
        Receiver {
            kind: spec.kind,
            pause: spec.rhythm.interval(),
            limit,
            spans,
            packets: VecDeque::new(),
            player: Player::new(spec.kind, spec.rhythm.frame_interval()),
            frame: None,
            since: None,
            last: None,
            last_due: Duration::ZERO,
            failovers: Vec::new(),
        }
    }

    /// When packets are due for the first time.
    pub(crate) fn begin(&self) -> Duration {
        self.spans[0].0
    }

    fn is_due(&self, at: Duration) -> bool {
        self.spans.iter().any(|(from, until)| (*from..*until).contains(&at))
    }

    /// The oldest packets will not come any more.
    pub(crate) fn forget(&mut self, packets: u64, figures: &mut Figures) {
        for _ in 0..packets {
            let state = self.packets.pop_front();
            figures.lost += u64::from(matches!(state, Some(State::Due(_))));
        }
    }

    pub(crate) fn sent(&mut self, number: u64, sent: Sent, figures: &mut Figures) {
        if !self.is_due(sent.at) {
            (self.frame, self.since, self.last) = (None, None, None);
            self.packets.push_back(State::NotDue);
            return;
        }
        figures.due += 1;
        self.last_due = sent.at;
        self.since.get_or_insert((number, sent.at));
        if let Some(packets) = sent.begins {
            self.frame = Some(self.player.expect(sent.at, packets));
        }
        self.packets.push_back(State::Due(self.frame.filter(|_| !sent.rtcp)));
    }

    pub(crate) fn delivered(
        &mut self,
        now: Duration,
        (number, place): (u64, usize),
        sent: Sent,
        disturbances: &[Duration],
        figures: &mut Figures,
    ) {
        let Some(state) = self.packets.get_mut(place) else { return };
        let State::Due(frame) = *state else { return };
        *state = State::Delivered;
        let took = now - sent.at;
        figures.delivered += 1;
        figures.delivered_bytes += u64::from(sent.bytes);
        figures.late += u64::from(self.limit.is_some_and(|limit| took > limit));
        let delay = match self.kind {
            MediaKind::Audio => &mut figures.audio_delay,
            MediaKind::Video => &mut figures.video_delay,
        };
        delay.record(took);
        if let Some(frame) = frame {
            self.player.arrive(now, frame, took);
        }
        if self.since.is_some_and(|(first, _)| number >= first)
            && let Some(last) = self.last.replace(now)
        {
            self.silence(last, now, disturbances, figures);
        }
    }

    /// Nothing came between then and then.
    fn silence(&mut self, from: Duration, until: Duration, disturbances: &[Duration], figures: &mut Figures) {
        let silence = (until - from).saturating_sub(self.pause);
        if silence.is_zero() {
            return;
        }
        if silence > SILENCE_MIN {
            figures.silences.record(silence);
        }
        self.failovers.resize(disturbances.len(), Duration::ZERO);
        let first = disturbances.partition_point(|at| *at + SHOWS_WITHIN < from);
        let touched = disturbances.iter().zip(&mut self.failovers).skip(first);
        for (_, longest) in touched.take_while(|(at, _)| **at <= until) {
            *longest = silence.max(*longest);
        }
    }

    /// What the first disturbance did to it, if anything was due then.
    pub(crate) fn finish(
        mut self,
        end: Duration,
        disturbances: &[Duration],
        figures: &mut Figures,
    ) -> Option<Duration> {
        // What was silent in the end, or always.
        let heard = self.last.or(self.since.map(|(_, from)| from));
        if let Some(heard) = heard.filter(|heard| *heard < self.last_due) {
            self.silence(heard, self.last_due, disturbances, figures);
        }
        self.failovers.resize(disturbances.len(), Duration::ZERO);
        for (at, longest) in disturbances.iter().zip(&self.failovers) {
            if self.is_due(*at) {
                figures.failovers.record(*longest);
            }
        }
        let first = disturbances.first().filter(|at| self.is_due(**at)).map(|_| self.failovers[0]);
        self.forget(self.packets.len() as u64, figures);
        let playback = self.player.finish(end);
        match self.kind {
            MediaKind::Audio => figures.audio_playback.add(playback),
            MediaKind::Video => figures.video_playback.add(playback),
        }
        first
    }
}
