//! When the packets of a stream leave, and how long they are.

use super::read::in_range;
use super::{ScenarioError, keys};
use crate::media::PACKET_BYTES_MIN;
use link_model::parse_duration;
use std::time::Duration;
use wire_format::RTP_BYTES_MAX;

const PLACE: &str = "[[stream]]";
/// The recording that is built in.
const CALL: &str = include_str!("../../media/call.txt");
/// Packets of a recording that leave so long apart are of two frames.
const FRAMES_APART: Duration = Duration::from_millis(10);
/// Packets of a recording.
const RECORDED_MAX: usize = 100_000;

/// When the packets of a stream leave, and how long they are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Rhythm {
    /// Bursts of equal packets.
    Even {
        /// From a burst to the next.
        interval: Duration,
        /// Packets of a burst.
        burst: u32,
        /// From one packet of a burst to the next; zero if they leave together.
        spread: Duration,
        /// Bytes of a packet.
        bytes: u32,
    },
    /// As somebody recorded it, over and over.
    Recorded(Vec<Recorded>),
}

/// A packet of a recording.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recorded {
    /// Until the next.
    pub wait: Duration,
    /// RTP.
    pub bytes: u32,
}

impl Rhythm {
    pub(super) fn read(
        stream: &keys::Stream,
        read: super::read::FileReader<'_>,
    ) -> Result<Rhythm, ScenarioError> {
        let value = |key, value: &str, problem: String| ScenarioError::Value {
            place: PLACE,
            key,
            value: value.to_owned(),
            problem,
        };
        let even = stream.bursts_per_s.zip(stream.bytes);
        let (bursts_per_s, bytes) = match (&stream.recording, even) {
            (None, Some(even)) => even,
            (None, None) => {
                let problem = "give `bursts_per_s` and `bytes`, or a `recording`".to_owned();
                return Err(value("stream", &stream.stream, problem));
            }
            (Some(file), None) if stream.burst.is_none() && stream.spread.is_none() => {
                return call(file, read);
            }
            (Some(file), _) => {
                let problem =
                    "it says when packets leave: leave out `bursts_per_s`, `burst`, `spread` and `bytes`";
                return Err(value("recording", file, problem.to_owned()));
            }
        };
        let bursts_per_s = in_range(PLACE, "bursts_per_s", bursts_per_s, 1, 10_000)?;
        let interval = Duration::from_micros(1_000_000 / u64::from(bursts_per_s));
        let burst = in_range(PLACE, "burst", stream.burst.unwrap_or(1), 1, 1_000)?;
        let spread = stream.spread.as_deref().unwrap_or("0");
        let parsed = super::read::duration(PLACE, "spread", spread)?;
        if parsed * burst > interval {
            let problem = format!("{burst} packets so far apart take longer than the next burst is away");
            return Err(value("spread", spread, problem));
        }
        let bytes = in_range(PLACE, "bytes", bytes, PACKET_BYTES_MIN as u32, RTP_BYTES_MAX as u32)?;
        Ok(Rhythm::Even { interval, burst, spread: parsed, bytes })
    }

    /// Bytes of the packet of that number.
    #[must_use]
    pub fn bytes(&self, number: u64) -> u32 {
        match self {
            Rhythm::Even { bytes, .. } => *bytes,
            Rhythm::Recorded(packets) => nth(packets, number).bytes,
        }
    }

    /// From the packet of that number to the next; zero if they leave together.
    #[must_use]
    pub fn wait_after(&self, number: u64) -> Duration {
        match self {
            Rhythm::Even { interval, burst, spread, .. } => {
                let ends_burst = (number + 1).is_multiple_of(u64::from(*burst));
                if ends_burst { *interval - *spread * (*burst - 1) } else { *spread }
            }
            Rhythm::Recorded(packets) => nth(packets, number).wait,
        }
    }

    /// The longest time without a packet; that between bursts where they are even.
    #[must_use]
    pub fn interval(&self) -> Duration {
        match self {
            Rhythm::Even { interval, .. } => *interval,
            Rhythm::Recorded(packets) => packets.iter().map(|packet| packet.wait).max().unwrap_or_default(),
        }
    }

    /// Packets of the frame that begins with that one: all, and those that are no RTCP.
    #[must_use]
    pub(crate) fn frame_packets(&self, number: u64) -> (u32, u32) {
        let last = (number..).find(|number| self.ends_frame(*number)).expect("every recording has a pause");
        let all = (number..=last).map(|number| u32::from(!crate::media::is_rtcp(number)));
        ((last - number + 1) as u32, all.sum())
    }

    fn ends_frame(&self, number: u64) -> bool {
        match self {
            Rhythm::Even { burst, .. } => (number + 1).is_multiple_of(u64::from(*burst)),
            Rhythm::Recorded(packets) => {
                let longest = self.interval();
                nth(packets, number).wait >= FRAMES_APART.min(longest)
            }
        }
    }

    /// From frame to frame, in the mean.
    #[must_use]
    pub(crate) fn frame_interval(&self) -> Duration {
        match self {
            Rhythm::Even { interval, .. } => *interval,
            Rhythm::Recorded(packets) => {
                let all: Duration = packets.iter().map(|packet| packet.wait).sum();
                let frames = (0..packets.len() as u64).filter(|number| self.ends_frame(*number)).count();
                all / (frames as u32).max(1)
            }
        }
    }
}

fn nth(packets: &[Recorded], number: u64) -> Recorded {
    packets[(number % packets.len() as u64) as usize]
}

/// The recording of that name: `call` is built in, others are files.
pub(super) fn call(file: &str, read: super::read::FileReader<'_>) -> Result<Rhythm, ScenarioError> {
    let wrong = |problem: String| ScenarioError::Value {
        place: PLACE,
        key: "recording",
        value: file.to_owned(),
        problem,
    };
    let text = match file {
        "call" => CALL.to_owned(),
        file => read(file).map_err(|error| wrong(error.to_string()))?,
    };
    recorded(&text).map(Rhythm::Recorded).map_err(wrong)
}

/// Lines `TIME BYTES` in the order of time, the last one with the time at which the first comes again.
fn recorded(text: &str) -> Result<Vec<Recorded>, String> {
    let mut packets: Vec<Recorded> = Vec::new();
    let mut before: Option<(Duration, u32)> = None;
    let mut ended = false;
    for (place, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let wrong = |what: &str| format!("line {}: {what}", place + 1);
        if ended {
            return Err(wrong("`end` is the last line"));
        }
        let (time, bytes) =
            line.split_once(' ').ok_or_else(|| wrong("a time and bytes, as `33ms 1200`, or `3s end`"))?;
        let at = parse_duration(time).ok_or_else(|| wrong("a time is written as 33ms or 1.5s"))?;
        if let Some((last, bytes)) = before {
            let wait = at.checked_sub(last).ok_or_else(|| wrong("earlier than the line before it"))?;
            packets.push(Recorded { wait, bytes });
        }
        ended = bytes.trim() == "end";
        if !ended {
            let legal = PACKET_BYTES_MIN as u32..=RTP_BYTES_MAX as u32;
            let bytes = bytes.trim().parse().ok().filter(|bytes| legal.contains(bytes));
            let bytes = bytes
                .ok_or_else(|| wrong(&format!("{} to {} bytes are possible", legal.start(), legal.end())))?;
            before = Some((at, bytes));
        }
        if packets.len() > RECORDED_MAX {
            return Err(wrong(&format!("{RECORDED_MAX} packets at most")));
        }
    }
    if !ended || packets.iter().all(|packet| packet.wait.is_zero()) {
        return Err("a recording has packets, and ends with a line as `3s end`".to_owned());
    }
    Ok(packets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_comes_again_and_again() {
        let ms = Duration::from_millis;
        let packets =
            recorded("# two packets\n0ms 1200\n0ms 300 # together\n20ms 40\n\n50ms end\n").expect("legal");
        let rhythm = Rhythm::Recorded(packets);
        let seen: Vec<_> = (0..5).map(|number| (rhythm.bytes(number), rhythm.wait_after(number))).collect();
        let round = [(1200, ms(0)), (300, ms(20)), (40, ms(30)), (1200, ms(0)), (300, ms(20))];
        assert_eq!(seen, round);
        assert_eq!(rhythm.interval(), ms(30));
    }

    #[test]
    fn a_recording_that_makes_no_sense_is_refused() {
        for (text, what) in [
            ("", "ends with a line"),
            ("0ms 100\n", "ends with a line"),
            ("0ms 100\n0ms end", "ends with a line"),
            ("5ms 100\n3ms 100\n9ms end", "line 2: earlier"),
            ("0ms 19\n9ms end", "line 1: 20 to"),
            ("0ms\n9ms end", "line 1: a time and bytes"),
            ("x 100\n9ms end", "line 1"),
            ("0ms 100\n9ms end\n10ms 100", "line 3: `end`"),
        ] {
            let error = recorded(text).expect_err(text);
            assert!(error.contains(what), "{text:?}: {error}");
        }
    }
}
