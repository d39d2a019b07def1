//! The files: a folder of segments, each begun by a whole frame and continued by what became of it.
//!
//! A segment is named after when it begins (milliseconds since 1970), is only ever appended to, and goes as a whole, oldest
//! first: so the folder has an exact bound, which a database that grows by doubling and never shrinks has not. Nothing is
//! forced to the disk; what a crash leaves half written at the end of a segment is found by its checksum and counts for
//! nothing. One record is
//!
//! ```text
//! length of the frame (4 bytes)  moment, milliseconds since 1970 (8)  first half of the SHA-256 of moment and frame (16)  frame
//! ```

use super::frame::Frame;
use crate::ca::sha256;
use anyhow::{Context as _, bail};
use route_core::Moment;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

const HEAD_BYTES: usize = 4 + 8 + CHECK_BYTES;
const CHECK_BYTES: usize = 16;
/// A segment ends when what follows its whole frame has grown to as much as that, but not below this ...
const SEGMENT_BYTES_MIN: u64 = 256 * 1024;
/// ... or takes this part of all that is allowed ...
const SEGMENT_SHARE: u64 = 16;
/// ... or is so long.
const SEGMENT_MS_MAX: u64 = 3_600_000;
/// Where frames are further apart than this the controller did not run, or did not lead.
pub(super) const GAP_MS_MAX: u64 = 150_000;
const ENDING: &str = "frames";

/// The folder.
#[derive(Debug)]
pub(super) struct Segments {
    folder: PathBuf,
    bytes_max: u64,
    keep_ms: u64,
    /// Bytes of each segment, by its beginning.
    known: BTreeMap<u64, u64>,
    open: Option<Open>,
}

/// The segment that is appended to.
#[derive(Debug)]
struct Open {
    file: File,
    began_ms: u64,
    last_ms: u64,
    whole_bytes: u64,
    bytes: u64,
}

/// A moment of the past.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Found {
    pub(super) moment: Moment,
    /// When what it says of links was kept, milliseconds since 1970.
    pub(super) as_of_ms: u64,
}

/// Why there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Missing {
    /// Nothing was kept so far.
    Empty,
    /// What is kept begins later, then.
    Before(u64),
    /// Nothing was kept between these two; the second is absent if nothing was kept since.
    Gap(u64, Option<u64>),
}

impl Segments {
    /// The folder is made if it is not there.
    pub(super) fn open(folder: &Path, bytes_max: u64, keep_ms: u64) -> anyhow::Result<Segments> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut known = BTreeMap::new();
        for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let entry = entry?;
            if let Some(began_ms) = began_ms(&entry.path()) {
                known.insert(began_ms, entry.metadata()?.len());
            }
        }
        Ok(Segments { folder: folder.to_owned(), bytes_max, keep_ms, known, open: None })
    }

    /// Bytes of all segments.
    pub(super) fn bytes(&self) -> u64 {
        self.known.values().sum()
    }

    /// When the oldest segment begins.
    pub(super) fn begins_ms(&self) -> Option<u64> {
        self.known.keys().next().copied()
    }

    /// The next frame has to be a whole one.
    pub(super) fn wants_whole(&self, now_ms: u64) -> bool {
        self.open.as_ref().is_none_or(|open| {
            let deltas = open.bytes - open.whole_bytes;
            let enough = open.whole_bytes.max(SEGMENT_BYTES_MIN).min(self.bytes_max / SEGMENT_SHARE);
            deltas >= enough
                || now_ms.saturating_sub(open.began_ms) >= SEGMENT_MS_MAX
                || now_ms < open.last_ms
        })
    }

    /// Appends a frame of now; one that is whole begins a segment. After an error the next one has to.
    pub(super) fn append(&mut self, now_ms: u64, frame: &Frame) -> anyhow::Result<()> {
        let appended = self.try_append(now_ms, frame);
        if appended.is_err() {
            self.open = None;
        }
        appended
    }

    fn try_append(&mut self, now_ms: u64, frame: &Frame) -> anyhow::Result<()> {
        let record = record(now_ms, &frame.encode())?;
        let bytes = record.len() as u64;
        if bytes > self.bytes_max / 2 {
            bail!(
                "a frame of {bytes} bytes is more than half of what the history may take, {}",
                self.bytes_max
            );
        }
        if frame.whole {
            self.open = None;
        }
        self.make_room(now_ms, bytes)?;
        if frame.whole {
            let path = self.path(now_ms);
            let file = OpenOptions::new().create_new(true).append(true).open(&path);
            let file = file.with_context(|| format!("cannot make {}", path.display()))?;
            self.known.insert(now_ms, 0);
            self.open = Some(Open { file, began_ms: now_ms, last_ms: now_ms, whole_bytes: bytes, bytes: 0 });
        }
        let Some(open) = &mut self.open else { bail!("a segment begins with a whole frame") };
        open.file.write_all(&record).with_context(|| format!("cannot write in {}", self.folder.display()))?;
        open.bytes += bytes;
        open.last_ms = now_ms;
        self.known.insert(open.began_ms, open.bytes);
        Ok(())
    }

    /// Removes what is older than is kept, and as much more as stands in the way. The segment that is open stays.
    fn make_room(&mut self, now_ms: u64, bytes: u64) -> anyhow::Result<()> {
        let present = self.open.as_ref().map(|open| open.began_ms);
        loop {
            let mut segments = self.known.keys().copied();
            let Some(oldest) = segments.next().filter(|oldest| Some(*oldest) != present) else {
                return Ok(());
            };
            // What follows the oldest answers for everything since it began.
            let next = segments.next().unwrap_or(now_ms);
            let old = next.saturating_add(self.keep_ms) <= now_ms;
            if !old && self.bytes() + bytes <= self.bytes_max {
                return Ok(());
            }
            let path = self.path(oldest);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", path.display()));
                }
                Ok(()) | Err(_) => {
                    self.known.remove(&oldest);
                }
            }
        }
    }

    /// What was so at a moment.
    pub(super) fn at(&self, at_ms: u64) -> anyhow::Result<Result<Found, Missing>> {
        let Some(began_ms) = self.known.range(..=at_ms).next_back().map(|(began_ms, _)| *began_ms) else {
            return Ok(Err(self.begins_ms().map_or(Missing::Empty, Missing::Before)));
        };
        let path = self.path(began_ms);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut moment = Moment::default();
        let mut as_of_ms = None;
        let mut next_ms = self.known.range(began_ms + 1..).next().map(|(began_ms, _)| *began_ms);
        for (frame_ms, frame) in Records(&bytes) {
            if frame_ms > at_ms {
                // Epochs are kept to the millisecond, a moment after they were stamped.
                frame.apply(&mut moment, at_ms, false);
                next_ms = Some(frame_ms);
                break;
            }
            frame.apply(&mut moment, at_ms, true);
            as_of_ms = Some(frame_ms);
        }
        Ok(match as_of_ms {
            None => Err(Missing::Gap(began_ms, next_ms)),
            Some(as_of_ms) if at_ms - as_of_ms > GAP_MS_MAX => Err(Missing::Gap(as_of_ms, next_ms)),
            Some(as_of_ms) => Ok(Found { moment, as_of_ms }),
        })
    }

    fn path(&self, began_ms: u64) -> PathBuf {
        self.folder.join(format!("{began_ms}.{ENDING}"))
    }
}

fn began_ms(path: &Path) -> Option<u64> {
    let is_segment = path.extension().is_some_and(|ending| ending == ENDING);
    path.file_stem()?.to_str()?.parse().ok().filter(|_| is_segment)
}

fn record(now_ms: u64, frame: &[u8]) -> anyhow::Result<Vec<u8>> {
    let length = u32::try_from(frame.len()).context("a frame of 4 GiB")?;
    let mut record = Vec::with_capacity(HEAD_BYTES + frame.len());
    record.extend_from_slice(&length.to_le_bytes());
    record.extend_from_slice(&now_ms.to_le_bytes());
    record.extend_from_slice(&check(now_ms, frame));
    record.extend_from_slice(frame);
    Ok(record)
}

fn check(now_ms: u64, frame: &[u8]) -> [u8; CHECK_BYTES] {
    let hash = sha256(&[&now_ms.to_le_bytes(), frame].concat());
    let mut half = [0; CHECK_BYTES];
    half.copy_from_slice(&hash[..CHECK_BYTES]);
    half
}

/// Moments and frames of a segment, as far as it is whole.
struct Records<'a>(&'a [u8]);

impl Iterator for Records<'_> {
    type Item = (u64, Frame);

    fn next(&mut self) -> Option<(u64, Frame)> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let (now_ms, rest) = rest.split_first_chunk::<8>()?;
        let (checked, rest) = rest.split_first_chunk::<CHECK_BYTES>()?;
        let (frame, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let now_ms = u64::from_le_bytes(*now_ms);
        self.0 = rest;
        let whole = check(now_ms, frame) == *checked;
        if !whole {
            self.0 = &[];
        }
        Some((now_ms, Frame::decode(frame).filter(|_| whole)?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::Dated;
    use super::*;
    use route_core::{LinkFact, NodeFact, StepFact};
    use std::time::Duration;
    use wire_format::{Epoch, NodeIndex, Plane};

    const HOUR_MS: u64 = 3_600_000;

    fn whole(relays: u16) -> Frame {
        let fact = |node| NodeFact { name: format!("r{node}"), ..NodeFact::default() };
        Frame {
            whole: true,
            nodes: (0..relays).map(|node| (NodeIndex(node), Some(fact(node)))).collect(),
            ..Frame::default()
        }
    }

    fn price(cost_us: u64) -> Frame {
        let fact = LinkFact { cost_us: Some(cost_us), ..LinkFact::default() };
        Frame { links: [((NodeIndex(0), NodeIndex(1)), Some(fact))].into(), ..Frame::default() }
    }

    fn epoch(epoch: u32, at_ms: u64, next: u16) -> Frame {
        let step = StepFact {
            epoch: Epoch(epoch),
            age: Duration::ZERO,
            rows: vec![(NodeIndex(0), Plane::PRIMARY, NodeIndex(9), Some(NodeIndex(next)))],
            prices: vec![(NodeIndex(0), NodeIndex(next), Some(7_000))],
        };
        Frame { steps: vec![Dated { at_ms, step }], ..Frame::default() }
    }

    fn price_at(segments: &Segments, at_ms: u64) -> Result<Option<u64>, Missing> {
        let found = segments.at(at_ms).expect("readable")?;
        Ok(found.moment.links.get(&(NodeIndex(0), NodeIndex(1))).and_then(|link| link.cost_us))
    }

    #[test]
    fn a_moment_is_what_was_last_told_before_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut segments = Segments::open(folder.path(), 1 << 20, 24 * HOUR_MS).expect("opens");
        assert_eq!(price_at(&segments, 5), Err(Missing::Empty));
        assert!(segments.wants_whole(1_000));
        assert!(segments.append(1_000, &price(1)).is_err(), "a segment begins with a whole frame");
        segments.append(1_000, &whole(3)).expect("written");
        segments.append(11_000, &price(40)).expect("written");
        segments.append(21_000, &price(50)).expect("written");
        segments.append(31_000, &epoch(4, 25_500, 1)).expect("written");
        let seen = [999, 1_000, 10_999, 11_000, 20_999, 21_000].map(|at_ms| price_at(&segments, at_ms));
        let kept =
            [Err(Missing::Before(1_000)), Ok(None), Ok(None), Ok(Some(40)), Ok(Some(40)), Ok(Some(50))];
        assert_eq!(seen, kept);
        // An epoch counts from when it was stamped, though it was written later.
        let epoch_at = |at_ms| segments.at(at_ms).expect("readable").expect("there").moment.epoch;
        assert_eq!(
            (epoch_at(25_499), epoch_at(25_500), epoch_at(31_000)),
            (None, Some(Epoch(4)), Some(Epoch(4)))
        );
        assert_eq!(price_at(&segments, 25_500), Ok(Some(7_000)), "and with it its prices");
        assert_eq!(price_at(&segments, 31_000 + GAP_MS_MAX + 1), Err(Missing::Gap(31_000, None)));

        // After a restart it goes on, by a segment of its own.
        let mut segments = Segments::open(folder.path(), 1 << 20, 24 * HOUR_MS).expect("opens again");
        assert!(segments.wants_whole(600_000));
        segments.append(600_000, &whole(2)).expect("written");
        assert_eq!(price_at(&segments, 21_000), Ok(Some(50)));
        assert_eq!(price_at(&segments, 400_000), Err(Missing::Gap(31_000, Some(600_000))));
        assert_eq!(segments.at(600_001).expect("readable").expect("there").moment.nodes.len(), 2);
    }

    #[test]
    fn old_segments_go_and_the_bound_holds() {
        let folder = tempfile::tempdir().expect("a folder");
        let bytes_max = 64 * 1024;
        let mut segments = Segments::open(folder.path(), bytes_max, 4 * HOUR_MS).expect("opens");
        let on_disk = || {
            let files = fs::read_dir(folder.path()).expect("readable");
            files.map(|file| file.expect("readable").metadata().expect("readable").len()).sum::<u64>()
        };
        let mut now_ms = 1_000;
        for _ in 0..20_000 {
            now_ms += 10_000;
            let frame = if segments.wants_whole(now_ms) { whole(50) } else { price(now_ms) };
            segments.append(now_ms, &frame).expect("written");
            assert!(segments.bytes() <= bytes_max);
        }
        assert_eq!(segments.bytes(), on_disk());
        let begins_ms = segments.begins_ms().expect("something");
        // It would keep four hours; so many bytes are not allowed.
        assert!(begins_ms > now_ms - 4 * HOUR_MS, "{}", now_ms - begins_ms);
        assert!(price_at(&segments, begins_ms).is_ok() && price_at(&segments, now_ms).is_ok());

        let mut segments = Segments::open(folder.path(), 1 << 30, 4 * HOUR_MS).expect("opens");
        for _ in 0..4_000 {
            now_ms += 10_000;
            let frame = if segments.wants_whole(now_ms) { whole(50) } else { price(now_ms) };
            segments.append(now_ms, &frame).expect("written");
        }
        let kept = now_ms - segments.begins_ms().expect("something");
        assert!((4 * HOUR_MS..6 * HOUR_MS).contains(&kept), "{kept}");
    }

    #[test]
    fn what_is_torn_or_foreign_is_left_out() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("notes.txt"), "mine").expect("written");
        fs::write(folder.path().join("500.frames"), b"no frames at all, whatever its name says")
            .expect("written");
        let mut segments = Segments::open(folder.path(), 1 << 20, 24 * HOUR_MS).expect("opens");
        segments.append(1_000, &whole(3)).expect("written");
        segments.append(2_000, &price(40)).expect("written");
        segments.append(3_000, &price(50)).expect("written");
        assert_eq!(price_at(&segments, 700), Err(Missing::Gap(500, Some(1_000))));
        let path = folder.path().join("1000.frames");
        let mut bytes = fs::read(&path).expect("readable");
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&path, &bytes).expect("written");
        assert_eq!(price_at(&segments, 3_000), Ok(Some(40)));
        fs::write(&path, &bytes[..last]).expect("written");
        assert_eq!(price_at(&segments, 3_000), Ok(Some(40)));
        assert!(folder.path().join("notes.txt").exists());
    }

    #[test]
    fn an_error_is_told_and_the_next_segment_begins_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join("history");
        let mut segments = Segments::open(&place, 1 << 20, 24 * HOUR_MS).expect("opens");
        segments.append(1_000, &whole(3)).expect("written");
        fs::remove_dir_all(&place).expect("removed");
        assert!(segments.append(HOUR_MS + 1_000, &whole(3)).is_err());
        assert!(segments.wants_whole(HOUR_MS + 2_000));
        fs::create_dir(&place).expect("made");
        segments.append(HOUR_MS + 3_000, &whole(3)).expect("written");
        let mut small = Segments::open(&place, 200, HOUR_MS).expect("opens");
        let error = small.append(2 * HOUR_MS, &whole(300)).expect_err("too large").to_string();
        assert!(error.contains("more than half"), "{error}");
    }
}
