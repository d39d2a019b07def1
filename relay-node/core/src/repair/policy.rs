//! What to do against loss on a link: one pure function of what is known of the link and of what the media can afford.
//!
//! Retransmission costs what is lost and nothing else, but each round costs a round trip. Parity and copies cost all the
//! time, but no round trip. So (hybrid ARQ, as in Hairpin, NSDI 2024):
//!
//! - Where at least one round fits into the budget, retransmission alone; nothing stands while nothing is lost. A repair
//!   that is late is given more copies than one that is fresh: the later the round, the fewer packets reach it, the less
//!   its copies cost, and the less may still go wrong (Hairpin's observation). The copies of a round are spread over the
//!   time that is left, because what comes next to a loss is likely lost too.
//! - Where only one round fits, what is lost at about the same time also shares rows of parity, sent as late as may be
//!   (`lost_rows`): a row makes good whichever copy is lost, for less than half of what second copies take. Where there is but one
//!   copy, and nothing is heard at the other end, it waits, too: it would meet the same burst.
//! - Where no round fits, parity in windows that slide (streaming codes, as in Tambur, NSDI 2023), as much of it as the
//!   window's losses need: their mean, and a few standard deviations, wider by the length of bursts. Where a window
//!   holds hardly any datagram, each is sent twice, as far apart as the budget allows, so that both seldom meet one
//!   burst. The same for audio while it is thin: its copies are small, and a row of parity that makes good its loss is
//!   one that a large datagram lacks.
//!   On a link that carries only so much nothing but audio is sent twice, and rows leave where media leaves room.
//!
//! SRT, the peer to beat, repeats requests and drops what is too late in the same way, but repeats each packet once a
//! round whatever is left of its time, and its parity is a fixed matrix.

use std::time::Duration;
use wire_format::control::RepairPlan;
use wire_format::parity::PARITY_SPAN;

/// Rounds beyond this many make no difference.
const ROUNDS_MAX: u32 = 8;
/// Each plan takes so small a part of what a round now takes less.
const ROUND_WEIGHT: u32 = 16;
/// Copies in one round.
const COPIES_MAX: u32 = 8;
/// Rate that all copies of a round but the first may add, parts per million; and of the last round, the first included.
const EXTRA_PPM: u64 = 20_000;
const LAST_PPM: u64 = 79_000;
/// Rows have so much of the rate of the last round, as part of the rate that is lost.
const ROW_PART: u64 = 5;
/// Copies then, and where only one more round fits, of what is small beside the rest.
const COPIES_SMALL: u32 = 3;
/// How often such a copy is lost, thousandths: of what was missed because something came after it, and of what was sent
/// into a silence.
const COPY_LOST_MILLI: u32 = 100;
const COPY_INTO_SILENCE_LOST_MILLI: u32 = 400;
/// A row may cover what left so many datagrams with media ago: its span, less what goes between them.
const ROW_REACH: u32 = PARITY_SPAN as u32 * 7 / 8;
/// Bounds of the share of parity in the rate of what it protects, parts per million.
const PARITY_PPM_MIN: u64 = 20_000;
pub(crate) const PARITY_PPM_MAX: u64 = 360_000;
/// Standard deviations of a window's losses that parity is to cover, tenths.
const DEVIATIONS_TENTHS: u64 = 37;
/// Fewer datagrams in a window are sent twice instead; and fewer of audio.
const WINDOW_MIN: u32 = 4;
const WINDOW_MIN_AUDIO: u32 = 16;
/// A window has no more datagrams.
const WINDOW_MAX: u32 = 48;
/// Losses come in longer bursts than this on average only when the link is cut.
const DISPERSION_MAX: u64 = 64_000;
/// Less loss than this is none: nothing stands against it. (What nobody asked for in the last ten seconds is none either.)
const LOSS_PPM_MIN: u32 = 100;

/// What is known of a link in one direction, and of the media on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Conditions {
    /// Loss of what is sent, parts per million.
    pub loss_ppm: u32,
    /// Mean length of the burst that a lost datagram belongs to, thousandths.
    pub dispersion_milli: u64,
    /// Round trip, smoothed.
    pub rtt: Duration,
    /// Its variation.
    pub rtt_var: Duration,
    /// What a round of retransmission takes, most likely: see [`round`].
    pub round: Duration,
    /// What is left of the media's delay budget on this hop.
    pub budget: Duration,
    /// Mean distance of two datagrams with media.
    pub spacing: Duration,
    /// The same of audio, if that is what the plan is for: media in small datagrams.
    pub audio_spacing: Option<Duration>,
    /// The link carries only so much: what stands against loss may take no room from media.
    pub limited: bool,
}

/// Why a plan is what it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// Nothing is lost, or too little to stand against.
    NoLoss,
    /// Retransmission has time for so many rounds.
    RoundsFit(u32),
    /// No round trip fits into the budget: parity.
    NoRoundFits,
    /// No round trip fits, and too few datagrams come in that time for parity, or small ones: each twice.
    TooFewForParity,
}

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Rounds of retransmission that fit for a datagram lost now.
    pub rounds: u32,
    /// Share of parity in the rate, parts per million; 0 without.
    pub parity_ppm: u64,
    /// The datagrams that a row of parity covers, at most.
    pub window: u32,
    /// Each datagram is sent twice.
    pub twice: bool,
    /// Why.
    pub reason: Reason,
}

impl Plan {
    /// A link that nothing is known of.
    pub const IDLE: Plan = Plan { rounds: 0, parity_ppm: 0, window: 0, twice: false, reason: Reason::NoLoss };

    /// As others are told.
    pub(crate) fn told(&self) -> RepairPlan {
        match self.reason {
            Reason::NoLoss => RepairPlan::Nothing,
            Reason::RoundsFit(rounds) => RepairPlan::Retransmission { rounds },
            Reason::NoRoundFits => RepairPlan::Parity {
                share_ppm: u32::try_from(self.parity_ppm).unwrap_or(u32::MAX),
                window: self.window,
            },
            Reason::TooFewForParity => RepairPlan::Twice,
        }
    }
}

/// What to do under these conditions.
pub fn plan(conditions: &Conditions) -> Plan {
    let rounds = rounds(conditions, conditions.budget);
    let plan = Plan { rounds, ..Plan::IDLE };
    if conditions.loss_ppm < LOSS_PPM_MIN {
        return plan;
    }
    if rounds > 0 {
        return Plan { reason: Reason::RoundsFit(rounds), ..plan };
    }
    let window = datagrams(conditions.budget, conditions.spacing);
    let few = match conditions.audio_spacing {
        Some(spacing) => window < WINDOW_MIN || datagrams(conditions.budget, spacing) < WINDOW_MIN_AUDIO,
        // Rows can be left out where there is no room for them; budgets are short because media waits.
        None => window < WINDOW_MIN && !conditions.limited,
    };
    if few {
        return Plan { twice: true, reason: Reason::TooFewForParity, ..plan };
    }
    let window = window.max(1);
    let parity_ppm = parity_ppm(conditions, window);
    // Datagrams come in groups; how old a row's may be is bounded by the budget as well.
    let window = (window + window / 2).min(WINDOW_MAX);
    Plan { parity_ppm, window, reason: Reason::NoRoundFits, ..plan }
}

/// Datagrams within a budget, as many as a window may have.
fn datagrams(budget: Duration, spacing: Duration) -> u32 {
    let datagrams = budget.as_micros() / spacing.as_micros().max(1);
    datagrams.min(u128::from(WINDOW_MAX)) as u32
}

/// Rounds of retransmission that fit into so much time.
pub fn rounds(conditions: &Conditions, time: Duration) -> u32 {
    // The loss is noticed when the next datagram comes.
    let Some(left) = time.checked_sub(conditions.spacing) else { return 0 };
    ((left.as_micros() / conditions.round.as_micros().max(1)) as u32).min(ROUNDS_MAX)
}

/// The time below which no round fits.
pub(crate) fn round_needs(conditions: &Conditions) -> Duration {
    conditions.spacing + conditions.round
}

/// What a round of retransmission takes, most likely, after `before`: it grows at once and shrinks slowly, so that at the
/// threshold between retransmission and parity a plan is not another each time it is made.
pub fn round(before: Duration, rtt: Duration, rtt_var: Duration) -> Duration {
    let round = rtt + 2 * rtt_var + Duration::from_millis(1);
    round.max(before - before.saturating_sub(round) / ROUND_WEIGHT)
}

/// Copies to send of a datagram that was already sent `sent` times, when so many more rounds fit after this one.
fn copies(conditions: &Conditions, sent: u32, rounds_after: u32) -> u32 {
    let loss = u64::from(conditions.loss_ppm.max(LOSS_PPM_MIN));
    // A copy a round trip later is lost a little more often than any datagram: bursts.
    let burst = 250_000 - 250_000_000 / conditions.dispersion_milli.max(1000);
    let again = (loss + burst).min(900_000);
    // The share of datagrams that come to this round.
    let reach = (1..sent.max(1)).fold(loss, |reach, _| reach * again / 1_000_000).max(1);
    let copies = if rounds_after == 0 { (LAST_PPM + reach / 2) / reach } else { 1 + EXTRA_PPM / reach };
    copies.clamp(1, u64::from(COPIES_MAX)) as u32
}

/// How a request for a datagram is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// So many copies, spread over the time that is left.
    pub copies: u32,
    /// They wait for the burst to be over.
    pub held: bool,
    /// It is part of a row over what is lost, because all copies are lost so often, in thousandths.
    pub row_milli: Option<u32>,
}

/// A datagram that is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lost {
    /// How often it was sent.
    pub times: u32,
    /// The time that its media had when it left.
    pub slack: Duration,
    /// It is small beside others on the link.
    pub small: bool,
    /// Nothing is heard at the other end since.
    pub silence: bool,
}

/// How to answer when so many more rounds fit after this one.
pub fn answer(conditions: &Conditions, lost: &Lost, rounds_after: u32) -> Answer {
    let only_round = rounds_after == 0 && lost.times == 1;
    if !only_round || conditions.spacing * ROW_REACH < lost.slack {
        let mut copies = copies(conditions, lost.times, rounds_after);
        if lost.small && lost.times == 1 && rounds_after <= 1 {
            copies = copies.max(COPIES_SMALL);
        }
        return Answer { copies, held: false, row_milli: None };
    }
    let loss = u64::from(conditions.loss_ppm.max(LOSS_PPM_MIN));
    let copies = (LAST_PPM.saturating_sub(loss / ROW_PART) / loss).clamp(1, u64::from(COPIES_MAX)) as u32;
    if lost.small {
        return Answer { copies: copies.max(COPIES_SMALL), held: false, row_milli: None };
    }
    let lost_milli = if lost.silence { COPY_INTO_SILENCE_LOST_MILLI } else { COPY_LOST_MILLI };
    Answer { copies, held: lost.silence && copies == 1, row_milli: Some(lost_milli / copies) }
}

/// Share of parity that covers the losses of a window: mean and some deviations.
fn parity_ppm(conditions: &Conditions, window: u32) -> u64 {
    let loss = u64::from(conditions.loss_ppm);
    let dispersion = conditions.dispersion_milli.min(DISPERSION_MAX);
    // Variance of the share of a window that is lost, (ppm)^2.
    let variance = loss * (1_000_000 - loss.min(1_000_000)) / 1000 * dispersion / u64::from(window);
    let needed = loss + variance.isqrt() * DEVIATIONS_TENTHS / 10;
    needed.clamp(PARITY_PPM_MIN, PARITY_PPM_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conditions(loss_ppm: u32, rtt_ms: u64, budget_ms: u64) -> Conditions {
        Conditions {
            loss_ppm,
            dispersion_milli: 2500,
            rtt: Duration::from_millis(rtt_ms),
            rtt_var: Duration::from_millis(1),
            round: Duration::from_millis(rtt_ms + 3),
            budget: Duration::from_millis(budget_ms),
            spacing: Duration::from_millis(4),
            audio_spacing: None,
            limited: false,
        }
    }

    /// Around the threshold between retransmission and parity a plan stays what it is.
    #[test]
    fn a_round_grows_at_once_and_shrinks_slowly() {
        let var = |ms| Duration::from_millis(ms);
        let rtt = Duration::from_millis(80);
        let calm = round(Duration::ZERO, rtt, var(1));
        assert_eq!(calm, Duration::from_millis(83));
        let tossed = round(calm, rtt, var(6));
        assert_eq!(tossed, Duration::from_millis(93));
        let mut falls = vec![tossed];
        for _ in 0..100 {
            falls.push(round(*falls.last().expect("not empty"), rtt, var(1)));
        }
        assert!(falls.is_sorted_by(|before, after| before >= after));
        assert!(falls[5] > Duration::from_millis(90) && falls[100] < Duration::from_millis(84), "{falls:?}");
        let at = |round| plan(&Conditions { round, ..conditions(20_000, 80, 93) }).reason;
        assert_eq!((at(falls[5]), at(falls[100])), (Reason::NoRoundFits, Reason::RoundsFit(1)));
    }

    #[test]
    fn short_round_trips_have_no_standing_overhead() {
        let plan = plan(&conditions(20_000, 20, 100));
        assert_eq!((plan.reason, plan.parity_ppm, plan.twice), (Reason::RoundsFit(4), 0, false));
    }

    #[test]
    fn without_loss_nothing_stands_however_long_the_round_trip() {
        assert_eq!(plan(&conditions(0, 300, 60)).reason, Reason::NoLoss);
    }

    #[test]
    fn where_no_round_fits_parity_grows_with_loss_and_bursts() {
        let at = |loss_ppm| plan(&conditions(loss_ppm, 160, 60));
        assert_eq!(at(20_000).reason, Reason::NoRoundFits);
        assert!(at(5_000).parity_ppm < at(10_000).parity_ppm);
        assert!(at(10_000).parity_ppm < at(20_000).parity_ppm);
        assert_eq!(at(900_000).parity_ppm, PARITY_PPM_MAX);
        let calm = Conditions { dispersion_milli: 1000, ..conditions(10_000, 160, 60) };
        assert!(plan(&calm).parity_ppm < at(10_000).parity_ppm);
    }

    #[test]
    fn too_few_datagrams_are_sent_twice() {
        let thin = Conditions { spacing: Duration::from_millis(40), ..conditions(20_000, 160, 60) };
        assert_eq!(plan(&thin).reason, Reason::TooFewForParity);
        assert_eq!((plan(&thin).parity_ppm, plan(&thin).twice), (0, true));
    }

    #[test]
    fn audio_is_sent_twice_while_it_is_thin() {
        let plan_of = |spacing_ms| {
            let audio_spacing = Some(Duration::from_millis(spacing_ms));
            plan(&Conditions { audio_spacing, ..conditions(20_000, 160, 60) })
        };
        assert!(plan_of(20).twice && plan_of(4).twice);
        assert_eq!((plan_of(3).twice, plan_of(3).reason), (false, Reason::NoRoundFits));
    }

    #[test]
    fn what_is_late_gets_more_copies_than_what_is_fresh() {
        let link = conditions(50_000, 40, 150);
        let by_round: Vec<u32> = (1..4).map(|round| copies(&link, round, 3 - round)).collect();
        assert!(by_round.is_sorted() && by_round[0] == 1 && by_round[2] > 1, "{by_round:?}");
        assert_eq!(
            copies(&conditions(20_000, 160, 200), 1, 0),
            4,
            "one round: as many as an overhead of 9% allows"
        );
        assert_eq!(copies(&conditions(200_000, 160, 200), 1, 0), 1);
    }

    #[test]
    fn what_has_one_round_goes_as_often_as_the_rate_allows_and_shares_a_row() {
        let lost = Lost { times: 1, slack: Duration::from_millis(150), small: false, silence: false };
        let silence = Lost { silence: true, ..lost };
        let small = Lost { small: true, ..lost };
        let answer_of = |copies, held, row_milli| Answer { copies, held, row_milli };
        let link = conditions(50_000, 80, 150);
        assert_eq!(answer(&link, &lost, 0), answer_of(1, false, Some(100)));
        assert_eq!(answer(&link, &silence, 0), answer_of(1, true, Some(400)));
        assert_eq!(answer(&link, &small, 0), answer_of(3, false, None));
        assert_eq!(
            answer(&link, &lost, 1),
            answer_of(1, false, None),
            "if the copy is lost, it may go again"
        );
        let better = conditions(20_000, 80, 150);
        assert_eq!(answer(&better, &lost, 0), answer_of(3, false, Some(33)));
        assert_eq!(answer(&better, &silence, 0), answer_of(3, false, Some(133)), "not all in one burst");
        let fast = Conditions { spacing: Duration::from_millis(1), ..link };
        assert_eq!(answer(&fast, &lost, 0), answer_of(2, false, None), "out of the reach of a row");
    }

    #[test]
    fn on_a_limited_link_only_audio_is_sent_twice() {
        let thin = Conditions { spacing: Duration::from_millis(40), ..conditions(20_000, 160, 60) };
        assert!(plan(&thin).twice);
        let limited = Conditions { limited: true, ..thin };
        let rows = plan(&limited);
        assert_eq!((rows.twice, rows.reason), (false, Reason::NoRoundFits));
        assert!(plan(&Conditions { audio_spacing: Some(thin.spacing), ..limited }).twice);
    }

    #[test]
    fn any_conditions_give_a_bounded_plan() {
        for loss_ppm in [0, 99, 100, 500_000, 1_000_000] {
            for ms in [0, 1, 60, 10_000] {
                for other in [0, 1, 100, 100_000] {
                    let link = Conditions {
                        loss_ppm,
                        dispersion_milli: other * 1000,
                        rtt: Duration::from_millis(ms),
                        rtt_var: Duration::from_millis(other),
                        round: round(Duration::ZERO, Duration::from_millis(ms), Duration::from_millis(other)),
                        budget: Duration::from_millis(other),
                        spacing: Duration::from_millis(ms),
                        audio_spacing: (other == 0).then(|| Duration::from_millis(ms)),
                        limited: ms > 1,
                    };
                    let plan = plan(&link);
                    assert!(plan.rounds <= ROUNDS_MAX && plan.window <= WINDOW_MAX);
                    assert!(plan.parity_ppm <= 1_000_000);
                    assert!((1..=COPIES_MAX).contains(&copies(&link, other as u32, ms as u32)));
                    let slack = Duration::from_millis(ms);
                    let lost = Lost { times: other as u32, slack, small: ms == 0, silence: ms == 60 };
                    let answer = answer(&link, &lost, ms as u32);
                    assert!((1..=COPIES_MAX).contains(&answer.copies));
                    assert!(answer.row_milli.is_none_or(|milli| milli <= 1000));
                }
            }
        }
    }
}
