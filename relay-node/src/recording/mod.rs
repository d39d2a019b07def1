//! A relay's core, and what it is told, written down so that `sim replay` can run it again. No media, key or token is in it:
//! `wire_format::recording` blanks datagrams, and [`control_proto::recorder`] has pseudonyms for what the core compares.
//!
//! A port drives [`RecordedRelay`], which is the core and, where it is asked for, its recording: without one, an input costs a
//! comparison more. Changes of the core by other ways than inputs (registrations of plain RTP) are not written down, and noted
//! as missing.

mod write;

use control_proto::note_to_controller;
use control_proto::recorder::{Recorder, Track};
use prost::Message as _;
use relay_core::{
    Delivery, Endpoint, HandOver, Input, LinkId, Output, PlainTransmit, Relay, RelayCommand, RelayEvent,
    Train,
};
use std::ops::{Deref, DerefMut};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use wire_format::Timestamp;
use wire_format::recording::{Body, Fingerprint, Header, Outcome, Source};

pub(crate) use write::Made;

/// Counts are noted so often, at most.
const COUNTS_EVERY: Duration = Duration::from_secs(1);

/// What a recording of this process begins with.
pub(crate) fn header(began_unix_ms: u64) -> Header {
    Header { source: Source::Relay, began_unix_ms, software: env!("CARGO_PKG_VERSION").to_owned() }
}

/// Milliseconds since 1970, of a moment.
pub(crate) fn unix_ms(moment: SystemTime) -> u64 {
    let since_1970 = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}

/// A relay's core, as its port drives it.
#[derive(Debug)]
pub struct RecordedRelay {
    relay: Relay,
    recording: Option<Box<RelayRecording>>,
}

/// The recording of one core.
#[derive(Debug)]
pub(crate) struct RelayRecording {
    track: Track,
    fingerprint: Fingerprint,
    /// Of the last input.
    outputs: u32,
    now: Timestamp,
    counted_at: Timestamp,
}

impl RecordedRelay {
    /// The core alone, or with the recording that it is written to.
    pub(crate) fn new(relay: Relay, recording: Option<RelayRecording>) -> RecordedRelay {
        RecordedRelay { relay, recording: recording.map(Box::new) }
    }
}

impl Deref for RecordedRelay {
    type Target = Relay;

    fn deref(&self) -> &Relay {
        &self.relay
    }
}

impl DerefMut for RecordedRelay {
    /// For what changes the core and is no input.
    fn deref_mut(&mut self) -> &mut Relay {
        if let Some(recording) = &mut self.recording {
            recording.settle(&self.relay);
            let now = recording.now;
            recording.track.put(now, Body::Lost { records: 1 });
        }
        &mut self.relay
    }
}

impl RelayRecording {
    /// Begins with what the core is made from, in this worker.
    pub(crate) fn begin(recorder: &Recorder, now: Timestamp, made: &Made<'_>) -> RelayRecording {
        let mut track = recorder.track(made.worker.index);
        track.put(now, Body::Start(&made.recorded().encode_to_vec()));
        RelayRecording { track, fingerprint: Fingerprint::default(), outputs: 0, now, counted_at: now }
    }

    /// The core is about to be told this.
    fn input(&mut self, now: Timestamp, arena: &[u8], input: &Input<'_, RelayCommand>) {
        self.now = now;
        if !self.track.is_over() {
            let input = write::input(arena, input, self.track.recorder()).encode_to_vec();
            self.track.put(now, Body::Input(&input));
        }
    }

    fn output(&mut self, output: &Output<RelayEvent>) {
        self.outputs += u32::from(output.note(&mut self.fingerprint, note_to_controller));
    }

    /// The last input is drained.
    fn settle(&mut self, relay: &Relay) {
        let outputs = std::mem::take(&mut self.outputs);
        if outputs > 0 {
            let outcome = Outcome { outputs, fingerprint: self.fingerprint.value() };
            self.track.put(self.now, Body::Outcome(outcome));
        }
        if self.now.since(self.counted_at) >= COUNTS_EVERY {
            self.counted_at = self.now;
            let counts = write::counts(relay.counters()).encode_to_vec();
            self.track.put(self.now, Body::Counts(&counts));
        }
    }
}

impl Endpoint for RecordedRelay {
    type Command = RelayCommand;
    type Event = RelayEvent;

    fn handle_input(&mut self, now: Timestamp, arena: &[u8], input: Input<'_, RelayCommand>) {
        if let Some(recording) = &mut self.recording {
            recording.settle(&self.relay);
            recording.input(now, arena, &input);
        }
        self.relay.handle_input(now, arena, input);
    }

    fn poll_transmit(&mut self, now: Timestamp, arena: &[u8], train: &mut Train) -> Option<LinkId> {
        self.relay.poll_transmit(now, arena, train)
    }

    fn annex(&self) -> &[u8] {
        self.relay.annex()
    }

    fn poll_delivery(&mut self) -> Option<Delivery> {
        self.relay.poll_delivery()
    }

    fn poll_hand_over(&mut self) -> Option<HandOver> {
        self.relay.poll_hand_over()
    }

    fn poll_plain<'a>(&'a mut self, arena: &'a [u8]) -> Option<PlainTransmit<'a>> {
        self.relay.poll_plain(arena)
    }

    fn takes_plain(&self) -> bool {
        self.relay.takes_plain()
    }

    fn poll_output(&mut self) -> Option<Output<RelayEvent>> {
        let output = self.relay.poll_output();
        if let (Some(recording), Some(output)) = (&mut self.recording, &output) {
            recording.output(output);
        }
        output
    }

    fn poll_timeout(&self) -> Option<Timestamp> {
        self.relay.poll_timeout()
    }
}

impl Drop for RecordedRelay {
    fn drop(&mut self) {
        if let Some(recording) = &mut self.recording {
            recording.settle(&self.relay);
        }
    }
}
