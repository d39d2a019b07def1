//! A run from its start to its summary.

use crate::dev::args::{Options, Victim};
use crate::dev::call::Call;
use crate::dev::clock::Clock;
use crate::dev::live::{Live, Moment};
use crate::dev::monitor::Monitor;
use crate::dev::overlay::Overlay;
use crate::dev::own_stream::Guide;
use crate::dev::repair::RepairWatch;
use crate::dev::report::{ControlSummary, ProtectionSummary, Summary};
use crate::dev::topology::relay_name;
use anyhow::{Context as _, bail};
use route_controller::StreamRow;
use std::future::Future;
use std::time::Duration;

/// How often links are looked at.
const SAMPLE_PERIOD: Duration = Duration::from_millis(100);
/// How often what is shown changes.
const SHOW_PERIOD: Duration = Duration::from_secs(1);

/// How a run ended.
#[derive(Clone, PartialEq, Debug)]
pub struct Outcome {
    /// What it has shown.
    pub summary: Summary,
    /// Everything arrived intact; or, where losses or a kill were asked for, media flowed at the end.
    pub success: bool,
}

/// Runs an overlay as `relayctl dev` does, silently, until the duration of the options is over.
///
/// # Errors
/// If something does not start, or no media arrives.
pub async fn run(options: &Options) -> anyhow::Result<Outcome> {
    run_shown(options, &mut Live::silent(), Guide::None, std::future::pending()).await
}

/// The same, shown, until the duration is over or `stop` resolves.
pub(crate) async fn run_shown(
    options: &Options,
    live: &mut Live,
    guide: Guide,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<Outcome> {
    let mut stop = std::pin::pin!(stop);
    let starting = async {
        let overlay = Overlay::start(options).await?;
        introduce(&overlay, live);
        guide.show(&overlay, live).await?;
        let mut call = Call::across(&overlay, options).await?;
        call.first_delivery().await?;
        Ok::<_, anyhow::Error>((overlay, call))
    };
    let (mut overlay, mut call) = tokio::select! {
        started = starting => started?,
        () = &mut stop => bail!("stopped before any media had arrived"),
    };
    overlay.start_schedule();
    let mut watching = Watching {
        options,
        clock: Clock::start(),
        monitor: Monitor::new(options.relays),
        repair: RepairWatch::default(),
        pending_kills: options.kills.clone(),
        shown_at: Duration::ZERO,
        shown_bytes: Vec::new(),
        protected: 0,
    };
    watching.repair.look(&overlay).await;
    tokio::select! {
        ended = watching.until_the_end(&mut overlay, &mut call, live) => ended?,
        () = stop => {}
    }
    watching.sample(&overlay).await?;
    watching.protected = protected_streams(&overlay).await?;
    call.finish().await;
    watching.repair.look(&overlay).await;
    let outcome = watching.outcome(&overlay, &call).await;
    call.close().await;
    overlay.stop().await;
    Ok(outcome)
}

fn introduce(overlay: &Overlay, live: &mut Live) {
    let mut text = format!(
        "{} relays, SFU sfu-a publishes at {}, sfu-b subscribes at {}. Look around while it runs:\n  \
         relayctl --controller http://{} routes dump\n",
        overlay.len(),
        relay_name(0),
        relay_name(overlay.len() - 1),
        overlay.controller().admin_address(),
    );
    for relay in 0..overlay.len() {
        let (name, api) = (relay_name(relay), overlay.api_address(relay));
        text += &format!(
            "  curl http://{api}/v1/links    # {name}, relay port {}\n",
            overlay.port_address(relay)
        );
    }
    live.say(&text);
}

struct Watching<'a> {
    options: &'a Options,
    clock: Clock,
    monitor: Monitor,
    repair: RepairWatch,
    pending_kills: Vec<crate::dev::args::Kill>,
    shown_at: Duration,
    shown_bytes: Vec<u64>,
    /// Streams that went two ways when sending stopped.
    protected: usize,
}

impl Watching<'_> {
    /// Watches, kills and shows until the run's duration is over.
    async fn until_the_end(
        &mut self,
        overlay: &mut Overlay,
        call: &mut Call,
        live: &mut Live,
    ) -> anyhow::Result<()> {
        let mut ticks = tokio::time::interval(SAMPLE_PERIOD);
        loop {
            let end = self.options.duration.unwrap_or(Duration::MAX);
            let deadlines = self.pending_kills.iter().map(|kill| kill.at).chain([end]);
            let next = deadlines.min().unwrap_or(end).saturating_sub(self.clock.now());
            tokio::select! {
                _ = ticks.tick() => {
                    let epoch = self.sample(overlay).await?;
                    self.show(overlay, call, live, epoch).await?;
                }
                () = tokio::time::sleep(next.min(SHOW_PERIOD)) => {}
            }
            self.kill_due(overlay, live)?;
            if self.clock.now() >= end {
                return Ok(());
            }
        }
    }

    /// Of two ways at once the one of the primary plane is the path.
    async fn follow_the_route(&mut self, overlay: &Overlay) -> anyhow::Result<()> {
        if let Some(route) = overlay.route().await? {
            let number = |name: &String| (0..overlay.len()).find(|relay| relay_name(*relay) == *name);
            self.monitor.follow(route.iter().filter_map(number).collect());
        }
        Ok(())
    }

    async fn sample(&mut self, overlay: &Overlay) -> anyhow::Result<Option<u32>> {
        let epoch = overlay.epoch().await?;
        if self.options.protect {
            self.follow_the_route(overlay).await?;
        }
        self.monitor.sample(self.clock.now(), overlay.carried(), epoch);
        Ok(epoch)
    }

    fn kill_due(&mut self, overlay: &mut Overlay, live: &mut Live) -> anyhow::Result<()> {
        let now = self.clock.now();
        let (due, pending) =
            std::mem::take(&mut self.pending_kills).into_iter().partition(|kill| kill.at <= now);
        self.pending_kills = pending;
        let due: Vec<_> = due;
        for kill in due {
            let relay = match kill.victim {
                Victim::Relay(relay) => relay,
                Victim::Transit => {
                    let path =
                        self.monitor.path().context("--kill-relay transit: no path of the video is seen")?;
                    let transits = &path[1..path.len().max(2) - 1];
                    *transits.first().with_context(|| {
                        format!(
                            "--kill-relay transit: the video crosses no relay between r1 and {} now",
                            relay_name(overlay.len() - 1)
                        )
                    })?
                }
            };
            overlay.kill(relay);
            live.say(&format!("{:.1} s: killed {}", now.as_secs_f64(), relay_name(relay)));
        }
        Ok(())
    }

    async fn show(
        &mut self,
        overlay: &Overlay,
        call: &mut Call,
        live: &mut Live,
        epoch: Option<u32>,
    ) -> anyhow::Result<()> {
        let now = self.clock.now();
        let since = now.saturating_sub(self.shown_at);
        if since < SHOW_PERIOD {
            return Ok(());
        }
        let streams = call.streams();
        let bytes: Vec<u64> = streams.iter().map(|stream| stream.counts.delivered_bytes).collect();
        let before = std::mem::replace(&mut self.shown_bytes, bytes.clone());
        let rate = |(number, bytes): (usize, &u64)| {
            (bytes - before.get(number).unwrap_or(&0)) as f64 / since.as_secs_f64()
        };
        let rates: Vec<f64> = bytes.iter().enumerate().map(rate).collect();
        self.shown_at = now;
        self.repair.look(overlay).await;
        let links = overlay.links().await?;
        live.show(&Moment {
            elapsed: now,
            path: self.monitor.path(),
            epoch,
            streams: &streams,
            links: &links,
            rates: &rates,
            repair: self.repair.summary(),
        });
        Ok(())
    }

    /// What protection did, as the ingress tells it; `None` if that is gone.
    async fn protection(&self, overlay: &Overlay) -> Option<ProtectionSummary> {
        let ingress = overlay.relay(0)?.port();
        let counters = ingress.inspect_each(|relay, _| *relay.counters()).await.ok()?;
        Some(ProtectionSummary {
            streams: self.protected,
            second_copies: counters.iter().map(|counters| counters.media_protected).sum(),
            single_copies: counters.iter().map(|counters| counters.media_unprotected).sum(),
        })
    }

    async fn outcome(&self, overlay: &Overlay, call: &Call) -> Outcome {
        let streams = call.streams();
        let sum = |count: fn(&crate::dev::checker::StreamCounts) -> u64| -> u64 {
            streams.iter().map(|stream| count(&stream.counts)).sum()
        };
        let (sent, delivered, late) = (sum(|c| c.sent), sum(|c| c.delivered), sum(|c| c.late));
        let lost = sent - delivered;
        let gap = streams.iter().map(|stream| stream.counts.gap).max().unwrap_or_default();
        let path = match self.monitor.path() {
            Some(path) => path.iter().map(|relay| relay_name(*relay)).collect(),
            // Too short a run to have seen it: what the controller says.
            None => overlay.route().await.ok().flatten().unwrap_or_default(),
        };
        let summary = Summary {
            relays: overlay.len(),
            path,
            streams: streams.len(),
            sent,
            delivered,
            lost,
            duplicated: sum(|c| c.duplicated),
            reordered: sum(|c| c.reordered),
            corrupted: sum(|c| c.corrupted),
            latency_us: call.latency(),
            gap_ms: u64::try_from(gap.as_millis()).unwrap_or(u64::MAX),
            residual_loss: if sent == 0 { 0.0 } else { (lost + late) as f64 / sent as f64 },
            repair: self.repair.summary(),
            control: ControlSummary {
                join_ms: milliseconds(call.join_time()),
                first_packet_ms: milliseconds(call.first_packet_time()),
                epochs: self.monitor.epochs(),
                path_changes: self.monitor.changes(),
            },
            protection: if self.options.protect { self.protection(overlay).await } else { None },
        };
        let intact = summary.corrupted == 0 && summary.duplicated == 0;
        let complete = summary.lost == 0 && streams.iter().all(|stream| stream.counts.delivered > 0);
        let success = intact && (complete || (self.options.expects_loss() && call.flowing_at_end()));
        Outcome { summary, success }
    }
}

/// Streams that go two disjoint ways wherever they are wanted.
async fn protected_streams(overlay: &Overlay) -> anyhow::Result<usize> {
    let rows = overlay.controller().operations().streams().await?;
    let protected = |row: &&StreamRow| {
        row.protect && !row.protection.is_empty() && row.protection.iter().all(|way| way.protected)
    };
    Ok(rows.iter().filter(protected).count())
}

fn milliseconds(time: Option<Duration>) -> u64 {
    time.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}
