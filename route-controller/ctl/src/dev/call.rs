//! The call that is watched: an SFU at the first relay publishes the recording, one at the last subscribes to it.

use crate::dev::args::{Budget, Options};
use crate::dev::checker::{StreamCheck, StreamCounts};
use crate::dev::clock::Clock;
use crate::dev::histogram::Histogram;
use crate::dev::overlay::Overlay;
use crate::dev::player::Player;
use crate::dev::recording::Recording;
use crate::dev::report::Quantiles;
use anyhow::{Context as _, bail};
use sfu_link::{Codec, Config, Event, Fingerprint, PublishOptions, SfuLink, SubscribeOptions};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use wire_format::MediaKind;

/// The call, and who publishes in it.
const ROOM: &str = "dev";
const USER: &str = "alice";
/// For the first packet to arrive.
const FIRST_DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);
/// For packets under way when sending has stopped.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// How often it is looked whether the last packet is there.
const DRAIN_POLL: Duration = Duration::from_millis(5);
/// Media flows if every stream delivered something so shortly before the end of sending.
const FLOWING: Duration = Duration::from_millis(1_000);

/// Both SFUs, the player and the judge.
pub struct Call {
    clock: Clock,
    judge: Arc<Mutex<Judge>>,
    kinds: Vec<MediaKind>,
    player: Player,
    publisher: SfuLink,
    subscriber: SfuLink,
    receiver: JoinHandle<()>,
    first_delivery: watch::Receiver<Option<Duration>>,
    first_announced: watch::Receiver<Option<Duration>>,
    subscribed_at: Duration,
    flowing_at_end: bool,
}

/// What is known of one stream so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamStatus {
    /// What it carries.
    pub kind: MediaKind,
    /// What happened to its packets.
    pub counts: StreamCounts,
    /// Packets not there yet, but sent so recently that they may still arrive.
    pub under_way: u64,
    /// From publishing to delivery.
    pub latency: Quantiles,
}

struct Judge {
    streams: Vec<StreamCheck>,
}

fn lock(judge: &Mutex<Judge>) -> MutexGuard<'_, Judge> {
    judge.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Call {
    /// Connects both SFUs to the first and the last relay of an overlay and begins.
    ///
    /// # Errors
    /// If an SFU is refused.
    pub async fn across(overlay: &Overlay, options: &Options) -> anyhow::Result<Call> {
        let publisher = connect(overlay, 0, "sfu-a").await?;
        let subscriber = connect(overlay, overlay.len() - 1, "sfu-b").await?;
        Call::start(publisher, subscriber, options.budget, options.protect).await
    }

    /// Begins to play at one SFU, then subscribes at the other.
    ///
    /// # Errors
    /// If one may not.
    pub async fn start(
        publisher: SfuLink,
        subscriber: SfuLink,
        budget: Budget,
        protect: bool,
    ) -> anyhow::Result<Call> {
        let clock = Clock::start();
        let recording = Recording::call()?;
        let kinds: Vec<_> = recording.tracks().iter().map(|track| track.kind()).collect();
        let streams = recording.tracks().iter();
        let streams = streams.map(|track| StreamCheck::new(track.clone(), budget.of(track.kind())));
        let judge = Arc::new(Mutex::new(Judge { streams: streams.collect() }));
        let (first, first_delivery) = watch::channel(None);
        let (announced, first_announced) = watch::channel(None);

        let mut publications = Vec::new();
        for kind in &kinds {
            let budget = Some(budget.of(*kind));
            let codec = match kind {
                MediaKind::Audio => Codec::Opus,
                MediaKind::Video => Codec::H264,
            };
            let publish = PublishOptions::new(ROOM, USER, stream_name(*kind), *kind).codec(codec);
            let publish = PublishOptions { budget, protect, ..publish };
            publications.push(publisher.publish(publish).await.context("sfu-a may not publish")?);
        }
        let sending = Arc::clone(&judge);
        let player = Player::start(recording, clock, move |track, packet| {
            // Counted before it can arrive; what is not taken here counts as lost.
            lock(&sending).streams[track].sent(clock.now());
            let _ = publications[track].send(packet);
        })?;

        let subscribed_at = clock.now();
        let mut subscription =
            subscriber.subscribe(SubscribeOptions::room(ROOM)).await.context("sfu-b may not subscribe")?;
        let (receiving, stream_kinds) = (Arc::clone(&judge), kinds.clone());
        let receiver = tokio::spawn(async move {
            while let Some(event) = subscription.next().await {
                let now = clock.now();
                match event {
                    Event::Started(_) => note(&announced, now),
                    Event::Ended(_) => {}
                    Event::Packet(packet) if packet.rtcp => {}
                    Event::Packet(packet) => {
                        let own = stream_kinds.iter().position(|kind| *kind == packet.stream.kind);
                        if own.is_some_and(|track| {
                            lock(&receiving).streams[track].delivered(now, &packet.bytes)
                        }) {
                            note(&first, now);
                        }
                    }
                }
            }
        });
        Ok(Call {
            clock,
            judge,
            kinds,
            player,
            publisher,
            subscriber,
            receiver,
            first_delivery,
            first_announced,
            subscribed_at,
            flowing_at_end: false,
        })
    }

    /// Waits for the first packet to be delivered.
    ///
    /// # Errors
    /// If none comes.
    pub async fn first_delivery(&mut self) -> anyhow::Result<()> {
        let delivered = self.first_delivery.wait_for(Option::is_some);
        match tokio::time::timeout(FIRST_DELIVERY_TIMEOUT, delivered).await {
            Ok(delivered) => delivered.map(|_| ()).context("the subscriber has stopped"),
            Err(_) => bail!("no packet has arrived within {FIRST_DELIVERY_TIMEOUT:?}"),
        }
    }

    /// Each stream as it stands, video first.
    pub fn streams(&self) -> Vec<StreamStatus> {
        let now = self.clock.now();
        let judge = lock(&self.judge);
        let status = |(kind, stream): (&MediaKind, &StreamCheck)| StreamStatus {
            kind: *kind,
            counts: stream.counts(),
            under_way: stream.under_way(now),
            latency: quantiles(stream.latency()),
        };
        self.kinds.iter().zip(&judge.streams).map(status).collect()
    }

    /// Latency over all streams.
    pub fn latency(&self) -> Quantiles {
        let mut all = Histogram::default();
        for stream in &lock(&self.judge).streams {
            all.add(stream.latency());
        }
        quantiles(&all)
    }

    /// From subscribing to the first announcement, once there was one.
    pub fn join_time(&self) -> Option<Duration> {
        self.first_announced.borrow().map(|at| at.saturating_sub(self.subscribed_at))
    }

    /// From subscribing to the first packet, once there was one.
    pub fn first_packet_time(&self) -> Option<Duration> {
        self.first_delivery.borrow().map(|at| at.saturating_sub(self.subscribed_at))
    }

    /// Stops sending, then waits until everything has arrived, 2 s at most.
    pub async fn finish(&mut self) {
        self.player.stop();
        let now = self.clock.now();
        {
            let mut judge = lock(&self.judge);
            let flowing = |stream: &StreamCheck| {
                stream.last_delivery().is_some_and(|at| now.saturating_sub(at) <= FLOWING)
            };
            self.flowing_at_end = judge.streams.iter().all(flowing);
            judge.streams.iter_mut().for_each(|stream| stream.end(now));
        }
        while self.clock.now() < now + DRAIN_TIMEOUT
            && self.streams().iter().any(|stream| stream.counts.lost() > 0)
        {
            tokio::time::sleep(DRAIN_POLL).await;
        }
    }

    /// Whether every stream still delivered when sending stopped.
    pub fn flowing_at_end(&self) -> bool {
        self.flowing_at_end
    }

    /// Both SFUs leave.
    pub async fn close(mut self) {
        self.player.stop();
        tokio::join!(self.publisher.close(), self.subscriber.close());
        // Ended with the subscription; a panic in it has said so on stderr.
        let _ = self.receiver.await;
    }
}

async fn connect(overlay: &Overlay, relay: usize, name: &str) -> anyhow::Result<SfuLink> {
    let address = overlay.port_address(relay).to_string();
    let config = Config {
        bind: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
        ..Config::new([address], overlay.token(name)?, Fingerprint(overlay.ca_sha256()))
    };
    SfuLink::connect(config).await.with_context(|| format!("{name} does not get a link"))
}

fn stream_name(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Audio => "microphone",
        MediaKind::Video => "camera",
    }
}

/// Notes the time unless that was done before.
fn note(first: &watch::Sender<Option<Duration>>, now: Duration) {
    first.send_if_modified(|at| {
        let is_first = at.is_none();
        at.get_or_insert(now);
        is_first
    });
}

fn quantiles(latency: &Histogram) -> Quantiles {
    Quantiles { p50: latency.quantile(0.5), p99: latency.quantile(0.99), max: latency.max() }
}
