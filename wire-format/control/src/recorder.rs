//! Writes a recording ([`wire_format::recording`]) beside a running process.
//!
//! A thread of its own writes to the file, and what waits for it is bounded: whoever records never waits. What finds no
//! room is not written, and the recording says how much of it is missing where. A file that has reached its bound ends with a
//! record that says so. Each is told once in the log, and the process goes on in any case.
//!
//! Keys never reach the file. [`Recorder::pseudonym`] gives a name for one that is the same for as long as the process lives and
//! tells nothing of it.

use crate::cli::{ConfigError, parse_bytes};
use aws_lc_rs::hmac;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::{self, JoinHandle};
use wire_format::Timestamp;
use wire_format::control::{ToController, TokenKey};
use wire_format::recording::{Body, FULL_BYTES, Header, Record};

/// Records that wait for the writer ...
const QUEUE_RECORDS_MAX: usize = 16_384;
/// ... and their bytes.
const QUEUE_BYTES_MAX: usize = 64 << 20;
const BYTES_DEFAULT: u64 = 256 << 20;
const BYTES_MIN: u64 = 1 << 20;

/// Where a process records its inputs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecorderConfig {
    /// The file. One that is there is kept as `FILE.old`, in place of one that was called so.
    pub file: PathBuf,
    /// Largest file.
    pub bytes_max: u64,
}

impl RecorderConfig {
    /// What the settings `record` and `record_max` mean; `None` for no recording.
    ///
    /// # Errors
    /// If one of them cannot be used.
    pub fn from_settings(
        file: Option<PathBuf>,
        bytes: Option<&str>,
    ) -> Result<Option<RecorderConfig>, ConfigError> {
        let wrong = |text, problem: String| ConfigError::value("record_max", text, problem);
        let bytes_max = match bytes {
            None => BYTES_DEFAULT,
            Some(text) => match parse_bytes(text).map_err(|problem| wrong(text, problem))? {
                bytes if bytes < BYTES_MIN => return Err(wrong(text, "the least is 1MiB".to_owned())),
                bytes => bytes,
            },
        };
        Ok(file.map(|file| RecorderConfig { file, bytes_max }))
    }
}

/// A recording that is being written. Cheap to clone; the last one that is dropped waits until everything is written.
#[derive(Clone, Debug)]
pub struct Recorder {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// `None` only while this is dropped.
    queue: Option<SyncSender<Entry>>,
    thread: Option<JoinHandle<()>>,
    progress: Arc<Progress>,
    /// What pseudonyms are made with.
    secret: hmac::Key,
}

#[derive(Debug, Default)]
struct Progress {
    /// Nothing more is written.
    over: AtomicBool,
    /// It was told that something is missing.
    told: AtomicBool,
    bytes_waiting: AtomicUsize,
}

/// One or two records.
#[derive(Debug)]
struct Entry {
    worker: u8,
    at: Timestamp,
    bytes: Vec<u8>,
}

impl Recorder {
    /// Makes the file and begins to write.
    ///
    /// # Errors
    /// If the file cannot be made, or the system gives no random numbers.
    pub fn start(config: &RecorderConfig, header: &Header) -> io::Result<Recorder> {
        let mut file = replace(&config.file)?;
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        file.write_all(&bytes)?;
        let mut secret = [0; 32];
        aws_lc_rs::rand::fill(&mut secret).map_err(|_| io::Error::other("no random numbers"))?;
        let (queue, entries) = sync_channel(QUEUE_RECORDS_MAX);
        let progress = Arc::<Progress>::default();
        let writer = Writer {
            out: BufWriter::new(file),
            file: config.file.clone(),
            bytes_left: config.bytes_max.saturating_sub((bytes.len() + FULL_BYTES) as u64),
            bytes_max: config.bytes_max,
            progress: Arc::clone(&progress),
        };
        let thread =
            thread::Builder::new().name("recorder".to_owned()).spawn(move || writer.run(&entries))?;
        tracing::info!(file = %config.file.display(), bytes_max = config.bytes_max, "inputs are recorded");
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        Ok(Recorder {
            shared: Arc::new(Shared { queue: Some(queue), thread: Some(thread), progress, secret }),
        })
    }

    /// Where a worker of a relay, or a controller, puts its records.
    pub fn track(&self, worker: u8) -> Track {
        Track { recorder: self.clone(), worker, lost: 0 }
    }

    /// Stands for a key in the file.
    pub fn pseudonym(&self, key: &[u8]) -> [u8; 32] {
        let mut name = [0; 32];
        name.copy_from_slice(hmac::sign(&self.shared.secret, key).as_ref());
        name
    }

    /// The same token keys under pseudonyms.
    pub fn hide_token_keys(&self, keys: &mut [TokenKey]) {
        for key in keys {
            key.public_key = self.pseudonym(&key.public_key);
        }
    }

    /// The same message with keys under pseudonyms.
    pub fn hide_keys(&self, message: &mut ToController) {
        match message {
            ToController::Published(report) => {
                if let Some(key) = &mut report.publisher {
                    let name = self.pseudonym(&key.0);
                    key.0.copy_from_slice(&name[..16]);
                }
            }
            ToController::Hello(_)
            | ToController::ReportsComplete
            | ToController::Links(_)
            | ToController::Unpublished { .. }
            | ToController::Subscribed(_)
            | ToController::Unsubscribed { .. }
            | ToController::TableAck { .. }
            | ToController::TableWanted { .. }
            | ToController::StampAck { .. }
            | ToController::StreamAck { .. }
            | ToController::Goodbye
            | ToController::Usage(_)
            | ToController::Traced(_) => {}
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // It ends when it has written what waits; a panic of it was told.
            let _ = thread.join();
        }
    }
}

/// The records of one core, in their order.
#[derive(Debug)]
pub struct Track {
    recorder: Recorder,
    worker: u8,
    /// Records that found no room since the last one that did.
    lost: u64,
}

impl Track {
    /// The recording it is a part of.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Nothing more is written: what is put here is for nothing.
    pub fn is_over(&self) -> bool {
        self.recorder.shared.progress.over.load(Ordering::Relaxed)
    }

    /// Puts a record, unless there is no room for it.
    pub fn put(&mut self, at: Timestamp, body: Body<'_>) {
        if self.is_over() {
            return;
        }
        let Track { recorder, worker, lost } = self;
        let (worker, mut bytes) = (*worker, Vec::new());
        if *lost > 0 {
            let gap = Record { worker, at, body: Body::Lost { records: *lost } };
            gap.encode(&mut bytes).expect("a few bytes");
        }
        let fits = Record { worker, at, body }.encode(&mut bytes).is_ok();
        if fits && recorder.shared.send(Entry { worker, at, bytes }) {
            *lost = 0;
            return;
        }
        *lost += 1;
        if !recorder.shared.progress.told.swap(true, Ordering::Relaxed) {
            tracing::warn!("inputs come faster than they can be recorded: the recording has gaps");
        }
    }
}

impl Shared {
    /// Whether there was room for it.
    fn send(&self, entry: Entry) -> bool {
        let bytes = entry.bytes.len();
        let waiting = self.progress.bytes_waiting.fetch_add(bytes, Ordering::Relaxed) + bytes;
        // One that is larger than the bound alone is let in when nothing else waits.
        let fits = waiting <= QUEUE_BYTES_MAX || waiting == bytes;
        let sent = fits && self.queue.as_ref().is_some_and(|queue| queue.try_send(entry).is_ok());
        if !sent {
            self.progress.bytes_waiting.fetch_sub(bytes, Ordering::Relaxed);
        }
        sent
    }
}

struct Writer {
    out: BufWriter<File>,
    file: PathBuf,
    bytes_left: u64,
    bytes_max: u64,
    progress: Arc<Progress>,
}

impl Writer {
    fn run(mut self, entries: &Receiver<Entry>) {
        let outcome = self.write_all(entries);
        self.progress.over.store(true, Ordering::Relaxed);
        if let Err(error) = outcome {
            tracing::error!(file = %self.file.display(), %error, "the recording cannot be written and ends here");
        }
    }

    fn write_all(&mut self, entries: &Receiver<Entry>) -> io::Result<()> {
        loop {
            let entry = match entries.try_recv() {
                Ok(entry) => entry,
                Err(TryRecvError::Disconnected) => return self.out.flush(),
                Err(TryRecvError::Empty) => {
                    // Whoever is killed now leaves everything so far.
                    self.out.flush()?;
                    let Ok(entry) = entries.recv() else { return Ok(()) };
                    entry
                }
            };
            let Entry { worker, at, bytes } = entry;
            self.progress.bytes_waiting.fetch_sub(bytes.len(), Ordering::Relaxed);
            let Some(left) = self.bytes_left.checked_sub(bytes.len() as u64) else {
                let mut end = Vec::new();
                Record { worker, at, body: Body::Full }.encode(&mut end).expect("a few bytes");
                self.out.write_all(&end)?;
                self.out.flush()?;
                tracing::warn!(
                    file = %self.file.display(),
                    bytes_max = self.bytes_max,
                    "the recording is full: nothing is recorded from now on (`record_max` sets another bound)"
                );
                return Ok(());
            };
            self.bytes_left = left;
            self.out.write_all(&bytes)?;
        }
    }
}

/// Makes a file that its owner alone can read; one that is there gets another name.
fn replace(path: &Path) -> io::Result<File> {
    let mut old = path.to_owned().into_os_string();
    old.push(".old");
    match fs::rename(path, old) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire_format::recording::{Recording, Source};

    fn header() -> Header {
        Header { source: Source::Relay, began_unix_ms: 1, software: "0.1.0".to_owned() }
    }

    fn start(folder: &Path, bytes_max: u64) -> Recorder {
        let config = RecorderConfig { file: folder.join("r.rec"), bytes_max };
        Recorder::start(&config, &header()).expect("it can be written")
    }

    #[test]
    fn a_recording_that_is_full_says_so_and_holds_its_bound() {
        let folder = tempfile::tempdir().expect("a folder");
        let recorder = start(folder.path(), 1_000);
        let mut track = recorder.track(3);
        for number in 0..100_u64 {
            track.put(Timestamp::from_micros(number), Body::Input(&number.to_be_bytes()));
        }
        drop((track, recorder));
        let bytes = fs::read(folder.path().join("r.rec")).expect("a file");
        assert!(bytes.len() <= 1_000 && bytes.len() > 950, "{}", bytes.len());
        let recording = Recording::new(&bytes).expect("a recording");
        let records = recording.collect::<Result<Vec<_>, _>>().expect("legal");
        let (last, inputs) = records.split_last().expect("some");
        assert_eq!((last.worker, last.body), (3, Body::Full));
        for (number, record) in inputs.iter().enumerate() {
            assert_eq!(record.body, Body::Input(&(number as u64).to_be_bytes()));
        }
    }

    #[test]
    fn what_finds_no_room_is_counted_where_it_is_missing() {
        let folder = tempfile::tempdir().expect("a folder");
        let recorder = start(folder.path(), 1 << 20);
        let mut track = recorder.track(0);
        // As if much waited.
        let waiting = &recorder.shared.progress.bytes_waiting;
        waiting.fetch_add(QUEUE_BYTES_MAX, Ordering::Relaxed);
        track.put(Timestamp::ZERO, Body::Input(b"a"));
        track.put(Timestamp::ZERO, Body::Input(b"b"));
        waiting.fetch_sub(QUEUE_BYTES_MAX, Ordering::Relaxed);
        track.put(Timestamp::ZERO, Body::Input(b"c"));
        drop((track, recorder));
        let bytes = fs::read(folder.path().join("r.rec")).expect("a file");
        let bodies: Vec<_> =
            Recording::new(&bytes).expect("legal").map(|record| record.expect("legal").body).collect();
        assert_eq!(bodies, [Body::Lost { records: 2 }, Body::Input(b"c")]);
    }

    #[test]
    fn a_recording_that_is_there_is_kept_and_others_may_not_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        start(folder.path(), 1 << 20).track(0).put(Timestamp::ZERO, Body::Input(b"before"));
        drop(start(folder.path(), 1 << 20));
        let file = folder.path().join("r.rec");
        let old = fs::read(folder.path().join("r.rec.old")).expect("kept");
        assert_eq!(Recording::new(&old).expect("legal").count(), 1);
        assert_eq!(Recording::new(&fs::read(&file).expect("new")).expect("legal").count(), 0);
        assert_eq!(fs::metadata(file).expect("there").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn the_bound_is_checked() {
        let parse = |bytes| RecorderConfig::from_settings(Some("f".into()), bytes);
        let bytes = |bytes| parse(bytes).expect("legal").expect("on").bytes_max;
        assert_eq!((bytes(None), bytes(Some("2MiB"))), (BYTES_DEFAULT, 2 << 20));
        assert_eq!(RecorderConfig::from_settings(None, None).expect("legal"), None);
        assert!(parse(Some("1KiB")).expect_err("too small").to_string().contains("1MiB"));
    }
}
