//! What a link does, and how people write it.

use crate::SpecError;
use crate::loss::{Bursts, LossTrace, States};
use crate::units::{BurstLength, Ppm, Rate, Written, parse_duration};
use std::fmt;
use std::time::Duration;

/// The keys of a link specification.
pub const KEYS: [&str; 11] =
    ["delay", "jitter", "loss", "burst", "rate", "queue", "reorder", "duplicate", "mtu", "segments", "down"];
/// Most segments of a link.
pub const SEGMENTS_MAX: u8 = 16;

/// What one direction of a link does. The default is a perfect link: no delay, no loss, no limit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkSpec {
    /// Least time from one end to the other.
    pub delay: Duration,
    /// Most time beyond `delay`, the queue's not counted.
    pub jitter: Duration,
    /// What gets lost on the wire.
    pub loss: Loss,
    /// How fast datagrams leave one after the other; `None` is at once.
    pub rate: Option<Rate>,
    /// How long a datagram waits at most for those before it.
    pub queue: Duration,
    /// Datagrams that fall behind those that follow.
    pub reorder: Ppm,
    /// Datagrams of which a second copy arrives.
    pub duplicate: Ppm,
    /// Largest datagram (UDP payload) that comes out; `None` takes all. Larger ones vanish without a word.
    pub mtu: Option<u16>,
    /// Wires in a row, each with the loss said above, apart from the others; `delay` is that of all together. From 1 to
    /// [`SEGMENTS_MAX`].
    pub segments: u8,
    /// Everything is lost.
    pub down: bool,
}

/// How datagrams get lost on the wire.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Loss {
    /// Each alone, with that probability.
    Alone(Ppm),
    /// In bursts.
    Bursts(Bursts),
    /// In bursts with pauses.
    States(States),
    /// As recorded.
    Trace(LossTrace),
}

impl Loss {
    /// The share of datagrams that is lost in the long run, millionths.
    pub fn mean_ppm(&self) -> u32 {
        match self {
            Loss::Alone(probability) => probability.as_ppm(),
            Loss::Bursts(bursts) => bursts.probability().as_ppm(),
            Loss::States(states) => states.probability().as_ppm(),
            Loss::Trace(trace) => trace.mean_ppm(),
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Loss::Alone(probability) => write!(f, "{probability}"),
            Loss::Bursts(bursts) => write!(f, "{},burst={}", bursts.probability(), bursts.mean()),
            Loss::States(states) => write!(f, "{states}"),
            Loss::Trace(trace) => write!(f, "trace:{}", trace.file()),
        }
    }
}

impl LinkSpec {
    /// The share of datagrams that is lost on the wire in the long run, all segments together, millionths.
    pub fn mean_loss_ppm(&self) -> u32 {
        if self.down {
            return 1_000_000;
        }
        let arrives = 1.0 - f64::from(self.loss.mean_ppm()) / 1e6;
        ((1.0 - arrives.powi(self.segments.into())) * 1e6).round() as u32
    }
}

impl Default for LinkSpec {
    fn default() -> LinkSpec {
        LinkSpec {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: Loss::Alone(Ppm::NEVER),
            rate: None,
            queue: Duration::from_millis(100),
            reorder: Ppm::NEVER,
            duplicate: Ppm::NEVER,
            mtu: None,
            segments: 1,
            down: false,
        }
    }
}

impl LinkSpec {
    /// A perfect link but for what `text` (`KEY=VALUE,...`) says. `read` gives the text of a trace file.
    ///
    /// # Errors
    /// If the text sets nothing that exists, or the file cannot be read.
    pub fn parse(
        text: &str,
        read: &mut dyn FnMut(&str) -> std::io::Result<String>,
    ) -> Result<LinkSpec, SpecError> {
        LinkSpec::default().with(&LinkChange::parse(text, read)?)
    }

    /// This link with the keys that `change` names set as it says.
    ///
    /// # Errors
    /// If a burst length fits neither the loss of the change nor that of this link.
    pub fn with(&self, change: &LinkChange) -> Result<LinkSpec, SpecError> {
        let mut spec = self.clone();
        // Sorted by key, loss before burst, so that the order in which keys are written does not matter.
        for setting in &change.settings {
            match setting {
                Setting::Delay(delay) => spec.delay = *delay,
                Setting::Jitter(jitter) => spec.jitter = *jitter,
                Setting::Loss(Loss::Alone(probability)) => {
                    spec.loss = match &spec.loss {
                        // A change that also sets the burst length must not be judged by the one before.
                        Loss::Bursts(bursts) if !change.sets_burst() => {
                            Loss::Bursts(Bursts::new(*probability, bursts.mean())?)
                        }
                        Loss::Bursts(_) | Loss::States(_) | Loss::Alone(_) | Loss::Trace(_) => {
                            Loss::Alone(*probability)
                        }
                    }
                }
                Setting::Loss(loss @ (Loss::Bursts(_) | Loss::States(_) | Loss::Trace(_))) => {
                    spec.loss = loss.clone()
                }
                Setting::Burst(mean) => spec.loss = with_burst(&spec.loss, *mean)?,
                Setting::Rate(rate) => spec.rate = *rate,
                Setting::Queue(queue) => spec.queue = *queue,
                Setting::Reorder(probability) => spec.reorder = *probability,
                Setting::Duplicate(probability) => spec.duplicate = *probability,
                Setting::Mtu(mtu) => spec.mtu = *mtu,
                Setting::Segments(segments) => spec.segments = *segments,
                Setting::Down(down) => spec.down = *down,
            }
        }
        Ok(spec)
    }
}

fn with_burst(loss: &Loss, mean: Option<BurstLength>) -> Result<Loss, SpecError> {
    let probability = match loss {
        Loss::Alone(probability) => *probability,
        Loss::Bursts(bursts) => bursts.probability(),
        Loss::States(_) | Loss::Trace(_) => {
            return match mean {
                None => Ok(loss.clone()),
                Some(_) => Err(SpecError::BurstOfItsOwn { loss: loss.to_string() }),
            };
        }
    };
    Ok(match mean {
        None => Loss::Alone(probability),
        Some(mean) => Loss::Bursts(Bursts::new(probability, mean)?),
    })
}

impl fmt::Display for LinkSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "delay={},jitter={}", Written(self.delay), Written(self.jitter))?;
        write!(f, ",loss={}", self.loss)?;
        match self.rate {
            Some(rate) => write!(f, ",rate={rate}")?,
            None => f.write_str(",rate=unlimited")?,
        }
        write!(f, ",queue={}", Written(self.queue))?;
        write!(f, ",reorder={},duplicate={}", self.reorder, self.duplicate)?;
        match self.mtu {
            Some(mtu) => write!(f, ",mtu={mtu}")?,
            None => f.write_str(",mtu=unlimited")?,
        }
        write!(f, ",segments={},down={}", self.segments, self.down)
    }
}

/// Some keys of a link, to be set while the others stay as they are.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LinkChange {
    settings: Vec<Setting>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Setting {
    Delay(Duration),
    Jitter(Duration),
    Loss(Loss),
    Burst(Option<BurstLength>),
    Rate(Option<Rate>),
    Queue(Duration),
    Reorder(Ppm),
    Duplicate(Ppm),
    Mtu(Option<u16>),
    Segments(u8),
    Down(bool),
}

impl LinkChange {
    /// The switch alone.
    pub fn down(down: bool) -> LinkChange {
        LinkChange { settings: vec![Setting::Down(down)] }
    }

    /// The delay alone.
    pub fn delay(delay: Duration) -> LinkChange {
        LinkChange { settings: vec![Setting::Delay(delay)] }
    }

    /// Reads `KEY=VALUE,...`, each key at most once; `down` alone means `down=true`. `read` gives the text of a trace
    /// file.
    ///
    /// # Errors
    /// A message for people about the first thing that is wrong.
    pub fn parse(
        text: &str,
        read: &mut dyn FnMut(&str) -> std::io::Result<String>,
    ) -> Result<LinkChange, SpecError> {
        let mut keyed: Vec<(usize, Setting)> = Vec::new();
        for part in text.split(',') {
            let part = part.trim();
            if part.is_empty() {
                return Err(SpecError::Empty { text: text.to_owned() });
            }
            let (key, value) = match part.split_once('=') {
                Some((key, value)) => (key.trim(), Some(value.trim())),
                None => (part, None),
            };
            let Some(place) = KEYS.iter().position(|known| *known == key) else {
                return Err(SpecError::UnknownKey { key: key.to_owned(), nearest: nearest(key) });
            };
            if keyed.iter().any(|(other, _)| *other == place) {
                return Err(SpecError::Twice { key: KEYS[place], text: text.to_owned() });
            }
            keyed.push((place, setting(KEYS[place], value, read)?));
        }
        keyed.sort_by_key(|(place, _)| *place);
        let change = LinkChange { settings: keyed.into_iter().map(|(_, setting)| setting).collect() };
        // A burst length that cannot go with the loss beside it never can.
        if change.settings.iter().any(|setting| matches!(setting, Setting::Loss(_))) {
            LinkSpec::default().with(&change)?;
        }
        Ok(change)
    }

    fn sets_burst(&self) -> bool {
        self.settings.iter().any(|setting| matches!(setting, Setting::Burst(_)))
    }
}

fn nearest(key: &str) -> &'static str {
    let likeness = |known: &&'static str| (strsim::jaro_winkler(known, key) * 1e6) as u64;
    KEYS.into_iter().max_by_key(likeness).expect("there are keys")
}

fn setting(
    key: &'static str,
    value: Option<&str>,
    read: &mut dyn FnMut(&str) -> std::io::Result<String>,
) -> Result<Setting, SpecError> {
    const DURATION: &str = "a time, for instance 20ms, 1.5s or 500us";
    const QUEUE: &str = "milliseconds or a time, for instance 100 or 100ms";
    const PROBABILITY: &str = "a probability, for instance 2% or 0.02";
    const LOSS: &str = "a probability, for instance 2% or 0.02, or trace:FILE, or states:P13/P31/P32/P23";
    const BURST: &str = "a mean number of datagrams from 1 to 1000, for instance 1.5, or none";
    const RATE: &str = "a rate, for instance 10mbit, 500kbit or 1gbit, or unlimited";
    const MTU: &str = "bytes of UDP payload from 1200 on, for instance 1252, or unlimited";
    const SEGMENTS: &str = "a number of wires in a row from 1 to 16, for instance 3";
    const DOWN: &str = "true or false";
    let expected = match key {
        "delay" | "jitter" => DURATION,
        "loss" => LOSS,
        "burst" => BURST,
        "rate" => RATE,
        "queue" => QUEUE,
        "reorder" | "duplicate" => PROBABILITY,
        "mtu" => MTU,
        "segments" => SEGMENTS,
        _ => DOWN,
    };
    let value = match value {
        Some(value) => value,
        None if key == "down" => "true",
        None => return Err(SpecError::MissingValue { key, expected }),
    };
    if let Some(file) = value.strip_prefix("trace:").filter(|_| key == "loss") {
        let failed = |reason: String| SpecError::TraceFile { file: file.to_owned(), reason };
        let text = read(file).map_err(|error| failed(error.to_string()))?;
        return LossTrace::parse(file, &text).map(|trace| Setting::Loss(Loss::Trace(trace))).map_err(failed);
    }
    let parsed = match key {
        "delay" => parse_duration(value).map(Setting::Delay),
        "jitter" => parse_duration(value).map(Setting::Jitter),
        "loss" if value.starts_with("states:") => States::parse(value.trim_start_matches("states:"))
            .map(|states| Setting::Loss(Loss::States(states))),
        "loss" => Ppm::parse(value).map(|probability| Setting::Loss(Loss::Alone(probability))),
        "burst" if value == "none" => Some(Setting::Burst(None)),
        "burst" => BurstLength::parse(value).map(|mean| Setting::Burst(Some(mean))),
        "rate" if value == "unlimited" => Some(Setting::Rate(None)),
        "rate" => Rate::parse(value).map(|rate| Setting::Rate(Some(rate))),
        "queue" => {
            parse_duration(value).or_else(|| parse_duration(&format!("{value}ms"))).map(Setting::Queue)
        }
        "reorder" => Ppm::parse(value).map(Setting::Reorder),
        "duplicate" => Ppm::parse(value).map(Setting::Duplicate),
        "mtu" if value == "unlimited" => Some(Setting::Mtu(None)),
        // QUIC needs 1,200 (RFC 9000 section 14); over less no link would ever be made.
        "mtu" => value.parse().ok().filter(|mtu| *mtu >= 1200).map(|mtu| Setting::Mtu(Some(mtu))),
        "segments" => {
            let segments = value.parse().ok().filter(|segments| (1..=SEGMENTS_MAX).contains(segments));
            segments.map(Setting::Segments)
        }
        _ => match value {
            "true" => Some(Setting::Down(true)),
            "false" => Some(Setting::Down(false)),
            _ => None,
        },
    };
    parsed.ok_or_else(|| SpecError::BadValue { key, value: value.to_owned(), expected })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<LinkSpec, SpecError> {
        LinkSpec::parse(text, &mut |file| match file {
            "good.txt" => Ok("0010\n0111\n".to_owned()),
            "bad.txt" => Ok("0012".to_owned()),
            _ => Err(std::io::Error::new(std::io::ErrorKind::NotFound, "no such file")),
        })
    }

    #[test]
    fn every_key_is_understood_and_written_back() {
        let text = "delay=20ms,jitter=5ms,loss=2%,burst=1.5,rate=10mbit,queue=50ms,reorder=0.1%,duplicate=1%,mtu=1252,segments=3,down=true";
        let spec = parse(text).expect("well-formed");
        assert_eq!(spec.to_string(), text);
        assert_eq!(parse(&spec.to_string()), Ok(spec));
        let spec = parse("burst=3, loss=0.02 ,queue=50,down").expect("any order, blanks, bare down");
        assert_eq!(
            spec.to_string(),
            "delay=0us,jitter=0us,loss=2%,burst=3,rate=unlimited,queue=50ms,reorder=0%,duplicate=0%,mtu=unlimited,segments=1,down=true"
        );
        assert!(parse("loss=trace:good.txt").expect("readable").to_string().contains("loss=trace:good.txt"));
    }

    #[test]
    fn a_change_leaves_other_keys_alone() {
        let change = |text: &str| LinkChange::parse(text, &mut |_| Ok("01".to_owned())).expect("well-formed");
        let spec = parse("delay=20ms,loss=2%,burst=3").expect("well-formed");
        let lossier = spec.with(&change("loss=5%")).expect("fits");
        assert!(lossier.to_string().contains("delay=20ms,jitter=0us,loss=5%,burst=3,"));
        let single = lossier.with(&change("burst=none")).expect("fits");
        assert_eq!(single.loss, Loss::Alone(Ppm(50_000)));
        let traced = lossier.with(&change("loss=trace:x")).expect("fits");
        assert!(matches!(traced.loss, Loss::Trace(_)));
        assert!(matches!(traced.with(&change("burst=2")), Err(SpecError::BurstOfItsOwn { .. })));
        assert!(spec.with(&change("loss=90%")).is_err(), "bursts of 3 cannot lose so many");
        assert!(spec.with(&change("loss=90%,burst=20")).is_ok());
    }

    #[test]
    fn mistakes_are_named() {
        for (text, message) in [
            ("", "\"\" sets nothing"),
            ("delay=1ms,,", "sets nothing"),
            ("dealy=1ms", "unknown key \"dealy\"; did you mean \"delay\"? Keys are delay, jitter, loss"),
            ("dup=1%", "did you mean \"duplicate\""),
            ("delay", "delay needs a value, a time, for instance 20ms"),
            ("delay=20", "delay=20 is not understood; expected a time"),
            ("loss=2", "loss=2 is not understood; expected a probability"),
            ("rate=10", "expected a rate, for instance 10mbit"),
            ("down=maybe", "expected true or false"),
            ("segments=0", "expected a number of wires in a row from 1 to 16"),
            ("segments=17", "segments=17 is not understood"),
            ("mtu=576", "expected bytes of UDP payload from 1200 on"),
            ("delay=1ms,delay=2ms", "delay is set twice"),
            ("loss=90%,burst=2", "use burst=9 or more"),
            ("loss=trace:good.txt,burst=2", "has bursts of its own"),
            ("loss=states:1%/2%/3%/4%,burst=2", "loss=states:1%/2%/3%/4% has bursts of its own"),
            ("loss=states:1%/2%", "or states:P13/P31/P32/P23"),
            ("loss=trace:none.txt", "loss=trace:none.txt: no such file"),
            ("loss=trace:bad.txt", "symbol '2' at place 4"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
    }
}
