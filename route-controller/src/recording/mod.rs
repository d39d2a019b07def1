//! What the core is made from and told, written down so that `sim replay` can run it again. No key or secret is in it:
//! [`control_proto::recorder`] has pseudonyms for what the core compares.

mod write;

use control_proto::note_to_relay;
use control_proto::recorder::{Recorder, Track};
use prost::Message as _;
use route_core::{ControllerConfig, Input, Output};
use wire_format::Timestamp;
use wire_format::recording::{Body, Fingerprint, Header, Outcome, Source};

/// What a recording of this process begins with.
pub(crate) fn header(began_unix_ms: u64) -> Header {
    Header { source: Source::Controller, began_unix_ms, software: env!("CARGO_PKG_VERSION").to_owned() }
}

/// The recording of one core.
#[derive(Debug)]
pub(crate) struct CoreRecording {
    track: Track,
    fingerprint: Fingerprint,
    /// Of the present input.
    outputs: u32,
}

impl CoreRecording {
    /// Begins with what the core is made from.
    pub(crate) fn begin(recorder: &Recorder, began_unix_ms: u64, config: &ControllerConfig) -> CoreRecording {
        let mut track = recorder.track(0);
        let start = write::controller(began_unix_ms, config).encode_to_vec();
        track.put(Timestamp::ZERO, Body::Start(&start));
        CoreRecording { track, fingerprint: Fingerprint::default(), outputs: 0 }
    }

    /// The core is about to be told this.
    pub(crate) fn input(&mut self, now: Timestamp, input: &Input) {
        if !self.track.is_over() {
            let input = write::input(input, self.track.recorder()).encode_to_vec();
            self.track.put(now, Body::Input(&input));
        }
    }

    /// It wants this done.
    pub(crate) fn output(&mut self, output: &Output) {
        if !self.track.is_over() {
            self.outputs += 1;
            output.note(&mut self.fingerprint, |fingerprint, session, message| {
                note_to_relay(fingerprint, session.0, message);
            });
        }
    }

    /// It wants no more.
    pub(crate) fn drained(&mut self, now: Timestamp) {
        let outputs = std::mem::take(&mut self.outputs);
        if outputs > 0 {
            let outcome = Outcome { outputs, fingerprint: self.fingerprint.value() };
            self.track.put(now, Body::Outcome(outcome));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use control_proto::recorder::RecorderConfig;
    use route_core::SessionId;
    use wire_format::control::{PublicationReport, StreamName, ToController, ToRelay, TokenKey};
    use wire_format::recording::{Record, Recording};
    use wire_format::{MediaKind, PublicationId, PublisherKey};

    fn token_key() -> TokenKey {
        TokenKey { id: "key-1".to_owned(), public_key: *b"a public key that is 32 bytes ..", namespace: None }
    }

    fn published(key: &[u8; 16]) -> Input {
        let text = str::to_owned;
        let name = StreamName {
            namespace: text("demo"),
            room: text("room"),
            user: text("ana"),
            stream: text("camera"),
        };
        let report = PublicationReport {
            publication: PublicationId(1),
            name,
            kind: MediaKind::Video,
            granted: None,
            protect: false,
            publisher: Some(PublisherKey(*key)),
        };
        Input::FromRelay { session: SessionId(1), message: ToController::Published(report) }
    }

    #[test]
    fn keys_are_pseudonyms_in_the_file_and_the_same_keys_have_the_same_ones() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("c.rec");
        let config = RecorderConfig { file: file.clone(), bytes_max: 1 << 20 };
        let recorder = Recorder::start(&config, &header(0))?;
        let mut recording = CoreRecording::begin(&recorder, 0, &ControllerConfig::new(1, 2));
        for key in [b"publisher key 01", b"publisher key 02", b"publisher key 01"] {
            recording.input(Timestamp::ZERO, &published(key));
        }
        recording.input(Timestamp::ZERO, &Input::TokenKeys(vec![token_key()]));
        let message = ToRelay::TokenKeys(vec![token_key()]);
        recording.output(&Output::ToRelay { session: SessionId(1), message });
        recording.drained(Timestamp::ZERO);
        drop((recording, recorder));

        let bytes = std::fs::read(file)?;
        for secret in [&b"publisher key"[..], b"a public key"] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret));
        }
        assert!(bytes.windows(6).any(|window| window == b"camera"), "names are there");
        let records = Recording::new(&bytes)?.collect::<Result<Vec<Record<'_>>, _>>()?;
        assert_eq!(records[1], records[3]);
        assert_ne!(records[1], records[2]);
        assert!(matches!(
            records.last().map(|last| last.body),
            Some(Body::Outcome(Outcome { outputs: 1, .. }))
        ));
        Ok(())
    }
}
