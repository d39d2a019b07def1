//! What a relay or a controller writes down of its inputs, so that they can be run again.
//!
//! A recording is a header and then records, each with its length in front. What is in a record is written elsewhere: the
//! bodies of inputs are protobuf (`recording.proto` of control-proto). Section 15 of SPEC.md is the norm.
//!
//! A process that was killed leaves a record that ends early: that is the end of the recording and no error. Everything else
//! that makes no sense is one. Nothing is allocated, whatever a length claims.

mod blank;

use crate::Timestamp;

pub use blank::{blank_datagram, blank_media, blank_packet};

/// The first bytes of a recording.
pub const MAGIC: [u8; 7] = *b"cascrec";
/// The version of the format that is written, and the only one that is read.
pub const VERSION: u8 = 1;
/// Longest record, without its length: an input of 16 MiB, and what goes with it.
pub const RECORD_BYTES_MAX: usize = (16 << 20) + 4_096;
/// Longest name of a software version.
pub const SOFTWARE_BYTES_MAX: usize = 64;
/// Length, kind, worker and time.
const RECORD_HEAD_BYTES: usize = 4 + 1 + 1 + 8;
/// Bytes that the record which ends a full recording takes.
pub const FULL_BYTES: usize = RECORD_HEAD_BYTES;

/// Who recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// A route controller: one core, a new one with each term.
    Controller,
    /// A relay: one core for each worker.
    Relay,
}

/// What a recording begins with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// Who recorded.
    pub source: Source,
    /// When it began, milliseconds since 1970, for people.
    pub began_unix_ms: u64,
    /// The version of the software, [`SOFTWARE_BYTES_MAX`] bytes at most.
    pub software: String,
}

/// One record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// Which worker of a relay; 0 of a controller.
    pub worker: u8,
    /// What the core was told the time is.
    pub at: Timestamp,
    /// What it is.
    pub body: Body<'a>,
}

/// What a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Body<'a> {
    /// A core begins, made from this.
    Start(&'a [u8]),
    /// The core was told this.
    Input(&'a [u8]),
    /// What the last input of this worker brought out.
    Outcome(Outcome),
    /// What this core has counted so far, as the last input left it.
    Counts(&'a [u8]),
    /// So many records are missing here: they came faster than they could be written.
    Lost {
        /// How many.
        records: u64,
    },
    /// The recording has reached its bound; what came after that is not in it.
    Full,
}

/// What an input brought out, so that a replay can tell whether it does the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    /// How many outputs.
    pub outputs: u32,
    /// The fingerprint of all outputs since the core began.
    pub fingerprint: u64,
}

/// Why bytes are no recording, or no record of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecordingError {
    /// It does not begin like one.
    #[error("this is no recording of a relay or controller")]
    NoRecording,
    /// It is of another version.
    #[error("recording of version {0}; this program reads version {VERSION}")]
    Version(u8),
    /// A record is longer than any.
    #[error("record of {0} bytes is longer than the {RECORD_BYTES_MAX} allowed")]
    TooLong(usize),
    /// A record or the header makes no sense.
    #[error("malformed")]
    Malformed,
}

/// FNV-1a of 64 bits, over whatever is put in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fingerprint(u64);

impl Default for Fingerprint {
    fn default() -> Fingerprint {
        Fingerprint(0xCBF2_9CE4_8422_2325)
    }
}

impl Fingerprint {
    /// Goes on with these bytes.
    pub fn put(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3);
        }
    }

    /// Goes on with a number.
    pub fn put_number(&mut self, number: u64) {
        self.put(&number.to_be_bytes());
    }

    /// The value so far.
    pub fn value(self) -> u64 {
        self.0
    }
}

impl Header {
    /// Appends it; of the software's version no more than fits.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        out.push(VERSION);
        out.push(match self.source {
            Source::Controller => 0,
            Source::Relay => 1,
        });
        out.extend_from_slice(&self.began_unix_ms.to_be_bytes());
        let mut length = self.software.len().min(SOFTWARE_BYTES_MAX);
        while !self.software.is_char_boundary(length) {
            length -= 1;
        }
        out.push(length as u8);
        out.extend_from_slice(&self.software.as_bytes()[..length]);
    }

    fn decode(bytes: &[u8]) -> Result<(Header, &[u8]), RecordingError> {
        let rest = bytes.strip_prefix(&MAGIC).ok_or(RecordingError::NoRecording)?;
        let (version, rest) = rest.split_first().ok_or(RecordingError::Malformed)?;
        if *version != VERSION {
            return Err(RecordingError::Version(*version));
        }
        let (source, rest) = rest.split_first().ok_or(RecordingError::Malformed)?;
        let source = match source {
            0 => Source::Controller,
            1 => Source::Relay,
            _ => return Err(RecordingError::Malformed),
        };
        let (began, rest) = rest.split_first_chunk::<8>().ok_or(RecordingError::Malformed)?;
        let (length, rest) = rest.split_first().ok_or(RecordingError::Malformed)?;
        let length = usize::from(*length);
        if length > SOFTWARE_BYTES_MAX {
            return Err(RecordingError::Malformed);
        }
        let (software, rest) = rest.split_at_checked(length).ok_or(RecordingError::Malformed)?;
        let software = std::str::from_utf8(software).map_err(|_| RecordingError::Malformed)?.to_owned();
        Ok((Header { source, began_unix_ms: u64::from_be_bytes(*began), software }, rest))
    }
}

impl Record<'_> {
    /// Appends it with its length.
    ///
    /// # Errors
    /// [`RecordingError::TooLong`] if it exceeds [`RECORD_BYTES_MAX`]; `out` is then unchanged.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), RecordingError> {
        let mut number = [0; 12];
        let (kind, body): (u8, &[u8]) = match &self.body {
            Body::Start(body) => (1, body),
            Body::Input(body) => (2, body),
            Body::Outcome(Outcome { outputs, fingerprint }) => {
                number[..4].copy_from_slice(&outputs.to_be_bytes());
                number[4..].copy_from_slice(&fingerprint.to_be_bytes());
                (3, &number)
            }
            Body::Lost { records } => {
                number[..8].copy_from_slice(&records.to_be_bytes());
                (4, &number[..8])
            }
            Body::Full => (5, &[]),
            Body::Counts(body) => (6, body),
        };
        let length = RECORD_HEAD_BYTES - 4 + body.len();
        if length > RECORD_BYTES_MAX {
            return Err(RecordingError::TooLong(length));
        }
        out.reserve(4 + length);
        out.extend_from_slice(&(length as u32).to_be_bytes());
        out.push(kind);
        out.push(self.worker);
        out.extend_from_slice(&self.at.as_micros().to_be_bytes());
        out.extend_from_slice(body);
        Ok(())
    }

    /// Of all bytes behind the length.
    fn decode(bytes: &[u8]) -> Result<Record<'_>, RecordingError> {
        let ([kind, worker], rest) = bytes.split_first_chunk::<2>().ok_or(RecordingError::Malformed)?;
        let (at, body) = rest.split_first_chunk::<8>().ok_or(RecordingError::Malformed)?;
        let body = match kind {
            1 => Body::Start(body),
            2 => Body::Input(body),
            3 => {
                let (outputs, rest) = body.split_first_chunk::<4>().ok_or(RecordingError::Malformed)?;
                let fingerprint: [u8; 8] = rest.try_into().map_err(|_| RecordingError::Malformed)?;
                Body::Outcome(Outcome {
                    outputs: u32::from_be_bytes(*outputs),
                    fingerprint: u64::from_be_bytes(fingerprint),
                })
            }
            4 => {
                let records: [u8; 8] = body.try_into().map_err(|_| RecordingError::Malformed)?;
                Body::Lost { records: u64::from_be_bytes(records) }
            }
            5 if body.is_empty() => Body::Full,
            6 => Body::Counts(body),
            _ => return Err(RecordingError::Malformed),
        };
        Ok(Record { worker: *worker, at: Timestamp::from_micros(u64::from_be_bytes(*at)), body })
    }
}

/// A recording that is read from its beginning: an iterator over its records. After an error there are no more.
#[derive(Clone, Debug)]
pub struct Recording<'a> {
    header: Header,
    rest: &'a [u8],
    failed: bool,
}

impl<'a> Recording<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`RecordingError`] if these bytes do not begin with one.
    pub fn new(bytes: &'a [u8]) -> Result<Recording<'a>, RecordingError> {
        let (header, rest) = Header::decode(bytes)?;
        Ok(Recording { header, rest, failed: false })
    }

    /// What it begins with.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Bytes behind the last whole record; after the last record those of one that ends early.
    pub fn bytes_left(&self) -> usize {
        self.rest.len()
    }
}

impl<'a> Iterator for Recording<'a> {
    type Item = Result<Record<'a>, RecordingError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let (length, rest) = self.rest.split_first_chunk::<4>()?;
        let length = u32::from_be_bytes(*length) as usize;
        if length > RECORD_BYTES_MAX {
            self.failed = true;
            return Some(Err(RecordingError::TooLong(length)));
        }
        let (record, rest) = rest.split_at_checked(length)?;
        let record = Record::decode(record);
        match record {
            Ok(_) => self.rest = rest,
            Err(_) => self.failed = true,
        }
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> Header {
        Header { source: Source::Controller, began_unix_ms: 1_795_258_800_000, software: "0.1.0".into() }
    }

    fn record(kind: u8, worker: u8, at: u64, bytes: &[u8], number: u64) -> Record<'_> {
        let body = match kind % 6 {
            0 => Body::Start(bytes),
            1 => Body::Input(bytes),
            2 => Body::Outcome(Outcome { outputs: number as u32, fingerprint: number }),
            3 => Body::Lost { records: number },
            4 => Body::Counts(bytes),
            _ => Body::Full,
        };
        Record { worker, at: Timestamp::from_micros(at), body }
    }

    type Drawn = (u8, u8, u64, Vec<u8>, u64);

    fn drawn() -> impl Strategy<Value = Vec<Drawn>> {
        let bytes = prop::collection::vec(any::<u8>(), 0..40);
        prop::collection::vec((any::<u8>(), any::<u8>(), any::<u64>(), bytes, any::<u64>()), 0..8)
    }

    fn written(drawn: &[Drawn]) -> Vec<u8> {
        let mut out = Vec::new();
        header().encode(&mut out);
        for (kind, worker, at, bytes, number) in drawn {
            record(*kind, *worker, *at, bytes, *number).encode(&mut out).expect("short");
        }
        out
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(drawn in drawn()) {
            let bytes = written(&drawn);
            let mut recording = Recording::new(&bytes).expect("a header");
            prop_assert_eq!(recording.header(), &header());
            for (kind, worker, at, bytes, number) in &drawn {
                let expected = record(*kind, *worker, *at, bytes, *number);
                prop_assert_eq!(recording.next(), Some(Ok(expected)));
            }
            prop_assert_eq!(recording.next(), None);
            prop_assert_eq!(recording.bytes_left(), 0);
        }

        #[test]
        fn a_torn_end_is_an_end(drawn in drawn(), cut in any::<prop::sample::Index>()) {
            let bytes = written(&drawn);
            let begin = written(&[]).len();
            let torn = &bytes[..begin + cut.index(bytes.len() - begin + 1)];
            let mut recording = Recording::new(torn).expect("a header");
            let read = recording.by_ref().collect::<Result<Vec<_>, _>>().expect("no error");
            prop_assert!(read.len() <= drawn.len());
            prop_assert!(torn.len() == bytes.len() || recording.bytes_left() < torn.len());
        }

        #[test]
        fn anything_may_be_read(mut bytes in prop::collection::vec(any::<u8>(), 0..200), legal in any::<bool>()) {
            if legal {
                let mut whole = written(&[]);
                whole.append(&mut bytes);
                bytes = whole;
            }
            if let Ok(recording) = Recording::new(&bytes) {
                prop_assert!(recording.count() <= bytes.len());
            }
        }
    }

    #[test]
    fn a_length_that_no_record_has_is_refused_and_nothing_is_allocated() {
        let mut bytes = written(&[]);
        bytes.extend_from_slice(&u32::MAX.to_be_bytes());
        let mut recording = Recording::new(&bytes).expect("a header");
        assert_eq!(recording.next(), Some(Err(RecordingError::TooLong(u32::MAX as usize))));
        assert_eq!(recording.next(), None);
        let long = vec![0; RECORD_BYTES_MAX];
        let record = Record { worker: 0, at: Timestamp::ZERO, body: Body::Input(&long) };
        let mut out = Vec::new();
        assert!(matches!(record.encode(&mut out), Err(RecordingError::TooLong(_))) && out.is_empty());
    }

    #[test]
    fn what_is_no_recording_is_told_from_one_of_another_version() {
        assert_eq!(Recording::new(b"pcap").err(), Some(RecordingError::NoRecording));
        assert_eq!(Recording::new(b"cascrec\x02").err(), Some(RecordingError::Version(2)));
        assert_eq!(Recording::new(b"cascrec\x01").err(), Some(RecordingError::Malformed));
        let long = Header { software: "ä".repeat(60), ..header() };
        let mut bytes = Vec::new();
        long.encode(&mut bytes);
        assert_eq!(Recording::new(&bytes).expect("a header").header().software, "ä".repeat(32));
    }
}
