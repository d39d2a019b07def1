//! Streams whose packets are counted one by one where they arrive.

use sfu_link::{MediaKind, Publication, PublishOptions, SfuLink, SubscribeOptions};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(20);
/// Numbers of lost packets that a report shows.
const MISSING_SHOWN: usize = 10;
/// What is under way when sending stops has this long to arrive.
const TAIL: Duration = Duration::from_secs(2);

/// What became of a stream.
#[derive(Clone, Debug, Default)]
pub struct StreamCount {
    pub name: String,
    pub sent: u64,
    pub arrived: u64,
    pub twice: u64,
    pub damaged: u64,
    /// The first that are missing.
    pub missing: Vec<u64>,
}

impl StreamCount {
    pub fn lost(&self) -> u64 {
        self.sent - self.arrived.min(self.sent)
    }
}

impl fmt::Display for StreamCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StreamCount { name, sent, arrived, twice, damaged, missing } = self;
        let lost = self.lost();
        write!(f, "{name}: {sent} sent, {arrived} arrived, {lost} lost, {twice} twice, {damaged} damaged")?;
        if missing.is_empty() { Ok(()) } else { write!(f, "; missing: {missing:?}") }
    }
}

#[derive(Default)]
struct Tally {
    seen: Vec<bool>,
    count: StreamCount,
}

/// A subscriber and the publishers that it hears.
pub struct Call {
    room: String,
    tallies: Arc<Mutex<BTreeMap<String, Tally>>>,
    speakers: Vec<Speaker>,
    listener: JoinHandle<()>,
}

struct Speaker {
    name: String,
    sent: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<Publication>,
}

impl Call {
    /// Counts everything in a room.
    pub async fn listening(sfu: &SfuLink, room: &str) -> Call {
        let mut subscription = sfu.subscribe(SubscribeOptions::room(room)).await.expect("granted");
        let tallies: Arc<Mutex<BTreeMap<String, Tally>>> = Arc::default();
        let counting = Arc::clone(&tallies);
        let listener = tokio::spawn(async move {
            while let Some(received) = subscription.recv().await {
                let mut tallies = counting.lock().unwrap_or_else(PoisonError::into_inner);
                tallies.entry(received.stream.stream.clone()).or_default().note(&received.bytes);
            }
        });
        Call { room: room.to_owned(), tallies, speakers: Vec::new(), listener }
    }

    /// Publishes a stream in the room, a packet each `every`, until the call ends.
    pub async fn speak(&mut self, sfu: &SfuLink, name: &str, every: Duration) {
        let options = PublishOptions::new(self.room.clone(), "alice", name, MediaKind::Video);
        let publication = sfu.publish(options).await.expect("granted");
        let (sent, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counter, stopped) = (Arc::clone(&sent), Arc::clone(&stop));
        let task = tokio::spawn(async move {
            let mut pace = tokio::time::interval(every);
            while !stopped.load(Ordering::Relaxed) {
                pace.tick().await;
                let number = counter.load(Ordering::Relaxed);
                publication.send(&packet(number as u32)).expect("the link stands");
                counter.store(number + 1, Ordering::Relaxed);
            }
            // Lives on until all is counted: what ends a stream may overtake its last packets.
            publication
        });
        self.speakers.push(Speaker { name: name.to_owned(), sent, stop, task });
    }

    /// Waits until every stream is heard, and counts from there.
    pub async fn flowing(&self) {
        let heard = async {
            loop {
                let all = {
                    let tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
                    self.speakers
                        .iter()
                        .all(|speaker| tallies.get(&speaker.name).is_some_and(|t| t.count.arrived > 0))
                };
                if all {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, heard).await.expect("every stream is heard in time");
    }

    /// Stops sending, waits for what is under way, and says what became of each stream. What was sent before the first
    /// packet arrived had no route yet and does not count.
    pub async fn end(self) -> Vec<StreamCount> {
        for speaker in &self.speakers {
            speaker.stop.store(true, Ordering::Relaxed);
        }
        let mut counts = Vec::new();
        let mut publications = Vec::new();
        for speaker in self.speakers {
            publications.push(speaker.task.await.expect("no panic"));
            counts.push((speaker.name, speaker.sent.load(Ordering::Relaxed)));
        }
        tokio::time::sleep(TAIL).await;
        self.listener.abort();
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        let result = counts.into_iter().map(|(name, sent)| {
            let tally = tallies.remove(&name).unwrap_or_default();
            let before = tally.seen.iter().position(|seen| *seen).unwrap_or(0) as u64;
            let arrived = |number: &u64| tally.seen.get(*number as usize).is_some_and(|seen| *seen);
            let missing = (before..sent).filter(|number| !arrived(number)).take(MISSING_SHOWN).collect();
            StreamCount { name, sent: sent - before, missing, ..tally.count }
        });
        result.collect()
    }
}

impl Tally {
    fn note(&mut self, bytes: &[u8]) {
        let number = bytes.get(12..16).map_or(0, |n| u32::from_be_bytes([n[0], n[1], n[2], n[3]]));
        if bytes != packet(number) {
            self.count.damaged += 1;
            return;
        }
        let at = number as usize;
        if self.seen.len() <= at {
            self.seen.resize(at + 1, false);
        }
        if std::mem::replace(&mut self.seen[at], true) {
            self.count.twice += 1;
        } else {
            self.count.arrived += 1;
        }
    }
}

/// RTP with its number inside, of a length that varies with it.
fn packet(number: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 96];
    packet.extend((number as u16).to_be_bytes());
    packet.extend(number.wrapping_mul(180).to_be_bytes());
    packet.extend(0x0CA5_CADE_u32.to_be_bytes());
    packet.extend(number.to_be_bytes());
    packet.resize(200 + (number as usize * 37) % 900, number as u8);
    packet
}
