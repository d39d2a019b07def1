//! What somebody hears and sees at the end of a stream: a player with a jitter buffer, of which it is only counted for how
//! long it had nothing to play.
//!
//! A model after public descriptions of WebRTC's receivers, kept as small as the questions that are asked of it:
//!
//! - **Target delay**, as NetEq's delay manager finds it (WebRTC project, `modules/audio_coding/neteq`, "Underrun
//!   optimizer"): how much longer a frame took than the fastest of the last 2 s; of each half second the greatest such
//!   time goes into a histogram of buckets of 20 ms whose weights fade by 0.983 (faster at first); the target is the upper edge of
//!   the bucket at the 95th percentile, and 80 ms before anything is known.
//! - **Audio**: a frame is played when it is as old as the fastest way takes and the target delay together. If it is not
//!   there then, what it should have said is concealed. Where frames after it are there, that takes as long as the frame;
//!   where nothing is there, until something comes, and what then comes late is played late: the buffer grows by that.
//!   Between frames the delay follows its target by stretching time, by a tenth at most. A stall is a run of concealment.
//! - **Video**: a picture that is late is shown when it is complete, and pictures after it wait for it, as they refer to it. One
//!   that is still missing 200 ms after its time is given up, and a keyframe asked for: the next picture shown is one that
//!   left the publisher after the request had come there, on a way as long as the stream's. A stall is a freeze as W3C's
//!   "Identifiers for WebRTC's Statistics API" defines `freezeCount`: a picture that stands for three times the mean of the 30
//!   before it or longer, and 150 ms longer than that at least; `totalFreezesDuration` is how long such pictures stand.
//!
//! Not modelled are NetEq's reordering optimizer and its limits by packets, WebRTC's Kalman filter for video (the target is
//! found as for audio), lip synchronisation, requests of players for single packets, and clocks that drift.

use std::collections::VecDeque;
use std::time::Duration;
use wire_format::MediaKind;

/// Over which the fastest way is known.
const HISTORY: Duration = Duration::from_secs(2);
/// One sample for the histogram of each.
const RESAMPLE: Duration = Duration::from_millis(500);
const BUCKET: Duration = Duration::from_millis(20);
const BUCKETS: usize = 100;
const QUANTILE: f64 = 0.95;
const FORGET: f64 = 0.983;
/// The first samples weigh so many times their share.
const START_WEIGHT: f64 = 2.0;
const TARGET_FIRST: Duration = Duration::from_millis(80);
/// Of a frame's time, by which it is stretched or shortened at most.
const STRETCH: u32 = 10;
/// A picture that is missing for longer is given up.
const PATIENCE: Duration = Duration::from_millis(200);
/// Pictures whose mean a freeze is measured by, and how many are needed to know one.
const MEAN_OF: usize = 30;
const MEAN_OF_MIN: usize = 5;
const FREEZE_MIN: Duration = Duration::from_millis(150);

/// What a player went through.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Playback {
    /// Runs of concealment, or freezes.
    pub stalls: u64,
    /// How long they took together.
    pub stalled: Duration,
    /// How long it should have played.
    pub played: Duration,
}

impl Playback {
    /// Adds another player's.
    pub fn add(&mut self, other: Playback) {
        self.stalls += other.stalls;
        self.stalled += other.stalled;
        self.played += other.played;
    }
}

/// The delay that a player aims at.
#[derive(Debug)]
struct Target {
    /// Arrivals of the last while that no later one beat, with what they took, ascending in both.
    fastest: VecDeque<(Duration, Duration)>,
    weights: [f64; BUCKETS],
    samples: u32,
    /// Since when, and the greatest of the sample in the making.
    sample: Option<(Duration, Duration)>,
    target: Duration,
}

impl Target {
    fn new() -> Target {
        Target {
            fastest: VecDeque::new(),
            weights: [0.0; BUCKETS],
            samples: 0,
            sample: None,
            target: TARGET_FIRST,
        }
    }

    /// A frame that took so long is complete.
    fn arrived(&mut self, now: Duration, took: Duration) {
        while self.fastest.front().is_some_and(|(at, _)| *at + HISTORY < now) {
            self.fastest.pop_front();
        }
        while self.fastest.back().is_some_and(|(_, other)| *other >= took) {
            self.fastest.pop_back();
        }
        self.fastest.push_back((now, took));
        let excess = took - self.base();
        match &mut self.sample {
            Some((since, most)) if now < *since + RESAMPLE => *most = excess.max(*most),
            Some((_, most)) => {
                let most = std::mem::take(most);
                self.add(most);
                self.sample = Some((now, excess));
            }
            None => self.sample = Some((now, excess)),
        }
    }

    /// What the fastest way takes of late.
    fn base(&self) -> Duration {
        self.fastest.front().map_or(Duration::ZERO, |(_, took)| *took)
    }

    fn add(&mut self, excess: Duration) {
        self.samples += 1;
        let forget = (1.0 - START_WEIGHT / f64::from(self.samples + 1)).clamp(0.0, FORGET);
        for weight in &mut self.weights {
            *weight *= forget;
        }
        let bucket = (excess.as_micros() / BUCKET.as_micros()) as usize;
        self.weights[bucket.min(BUCKETS - 1)] += 1.0 - forget;
        let mut below = 0.0;
        let found = self.weights.iter().position(|weight| {
            below += weight;
            below >= QUANTILE
        });
        self.target = BUCKET * (found.unwrap_or(BUCKETS - 1) as u32 + 1);
    }

    fn goal(&self) -> Duration {
        self.base() + self.target
    }
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    sent: Duration,
    missing: u32,
    complete: Option<Duration>,
}

/// The player of one stream at one subscriber.
#[derive(Debug)]
pub(crate) struct Player {
    kind: MediaKind,
    /// From frame to frame.
    interval: Duration,
    target: Target,
    /// From sending to playing; none until something came.
    delay: Option<Duration>,
    /// Number of the first of `frames`.
    first: u64,
    frames: VecDeque<Frame>,
    /// When the first and the last frame left.
    span: Option<(Duration, Duration)>,
    playback: Playback,
    /// Audio: since when nothing is there to be played.
    dry: Option<Duration>,
    /// Audio: when the last concealment ended.
    concealed_until: Option<Duration>,
    /// Video: when the last picture was shown, and how long those before it stood.
    shown: Option<Duration>,
    stood: VecDeque<Duration>,
    /// Video: pictures that left before cannot be shown.
    key_from: Option<Duration>,
}

impl Player {
    /// Of a stream with a frame every `interval`, in the mean.
    pub(crate) fn new(kind: MediaKind, interval: Duration) -> Player {
        Player {
            kind,
            interval,
            target: Target::new(),
            delay: None,
            first: 0,
            frames: VecDeque::new(),
            span: None,
            playback: Playback::default(),
            dry: None,
            concealed_until: None,
            shown: None,
            stood: VecDeque::new(),
            key_from: None,
        }
    }

    /// The next frame leaves its publisher, in so many packets. Returns its number.
    pub(crate) fn expect(&mut self, now: Duration, packets: u32) -> u64 {
        self.advance(now);
        self.frames.push_back(Frame { sent: now, missing: packets, complete: None });
        let begin = self.span.map_or(now, |(begin, _)| begin);
        self.span = Some((begin, now));
        self.first + self.frames.len() as u64 - 1
    }

    /// A packet of a frame comes that had not come before, and took so long.
    pub(crate) fn arrive(&mut self, now: Duration, frame: u64, took: Duration) {
        self.advance(now);
        let place = frame.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
        let Some(place) = place.filter(|place| *place < self.frames.len()) else {
            // What comes too late teaches to wait longer.
            self.target.arrived(now, took);
            return;
        };
        let arrived = &mut self.frames[place];
        arrived.missing = arrived.missing.saturating_sub(1);
        if arrived.missing > 0 {
            return;
        }
        arrived.complete = Some(now);
        let sent = arrived.sent;
        self.target.arrived(now, now - sent);
        match self.delay {
            None => {
                // What should have been there before it was not.
                let begin = self.frames[0].sent;
                self.delay = Some(self.target.goal());
                self.give_up(place);
                if begin < sent {
                    self.stall(begin, sent);
                }
            }
            Some(delay) if self.kind == MediaKind::Audio => {
                let Some(dry) = self.dry.take() else { return };
                self.give_up(place);
                let due = sent + delay;
                if due < now {
                    self.delay = Some(now - sent);
                }
                self.stall(dry, due.max(now));
            }
            Some(_) => {}
        }
    }

    /// The stream is over.
    pub(crate) fn finish(mut self, now: Duration) -> Playback {
        let Some((begin, last)) = self.span else { return self.playback };
        self.playback.played = last + self.interval - begin;
        self.advance(now.max(last + HISTORY));
        let end = last + self.interval + self.delay.unwrap_or_default();
        match (self.delay, self.kind) {
            (None, _) => self.stall(begin, end),
            (Some(_), MediaKind::Audio) => {
                if let Some(dry) = self.dry.take() {
                    self.stall(dry, end);
                }
            }
            (Some(_), MediaKind::Video) => {
                let since = self.shown.unwrap_or(begin);
                self.stood_for(end.saturating_sub(since));
            }
        }
        self.playback
    }

    /// Plays what is due before now.
    fn advance(&mut self, now: Duration) {
        let Some(mut delay) = self.delay else { return };
        while let Some(head) = self.frames.front().copied() {
            let due = head.sent + delay;
            let goes_on = match self.kind {
                MediaKind::Audio => self.dry.is_none() && due < now && self.play(due, head),
                MediaKind::Video => self.show(due, now, head),
            };
            if !goes_on {
                break;
            }
            self.give_up(1);
            delay = self.stretched(delay);
            self.delay = Some(delay);
        }
    }

    /// The delay after a frame was played, nearer to its goal.
    fn stretched(&self, delay: Duration) -> Duration {
        let step = self.interval / STRETCH;
        self.target.goal().clamp(delay.saturating_sub(step), delay + step)
    }

    fn give_up(&mut self, frames: usize) {
        self.frames.drain(..frames);
        self.first += frames as u64;
    }

    /// An audio frame's time has come. `false`: there is nothing to be played.
    fn play(&mut self, due: Duration, head: Frame) -> bool {
        if head.complete.is_some() {
            return true;
        }
        if self.frames.iter().any(|frame| frame.complete.is_some()) {
            // Until the next frame's time, which does not come later because there is none for a while.
            let next = self.frames.get(1).map_or(self.interval, |next| next.sent - head.sent);
            self.stall(due, due + next.min(self.interval));
            return true;
        }
        self.dry = Some(due);
        false
    }

    /// A picture is shown or given up, if that happens before now.
    fn show(&mut self, due: Duration, now: Duration, head: Frame) -> bool {
        if self.key_from.is_some_and(|key_from| head.sent < key_from) {
            return true;
        }
        let Some(complete) = head.complete else {
            let given_up = due + PATIENCE;
            if given_up >= now {
                return false;
            }
            self.key_from = Some(given_up + self.target.base());
            return true;
        };
        let shown = due.max(complete).max(self.shown.unwrap_or_default());
        if shown >= now {
            return false;
        }
        self.key_from = None;
        if let Some(before) = self.shown.replace(shown) {
            self.stood_for(shown - before);
        }
        true
    }

    /// A picture stood for so long.
    fn stood_for(&mut self, time: Duration) {
        let count = self.stood.len();
        if count >= MEAN_OF_MIN {
            let mean = self.stood.iter().sum::<Duration>() / count as u32;
            if time >= (3 * mean).max(mean + FREEZE_MIN) {
                self.playback.stalls += 1;
                self.playback.stalled += time;
            }
        }
        if count == MEAN_OF {
            self.stood.pop_front();
        }
        self.stood.push_back(time);
    }

    /// Nothing was played from then until then.
    fn stall(&mut self, from: Duration, until: Duration) {
        // What follows on concealment is the same stall.
        if self.concealed_until != Some(from) {
            self.playback.stalls += 1;
        }
        self.playback.stalled += until - from;
        self.concealed_until = Some(until);
    }
}

#[cfg(test)]
mod tests;
