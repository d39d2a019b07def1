//! What may be said to `relayctl dev`, and what becomes of it once checked.

use crate::dev::topology::{RELAYS_MAX, Topology, relay_name};
use anyhow::{Context as _, bail, ensure};
use control_proto::cli::parse_duration as duration;
use link_model::{LinkOption, LinkSchedule, Loss, parse_duration};
use std::time::Duration;
use wire_format::MediaKind;

/// Arguments of `relayctl dev`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct DevArgs {
    /// Relays, r1 to rN; the publishing SFU is at r1, the subscribing one at rN.
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub relays: usize,
    /// How they are connected.
    #[arg(long, value_enum, default_value_t)]
    pub topology: Topology,
    /// Workers of each relay: threads that forward media, each with a lane of every link.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub workers: u8,
    /// How long media flows, from the first delivery; without it, until Ctrl-C.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub duration: Option<Duration>,
    /// Impairs links between relays: SELECTOR:KEY=VALUE,... or SELECTOR:KEY=VALUE,...@TIME. SELECTOR is A-B (both directions), A>B (one) or all;
    /// keys are delay, jitter, loss (N%, trace:FILE, or states:P13/P31/P32/P23 as netem has them), burst, rate, queue, reorder, duplicate, mtu, segments, down. With @TIME from
    /// then on, counted from the first delivery. May be repeated; a later option wins.
    #[arg(long = "link", value_name = "OPTION")]
    pub links: Vec<String>,
    /// Kills a relay without a goodbye: NAME@TIME, or transit@TIME for one that the video crosses then.
    #[arg(long = "kill-relay", value_name = "NAME@TIME")]
    pub kills: Vec<String>,
    /// Delay budget of the streams on top of the path's own delay: DURATION, or video=DURATION,audio=DURATION.
    #[arg(long, value_name = "BUDGET", default_value = "200ms")]
    pub budget: String,
    /// 1+1 protection of all streams: every packet goes two disjoint ways at once, and the first copy is delivered. A link
    /// or relay that fails costs nothing then; the streams cost twice the bits between relays.
    #[arg(long)]
    pub protect: bool,
    /// Seed of everything random in the impaired links.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Ends with one line of JSON on stdout; everything else goes to stderr.
    #[arg(long)]
    pub json: bool,
    /// Which log lines go to stderr, for instance `info` or `relay_node=debug`.
    #[arg(long, value_name = "FILTER", default_value = "error")]
    pub log: String,
}

const EXAMPLES: &str = "Examples:
  relayctl dev
  relayctl dev --for 8s --json
  relayctl dev --topology ring --link r1-r2:loss=2% --link all:jitter=5ms
  relayctl dev --topology line --relays 2 --for 20s --link r1-r2:delay=20ms,loss=5%,burst=3 --budget video=150ms,audio=100ms
  relayctl dev --for 10s --kill-relay transit@3s
  relayctl dev --relays 6 --for 10s --kill-relay transit@3s --protect
  relayctl dev --for 20s --link 'r1>r2:delay=80ms@5s' --link 'r1>r2:delay=10ms@15s'";

/// What to run: arguments that make sense.
#[derive(Clone, Debug)]
pub struct Options {
    /// Relays, 1 to [`RELAYS_MAX`].
    pub relays: usize,
    /// How they are connected.
    pub topology: Topology,
    /// Workers of each relay.
    pub workers: u8,
    /// How long media flows, from the first delivery; `None` until the caller ends it.
    pub duration: Option<Duration>,
    /// Impairments, in the order given.
    pub links: Vec<LinkOption>,
    /// Relays to kill.
    pub kills: Vec<Kill>,
    /// Delay budgets.
    pub budget: Budget,
    /// Streams go two disjoint ways at once.
    pub protect: bool,
    /// Seed of everything random in the impaired links.
    pub seed: u64,
    /// How long relays' certificates live, for tests of their renewal; `None` for as long as usual.
    pub certificate_lifetime: Option<Duration>,
}

/// A relay is killed without a goodbye.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kill {
    /// Which.
    pub victim: Victim,
    /// When, from the first delivery.
    pub at: Duration,
}

/// Which relay is killed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Victim {
    /// The relay of that number, counted from 0.
    Relay(usize),
    /// One that the video crosses then, neither ingress nor egress.
    Transit,
}

/// What streams may ask for.
const BUDGETS: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(6);

/// Delay budgets on top of the path's own delay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// Of video.
    pub video: Duration,
    /// Of audio.
    pub audio: Duration,
}

impl Budget {
    /// That of a kind of stream.
    pub fn of(&self, kind: MediaKind) -> Duration {
        match kind {
            MediaKind::Audio => self.audio,
            MediaKind::Video => self.video,
        }
    }
}

impl Default for Options {
    /// What `relayctl dev` does without arguments.
    fn default() -> Options {
        let budget = Duration::from_millis(200);
        Options {
            relays: 4,
            topology: Topology::Mesh,
            workers: 1,
            duration: None,
            links: Vec::new(),
            kills: Vec::new(),
            budget: Budget { video: budget, audio: budget },
            protect: false,
            seed: 1,
            certificate_lifetime: None,
        }
    }
}

impl DevArgs {
    /// Checks the arguments; trace files are read.
    ///
    /// # Errors
    /// A message for people about the first thing that is wrong.
    pub fn options(&self) -> anyhow::Result<Options> {
        ensure!(
            (1..=RELAYS_MAX).contains(&self.relays),
            "--relays {}: from 1 to {RELAYS_MAX} relays can be run in one process",
            self.relays
        );
        let mut read = |file: &str| std::fs::read_to_string(file);
        let links = self.links.iter().map(|text| LinkOption::parse(text, &mut read).context("--link"));
        let kills =
            self.kills.iter().map(|text| self.kill(text).with_context(|| format!("--kill-relay {text}")));
        let options = Options {
            relays: self.relays,
            topology: self.topology,
            workers: self.workers,
            duration: self.duration,
            links: links.collect::<anyhow::Result<_>>()?,
            kills: kills.collect::<anyhow::Result<_>>()?,
            budget: self.budget.parse().with_context(|| format!("--budget {}", self.budget))?,
            protect: self.protect,
            seed: self.seed,
            certificate_lifetime: None,
        };
        options.check_links()?;
        if let Some(duration) = self.duration
            && let Some(late) = options.kills.iter().find(|kill| kill.at >= duration)
        {
            bail!("--kill-relay: {:?} is not before the end of the run (--for {duration:?})", late.at);
        }
        Ok(options)
    }

    fn kill(&self, text: &str) -> anyhow::Result<Kill> {
        let (victim, at) =
            text.split_once('@').context("expected NAME@TIME, for instance transit@3s or r2@3s")?;
        let at =
            parse_duration(at).with_context(|| format!("{at:?} is not a time; expected for instance @3s"))?;
        let victim = match (0..self.relays).find(|relay| relay_name(*relay) == victim) {
            Some(relay) => Victim::Relay(relay),
            None if victim == "transit" => {
                ensure!(self.relays > 2, "two relays have no transit between them");
                Victim::Transit
            }
            None => bail!("no relay is called {victim:?}; there are r1 to r{}, and transit", self.relays),
        };
        Ok(Kill { victim, at })
    }
}

impl Options {
    /// Checks that every option is about a link that exists and leaves it in a legal state.
    fn check_links(&self) -> anyhow::Result<()> {
        let links = self.topology.links(self.relays);
        let named = |relay: usize| relay_name(relay);
        for option in &self.links {
            let names: Vec<String> = (0..self.relays).map(named).collect();
            option.check_names(&names.iter().map(String::as_str).collect::<Vec<_>>()).context("--link")?;
            let exists = links.iter().any(|((a, b), _)| {
                option.selector.matches(&named(*a), &named(*b))
                    || option.selector.matches(&named(*b), &named(*a))
            });
            ensure!(exists, "--link: this topology has no link {}", option.selector);
        }
        for ((a, b), base) in &links {
            for (from, to) in [(a, b), (b, a)] {
                LinkSchedule::new(base, &named(*from), &named(*to), &self.links).context("--link")?;
            }
        }
        Ok(())
    }

    /// Whether something is asked for that may lose packets: then media that flows at the end is success.
    pub fn expects_loss(&self) -> bool {
        let links = self.topology.links(self.relays);
        let lossy = links.iter().flat_map(|((a, b), base)| {
            let directions = [(*a, *b), (*b, *a)];
            directions
                .map(|(from, to)| LinkSchedule::new(base, &relay_name(from), &relay_name(to), &self.links))
        });
        let lossy = lossy.flatten().any(|schedule| {
            let later = schedule.later().iter().map(|(_, spec)| spec);
            [schedule.first()].into_iter().chain(later).any(|spec| {
                let may_lose = matches!(spec.loss, Loss::Trace(_)) || spec.loss.mean_ppm() > 0;
                may_lose || spec.down || spec.rate.is_some()
            })
        });
        lossy || !self.kills.is_empty()
    }
}

impl std::str::FromStr for Budget {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Budget> {
        let time = |text: &str| {
            let budget = parse_duration(text).with_context(|| {
                format!("{text:?} is not a time; expected for instance 200ms, or video=200ms,audio=100ms")
            })?;
            ensure!(BUDGETS.contains(&budget), "a delay budget of {text}: it must be from 1ms to 6s");
            Ok(budget)
        };
        if !text.contains('=') {
            let both = time(text)?;
            return Ok(Budget { video: both, audio: both });
        }
        let (mut video, mut audio) = (None, None);
        for part in text.split(',') {
            let (kind, value) = part.split_once('=').context("expected video=DURATION,audio=DURATION")?;
            let slot = match kind {
                "video" => &mut video,
                "audio" => &mut audio,
                other => bail!("{other:?} is no kind of stream; there are video and audio"),
            };
            ensure!(slot.replace(time(value)?).is_none(), "{kind} is set twice");
        }
        let default = Options::default().budget;
        Ok(Budget { video: video.unwrap_or(default.video), audio: audio.unwrap_or(default.audio) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: DevArgs,
    }

    fn options(words: &str) -> anyhow::Result<Options> {
        Line::try_parse_from(["dev"].into_iter().chain(words.split_whitespace()))?.args.options()
    }

    #[test]
    fn nothing_said_is_the_default() {
        let options = options("").expect("legal");
        assert_eq!(format!("{options:?}"), format!("{:?}", Options::default()));
    }

    #[test]
    fn everything_is_understood() {
        let options = options(
            "--relays 5 --topology ring --for 8s --link r1-r2:loss=2%,delay=40ms@3s --kill-relay transit@3s \
             --kill-relay r2@4s --budget video=300ms,audio=100ms --protect --seed 7 --json",
        )
        .expect("legal");
        assert_eq!(options.duration, Some(Duration::from_secs(8)));
        assert_eq!(options.kills[0], Kill { victim: Victim::Transit, at: Duration::from_secs(3) });
        assert_eq!(options.kills[1].victim, Victim::Relay(1));
        assert_eq!(options.budget.of(MediaKind::Audio), Duration::from_millis(100));
        assert!(options.expects_loss() && options.protect);
    }

    #[test]
    fn mistakes_say_what_to_do() {
        for (words, message) in [
            ("--relays 0", "--relays 0: from 1 to 16"),
            ("--link r1-r2", "--link: \"r1-r2\" has no colon between selector and changes"),
            ("--link r1-r9:down", "names no link between two of r1, r2, r3, r4"),
            ("--topology line --link r1-r4:down", "--link: this topology has no link r1-r4"),
            ("--link r1-r2:loss=trace:/nonexistent", "/nonexistent"),
            ("--kill-relay r9@3s", "no relay is called \"r9\"; there are r1 to r4, and transit"),
            ("--kill-relay r2", "expected NAME@TIME"),
            ("--kill-relay r2@soon", "\"soon\" is not a time"),
            ("--relays 2 --kill-relay transit@1s", "two relays have no transit"),
            ("--for 3s --kill-relay r2@3s", "is not before the end of the run"),
            ("--budget soon", "\"soon\" is not a time"),
            ("--budget 10s", "a delay budget of 10s: it must be from 1ms to 6s"),
            ("--budget audio=0ms", "a delay budget of 0ms"),
            ("--budget screen=2s", "\"screen\" is no kind of stream"),
            ("--budget audio=2s,audio=3s", "audio is set twice"),
        ] {
            let error = options(words).expect_err(words);
            assert!(format!("{error:#}").contains(message), "{words}: {error:#}");
        }
    }

    #[test]
    fn delay_alone_loses_nothing() {
        for (words, lossy) in [
            ("--link all:delay=50ms,jitter=5ms,duplicate=1%,reorder=1%", false),
            ("--link all:loss=0%", false),
            ("--link r1>r2:down@5s", true),
            ("--link r1>r2:rate=1mbit", true),
            ("--kill-relay r2@1s", true),
        ] {
            assert_eq!(options(words).expect(words).expects_loss(), lossy, "{words}");
        }
    }
}
