//! Bursts of loss: models of two and of three states, and recorded traces.

use crate::units::{BurstLength, Ppm};
use crate::{Loss, Seed, SpecError, Xoshiro256};
use std::fmt;
use std::sync::Arc;

/// Most symbols of a trace.
pub const TRACE_SYMBOLS_MAX: usize = 16 * 1024 * 1024;

/// Loss in bursts: a good state that loses nothing and a bad state that loses everything, left after a geometrically
/// distributed number of datagrams (Gilbert 1960, Elliott 1963).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bursts {
    probability: Ppm,
    mean: BurstLength,
}

impl Bursts {
    /// Bursts of that mean length, as many as make the probability.
    ///
    /// # Errors
    /// If even bursts with a single datagram between them lose less.
    pub fn new(probability: Ppm, mean: BurstLength) -> Result<Bursts, SpecError> {
        let bursts = Bursts { probability, mean };
        let (lost, kept) = (u64::from(probability.0), u64::from(Ppm::ALWAYS.0 - probability.0));
        if kept > 0 && u64::from(mean.0) * kept < lost * 1_000 {
            let least = BurstLength(u32::try_from((lost * 1_000).div_ceil(kept)).unwrap_or(u32::MAX));
            return Err(SpecError::BurstTooShort {
                burst: mean.to_string(),
                loss: probability.to_string(),
                least: least.to_string(),
            });
        }
        Ok(bursts)
    }

    /// Share of datagrams lost in the long run.
    pub fn probability(self) -> Ppm {
        self.probability
    }

    /// Mean length of a burst.
    pub fn mean(self) -> BurstLength {
        self.mean
    }

    /// One datagram in this many ends a burst, in thousandths, is `mean`; one in this many begins one is returned, as
    /// a fraction: `lost / (mean * kept)`.
    fn begins(self) -> (u64, u64) {
        let (lost, kept) = (u64::from(self.probability.0), u64::from(Ppm::ALWAYS.0 - self.probability.0));
        (lost * 1_000, u64::from(self.mean.0) * kept)
    }
}

/// Loss in bursts that are not solid: a gap in which all arrives, and bursts in which datagrams are lost and arrive in turns
/// (the three-state Markov model of RFC 3611's gaps and bursts, with the parameters of `tc netem loss state`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct States {
    /// From the gap to loss, that is to a burst.
    begins: Ppm,
    /// From loss to the gap: the burst is over.
    ends: Ppm,
    /// From loss to what arrives within the burst.
    pauses: Ppm,
    /// From there to loss again.
    resumes: Ppm,
}

impl States {
    /// From `P13/P31/P32/P23`, probabilities of a step at each datagram: gap to loss, loss to gap, loss to arriving within the
    /// burst, and from there to loss. `None` if it is anything else, if what is lost could never end, or a pause never does.
    pub(crate) fn parse(text: &str) -> Option<States> {
        let mut steps = text.split('/').map(Ppm::parse);
        let [begins, ends, pauses, resumes] = [(); 4].map(|()| steps.next().flatten());
        let states = States { begins: begins?, ends: ends?, pauses: pauses?, resumes: resumes? };
        let leaves = states.ends.0 + states.pauses.0;
        let is_sound = steps.next().is_none()
            && states.ends > Ppm::NEVER
            && leaves <= Ppm::ALWAYS.0
            && (states.pauses == Ppm::NEVER || states.resumes > Ppm::NEVER);
        is_sound.then_some(states)
    }

    /// Share of datagrams lost in the long run.
    pub fn probability(self) -> Ppm {
        let [begins, ends, pauses, resumes] =
            [self.begins, self.ends, self.pauses, self.resumes].map(|step| f64::from(step.0));
        if self.begins == Ppm::NEVER {
            return Ppm::NEVER;
        }
        let paused = if self.pauses == Ppm::NEVER { 0.0 } else { pauses / resumes };
        Ppm((1e6 / (1.0 + ends / begins + paused)).round() as u32)
    }

    /// Mean length of a burst from its first loss to its last, pauses included, datagrams.
    pub fn burst(self) -> f64 {
        let [ends, pauses, resumes] = [self.ends, self.pauses, self.resumes].map(|step| f64::from(step.0));
        let losses = 1e6 / ends;
        let paused = if self.pauses == Ppm::NEVER { 0.0 } else { losses * pauses / resumes };
        losses + paused
    }
}

impl fmt::Display for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "states:{}/{}/{}/{}", self.begins, self.ends, self.pauses, self.resumes)
    }
}

/// Recorded fates of datagrams, one symbol each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LossTrace {
    file: Arc<str>,
    lost: Arc<[bool]>,
}

impl LossTrace {
    /// Reads symbols: `0` arrived, `1` lost; line ends are ignored. `file` is what people call it.
    ///
    /// # Errors
    /// A message for people: another symbol, none at all, or more than [`TRACE_SYMBOLS_MAX`].
    pub fn parse(file: &str, text: &str) -> Result<LossTrace, String> {
        if text.len() > 2 * TRACE_SYMBOLS_MAX {
            return Err(format!("{} bytes are too many; at most {TRACE_SYMBOLS_MAX} symbols", text.len()));
        }
        let mut lost = Vec::with_capacity(text.len());
        for (place, symbol) in text.chars().enumerate() {
            match symbol {
                '0' => lost.push(false),
                '1' => lost.push(true),
                '\n' | '\r' => {}
                other => {
                    return Err(format!(
                        "symbol {other:?} at place {}; expected 0 (arrived), 1 (lost) and line ends",
                        place + 1
                    ));
                }
            }
        }
        match lost.len() {
            0 => Err("no symbols; expected 0 (arrived) and 1 (lost)".to_owned()),
            1..=TRACE_SYMBOLS_MAX => Ok(LossTrace { file: file.into(), lost: lost.into() }),
            more => Err(format!("{more} symbols are too many; at most {TRACE_SYMBOLS_MAX}")),
        }
    }

    /// What people call it.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The share that is lost, millionths.
    pub fn mean_ppm(&self) -> u32 {
        let lost = self.lost.iter().filter(|lost| **lost).count() as u64;
        (lost * 1_000_000 / self.lost.len() as u64) as u32
    }
}

/// Decides datagram by datagram what the wire loses.
#[derive(Clone, Debug)]
pub(crate) struct LossState {
    rng: Xoshiro256,
    /// The last one was lost by a model of states.
    bad: bool,
    /// It was not, and the burst goes on.
    paused: bool,
    /// Place in the trace.
    next: Option<usize>,
}

impl LossState {
    pub(crate) fn new(seed: Seed) -> LossState {
        LossState { rng: seed.stream(), bad: false, paused: false, next: None }
    }

    /// Another trace is entered at an offset of its own.
    pub(crate) fn change(&mut self, before: &Loss, after: &Loss) {
        if before != after {
            self.next = None;
        }
    }

    pub(crate) fn loses(&mut self, loss: &Loss) -> bool {
        match loss {
            Loss::Alone(probability) => self.rng.chance(*probability),
            Loss::Bursts(bursts) if bursts.probability == Ppm::ALWAYS => true,
            Loss::Bursts(bursts) => {
                let (part, whole) =
                    if self.bad { (1_000, u64::from(bursts.mean.0)) } else { bursts.begins() };
                if self.rng.within(0..=whole - 1) < part {
                    self.bad = !self.bad;
                }
                self.bad
            }
            Loss::States(states) => {
                let mut step = self.rng.within(0..=u64::from(Ppm::ALWAYS.0) - 1);
                let mut takes = |probability: Ppm| {
                    let taken = step < u64::from(probability.0);
                    step = step.wrapping_sub(probability.0.into());
                    taken
                };
                if self.bad {
                    self.paused = takes(states.pauses);
                    self.bad = !self.paused && !takes(states.ends);
                } else {
                    self.bad = takes(if self.paused { states.resumes } else { states.begins });
                    self.paused &= !self.bad;
                }
                self.bad
            }
            Loss::Trace(trace) => {
                let last = trace.lost.len() - 1;
                let rng = &mut self.rng;
                let place = self.next.unwrap_or_else(|| rng.within(0..=last as u64) as usize);
                self.next = Some(if place == last { 0 } else { place + 1 });
                trace.lost[place]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(loss: &Loss, seed: u64, count: usize) -> (f64, f64) {
        let mut state = LossState::new(Seed(seed));
        let (mut lost, mut bursts, mut before) = (0u32, 0u32, false);
        for _ in 0..count {
            let now = state.loses(loss);
            lost += u32::from(now);
            bursts += u32::from(now && !before);
            before = now;
        }
        (f64::from(lost) / count as f64, f64::from(lost) / f64::from(bursts.max(1)))
    }

    #[test]
    fn bursts_have_the_asked_mean_and_length() {
        for (ppm, thousandths) in [(20_000, 1_500), (50_000, 4_000), (10_000, 1_000), (300_000, 20_000)] {
            let bursts = Bursts::new(Ppm(ppm), BurstLength(thousandths)).expect("possible");
            let (mean, length) = runs(&Loss::Bursts(bursts), 3, 2_000_000);
            let (wanted, wanted_length) = (f64::from(ppm) / 1e6, f64::from(thousandths) / 1e3);
            assert!((mean / wanted - 1.0).abs() < 0.05, "{ppm} {thousandths}: mean {mean}");
            assert!((length / wanted_length - 1.0).abs() < 0.05, "{ppm} {thousandths}: length {length}");
        }
    }

    #[test]
    fn states_lose_what_they_say_in_bursts_with_pauses() {
        for text in ["1%/30%/20%/40%", "0.5%/10%/60%/80%", "2%/50%/0%/0%", "100%/5%/95%/10%"] {
            let states = States::parse(text).expect(text);
            let loss = Loss::States(states);
            let mut state = LossState::new(Seed(9));
            let fates: Vec<bool> = (0..2_000_000).map(|_| state.loses(&loss)).collect();
            let mean = fates.iter().filter(|lost| **lost).count() as f64 / fates.len() as f64;
            let wanted = f64::from(states.probability().as_ppm()) / 1e6;
            assert!((mean / wanted - 1.0).abs() < 0.03, "{text}: {mean}, not {wanted}");
            assert_eq!(format!("{states}"), format!("states:{text}"));
        }
        let solid = runs(&Loss::States(States::parse("2%/50%/0%/0%").expect("possible")), 3, 1_000_000).1;
        assert!((solid - 2.0).abs() < 0.05, "as the model of two states: {solid}");
        // Losses of a burst leave for each other, not for the gap: nearer to each other than chance has them.
        let states = Loss::States(States::parse("0.1%/10%/80%/90%").expect("possible"));
        let mut state = LossState::new(Seed(4));
        let fates: Vec<bool> = (0..1_000_000).map(|_| state.loses(&states)).collect();
        let lost: Vec<usize> = (0..fates.len()).filter(|at| fates[*at]).collect();
        let near = lost.windows(2).filter(|pair| (2..=5).contains(&(pair[1] - pair[0]))).count();
        assert!(near * 10 > lost.len() * 7, "{near} of {} follow after a pause", lost.len());
    }

    #[test]
    fn states_that_make_no_sense_are_none() {
        for text in [
            "",
            "1%",
            "1%/2%/3%",
            "1%/2%/3%/4%/5%",
            "1%/0%/3%/4%",
            "1%/60%/50%/4%",
            "1%/2%/3%/0%",
            "1%/2%/x/4%",
            "1%/200%/0/0",
        ] {
            assert_eq!(States::parse(text), None, "{text}");
        }
        assert_eq!(States::parse("0/1/0/0").map(States::probability), Some(Ppm::NEVER));
    }

    #[test]
    fn losses_alone_come_in_rows_only_by_chance() {
        let (mean, length) = runs(&Loss::Alone(Ppm(100_000)), 4, 500_000);
        assert!((mean - 0.1).abs() < 0.005, "{mean}");
        assert!((length - 1.0 / 0.9).abs() < 0.01, "{length}");
    }

    #[test]
    fn certain_loss_spares_nothing() {
        let bursts = Bursts::new(Ppm::ALWAYS, BurstLength(1_000)).expect("possible");
        assert_eq!(runs(&Loss::Bursts(bursts), 5, 1_000).0, 1.0);
    }

    #[test]
    fn a_trace_is_followed_from_a_drawn_offset_and_wraps() {
        let text = "0001011101\n".repeat(3);
        let trace = Loss::Trace(LossTrace::parse("t", &text).expect("well-formed"));
        let mut offsets = std::collections::BTreeSet::new();
        for seed in 0..50 {
            let mut state = LossState::new(Seed(seed));
            let symbols: String = (0..60).map(|_| if state.loses(&trace) { '1' } else { '0' }).collect();
            let offset = "0001011101".repeat(8).find(&symbols).expect("a rotation of the trace");
            offsets.insert(offset);
        }
        assert!(offsets.len() > 5, "{offsets:?}");
    }
}
